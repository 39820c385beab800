"""Hosts: what holds them back, and what is said of them."""

from typing import Any

import msgspec

from redis_scheduler.ui.asking import Asker, content_of
from redis_scheduler.ui.entering import Visitor

LIMITS = ("concurrency", "rate", "per")


class Hosts:
    """Reads hosts for pages, and sets what is said of them."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def rows(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        """Return the hosts with a limit, and those under which tasks are held. Raises PageRefused."""
        answered = await self._asker.ask(visitor, "GET", "/hosts")
        found = content_of(answered)
        return {"hosts": found["data"], "more": found["more"]}

    async def change(self, visitor: Visitor, fields: dict[str, str]) -> tuple[bool, str]:
        """Set, pause, resume or forget a host; return whether it was done, and what there is to say."""
        name, verb = fields.get("host", "").strip(), fields.get("verb", "set")
        if not name or "/" in name:
            return False, "host: must be a host with its port, such as example.com:443, or @ and a limit_key"
        if verb == "forget":
            answered = await self._asker.ask(visitor, "DELETE", f"/hosts/{name}")
            return answered.status == 200, answered.error or f"{name}: its limit is forgotten"
        answered = await self._asker.ask(visitor, "GET", f"/hosts/{name}")
        if answered.status != 200:
            return False, answered.error
        host = content_of(answered)["data"]
        wanted = {one: host[one] for one in (*LIMITS, "paused") if one in host}
        if verb in ("pause", "resume"):
            wanted["paused"] = verb == "pause"
        else:
            wanted |= {one: _number(fields[one]) for one in LIMITS if fields.get(one, "").strip()}
        answered = await self._asker.ask(visitor, "PUT", f"/hosts/{name}", body=msgspec.json.encode(wanted))
        said = {"pause": "is paused", "resume": "goes on"}.get(verb, "is set")
        return answered.status == 200, answered.error or f"{name} {said}"


def _number(text: str) -> Any:
    """Return a number, or what is none for the API to refuse."""
    try:
        return msgspec.json.decode(text.strip())
    except (ValueError, RecursionError):
        return text
