"""Lua scripts of the package, as Redis is sent them, and the types that a call names."""

import hashlib
import re
from importlib import resources

from redis_scheduler.store.keys import Keys

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


class Types:
    """The types named in a call: each index goes to KEYS once, each task names it by its number (0: the default)."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, name: str | None) -> int:
        """Return a type's number in this call."""
        return 0 if name is None else self.numbers.setdefault(name, len(self.numbers) + 1)

    def indexes(self, keys: Keys) -> list[str]:
        """Return the index of each type, in the order of their numbers."""
        return [keys.type_index(name) for name in self.numbers]

    @property
    def arguments(self) -> list[Argument]:
        """How many types there are, and their names."""
        return [len(self.numbers), *self.numbers]
