"""Limits on hosts, and on what tasks name as `limit_key`: what is said of them, who may begin, and what is held."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from msgspec import UNSET

from redis_scheduler.host import host_of
from redis_scheduler.store.answer_shape import NUMBER, SCANNED, TEXTS, numbers, of, text_pairs
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.script import Script
from redis_scheduler.task.limit import (
    KEY_MARK,
    NO_BREAKING,
    NO_LIMIT,
    WHOLE_MARK,
    Breaker,
    Breaking,
    Limit,
    Verdict,
    limit_text,
    read_breaker,
    read_limit,
    verdicts_of,
)
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import Record
from redis_scheduler.task.timing import DEFAULT, Timing

PERMIT, ADMIT = Script("permit"), Script("admit")
LIMIT, HOSTS, JUDGE = Script("limit"), Script("hosts"), Script("judge")

LIMITS_MOST = 10_000
"""Limits of which something may be said."""

LISTED_MOST = 1_000
"""Lines that a list of hosts looks at beside these."""


def limit_of(record: Record) -> str:
    """Return the name of the limit that a task is under: its `limit_key`, else its host and port."""
    return limit_named(record.options, record.origin)


def limit_named(options: Options, origin: str) -> str:
    """Return the same, of a task with these options and a webhook of this origin."""
    if options is not NONE and (key := options.limit_key) is not UNSET:
        return KEY_MARK + key
    return host_of(origin)


def new_salt() -> str:
    """Return a text that nobody can guess: Redis keeps the first that it is offered."""
    return secrets.token_hex(16)


class PermitAnswer(IntEnum):
    """What a claim may do that asks. A permit is to be given back. A greater number is BEGIN, too, and says by how much
    greater it is than BEGIN_WITH_PERMIT how many more may begin soon without asking."""

    HOLD = 0
    BEGIN = 1
    BEGIN_WITH_PERMIT = 2


class Asked(NamedTuple):
    """A claim that asks whether it may begin, or has begun and goes on. `more`: how many are to follow it soon."""

    key: str
    limit: str
    has_begun: int = 0
    more: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """What a step of the admission did: tasks admitted, tasks still held, and the seconds until the next step."""

    admitted: int
    held: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class HostState:
    """A limit as it stands: what is said of it (None: nothing), tasks that are held, and permits that are held."""

    name: str
    said: Limit | None
    held: int
    running: int
    breaker: Breaker | None = None


def in_all(states: Sequence[HostState]) -> HostState:
    """Return how a limit stands, from how it does in each shard: what is said of it the first of them has. Of breakers
    an open one is shown before one that closes."""
    if len(states) == 1:
        return states[0]
    breakers = [state.breaker for state in states if state.breaker is not None]
    return HostState(
        states[0].name,
        states[0].said,
        sum(state.held for state in states),
        sum(state.running for state in states),
        max(breakers, key=lambda breaker: breaker.state == "open", default=None),
    )


class Judged(NamedTuple):
    """What attempts to a host came to: how many failed since the last that was well, and how many were well."""

    limit: str
    failures: int
    wells: int


class Limiting:
    """What is asked and said of limits. `default`: what counts for a limit of which nothing is said. Every method
    raises StoreUnavailable, or StoreFull, as the client does."""

    def __init__(
        self, client: RedisClient, timing: Timing = DEFAULT, default: Limit = NO_LIMIT, breaking: Breaking = NO_BREAKING
    ) -> None:
        self._client = client
        self._timing = timing
        self.default = default
        self.breaking = breaking
        self.part, self.parts = 0, 1
        """Which part of each limit this shard keeps: of so many shards each has one."""

    @property
    def outage(self) -> Outage:
        """What is known of the Redis that has the limits: it may be another than that of the tasks."""
        return self._client.outage

    @property
    def _defaults(self) -> dict[str, float]:
        return {
            "default_concurrency": self.default.concurrency or 0,
            "default_gap_ms": self.default.gap_ms,
            "part": self.part,
            "parts": self.parts,
        }

    async def give_back(self, keys: Sequence[str]) -> None:
        """Give back the permits of tasks of limits as a whole: nothing is held under these."""
        await self._client.command("ZREM", self._client.keys.permits, *keys)

    def as_whole(self, concurrency: int) -> "Limiting":
        """Return what is asked for limits as a whole that have this concurrency."""
        return Limiting(self._client, self._timing, Limit(concurrency))

    async def permit(self, asked: Sequence[Asked]) -> list[int]:
        """Return for each claim whether it may begin: a PermitAnswer, or more."""
        answers: list[int] = await self._client.run(
            PERMIT.bind(
                self._client.keys,
                asked,
                permit_ms=self._timing.lease_ms,
                gap_most_ms=self._timing.breaker_gap_most_ms,
                offered_salt=new_salt(),
                **self._defaults,
            ),
            _permits(asked),
        )
        return answers

    async def admit(self, ended: Sequence[str] = ()) -> Admission:
        """Let held tasks into the queue, as far as their limits have room; `ended`: keys of tasks whose attempts have
        ended."""
        admitted, held, wait_ms = await self._client.run(
            ADMIT.bind(
                self._client.keys,
                most=self._timing.batch_limit,
                most_lines=self._timing.admitted_lines_most,
                round_ms=self._timing.admission_interval_ms,
                permit_ms=self._timing.lease_ms,
                gap_most_ms=self._timing.breaker_gap_most_ms,
                held_most_ms=self.breaking.held_most_ms,
                random=secrets.randbelow(2**32) / 2**32,
                ended=ended,
                **self._defaults,
            ),
            of(tuple[int, int, int]),
        )
        return Admission(admitted, held, wait_ms / 1000)

    async def judge(self, judged: Sequence[Judged]) -> list[Verdict]:
        """Count what attempts to hosts came to: breakers open and close by it. Returns what each host's did."""
        timing, hosts = self._timing, [judged_one.limit for judged_one in judged]
        verdicts: list[Verdict] = await self._client.run(
            JUDGE.bind(
                self._client.keys,
                judged,
                failures_most=math.ceil(self.breaking.failures / self.parts),
                well_ms=timing.breaker_well_ms,
                gap_ms=timing.breaker_gap_ms,
                gap_most_ms=timing.breaker_gap_most_ms,
                step_ms=timing.breaker_step_ms,
                most=LIMITS_MOST,
            ),
            lambda answer: verdicts_of(hosts, TEXTS(answer)),
        )
        return verdicts

    async def broken(self) -> set[str]:
        """Return the hosts whose breaker is not closed."""
        return {name for name, text in await self._kept(self._client.keys.breakers) if read_breaker(text)}

    async def said(self) -> dict[str, Limit]:
        """Return the limits that are set, by their names."""
        return {name: read_limit(text) for name, text in await self._kept(self._client.keys.limits)}

    async def _kept(self, key: str) -> list[tuple[str, str]]:
        """Return the names and texts that a hash keeps, which foreign hands may have written."""
        pairs = await self._client.command("HGETALL", key, read=text_pairs)
        return [(name.decode(errors="replace"), text.decode(errors="replace")) for name, text in pairs]

    async def say(self, name: str, limit: Limit | None) -> bool | None:
        """Keep what is said of a limit, or (None) forget it: workers notice it within about a second. Returns whether
        there was something to forget; None: as many are kept as may be."""
        answer: int = await self._client.run(
            LIMIT.bind(
                self._client.keys,
                limit=name,
                said="" if limit is None else limit_text(limit),
                most=LIMITS_MOST,
            ),
            NUMBER,
        )
        return None if answer == 2 else bool(answer)

    async def copy(self, said: Mapping[str, Limit]) -> None:
        """Keep these limits, as the first shard does, and no others."""
        kept = await self.said()
        for name in kept.keys() - said.keys():
            await self.say(name, None)
        for name, limit in said.items():
            if kept.get(name) != limit:
                await self.say(name, limit)

    async def names(self) -> tuple[list[str], bool]:
        """Return the names of all limits of which something is said and, of up to LISTED_MOST lines, of the others;
        and whether there may be more of these."""
        keys = self._client.keys
        said = list(await self.said())
        # The user in REDIS_URL may not be allowed to ask.
        scanned = await self._client.optional("HSCAN", keys.lines, 0, "COUNT", LISTED_MOST, read=SCANNED)
        cursor, rows = scanned or (b"0", [])
        lines = [kept.partition(b" ")[2] for kept in rows[1::2]]
        names = {*said, *(name.decode(errors="replace") for name in lines)} | await self.broken()
        return sorted(name for name in names if not name.startswith(WHOLE_MARK)), cursor != b"0"

    async def states(self, names: Sequence[str]) -> list[HostState]:
        """Return how limits stand."""
        found: list[HostState] = []
        for start in range(0, len(names), self._timing.batch_limit):
            part = [Asked("", name) for name in names[start : start + self._timing.batch_limit]]
            rows = await self._client.run(
                HOSTS.bind(self._client.keys, part, permit_ms=self._timing.lease_ms), _four_of_each(len(part))
            )
            for asked, kept, held, running, broken in zip(
                part, rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True
            ):
                said = read_limit(kept.decode(errors="replace")) if isinstance(kept, bytes) else None
                breaker = read_breaker(broken.decode(errors="replace")) if isinstance(broken, bytes) else None
                found.append(HostState(asked.limit, said, NUMBER(held), NUMBER(running), breaker))
        return found


def _permits(asked: Sequence[Asked]) -> Callable[[Any], list[int]]:
    read = numbers(len(asked))

    def checked(answer: Any) -> list[int]:
        found = read(answer)
        if any(
            not 0 <= number <= PermitAnswer.BEGIN_WITH_PERMIT + one.more
            for number, one in zip(found, asked, strict=True)
        ):
            raise ValueError("Expected what may begin")
        return found

    return checked


def _four_of_each(count: int) -> Callable[[Any], list[Any]]:
    read = of(list[bytes | int | None])

    def checked(answer: Any) -> list[Any]:
        rows: list[Any] = read(answer)
        if len(rows) != 4 * count:
            raise ValueError(f"Expected four values for each of {count}")
        return rows

    return checked
