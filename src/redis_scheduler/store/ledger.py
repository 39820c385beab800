"""The ledger: every task that ever was, at one moment: where it stands now, or how it ended."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis_scheduler.store.answer_shape import NUMBER, all_paused_since_ms, numbers, text_pairs
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING
from redis_scheduler.store.script import Script
from redis_scheduler.store.stored import score_ms

ENTERED = ("scheduled", "replayed")
ENDED = ("delivered", "died", "expired", "cancelled", "purged", "ended", "lost")
"""The counters of the ledger: how tasks come in, and how they end."""

BESIDE = ("failed", "dead_dropped", "results_dropped")
"""The counters that are no part of its balance."""


@dataclass(slots=True)
class Ledger:
    """Every task that ever was, at one moment: where it stands now, or how it ended. One that died has ended, whatever
    becomes of the dead letter.

    scheduled + replayed = due + queued + in delivery + waiting + paused + awaiting + held + delivered + died +
    expired + cancelled + purged + ended + lost, at any moment. `ended`: series whose last time has come. An audit
    counts what was lost; below zero are tasks that turned up though they were counted as ended.
    """

    due: int
    queued: int
    in_delivery: int
    waiting: int
    paused: int
    awaiting: int
    held: int
    dead: int
    counters: dict[str, int]
    redis_keys: int | None
    """Keys in the whole database; None where the user may not ask."""
    server: str = field(default="", kw_only=True)
    """Whose database that is; empty: nobody else's."""
    all_paused_since_ms: int | None = None
    """Since when nothing is promoted; None: it is."""
    oldest_due_ms: int = 0
    """For how long the first task has been due that no worker has claimed."""
    breakers: dict[str, int] = field(default_factory=dict)
    """How many breakers are not closed, by their state."""
    now_ms: int = 0
    """When that was, by Redis' clock."""
    next_due_ms: int | None = None
    """When the first is due that no worker has promoted."""
    emptied_ms: int = 0
    """When a process saw last that Redis had lost all its data; 0: none did."""

    @property
    def running(self) -> int:
        """Tasks still to be delivered, those that are paused, too."""
        return self.due + self.queued + self.in_delivery + self.waiting + self.paused + self.awaiting + self.held

    @property
    def begun(self) -> int:
        """Tasks that a worker is to take up, or has."""
        return self.queued + self.in_delivery + self.waiting

    @property
    def wants_worker(self) -> bool:
        """Whether there is something that only a worker can do."""
        return self.begun > 0 or self.oldest_due_ms > 0

    @property
    def missing(self) -> int:
        """How many tasks entered and are nowhere to be found; below zero: so many too many are there."""
        entered, ended = (sum(self.counters.get(name, 0) for name in names) for names in (ENTERED, ENDED))
        return entered - self.running - ended

    @property
    def is_balanced(self) -> bool:
        """Whether every task is accounted for."""
        return self.missing == 0


def total(ledgers: Sequence[Ledger]) -> Ledger:
    """Return the sum of the ledgers of several shards. Each balances at a moment of its own, so the sum does."""
    keys = list({ledger.server or number: ledger.redis_keys for number, ledger in enumerate(ledgers)}.values())
    names = {name: None for ledger in ledgers for name in ledger.counters}
    states = {state: None for ledger in ledgers for state in ledger.breakers}
    return Ledger(
        due=sum(ledger.due for ledger in ledgers),
        queued=sum(ledger.queued for ledger in ledgers),
        in_delivery=sum(ledger.in_delivery for ledger in ledgers),
        waiting=sum(ledger.waiting for ledger in ledgers),
        paused=sum(ledger.paused for ledger in ledgers),
        awaiting=sum(ledger.awaiting for ledger in ledgers),
        held=sum(ledger.held for ledger in ledgers),
        dead=sum(ledger.dead for ledger in ledgers),
        counters={name: sum(ledger.counters.get(name, 0) for ledger in ledgers) for name in names},
        all_paused_since_ms=min(
            (ledger.all_paused_since_ms for ledger in ledgers if ledger.all_paused_since_ms is not None), default=None
        ),
        oldest_due_ms=max(ledger.oldest_due_ms for ledger in ledgers),
        breakers={state: sum(ledger.breakers.get(state, 0) for ledger in ledgers) for state in states},
        now_ms=max(ledger.now_ms for ledger in ledgers),
        next_due_ms=min((ledger.next_due_ms for ledger in ledgers if ledger.next_due_ms is not None), default=None),
        emptied_ms=max(ledger.emptied_ms for ledger in ledgers),
        redis_keys=None if None in keys else sum(count for count in keys if count is not None),
    )


_LEDGER = Script("ledger")


async def read_ledger(client: RedisClient) -> Ledger:
    """Count every task of one shard where it stands, at one moment."""
    answer = await client.run(_LEDGER.bind(client.keys, group=GROUP, waiting=WAITING), _counts)
    counts, counters, since_ms, oldest_ms, now_ms, next_ms = answer
    due, length, pending, waiting, dead, paused, awaiting, held, opened, closing = counts
    counted = {name.decode(errors="replace"): _count(count) for name, count in counters}
    return Ledger(
        due=due,
        queued=length - pending,
        in_delivery=pending - waiting,
        waiting=waiting,
        paused=paused,
        awaiting=awaiting,
        held=held,
        dead=dead,
        counters=counted,
        redis_keys=await client.optional("DBSIZE", read=NUMBER),
        server=client.server,
        all_paused_since_ms=since_ms,
        oldest_due_ms=oldest_ms,
        breakers={"open": opened, "closing": closing},
        now_ms=now_ms,
        next_due_ms=next_ms,
        emptied_ms=counted.pop("emptied_ms", 0),
    )


def _counts(answer: Any) -> tuple[list[int], list[tuple[bytes, bytes]], int | None, int, int, int | None]:
    *counts, counters, since, oldest, now, head = answer
    next_ms = None if head is None else score_ms(head)
    since_ms = all_paused_since_ms(since)
    return _NUMBERS(counts), text_pairs(counters), since_ms, NUMBER(oldest), NUMBER(now), next_ms


_NUMBERS = numbers(10)
_COUNT = re.compile(rb"0|-?[1-9][0-9]{0,14}")


def _count(value: bytes) -> int:
    """Return a counter; 0 if it is no number, which the audit finds."""
    return int(value) if _COUNT.fullmatch(value) else 0
