"""What becomes of permits that are held while Redis is started anew, with its data and without."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.acceptance.test_limits_of_all_workers import Fleet, host, name_of, schedule
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import TOKEN, Process, client_of
from tests.support.waiting import wait_until

CONCURRENCY = 4


@pytest.fixture
async def redis(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RedisProcess]:
    """With the options that the test is marked with."""
    async with redis_process(tmp_path / "redis", *getattr(request, "param", ())) as server:
        yield server


@pytest.fixture
async def fleet(redis: RedisProcess, tmp_path: Path) -> AsyncIterator[Fleet]:
    """An API, and two workers."""
    variables = {"REDIS_URL": redis.url, "API_AUTH": TOKEN, "HOST_CONCURRENCY": str(CONCURRENCY)}
    async with AsyncExitStack() as stack:
        processes = [Process(tmp_path, role, **variables) for role in ("api", "worker", "worker")]
        for process in processes:
            stack.push_async_callback(process.stop)
        for process in processes:
            await process.started()
        yield Fleet(await stack.enter_async_context(client_of(processes[0])), processes[1:])


async def begun_and_started_anew(fleet: Fleet, receiver: Receiver, redis: RedisProcess, in_order: bool) -> list[str]:
    """As many attempts as may be are under way, and more tasks are held, while Redis is started anew."""
    receiver.may_answer.clear()
    keys = await schedule(fleet.client, receiver.url, 16)

    async def are_under_way() -> bool:
        found = await host(fleet.client, name_of(receiver))
        return bool(receiver.in_flight == CONCURRENCY and found["held"] == 12)

    await wait_until(are_under_way, "as many as may be are under way, and the others are held")
    await (redis.stop() if in_order else redis.kill())
    await redis.start()
    return keys


@pytest.mark.long
async def test_permits_outlive_redis(fleet: Fleet, receiver: Receiver, redis: RedisProcess) -> None:
    keys = await begun_and_started_anew(fleet, receiver, redis, in_order=True)

    async def is_back() -> bool:
        status, content = await fleet.client.call("GET", f"/hosts/{name_of(receiver)}")
        return status == 200 and content["data"]["running"] == CONCURRENCY

    await wait_until(is_back, "the permits are held still", timeout_s=30)
    receiver.may_answer.set()
    await wait_until(lambda: set(receiver.times_by_key) == set(keys), "all arrived", timeout_s=60)
    await fleet.client.drained(60)
    assert receiver.most_in_flight == CONCURRENCY


@pytest.mark.long
@pytest.mark.parametrize("redis", [(), ("--appendonly", "no")], indirect=True, ids=["killed", "without its data"])
async def test_a_concurrency_is_kept_again_after_permits_were_lost(
    fleet: Fleet, receiver: Receiver, redis: RedisProcess
) -> None:
    await begun_and_started_anew(fleet, receiver, redis, in_order=False)

    async def is_scheduled() -> bool:
        tasks = [{"webhook": receiver.url, "ttl": 0}] * 20
        return (await fleet.client.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200

    await wait_until(is_scheduled, "Redis is back", timeout_s=30)

    async def are_held() -> bool:
        return bool((await host(fleet.client, name_of(receiver)))["held"] >= 10)

    # At most what was under way then goes on beside what may begin now.
    await wait_until(are_held, "tasks are held again", timeout_s=30)
    assert CONCURRENCY <= receiver.in_flight <= 2 * CONCURRENCY
    receiver.may_answer.set()
    await wait_until(lambda: receiver.in_flight < CONCURRENCY, "those from before have ended")
    receiver.most_in_flight = 0
    await wait_until(is_scheduled, "more are scheduled")
    receiver.delay_s = 0.02
    await fleet.client.drained(60)
    assert 0 < receiver.most_in_flight <= CONCURRENCY
