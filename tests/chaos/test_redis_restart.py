"""Redis restarted under load: stopped in order, killed, and cut off from its power. It is append-only, everysec."""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import redis.asyncio

from tests.chaos.accounts import Sent
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, Spread, scaled
from tests.chaos.recovery import BACK_WITHIN_S, fault_under_load, kill_between_syncs
from tests.support.redis_process import RedisProcess

SEED = 8
RATE = 300
"""Tasks a second."""

CHANCE = random.Random(SEED)
TTLS = [CHANCE.uniform(0, scaled(2, 1)) for _ in range(1000)]


def ttl(number: int) -> float:
    return TTLS[number % len(TTLS)]


DOWN_S = 1.0
"""How long Redis stays away each time."""

LOSS_WINDOW_S = 1.0
"""everysec: what was acknowledged longer ago is on disk."""


async def restart_under_load(
    checker: Checker, server: RedisProcess, figures: Figures, end: Callable[[], Awaitable[None]]
) -> list[float]:
    """Schedule, deliver and retry; `end` Redis meanwhile and start it again, some times; drain; return when it ended.

    Fails if a process took more than BACK_WITHIN_S from when Redis served again.
    """
    checker.receiver.behaviour = Attempts(failures=lambda n: int(n % 4 == 0), seconds=lambda n: n % 7 / 50)
    processes = [checker.launch(role, LOG_LEVEL="debug", RETRY_TIME="1") for role in ("api", "worker", "worker")]
    await asyncio.gather(*(process.started() for process in processes))
    api, *workers = processes
    ends, outages, recoveries = [], [], []

    async def restart() -> float:
        await end()
        ends.append(time.time())
        await asyncio.sleep(DOWN_S)
        await server.start()
        outages.append(time.time() - ends[-1])
        return time.time()

    for _ in range(scaled(3, 1)):
        recoveries += await fault_under_load(checker, api, workers, ttl, RATE, restart)
    await checker.drained()
    figures.note(seed=SEED, restarts=len(ends), outage_s=Spread.of(outages))
    figures.note(every_process_back_s=Spread.of(recoveries))
    assert max(recoveries) < BACK_WITHIN_S
    return ends


@pytest.mark.full
@pytest.mark.case("8a", "Redis stopped in order and started again, under load")
async def test_a_clean_restart_of_redis_loses_nothing(checker: Checker, server: RedisProcess, figures: Figures) -> None:
    await restart_under_load(checker, server, figures, server.stop)
    verdict = await checker.verdict()
    assert verdict.lost == []


@pytest.mark.case("8b", "Redis killed and started again, under load")
async def test_a_kill_of_redis_loses_nothing(
    checker: Checker, server: RedisProcess, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    await restart_under_load(checker, server, figures, lambda: kill_between_syncs(server, raw))
    verdict = await checker.verdict()
    assert verdict.lost == []


@pytest.mark.full
@pytest.mark.case("8c", "power cut under load: Redis killed, its last unsynced second cut off the file")
async def test_a_power_cut_loses_the_last_second_at_most(
    checker: Checker, server: RedisProcess, figures: Figures, tmp_path: Path
) -> None:
    record = FileRecord(tmp_path / "redis")
    recording = asyncio.create_task(record.measure_always())

    async def cut_power() -> None:
        await server.kill()
        figures.note(bytes_cut_off=record.truncate(time.time() - LOSS_WINDOW_S))

    try:
        ends = await restart_under_load(checker, server, figures, cut_power)
    finally:
        recording.cancel()
    verdict = await checker.verdict(lambda task: is_of_last_second(task, ends))
    assert verdict.lost, "nothing was cut off"


def is_of_last_second(task: Sent, ends: Sequence[float]) -> bool:
    # By Redis' own clock, which is the receiver's here.
    accepted_at = task.due_at - ttl(task.number)
    return any(end - LOSS_WINDOW_S <= accepted_at <= end for end in ends)


class FileRecord:
    """How long the append-only file was at each moment."""

    def __init__(self, folder: Path) -> None:
        # What Redis 6 writes, and what later ones write as long as they do not rewrite it.
        self._path = next(path for path in folder.rglob("*.aof") if not path.name.endswith(".base.aof"))
        self._sizes: list[tuple[float, int]] = []

    def measure(self) -> None:
        self._sizes.append((time.time(), self._path.stat().st_size))

    async def measure_always(self) -> None:
        while True:
            self.measure()
            await asyncio.sleep(0.02)

    def truncate(self, at: float) -> int:
        """Cut the file off where it ended at that moment; return how many bytes that took."""
        self.measure()
        kept = next(size for measured_at, size in self._sizes if measured_at >= at)
        lost = self._sizes[-1][1] - kept
        os.truncate(self._path, kept)
        return lost
