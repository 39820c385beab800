"""Hosts: how they are, what holds them back, and what is said of them."""

from typing import Any

import msgspec

from redis_scheduler.store.glance import named
from redis_scheduler.store.processes import HOSTS_TOLD
from redis_scheduler.ui.asking import Asker, content_of
from redis_scheduler.ui.entering import Visitor

LIMITS = ("concurrency", "rate", "per")

WELL_LEAST = 0.5
"""A host of whose attempts a smaller share was well fails."""

TRIED_LEAST = 10
"""Of fewer attempts a share says little: the first page does not speak of it."""


class Hosts:
    """Reads hosts for pages, and sets what is said of them."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def rows(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        """Return the hosts with a limit, those under which tasks are held, and the busiest: first those in trouble, of
        these and of the others the busiest first; and which shards that is without. Raises PageRefused."""
        found: dict[str, Any] = content_of(await self._asker.ask(visitor, "GET", "/hosts"))
        hosts = [
            host | {"fails": _fails(host), "trouble": _trouble(host), "filled": _filled(host)} for host in found["data"]
        ]
        hosts.sort(key=lambda host: (not host["trouble"], -host.get("seen", {}).get("per_second", 0.0), host["host"]))
        away = found.get("away", [])
        return {
            "hosts": hosts,
            "more": found["more"],
            "told_most": HOSTS_TOLD,
            "without": named(away),
            "lacks_first": 0 in away,
        }

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


def _fails(host: dict[str, Any]) -> bool:
    """Whether most attempts failed lately."""
    return bool(host.get("seen", {}).get("success", 1) < WELL_LEAST)


def fails_often(host: dict[str, Any]) -> bool:
    """Whether most of many attempts failed lately."""
    return _fails(host) and host["seen"]["attempts"] >= TRIED_LEAST


def is_slow(host: dict[str, Any]) -> bool:
    """Whether workers find it slow."""
    return bool(host.get("seen", {}).get("slow"))


def _trouble(host: dict[str, Any]) -> str:
    """Return in a word what is wrong with a host; empty for one that is well, or held by its limit alone."""
    if "breaker" in host:
        return f"breaker {host['breaker']['state']}"
    if host["paused"]:
        return "paused"
    if is_slow(host):
        return "slow"
    return "fails" if _fails(host) else ""


def _filled(host: dict[str, Any]) -> dict[str, Any]:
    """Return what the form that sets limits shows of a host when it is opened."""
    return {one: host[one] for one in ("host", *LIMITS) if host.get(one)}


def _number(text: str) -> Any:
    """Return a number, or what is none for the API to refuse."""
    try:
        return msgspec.json.decode(text.strip())
    except (ValueError, RecursionError):
        return text
