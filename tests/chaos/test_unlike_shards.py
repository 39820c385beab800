"""A shard that is unlike the others, under load: its Redis forgets the scripts, it has all the tasks, or its Redis
refuses what the service asks."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from redis_scheduler.task.key import hashed_shard
from tests.acceptance.test_refusals import CASES, SMALLEST_ACL, Case, Surroundings, surroundings
from tests.chaos.accounts import Sent
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, Spread, scaled
from tests.chaos.recovery import BACK_WITHIN_S, load_until, moment
from tests.chaos.several import checking, shard_of, start
from tests.support.audit import plain
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import Process, client_of
from tests.support.several_redis import apart, replicated
from tests.support.waiting import wait_until

SHARDS, SLOTS = 4, 100
RENAMED = ["XAUTOCLAIM", "EVALSHA", "HSTRLEN"]


@pytest.mark.case("43", "SCRIPT FLUSH again and again on one of two servers, under load, REPLICAS=1")
async def test_a_shard_whose_scripts_are_flushed(tmp_path: Path, receiver: Receiver, figures: Figures) -> None:
    count = scaled(5_000, 400)
    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(replicated(tmp_path / name)) for name in ("one", "other")]
        urls = [master.url for master, _, _ in pairs]
        checker = await stack.enter_async_context(checking(tmp_path, ",".join(urls), urls, receiver, figures))
        receiver.behaviour = Attempts(failures=lambda n: int(n % 4 == 0))
        api, *_ = processes = await start(checker, 2, REPLICAS="1")
        flushes, is_over = 0, asyncio.Event()

        async def flush() -> None:
            nonlocal flushes
            async with plain(urls[1]) as raw:
                while not is_over.is_set():
                    await raw.script_flush()
                    flushes += 1

        flushing = asyncio.create_task(flush())
        try:
            tasks = await checker.load(api, count, lambda n: n % 5 / 10, clients=16, rate=scaled(400, 200))
            await checker.drained()
        finally:
            is_over.set()
            await flushing
        assert [process.process.poll() for process in processes] == [None] * 3
        flushed = sum(shard_of(task, 2) == 1 for task in tasks if task.is_acknowledged)
        figures.note(script_flushes=flushes, tasks_of_that_shard=flushed)
        verdict = await checker.verdict()
        assert flushes > 100
        assert flushed > count / 3
        assert (verdict.unknown, verdict.duplicated) == (0, 0)


@pytest.mark.case("44", "all tasks in one of four shards, due at once")
async def test_a_shard_that_has_all_the_tasks(tmp_path: Path, receiver: Receiver, figures: Figures) -> None:
    count, full = scaled(5_000, 400), 2
    async with (
        apart(tmp_path / "redis", SHARDS) as servers,
        checking(tmp_path, servers.url, [one.url for one in servers.servers], receiver, figures) as checker,
    ):
        api, *_ = processes = await start(checker, SHARDS, workers=1, CONCURRENCY=str(SLOTS))
        await checker.drained()
        receiver.delay_s, receiver.most_in_flight = 0.1, 0
        names = (name for number in itertools.count() if hashed_shard(name := f"order-{number}", SHARDS) == full)
        tasks = await put(checker, api, list(itertools.islice(names, count)), scaled(10, 2))
        due_at = max(task.due_at for task in tasks)
        await checker.drained()
        took_s = max(arrival.at for arrival in receiver.arrivals) - due_at
        figures.note(slots=SLOTS, most_slots_of_that_shard=receiver.most_in_flight, drained_within_s=took_s)
        assert [process.process.poll() for process in processes] == [None] * 2
        raw, keys = checker.shards[full]
        assert int(await raw.hget(keys.counters, "delivered") or 0) >= count
        verdict = await checker.verdict()
        assert verdict.duplicated == 0
        assert receiver.most_in_flight >= 0.85 * SLOTS


async def put(checker: Checker, api: Process, names: Sequence[str], ttl: float) -> list[Sent]:
    """Put tasks that come due at once, under these keys."""
    due_at = time.time() + ttl
    waiting = iter(names)
    tasks = list[Sent]()
    async with client_of(api) as client:

        async def put_each() -> None:
            for name in waiting:
                task, body = checker.next(ttl=max(0.0, due_at - time.time()))
                status, answer = await client.call("PUT", f"/schedule/{name}", json=body)
                task.status = status
                checker.learn(task, answer)
                tasks.append(task)

        await asyncio.gather(*(put_each() for _ in range(32)))
    assert {task.status for task in tasks} == {200}
    return tasks


@pytest.mark.full
@pytest.mark.case("45", "each right, command or key that one of two servers refuses, under load")
async def test_what_one_of_two_servers_refuses_is_its_own_matter(
    tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    (tmp_path / "refusing").mkdir()
    async with surroundings(tmp_path / "refusing") as at, redis_process(tmp_path / "well") as well:
        urls = [at.server.url, well.url]
        async with checking(tmp_path, ",".join(urls), urls, receiver, figures) as checker:
            receiver.behaviour = Attempts(failures=lambda n: int(n % 4 == 0))
            processes = await start(checker, 2, REDIS_URL=f"{at.url},{well.url}")
            waits, backs = [], []
            for name, case in (CASES | {f"rename {command}": renamed(command) for command in RENAMED}).items():
                is_over = asyncio.Event()
                load = asyncio.create_task(load_until(is_over, checker, processes[0], lambda n: n % 5 / 10, 100))
                begun, before = len(checker.sent), said(processes)
                await case.do(at)
                await wait_until(
                    lambda: any(case.said in text for text in said(processes)[len(before) :]),  # noqa: B023
                    f"{name}: it is said: {case.said}",
                    20,
                )
                told = time.time()
                await wait_until(lambda: comes(checker, 1, told), f"{name}: the other delivers", 10)  # noqa: B023
                await case.undo(at)
                mended = time.time()
                await wait_until(lambda: comes(checker, 0, mended), f"{name}: it delivers again", 20)  # noqa: B023
                backs.append(time.time() - mended)
                is_over.set()
                await load
                waits += [task.took_s for number, task in checker.sent.items() if number >= begun]
            await checker.drained()
            figures.note(cases=len(backs), schedules_took_s=Spread.of(waits), back_s=Spread.of(backs))
            assert [process.process.poll() for process in processes] == [None] * 3
            assert not any(process.events("fault") for process in processes)
            events = [event for process in processes for event in process.events("redis-away")]
            assert {event["shard"] for event in events} == {0}
            await checker.verdict()
            assert max(backs) < BACK_WITHIN_S


def renamed(command: str) -> Case:
    """A server without a command, and then with it again."""

    async def restart(at: Surroundings, *options: str) -> None:
        at.server.options = options
        await at.server.stop()
        await at.server.start()
        await at.acl(*SMALLEST_ACL)

    return Case(
        lambda at: restart(at, "--rename-command", command, ""),
        lambda at: restart(at),
        "unknown command",
    )


def said(processes: list[Process]) -> list[str]:
    """What they have said of a Redis that is away, in order."""
    events = [event for process in processes for event in process.events("redis-away")]
    return [event["error"] for event in sorted(events, key=moment)]


def comes(checker: Checker, shard: int, since: float) -> bool:
    """Whether a task of a shard has arrived from then on."""
    keys = {arrival.key for arrival in checker.receiver.arrivals if arrival.at >= since}
    return any(task.key in keys and shard_of(task, 2) == shard for task in checker.sent.values() if task.key)
