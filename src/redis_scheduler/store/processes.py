"""What each process of a deployment says of itself: its role, version and slots, and what it saw of hosts lately.

Each says it with its join (join.lua), every few seconds. One that has not for a while is taken to be gone.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from redis_scheduler.store.answer_shape import NUMBER, SCANNED, of, redis_ms, text_pairs
from redis_scheduler.store.client import RedisClient

PROCESSES_MOST = 1_000
"""So many processes are remembered."""

PIECE = 50
"""What so many processes say is read at once: 1.6 MB at most."""

HOSTS_TOLD = 50
"""A worker tells of so many hosts."""

SAID_MS = 30_000
"""For so long counts what a process has said."""


class Look(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A look at all that stands in Redis, as `redis-scheduler doctor` takes it: when it began, by this machine's clock,
    how many ms it took and by whom it was asked for; faults by their kinds, some of them in words, tasks that the
    ledger misses, and what ended it before its end."""

    at_ms: int
    by: str
    took_ms: int = 0
    is_done: bool = False
    faults: dict[str, int] = {}
    texts: list[str] = []
    missing: int = 0
    error: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing was found to be wrong."""
        return self.is_done and not self.faults and not self.missing


class HostTold(msgspec.Struct, array_like=True):
    """What a worker saw of a host lately. running: attempts under way; took: how many attempts took how long, by the
    buckets of tally.py, and how many of all failed; error: how the last that failed did, and when, by its clock;
    waiting: claims that stand in line for it."""

    host: str
    running: int = 0
    is_slow: bool = False
    failed: int = 0
    took: list[int] = []
    error: str = ""
    error_ms: int = 0
    waiting: int = 0


class Said(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a process says. since_ms: its start, by its machine's clock. Of a worker: slots, and how many are busy;
    hosts, as they were in the last span_ms; the shards that it delivers from, if not all."""

    role: str
    version: str
    since_ms: int
    slots: int = 0
    busy: int = 0
    span_ms: int = 0
    hosts: list[HostTold] = []
    look: Look | None = None
    shards: str = ""


class ProcessSeen(msgspec.Struct):
    """A process, and when it said this, by Redis' clock."""

    name: str
    at_ms: int
    said: Said


_decode = msgspec.json.Decoder(Said).decode
encode_said = msgspec.json.Encoder().encode


async def processes_of(client: RedisClient) -> list[ProcessSeen]:
    """Return the processes that have said lately what they are, by their names; without their hosts. Raises
    StoreUnavailable."""
    found = []
    async for one in each_process(client):
        one.said.hosts = []
        found.append(one)
    return sorted(found, key=lambda one: one.name)


async def each_process(client: RedisClient) -> AsyncIterator[ProcessSeen]:
    """Yield those that have said lately what they are, each once. Of many only some are read at once: all may say some
    30 MB. Raises StoreUnavailable."""
    now_ms: int = await client.command("TIME", read=redis_ms)
    names = set[bytes]()
    async for pairs in _pieces(client):
        for name, text in pairs:
            if name not in names and (seen := _seen(name, text)) is not None and abs(now_ms - seen.at_ms) <= SAID_MS:
                names.add(name)
                yield seen


async def said_of_host(client: RedisClient, name: str, host: str) -> ProcessSeen | None:
    """Return what a process said last of one host alone; None if it said nothing of it, or this may not be asked.
    Raises StoreUnavailable."""
    text = await client.optional("HGET", client.keys.processes, name, read=of(bytes | None))
    seen = None if text is None else _seen(name.encode(), text)
    if seen is None:
        return None
    seen.said.hosts = [told for told in seen.said.hosts if told.host == host]
    return seen if seen.said.hosts else None


async def _pieces(client: RedisClient) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """Yield names and what they say, some perhaps twice."""
    key = client.keys.processes
    if await client.command("HLEN", key, read=NUMBER) > PIECE:
        cursor = b"0"
        for _ in range(PROCESSES_MOST // PIECE * 4):  # foreign hands may have put more there
            # The user in REDIS_URL may not be allowed to ask so.
            page = await client.optional("HSCAN", key, cursor, "COUNT", PIECE, read=SCANNED)
            if page is None:
                break
            cursor, pairs = page[0], text_pairs(page[1])
            yield pairs
            if cursor == b"0":
                return
        else:
            return
    yield await client.command("HGETALL", key, read=text_pairs)


def _seen(name: bytes, text: bytes) -> ProcessSeen | None:
    """Return what a process said; None for what other hands wrote."""
    at, _, said = text.partition(b" ")
    try:
        return ProcessSeen(name.decode(errors="replace"), int(at), _decode(said))
    except (ValueError, RecursionError):
        return None


def last_look(seen: list[ProcessSeen], own: Look | None = None) -> Look | None:
    """Return the look that was begun last, of all processes and of this one."""
    looks: list[Any] = [own, *(one.said.look for one in seen)]
    return max((one for one in looks if one is not None), key=lambda one: (one.at_ms, one.is_done), default=None)
