"""The look: what a worker asks a shard for at intervals, with a step of the sweep: XAUTOCLAIM's walk through the
pending entries, which all workers make together. `Sweeps.rewind` mends what a clock of Redis that was set back has
left."""

import functools
import time
from dataclasses import dataclass, field
from typing import Any

from redis_scheduler.store.answer_shape import NUMBER, of, redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING, text_of
from redis_scheduler.store.script import Script
from redis_scheduler.task.claim import Entry
from redis_scheduler.task.timing import Timing

LOOK, REWIND = Script("look"), Script("rewind")


@dataclass(slots=True)
class Sweep:
    """What a look found: what the step of the sweep brought, and the seconds until the next step.

    `lost`: how many entries came back of each lost worker. `must_rewind`: Redis' clock was set back, so call `rewind`.
    `clock_set_ms`: by how much Redis' clock was surely set forward, or back (below zero), since the step before, beside
    this machine's clock.
    """

    entries: list[Entry]
    wait_s: float
    lost: dict[str, int] = field(default_factory=dict)
    must_rewind: bool = False
    clock_set_ms: float = 0
    limits_set: str = ""
    """When limits were set last: another text than before tells that they may be others."""
    due_in_s: float | None = None
    """Seconds until the next task is due, one ms too many at most (None: none is scheduled, or all is paused)."""
    is_all_paused: bool = False
    held: int = 0
    """How many entries were pending for this consumer."""
    has_lines: bool = False
    """Whether tasks stand in lines of tokens."""


class Sweeps:
    """A consumer's part in the sweep; the rest of what a worker writes is Claims. Every method raises
    StoreUnavailable, or StoreFull, as the client does."""

    def __init__(self, client: RedisClient, name: str, timing: Timing) -> None:
        self.client = client
        self._timing = timing
        self.name = name
        """The consumer's name: new for every process, so that it is never taken for one before."""
        self._clock_offset_ms: tuple[float, float] | None = None
        """By how much Redis' clock is ahead of this machine's monotonic one: at least, at most."""
        self.ahead_ms = 0.0
        """The same, by the last answer that brought claims, or may have."""

    def now_ms(self) -> float:
        """Return Redis' time as the last answer told it: each that brings claims tells it."""
        return time.monotonic() * 1000 + self.ahead_ms

    def _hear_time(self, now_ms: int) -> None:
        self.ahead_ms = now_ms - _monotonic_ms()

    async def look(self, limit: int) -> Sweep:
        """Look at the shard, with one step of the sweep.

        A limit of 0 takes nothing, but shows that this worker lives: so full slots are not taken for an outage.
        """
        offset_ms, _ = self._clock_offset_ms or _clock_offset_ms(_monotonic_ms(), await self._time_ms())
        asked_ms = _monotonic_ms()
        void_after_ms = round(asked_ms + offset_ms + self._timing.sweep_void_after_ms)
        sweep, now_ms = await self.client.run(
            LOOK.bind(
                self.client.keys,
                group=GROUP,
                consumer=self.name,
                waiting=WAITING,
                window_ms=self._timing.window_ms,
                limit=min(limit, self._timing.batch_limit // 2),
                lease_idle_ms=self._timing.lease_idle_ms,
                void_after_ms=void_after_ms,
                waiting_interval_ms=self._timing.sweep_waiting_interval_ms,
                idle_interval_ms=self._timing.sweep_idle_interval_ms,
                look_interval_ms=self._timing.look_interval_ms,
                step_interval_ms=self._timing.sweep_step_interval_ms,
                gap_ms=self._timing.sweep_gap_ms,
                hold_ms=self._timing.sweep_hold_ms,
                last_tries=self._timing.lost_workers_most,
                clock_set_least_ms=self._timing.clock_set_least_ms,
            ),
            functools.partial(_sweep, max(self._timing.sweep_hold_ms, self._timing.look_interval_ms)),
        )
        sweep.clock_set_ms = self._clock_set_ms(asked_ms, now_ms)
        self._hear_time(now_ms)
        return sweep

    async def _time_ms(self) -> int:
        now_ms: int = await self.client.command("TIME", read=redis_ms)
        return now_ms

    def _clock_set_ms(self, asked_ms: float, now_ms: int) -> float:
        """Compare Redis' clock with this machine's; return by how much it was surely set since the last comparison."""
        at_least, at_most = offset_ms = _clock_offset_ms(asked_ms, now_ms)
        before, self._clock_offset_ms = self._clock_offset_ms or offset_ms, offset_ms
        return max(0, at_least - before[1]) + min(0, at_most - before[0])

    async def rewind(self) -> tuple[int, int]:
        """Mend one part of what the set-back clock would delay.

        Leases start again, and deferred tasks come earlier by as much. Returns by how many ms the clock was set back
        (in the first part, else 0), and how many were set right.
        """
        set_back_ms, count, _ = await self.client.run(
            REWIND.bind(
                self.client.keys,
                group=GROUP,
                waiting=WAITING,
                lease_idle_ms=self._timing.lease_idle_ms,
                unseen_ms=self._timing.window_ms,
                limit=self._timing.batch_limit,
                room=self._timing.load_bytes,
            ),
            of(tuple[int, int, int]),
        )
        return set_back_ms, count


def _monotonic_ms() -> float:
    return time.monotonic() * 1000


def _clock_offset_ms(asked_ms: float, now_ms: int) -> tuple[float, float]:
    """Return by how much Redis' clock is ahead of this machine's monotonic one, at least and at most, by an answer that
    has just come."""
    # Redis tells whole ms.
    return now_ms - _monotonic_ms(), now_ms + 1 - asked_ms


_SWEPT = of(tuple[list[bytes | int], int, int, int, list[bytes | int], bytes, int, int, int, int])
_LOST = of(dict[bytes, int])


def _sweep(longest_ms: int, answer: Any) -> tuple[Sweep, int]:
    taken, wait_ms, now_ms, must_rewind, lost, limits_set, due_ms, is_all_paused, held, has_lines = _SWEPT(answer)
    if not 0 <= wait_ms <= longest_ms:
        raise ValueError("Expected a time until the next step")
    counts = _LOST(dict(zip(lost[::2], lost[1::2], strict=True)))
    rows = zip(taken[::3], taken[1::3], taken[2::3], strict=True)
    entries = [Entry(entry_id.decode(), text_of(key), NUMBER(tries)) for entry_id, key, tries in rows]
    names = {name.decode(errors="replace"): count for name, count in counts.items()}
    sweep = Sweep(entries, wait_ms / 1000, names, bool(must_rewind), 0, limits_set.decode(errors="replace"))
    sweep.due_in_s = None if due_ms < 0 else due_ms / 1000
    sweep.is_all_paused, sweep.held, sweep.has_lines = is_all_paused == 1, held, has_lines == 1
    return sweep, now_ms
