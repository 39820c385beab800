"""The system: the ledger, processes, Redis' memory, what was set, what was warned of."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis_scheduler.api.app import Inside
from redis_scheduler.api.stats import machine
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.configuration import configuration_warnings
from redis_scheduler.store.glance import ShardSeen
from redis_scheduler.store.processes import Look, ProcessSeen, last_look, processes_of
from redis_scheduler.store.token import Right
from redis_scheduler.store.workers import Holder, Workers, holders
from redis_scheduler.task.limit import NO_LIMIT, Limit
from redis_scheduler.task.timing import DEFAULT
from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Asker, content_of
from redis_scheduler.ui.doctor import Doctor
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.proxies import Network
from redis_scheduler.ui.readings import standing
from redis_scheduler.ui.rendering import clock
from redis_scheduler.ui.shards import Present, present
from redis_scheduler.ui.shared import Shared
from redis_scheduler.ui.verdict import problems

Recent = Callable[[ShardSeen | None], Awaitable[Mapping[str, int]]]
"""Returns what happened in the last minutes, by the first shard."""

WARNED_S = 60.0
"""For so long counts what Redis' configuration was found to be."""

PAGE = "system"
"""Where problems lead that this page says more of."""

SHOWN = 200
"""Processes."""

NOTED = 20
"""The last changes that are shown of those that were noted."""


@dataclass(frozen=True, slots=True)
class About:
    """What the process says of itself. `settings`: variable, value and where that comes from, without secrets."""

    settings: Sequence[tuple[str, str, str]] = ()
    warnings: Sequence[str] = ()
    doors: Sequence[str] = ()
    has_echo: bool = True
    delivers: bool = True
    """Whether workers run on this machine."""
    reached_at: Callable[[], str | None] = lambda: None
    """Returns address and port at which workers elsewhere reach this process, if that is known."""
    base: str = ""
    """The path under which a proxy shows the service."""
    environment: str = ""
    proxies: Sequence[Network] = ()
    """Those whose word is taken for which host and scheme a browser asked."""
    replicas: int = 0
    """So many must have what the API writes."""
    limit: Limit = NO_LIMIT
    """Of a host for which none is set."""
    tell_look: Callable[[Look], None] = lambda _: None
    """Is told what a look at all tasks has found, for all processes."""


class System:
    """Reads what there is to say of the system."""

    def __init__(self, inside: Inside, asker: Asker, about: About, recent: Recent) -> None:
        self._inside = inside
        self._asker = asker
        self._about = about
        self._recent = recent
        self._glance = inside.glance
        self.doctor = Doctor(inside.clients, inside.generations, about.tell_look)
        self._workers = Workers(inside.clients[0])
        self._warned: Shared[list[str]] = Shared()

    def begin_look(self, visitor: Visitor) -> tuple[bool, str]:
        """Begin a look at all that stands in Redis; return whether it was begun, and what there is to say. Raises
        PageRefused for a token that may not."""
        _refuse_others(visitor)
        if self.doctor.begin(visitor.name):
            return True, "The look has begun: what it finds is shown below"
        return False, "A look is under way"

    async def read(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        """Return it. Raises PageRefused for a token that may not see it."""
        _refuse_others(visitor)
        shards = await present(self._glance, self._inside.clients)
        readings = replace(standing(shards), recent=await self._recent(shards.first))
        held = [await holders(client, DEFAULT.window_ms) for client in shards.clients.values()]
        # The first shard keeps what is said and noted of all.
        processes = None if shards.first is None else await processes_of(shards.clients[0])
        living = [] if processes is None else await self._workers.names()
        noted = await self._noted(visitor) if processes is not None else None
        warned = await self._warned.get(shards.numbers, WARNED_S, lambda: self._warnings(shards.clients.values()))
        # Sums are of all shards, or none is shown.
        stats = None if shards.away else content_of(await self._asker.ask(visitor, "GET", "/stats"))["data"]
        return {
            "noted": noted,
            "stats": stats,
            # Asked twice in a moment, the machine would tell of its CPU only since the first time.
            "machine": stats or machine(),
            "problems": [one for one in problems(readings) if one.page == PAGE],
            "missing": shards.ledger.missing,
            "without": shards.without,
            "alone": shards.alone,
            "shards": _rows(shards, self._inside.clients),
            "processes": None
            if processes is None
            else _processes(processes, [one for of_shard in held for one in of_shard], living)[:SHOWN],
            "warned": warned.value,
            "look": last_look(processes or [], self.doctor.look),
            "about": self._about,
        }

    async def _noted(self, visitor: Visitor) -> list[dict[str, Any]]:
        answered = await self._asker.ask(visitor, "GET", "/audit", {"limit": str(NOTED)})
        return answered.content["data"] if answered.status == 200 else []

    async def _warnings(self, clients: Iterable[RedisClient]) -> list[str]:
        """Return what there is to warn of at each server, once."""
        found: dict[str, None] = {}
        for client in clients:
            found |= dict.fromkeys(await configuration_warnings(client, self._about.replicas))
        return list(found)


def _refuse_others(visitor: Visitor) -> None:
    if not visitor.rights & Right.ADMIN or (visitor.caller and visitor.caller.types):
        raise PageRefused(403, "This page is for tokens with the right admin, and without types")


def _rows(shards: Present, clients: Sequence[RedisClient]) -> list[dict[str, Any]]:
    """Return a row for each shard: what stands there, or stood when it answered last, and since when it is away."""
    rows = [{"number": number, "seen": one, "away": None, "at": ""} for number, one in shards.there.items()]
    for one in shards.away:
        since = "" if one.since_s is None else f" since {clock(one.since_s * 1000, '%Y-%m-%d %H:%M:%S')}"
        rows.append({"number": one.number, "seen": one.last, "away": since, "at": _address(clients[one.number])})
    return sorted(rows, key=lambda row: row["number"])


def _address(client: RedisClient) -> str:
    """Return where the Redis of a shard is, or was; empty if it was never reached."""
    return ", ".join(sorted(f"{address}:{port}" for address, port in client.peers))


def _processes(seen: Sequence[ProcessSeen], held: Sequence[Holder], living: Sequence[str]) -> list[dict[str, Any]]:
    """Return what there is to say of each process: what it said, and what it has in delivery. Those that hold tasks, or
    live, and say nothing are gone, or of an older version."""
    counts: dict[str, list[int]] = {}
    for one in held:
        count = counts.setdefault(one.name, [0, 0])
        count[0], count[1] = count[0] + one.held, count[1] + one.lost
    known = [(one.name, one.said) for one in seen]
    silent = [(name, None) for name in dict.fromkeys([*counts, *living]) if name not in {one.name for one in seen}]
    return [
        {
            "name": name,
            "said": said,
            "since": "" if said is None else clock(said.since_ms, "%Y-%m-%d %H:%M:%S"),
            "held": counts.get(name, [0, 0])[0],
            "lost": counts.get(name, [0, 0])[1],
        }
        for name, said in [*known, *silent]
    ]
