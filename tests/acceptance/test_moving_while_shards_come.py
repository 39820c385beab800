"""An import that lasts while the number of shards changes: what it makes stands where it is looked for."""

import asyncio
import json
import logging
import os
import time
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.process.moving import BATCH_LIMIT, import_tasks
from redis_scheduler.settings import Settings
from redis_scheduler.store import generations
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import hashed_shard
from tests.acceptance.test_moving import exported
from tests.scripts.states import in_due
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until

STALE_S = 0.2


async def test_an_own_key_is_made_by_the_number_that_holds_by_then(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "STALE_S", STALE_S)
    await in_due(store)
    await exported(tmp_path / "tasks", REDIS_URL=redis_url)
    line = json.loads((tmp_path / "tasks").read_text())
    await raw.zadd(KEYS.shards, {"1": 0})
    await raw.set(KEYS.instance, "0123456789abcdef" * 2)
    first, later = [[f"{name}:{number}" for number in range(BATCH_LIMIT + 1)] for name in ("first", "later")]
    os.mkfifo(tmp_path / "slow")
    settings = Settings(redis_url=redis_url, shards=4)
    work = import_tasks(settings, str(tmp_path / "slow"), 0, replaces=False, is_dry=False)
    importing = asyncio.create_task(asyncio.to_thread(asyncio.run, work))
    with await asyncio.to_thread((tmp_path / "slow").open, "w") as file:

        async def write(keys: list[str]) -> None:
            file.writelines(json.dumps(line | {"key": key}) + "\n" for key in keys)
            await asyncio.to_thread(file.flush)

        await write(first)
        await wait_until(lambda: raw.hexists(KEYS.tasks, first[0]), "the first batch is there")
        await raw.zadd(KEYS.shards, {"4": 1})
        announced = time.monotonic()
        await wait_until(lambda: time.monotonic() > announced + STALE_S, "what it has read before is old")
        await write(later)
    try:
        assert await importing
    finally:
        logging.disable(logging.NOTSET)  # a command silences the modules of its process
    for key in later:
        shard = hashed_shard(key, 4)
        assert await raw.hexists(Keys(tag_of("", shard), shard).tasks, key), key
