"""A deployment moves to another Redis server, where another one runs already: what comes over, and what comes twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.harness import Receiver, receiving
from tests.acceptance.test_many import done
from tests.acceptance.test_moving import assert_sound, command, exported, scheduled
from tests.chaos.figures import scaled
from tests.support.redis_process import redis_process
from tests.support.service import Client, client_of, serving
from tests.support.waiting import wait_until

FAR_S, MEANWHILE_S, SOON_S = 3_600, 3, 0.5
WORK_S = 100
BATCH = 1_000


@dataclass
class Side:
    """A deployment on a server of its own."""

    redis_url: str
    client: Client


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Side]:
    await asyncio.to_thread(folder.mkdir)
    async with redis_process(folder / "redis") as server:
        async with serving(folder, REDIS_URL=server.url, RETRIES="0") as service, client_of(service) as client:
            yield Side(server.url, client)
        assert await assert_sound(server.url, "") == 0


@dataclass
class Load:
    """A client that schedules what is due soon, all the time, where it is told to."""

    client: Client
    url: str
    keys: set[str] = field(default_factory=set)
    is_over: bool = False

    async def run(self) -> None:
        while not self.is_over:
            self.keys |= await scheduled(self.client, self.url, 100, SOON_S)

    async def going_on(self, count: int) -> None:
        """Wait for so many more."""
        wanted = len(self.keys) + count
        await wait_until(lambda: len(self.keys) >= wanted, "clients schedule", 60)


async def batched(client: Client, url: str, count: int, ttl: float) -> set[str]:
    """Schedule many, in large batches; return their keys."""
    found: set[str] = set()
    while len(found) < count:
        tasks = [{"webhook": url, "ttl": ttl, "data": number} for number in range(min(BATCH, count - len(found)))]
        status, answer = await client.call("POST", "/schedules", json={"tasks": tasks})
        assert status == 200, answer
        found.update(answer["data"])
    return found


@asynccontextmanager
async def loading(client: Client, url: str) -> AsyncIterator[Load]:
    load = Load(client, url)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run())
        try:
            yield load
        finally:
            load.is_over = True


async def times_by_key(receiver: Receiver) -> Counter[str]:
    return Counter(arrival.key for arrival in await receiver.take())


@pytest.mark.long
async def test_a_cut_over_loses_nothing_and_delivers_nothing_twice(tmp_path: Path) -> None:
    """As backup.md says it: clients change first, then the old one is paused, exported, imported and stopped."""
    file = tmp_path / "tasks"
    async with receiving() as receiver, running(tmp_path / "new") as new, running(tmp_path / "old") as old:
        waiting = await batched(old.client, receiver.url, scaled(100_000, 2_000), FAR_S)
        async with loading(old.client, receiver.url) as load:
            await load.going_on(200)
            load.client = new.client
            # The old one would deliver these while they move.
            waiting |= await batched(old.client, receiver.url, 100, MEANWHILE_S)
            await command(0, "pause-all", REDIS_URL=old.redis_url)
            found = await exported(file, REDIS_URL=old.redis_url)
            await command(0, "import", str(file), REDIS_URL=new.redis_url)
            await load.going_on(200)
        assert waiting <= found.keys() <= waiting | load.keys
        await done(new.client, "run", "due_after=2020-01-01T00:00:00Z")
        await new.client.drained(WORK_S)
        await old.client.call("DELETE", "/schedules")
        times = await times_by_key(receiver)
    assert times == Counter(waiting | load.keys)


@pytest.mark.long
async def test_between_two_that_run_what_the_old_one_delivers_later_comes_twice(tmp_path: Path) -> None:
    """As moving.md says it; what is scheduled behind the walk comes with a second export."""
    file = tmp_path / "tasks"
    async with receiving() as receiver, running(tmp_path / "new") as new, running(tmp_path / "old") as old:
        waiting = await batched(old.client, receiver.url, scaled(100_000, 2_000), FAR_S)
        async with loading(old.client, receiver.url) as load:
            await load.going_on(200)
            found = await exported(file, REDIS_URL=old.redis_url)
            await command(0, "import", str(file), REDIS_URL=new.redis_url)
            late = await batched(old.client, receiver.url, 100, FAR_S)

        async def only_those_wait() -> bool:
            return bool((await old.client.stats())["running_schedules"] == len(waiting | late))

        await wait_until(only_those_wait, "the old one has delivered what was due", WORK_S, 0.1)
        await exported(file, REDIS_URL=old.redis_url)
        result = await command(0, "import", str(file), REDIS_URL=new.redis_url)
        assert result.stdout.startswith(f"Imported 100 tasks; 0 replaced, {len(waiting)} skipped")
        assert (await done(old.client, "cancel", "state=scheduled"))["touched"] == len(waiting | late)
        await done(new.client, "run", "state=scheduled")
        await new.client.drained(WORK_S)
        times = await times_by_key(receiver)
    assert times == Counter(waiting | late | load.keys) + Counter(found.keys() & load.keys)
