"""The benchmark of idle processes at a small size: it counts what comes over the wire, and nothing else."""

import asyncio
from pathlib import Path

import pytest

from benchmarks import idle
from redis_scheduler.store.client import RedisClient
from tests.integration.test_benchmarks import run
from tests.support.store import Store
from tests.support.waiting import wait_until

PROCESSES = {"worker": {"worker"}, "workers": {"worker 1", "worker 2", "worker 3"}}
PROCESSES["supervised"] = {"supervisor", "child 1", "child 2"}


@pytest.mark.long
def test_idle_workers_are_watched_with_and_without_tasks(tmp_path: Path) -> None:
    found = run("idle", tmp_path, "--tasks", "500", "--seconds", "1", "--settle", "3", "--roles", *PROCESSES)
    watched = [found[group][roles] for group in ("nothing", "many") for roles in PROCESSES]
    for one, processes in zip(watched, [*PROCESSES.values()] * 2, strict=True):
        assert one["processes"] == len(processes)
        assert one["cpu_percent"].keys() == processes
        assert one["commands_a_second"] > 0
        assert one["by_name"].keys() <= {"promote", "look", "join", "trim", "XREADGROUP", "XPENDING"}
    assert found["marks"][0]["found"] == max(one["commands_a_second"] for one in watched)
    assert found["marks"][1]["found"] == max(percent for one in watched for percent in one["cpu_percent"].values())
    assert found["references"]["cpu_percent"].keys() == {"redis", "loop"}


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
