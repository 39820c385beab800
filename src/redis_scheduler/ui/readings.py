"""What a verdict (verdict.py) is about: what stands in the shards, what happened lately, what is known of hosts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from redis_scheduler.api.stats import states_of
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.glance import ShardAway, Unserved, emptied, unserved
from redis_scheduler.store.memory import fullest
from redis_scheduler.ui.shards import Present

NAMED_MOST = 3
"""Of one kind of trouble so many hosts, or errors, are named."""

UNREADABLE_HOST = "a host that cannot be read"
"""Stands for the host of a group of tasks whose records do not tell it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: in words, with what to do, and the page that shows more."""

    text: str
    remedy: str
    page: str = ""


class Held(NamedTuple):
    """Tasks that a host, or a limit key, holds back. `wait_s`: so long its limit lets them take; None: it is paused.
    `setting`: what the limit comes from, where the host has none of its own."""

    name: str
    tasks: int
    wait_s: float | None
    setting: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """What a verdict is about. Times are Redis' ms. `oldest_ms`: how long the oldest task is due that no worker has;
    `recent`: what happened in the last minutes, by the names of the history."""

    now_ms: int
    states: Mapping[str, int]
    is_balanced: bool
    all_paused_since: str | None
    next_due_ms: int | None
    oldest_ms: int
    workers: int
    memory_share: float
    recent: Mapping[str, int] = field(default_factory=dict)
    died_in_day: int = 0
    worst: Sequence[tuple[str, str, int]] = ()
    """Host, error, and number of the largest groups of dead letters."""
    open_breakers: Sequence[str] = ()
    held: Sequence[Held] = ()
    failing: Sequence[tuple[str, str, int]] = ()
    """Host, error, and number of the largest groups of tasks whose last attempt failed, of some of these tasks."""
    failing_hosts: Sequence[tuple[str, float, str]] = ()
    """Hosts at which most attempts failed lately, with the share that did and the last error, the busiest first."""
    most_failed: tuple[str, str] = ("", "")
    """The host at which most attempts failed lately, of those that workers tell of, and the last error; empty: none."""
    slow: Sequence[tuple[str, int]] = ()
    """Hosts that workers find slow, with their attempts under way, the most first."""
    away: Sequence[ShardAway] = ()
    """Shards that do not answer: the rest is of the others."""
    shards: int = 1
    """How many there are."""
    emptied: Sequence[int] = ()
    """Shards whose Redis lost its data in the last day; the last one then:"""
    emptied_ms: int = 0
    too_old: str = ""
    """A worker of an older version, that does not read all records of this one."""
    unserved: Unserved = field(default_factory=Unserved)

    @property
    def running(self) -> int:
        """Tasks still to be delivered."""
        return sum(number for state, number in self.states.items() if state != "dead")


def standing(shards: Present) -> Readings:
    """Return what stands in the shards, without what happened, and what is known of hosts."""
    ledger, there = shards.ledger, shards.there.values()
    return Readings(
        ledger.now_ms,
        states_of(ledger),
        ledger.is_balanced,
        None if ledger.all_paused_since_ms is None else rfc3339(ledger.all_paused_since_ms),
        ledger.next_due_ms,
        ledger.oldest_due_ms,
        min((one.workers for one in there if one.workers), default=0),
        fullest(one.memory for one in there).share,
        away=shards.away,
        shards=len(there) + len(shards.away),
        too_old=next((one.too_old for one in there if one.too_old), ""),
        emptied=emptied(shards.there),
        emptied_ms=ledger.emptied_ms,
        unserved=unserved(shards.there),
    )
