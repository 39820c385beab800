"""The benchmark of idle processes at a small size: it counts what comes over the wire, and nothing else."""

import asyncio
from pathlib import Path

from benchmarks import idle
from redis_scheduler.redis_client import RedisClient
from redis_scheduler.store import Store
from tests.integration.test_benchmarks import run
from tests.support.waiting import wait_until


def test_an_idle_worker_is_watched_with_and_without_tasks(tmp_path: Path) -> None:
    found = run("idle", tmp_path, "--tasks", "500", "--seconds", "1", "--settle", "0.1", "--roles", "worker")
    for group in ("nothing", "many"):
        one = found[group]["worker"]
        assert one["processes"] == 1
        assert one["commands_a_second"] > 0
        assert one["by_name"].keys() <= {"promote", "reclaim", "XREADGROUP", "XPENDING"}
    most = max(found[group]["worker"]["commands_a_second"] for group in ("nothing", "many"))
    assert found["marks"][0]["found"] == most


async def test_a_script_is_one_command_whatever_it_calls(redis_url: str, client: RedisClient, store: Store) -> None:
    await store.promote()  # the server knows the script from here on
    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(idle.commands(redis_url, 1.0))

        async def is_heard() -> bool:
            return b"cmd=monitor" in await client.command("CLIENT", "LIST")

        await wait_until(is_heard, "the benchmark listens", every_s=0.02)
        for _ in range(3):
            await store.promote()
        await client.command("EXISTS", "nothing")
    heard = counting.result()
    assert (heard.pop("promote"), heard.pop("EXISTS")) == (3, 1)
    # MONITOR tells of what administrates only on some servers; this is the wait's own.
    assert heard.keys() <= {"CLIENT"}
