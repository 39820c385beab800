"""Eight shards on servers of their own."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.figures import Figures
from tests.chaos.several import checking, shard_of, start
from tests.support.receiver import Receiver
from tests.support.several_redis import apart

SHARDS = 8
TASKS, RATE = 20_000, 800


@pytest.mark.full
@pytest.mark.case("40", "20,000 tasks over 8 servers of their own, a shard each, on one machine")
async def test_many_tasks_over_eight_shards(tmp_path: Path, receiver: Receiver, figures: Figures) -> None:
    async with (
        apart(tmp_path / "redis", SHARDS) as servers,
        checking(tmp_path, servers.url, [one.url for one in servers.servers], receiver, figures) as checker,
    ):
        processes = await start(checker, SHARDS)
        tasks = await checker.load(processes[0], TASKS, lambda n: n % 50 / 10, clients=32, rate=RATE)
        await checker.drained()
        assert [process.process.poll() for process in processes] == [None] * 3
        counts = Counter(shard_of(task, SHARDS) for task in tasks)
        figures.note(tasks_of_a_shard=f"{min(counts.values()):,} to {max(counts.values()):,}")
        verdict = await checker.verdict()
        assert (verdict.unknown, verdict.duplicated, len(counts)) == (0, 0, SHARDS)
