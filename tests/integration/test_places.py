"""Where new tasks go while a call takes long, and another shard is away."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from redis_scheduler.api.limits import Limits
from redis_scheduler.api.places import BESIDE_S, Places
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import new_task_key, shards_of
from redis_scheduler.task.options import NONE
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.timing import DEFAULT
from tests.support.names import KEYS
from tests.support.proxy import proxying
from tests.support.redis_process import redis_process


def new_task() -> NewTask:
    return NewTask(new_task_key(), 600_000, record_tail("http://127.0.0.1:9/", 600, None, b"1", NONE), None)


async def test_what_finds_each_shard_that_is_there_under_way_waits_for_one(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "one") as one,
        proxying(one.port) as proxy,
        redis_process(tmp_path / "other") as other,
        aclosing(RedisClient(proxy.url, 5, KEYS)) as slow,
        aclosing(RedisClient(other.url, 5, Keys(tag_of("", 1), 1))) as dying,
    ):
        await slow.create_group()
        await dying.create_group()
        places = Places([slow, dying], "writer", DEFAULT, Limits())
        for _ in range(2):
            await places.schedule.submit(new_task())
        proxy.flowing.clear()
        first = places.schedule.submit(new_task())
        await asyncio.sleep(2 * BESIDE_S)  # after which its call counts as one that takes long
        await other.kill()
        with pytest.raises(StoreUnavailable):
            await places.schedule.submit(new_task())
        second = new_task()
        answered = places.schedule.submit(second)
        await asyncio.sleep(2 * BESIDE_S)  # that it goes on to wait shows only with time
        assert not first.done()
        assert not answered.done()
        proxy.flowing.set()
        await first
        await answered
        assert shards_of(second.key, (2,)) == (0,)
