"""Tokens take turns: what one has due at once is not delivered before what another has due a moment later."""

import asyncio
import base64
import time
from dataclasses import replace
from pathlib import Path

import pytest

from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import client_of, run, serving
from tests.support.store import Store
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

BATCH = 500


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "shards"),
    [({}, 1), ({"DATA_KEY": base64.b64encode(b"a" * 32).decode()}, 1), ({"PROCESSES": "2"}, 1), ({"SHARDS": "4"}, 4)],
    ids=["plain", "sealed", "two processes", "four shards"],
)
async def test_a_flood_of_one_token_is_not_delivered_before_anothers_task(
    settings: dict[str, str], shards: int, redis_url: str, client: RedisClient, tmp_path: Path, receiver: Receiver
) -> None:
    count = {1: 3_000, 4: 6_000}[shards]
    receiver.delay_s = 0.02
    async with (
        serving(tmp_path, REDIS_URL=redis_url, CONCURRENCY="20", **({"PROCESSES": "1"} | settings)) as process,
        client_of(process) as owner,
    ):
        flooding, other = [owner.with_token(await make_token(client, "schedule", "read", "bulk")) for _ in range(2)]
        due_at = time.time() + 2 + shards
        for _ in range(count // BATCH):
            task = {"webhook": receiver.url, "ttl": max(0, due_at - time.time())}
            assert (await flooding.call("POST", "/schedules", json={"tasks": [task] * BATCH}))[0] == 200
        ones = [await other.schedule(receiver.url, due_at + later - time.time()) for later in (0.1, 0.11, 0.12)]
        await wait_until(lambda: set(ones) <= set(receiver.times_by_key), "the other's tasks have come", 40)
        # As many as the first promotion moves, stand in the queue, and wait for slots; and some at their turns.
        before = len(receiver.arrivals)
        assert before < 0.5 * count, before
        await wait_until(lambda: len(receiver.times_by_key) == count + len(ones), "the flood has come, too", 60)
        assert set(receiver.times_by_key.values()) == {1}
        stats = await owner.drained()
        assert stats["states"]["held"] == 0


async def test_what_waits_for_its_turn_is_seen_and_changed_as_all_else(
    redis_url: str, client: RedisClient, tmp_path: Path, receiver: Receiver
) -> None:
    """The queue is full for the one that promotes here. A worker that knows of no token goes on where it has ended."""
    full = Store(client, "worker-full", replace(DEFAULT, queued_most=0))
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as api, client_of(api) as owner:
        user = owner.with_token(await make_token(client, "schedule", "read", "cancel"))
        keys = [await user.schedule(receiver.url, 0.001) for _ in range(5)]
        of_owner = await owner.schedule(receiver.url, 0.001)

        async def are_held() -> bool:
            await full.promote(in_turn=True)
            return bool(await client.command("ZCARD", KEYS.held) == 6)

        await wait_until(are_held, "all stand in lines")
        assert (await owner.stats())["states"]["held"] == 6
        for asking, key in ((user, keys[0]), (owner, of_owner)):
            _, shown = await asking.call("GET", f"/schedule/{key}")
            assert shown["data"]["info"]["state"] == "held"
            assert "its turn: the queue is full, and tokens take turns" in shown["data"]["info"]["waits_for"]
        _, listed = await owner.call("GET", "/schedules?state=held")
        assert {task["info"]["key"] for task in listed["data"]} == {*keys, of_owner}
        assert (await user.call("DELETE", f"/schedule/{keys[0]}"))[0] == 200
        assert (await user.call("POST", f"/schedule/{keys[1]}/pause"))[0] == 200
        assert (await user.call("PATCH", f"/schedule/{keys[2]}", json={"data": "changed"}))[0] == 200
        exported = await asyncio.to_thread(run, "export", REDIS_URL=redis_url)
        assert exported.stdout.count('"state":"held"') == 4
        assert (await asyncio.to_thread(run, "doctor", REDIS_URL=redis_url)).returncode == 0

        async with serving(tmp_path, "worker", REDIS_URL=redis_url):
            arrived = {*keys[2:], of_owner}
            await wait_until(lambda: set(receiver.times_by_key) == arrived, "what waited is delivered")
            assert (await user.call("POST", f"/schedule/{keys[1]}/resume"))[0] == 200
            await wait_until(lambda: set(receiver.times_by_key) == {*keys[1:], of_owner}, "the paused one, too")
            await owner.drained()
        assert await client.command("HGET", KEYS.sweep, "turn") is None

        keys = [await user.schedule(receiver.url, 0.001) for _ in range(5)]
        await asyncio.sleep(0.01)
        await full.promote(in_turn=True)
        assert (await owner.call("POST", "/purge"))[0] == 200
        assert (await owner.stats())["running_schedules"] == 0
        assert await client.command("ZCARD", KEYS.held) == 0


async def test_nothing_leaves_its_line_while_all_is_paused(
    redis_url: str, client: RedisClient, tmp_path: Path, receiver: Receiver
) -> None:
    full = Store(client, "worker-full", replace(DEFAULT, queued_most=0))
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as api, client_of(api) as owner:
        user = owner.with_token(await make_token(client, "schedule"))
        keys = [await user.schedule(receiver.url, 0.001) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert (await full.promote(in_turn=True)).moved == 3
        assert await full.pause_all(True)
        async with serving(tmp_path, "worker", REDIS_URL=redis_url) as worker:
            await wait_until(lambda: worker.events("all-paused"), "the worker knows of the pause")
            await asyncio.sleep(1.5)  # a look is over
            assert await client.command("ZCARD", KEYS.held) == 3
            assert receiver.arrivals == []
            await full.pause_all(False)
            await wait_until(lambda: set(receiver.times_by_key) == set(keys), "all came")
