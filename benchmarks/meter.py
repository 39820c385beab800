"""The CPU that the parts of a benchmark take between two moments."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import psutil

from benchmarks.harness import Redis

Part = Redis | Sequence[int]
"""A Redis, which is asked, or the ids of processes."""


@dataclass(frozen=True)
class Used:
    """The seconds of CPU of each part, within so many seconds."""

    seconds: float
    cpu_s: Mapping[str, float]

    def percent(self, digits: int | None = None) -> dict[str, float]:
        """Return the CPU of each part in percent of one core."""
        return {part: round(100 * cpu_s / self.seconds, digits) for part, cpu_s in self.cpu_s.items()}

    def us_each(self, part: str, count: int) -> float:
        """Return the microseconds that a part took for each of so many."""
        return round(1_000_000 * self.cpu_s[part] / count, 1)


@dataclass(frozen=True)
class Meter:
    """Begins to count with `start`; `used` tells what was used since, and may be asked again."""

    parts: Mapping[str, Part]
    before_s: Mapping[str, float]
    started: float

    @classmethod
    async def start(cls, **parts: Part) -> Self:
        """Count the CPU of these parts from now on."""
        return cls(parts, await _read(parts), time.monotonic())

    async def used(self) -> Used:
        """Return what was used since the start; all processes must still be there."""
        now_s = await _read(self.parts)
        seconds = time.monotonic() - self.started
        return Used(seconds, {part: now_s[part] - before_s for part, before_s in self.before_s.items()})


async def _read(parts: Mapping[str, Part]) -> dict[str, float]:
    return {name: await part.cpu_s() if isinstance(part, Redis) else _cpu_s(part) for name, part in parts.items()}


def _cpu_s(pids: Iterable[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)
