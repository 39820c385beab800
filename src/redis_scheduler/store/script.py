"""Lua scripts of the package, as Redis is sent them."""

import hashlib
import re
from importlib import resources

Argument = str | bytes | int | float

_LUA = resources.files("redis_scheduler.store") / "lua"
_INCLUDE = re.compile(r"^--- include (.*)$", re.MULTILINE)


class Script:
    """A Lua script of the package, with what its `--- include` line names put in its place."""

    def __init__(self, name: str) -> None:
        text = (_LUA / f"{name}.lua").read_text()
        self.name = name
        self.text = _INCLUDE.sub(lambda match: "\n".join(map(self._included, match[1].split())), text)
        # SHA-1 is what EVALSHA names scripts by.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @staticmethod
    def _included(name: str) -> str:
        return (_LUA / "include" / f"{name}.lua").read_text()
