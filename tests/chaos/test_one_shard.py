"""One of several shards is away, under load: the others do not notice, and it goes on where it was."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from redis_scheduler.task.key import shards_of
from tests.chaos.accounts import Sent, Verdict
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import SLOWNESS, Figures, Spread, scaled
from tests.chaos.recovery import BACK_WITHIN_S, CLIENTS, delivering_again, kill_between_syncs, load_until
from tests.chaos.several import checking, keys_of, shard_of, start
from tests.support.audit import plain
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess
from tests.support.service import Process
from tests.support.several_redis import apart, cluster_of, moved_key_by_key
from tests.support.standing_still import standing_still

SHARDS, AWAY = 4, 2

RATE = scaled(150, 60)
"""Tasks a second."""

AWAY_S = scaled(60, 3)
BEFORE_S = scaled(20, 2)
BACKLOG = scaled(2_000, 200)
"""Tasks that come due while it is away, in all shards together."""

LOAD_MOST_S = BEFORE_S + AWAY_S + 30

LATER_S, HOPS = scaled(20, 1_000) / 1_000, 5
"""So much later the tasks of the others may come, beside the fifth that the promise allows; and by what processes wait
longer for a core than before the fault: so many have to do with a task. Scaled down, other tests run beside it: what is
held up comes later still."""

NOTICED_WITHIN_S = 2.5 * SLOWNESS
"""A new task waits so long at most for a shard that turns out to be silent."""

Fault = Callable[[RedisProcess], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def down(server: RedisProcess) -> AsyncIterator[None]:
    async with plain(server.url) as raw:
        await kill_between_syncs(server, raw)
    try:
        yield
    finally:
        await server.start()


@contextlib.asynccontextmanager
async def stopped(server: RedisProcess) -> AsyncIterator[None]:
    async with standing_still(server.pid):
        yield


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(down, marks=pytest.mark.case("39a", "one of four shards down for 60 s, under load")),
        pytest.param(stopped, marks=pytest.mark.case("39b", "one of four shards stopped by SIGSTOP for 60 s")),
    ],
)
async def test_the_others_do_not_notice_a_shard_that_is_away(
    fault: Fault, tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    async with (
        apart(tmp_path / "redis", SHARDS) as servers,
        checking(tmp_path, servers.url, [one.url for one in servers.servers], receiver, figures) as checker,
    ):
        processes = await start(checker, SHARDS)
        found = await noticed_by_none(checker, processes, SHARDS, AWAY, lambda: fault(servers.servers[AWAY]), AWAY_S)
        assert found.unknown <= CLIENTS, "new tasks pass over it"


@pytest.mark.full
@pytest.mark.case("38c", "in a cluster, the slot of one of four shards moved key by key for 10 s, under load")
async def test_the_others_do_not_notice_a_slot_that_is_moved(
    tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    moved = 0
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        urls = [(await cluster.node_of(keys_of(shard).tasks)).url for shard in range(SHARDS)]
        async with checking(tmp_path, cluster.url, urls, receiver, figures) as checker:

            @contextlib.asynccontextmanager
            async def moving() -> AsyncIterator[None]:
                async with moved_key_by_key(cluster, keys_of(moved).tasks) as target:
                    yield
                urls[moved] = target.url
                await checker.look_at(target.url)

            processes = await start(checker, SHARDS, SHARDS=str(SHARDS))
            await noticed_by_none(checker, processes, SHARDS, moved, moving, 10)


async def noticed_by_none(
    checker: Checker,
    processes: list[Process],
    shards: int,
    away: int,
    fault: Callable[[], AbstractAsyncContextManager[None]],
    seconds: float,
) -> Verdict:
    """Schedule, deliver and retry in all shards; have the fault for so long in one; see that the others go on as
    before, and that what waits in that one then comes."""
    api, *workers = processes
    checker.receiver.behaviour = Attempts(failures=lambda n: int(n % 4 == 0), seconds=lambda n: n % 7 / 50)
    await checker.load(api, BACKLOG, lambda n: BEFORE_S + n * seconds / BACKLOG, CLIENTS)
    waited = list[float]()
    watch = asyncio.create_task(watch_the_machine(waited))
    is_over = asyncio.Event()
    load = asyncio.create_task(load_until(is_over, checker, api, lambda n: n % 5 / 10, RATE, LOAD_MOST_S))
    await asyncio.sleep(BEFORE_S)
    away_at, machine_before, waited[:] = time.time(), Spread.of(waited), []
    async with fault():
        await asyncio.sleep(seconds)
    back_at = time.time()
    watch.cancel()
    recoveries = await delivering_again(workers, back_at, lambda key: shards_of(key, (shards,))[0] == away)
    is_over.set()
    await load
    await checker.drained()
    drained_s = time.time() - back_at
    assert [process.process.poll() for process in processes] == [None] * 3
    there = [task for task in checker.sent.values() if task.is_acknowledged and shard_of(task, shards) != away]
    before, during = (
        Spread.of(lateness(checker, [task for task in there if from_s <= task.due_at < to_s]))
        for from_s, to_s in ((0, away_at), (away_at, back_at))
    )
    waits = Spread.of(task.took_s for task in there if task.due_at >= away_at)
    checker.figures.note(
        away_s=back_at - away_at,
        others_late_before_s=before,
        others_late_meanwhile_s=during,
        machine_late_before_s=machine_before,
        machine_late_meanwhile_s=(machine := Spread.of(waited)),
        schedules_took_s=waits,
        every_process_back_s=Spread.of(recoveries),
        drained_s=drained_s,
    )
    verdict = await checker.verdict()
    # Not by the longest that the machine stood still: too few tasks are due then to move their p99.
    assert during.p99 <= 1.2 * before.p99 + LATER_S + HOPS * max(0, machine.p99 - machine_before.p99)
    assert waits.most < NOTICED_WITHIN_S
    assert max(recoveries) < BACK_WITHIN_S
    events = [event for process in processes for event in process.events("redis-away")]
    assert {event["shard"] for event in events} == {away}
    return verdict


async def watch_the_machine(waited: list[float]) -> None:
    """Keep how late a process is that does nothing but wait."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.02)
        waited.append(time.monotonic() - began - 0.02)


def lateness(checker: Checker, tasks: list[Sent]) -> list[float]:
    """How late each came first."""
    arrivals = checker.arrivals()
    return [arrivals[task.number][0].at - task.due_at for task in tasks]
