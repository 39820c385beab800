"""The service with several shards on one Redis: it delivers, grows and shrinks, and old keys stay where they are."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import pytest
import redis.asyncio

from benchmarks.idle import commands
from redis_scheduler.store.keys import GROUP, Keys
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.workers import format_suffix
from redis_scheduler.task.key import hashed_shard, new_task_key, shards_of
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.timing import DEFAULT
from tests.acceptance.test_metrics import samples
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import client_of, run, serving
from tests.support.shards import are_announced, hold_at_once, scheduled_to_the_last
from tests.support.store import Store
from tests.support.waiting import wait_until

SHARDS = 4

IDLE_S = 20
OF_WORKERS = {"look", "promote", "trim", "XREADGROUP", "HGETALL"}
"""What a worker asks for while it idles, but for joins, of which an API makes as many."""


async def test_tasks_of_all_shards_are_delivered_with_their_callbacks_and_occurrences(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url, SHARDS=str(SHARDS)) as service,
        client_of(service) as client,
    ):
        keys = await scheduled_to_the_last(client, receiver.url, SHARDS)
        keys += (more := [await client.schedule(receiver.url) for _ in range(20)])
        assert Counter(shards_of(key, (SHARDS,))[0] for key in more) == dict.fromkeys(range(SHARDS), 5)
        made = [
            await client.schedule(receiver.url, on_success={"webhook": receiver.url, "ttl": 0}) for _ in range(SHARDS)
        ]
        for _ in range(SHARDS):
            await client.schedule(receiver.url, repeat={"every": 1, "times": 1}, ttl=0.1)
        for number in range(10):
            status, _ = await client.call("PUT", f"/schedule/order-{number}", json={"webhook": receiver.url, "ttl": 0})
            assert status == 200
        stats = await client.drained()
        assert stats["ledger_balanced"]
        assert sum(row["running_schedules"] for row in stats["shards"]) == 0
        assert all(row["worker_seen"] for row in stats["shards"])
    delivered = receiver.times_by_key
    assert {*keys, *made, *(f"order-{number}" for number in range(10))} <= {*delivered}
    others = {*delivered} - {*keys, *made, *(f"order-{number}" for number in range(10))}
    shards = Counter(shards_of(key, (SHARDS,))[0] for key in others)
    assert shards == dict.fromkeys(range(SHARDS), 2), "a callback, and an occurrence, in the shard of its maker"
    assert {*delivered.values()} == {1}


async def test_workers_are_as_many_as_the_shard_with_the_fewest_has(
    redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    """Where a shard has none, its tasks wait, however many serve the others."""
    async with serving(tmp_path, "api", REDIS_URL=redis_url, SHARDS="2") as service, client_of(service) as client:

        async def lives(number: int) -> None:
            queue = Keys(tag_of("", number)).queue
            with contextlib.suppress(redis.exceptions.ResponseError):  # it may be there
                await raw.xgroup_create(queue, GROUP, mkstream=True)
            await raw.xgroup_createconsumer(queue, GROUP, format_suffix(99))

        async def are_seen(number: int) -> bool:
            in_metrics = (await samples(client))["redis_scheduler_workers",]
            return {(await client.stats())["workers"], in_metrics} == {number}

        await lives(1)
        for _ in range(3):
            assert await are_seen(0)
            await asyncio.sleep(1)  # after which both are read anew from Redis
        await lives(0)
        await wait_until(lambda: are_seen(1), "each shard has one")


async def test_workers_of_some_shards_deliver_the_tasks_of_these(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    """What they start and repeat stays in its shard, and limits that are set in the first one count there."""
    four = {"REDIS_URL": redis_url, "SHARDS": str(SHARDS)}

    def delivered(shards: set[int]) -> set[str]:
        return {key for key in receiver.times_by_key if shards_of(key, (SHARDS,))[0] in shards}

    async with serving(tmp_path, "api", **four) as api, client_of(api) as client:

        async def seen() -> list[bool]:
            return [bool(row["worker_seen"]) for row in (await client.stats())["shards"]]

        keys = await scheduled_to_the_last(client, receiver.url, SHARDS)
        made = [await client.schedule(receiver.url, on_success={"webhook": receiver.url, "ttl": 0}) for _ in range(4)]
        of = {shard: {key for key in keys + made if shards_of(key, (SHARDS,))[0] == shard} for shard in range(SHARDS)}
        async with serving(tmp_path, "worker", WORKER_SHARDS="1,3-5", **four) as worker:
            hazard = "WORKER_SHARDS=1,3-5: there are the shards 0 to 3; of 4, 5 nothing is known yet"
            await wait_until(lambda: [e["warning"] for e in worker.events("hazard")].count(hazard) == 1, "it says so")
            await wait_until(lambda: delivered({1, 3}) > of[1] | of[3], "those of two shards are delivered")
            await wait_until(lambda: len(delivered({1, 3})) == len(of[1] | of[3]) + 2, "and their callbacks", 20)
            assert not delivered({0, 2})
            assert await seen() == [False, True, False, True]
            assert (await client.stats())["workers"] == 0, "as many as the shard with the fewest has"
            host = receiver.url.split("/")[2]
            assert (await client.call("PUT", f"/hosts/{host}", json={"paused": True}))[0] == 200

            async def is_copied() -> bool:
                return bool(await raw.hexists(Keys(tag_of("", 1)).limits, host))

            await wait_until(is_copied, "the limit holds in a shard whose worker does not serve the first", 20)
            assert (await client.call("DELETE", f"/hosts/{host}"))[0] == 200
            async with serving(tmp_path, "worker", WORKER_SHARDS="0,2", **four):
                stats = await client.drained()
                assert stats["ledger_balanced"]
                assert await seen() == [True] * SHARDS
                # Each serves two of them, and looks at each as often as one that has two.
                await wait_until(lambda: looks_every_ms(raw, DEFAULT.over(2).look_interval_ms), "it looks often", 20)
    assert {*receiver.times_by_key.values()} == {1}
    assert {key for keys in of.values() for key in keys} <= {*receiver.times_by_key}


@pytest.mark.long
async def test_a_worker_that_does_not_serve_the_first_shard_asks_it_once_for_all(
    redis_url: str, tmp_path: Path
) -> None:
    """Whether limits were set: a question for each of its shards was 4.2 commands a second, 3 being the most."""
    eight = {"REDIS_URL": redis_url, "SHARDS": "8", "WORKER_SHARDS": "1-7"}
    async with serving(tmp_path, "api", **eight), serving(tmp_path, "worker", **eight):
        await asyncio.sleep(5)  # what a start asks for is over; what follows shows only with time
        heard = await commands(redis_url, IDLE_S)
    of_worker = {name: count for name, count in heard.items() if name in OF_WORKERS}
    assert of_worker["HGETALL"] <= 1 + IDLE_S // 10, heard
    assert sum(of_worker.values()) <= 3 * IDLE_S, heard


async def looks_every_ms(raw: redis.asyncio.Redis, interval_ms: int) -> bool:
    """Whether the last sweep of the first shard, in which nothing was to do, has planned the next so much later."""
    next_ms, seen_ms = [int(text or 0) for text in await raw.hmget(KEYS.sweep, "next_ms", "seen_ms")]
    return next_ms - seen_ms == interval_ms


@pytest.mark.long
async def test_from_one_shard_to_four_and_back_nothing_is_lost_and_nothing_is_made_twice(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    body = {"webhook": receiver.url, "ttl": 3_600}
    old, own = list[str](), [f"order-{number}" for number in range(12)]
    async with serving(tmp_path, REDIS_URL=redis_url) as service, client_of(service) as client:
        old = [await client.schedule(receiver.url, 3_600) for _ in range(5)]
        for name in own:
            assert (await client.call("PUT", f"/schedule/{name}", json=body))[1]["created"]
        assert not await raw.exists(KEYS.shards)
    # The workers come first: an API that is new must find one in each shard.
    four = {"REDIS_URL": redis_url, "SHARDS": str(SHARDS)}
    async with serving(tmp_path, "worker", **four), serving(tmp_path, "api", **four) as api, client_of(api) as client:
        await are_announced(raw, SHARDS)
        more = [await client.schedule(receiver.url, 3_600) for _ in range(8)]
        assert {shards_of(key, (SHARDS,))[0] for key in more} == {0}, "an older API may look there alone still"
        old += more
        await hold_at_once(raw, SHARDS)
        old += await scheduled_to_the_last(client, receiver.url, SHARDS, 3_600)

        async def holds() -> bool:
            """Own keys go by the new number, once the API has heard that it holds."""
            name = f"new-{len(own)}"
            own.append(name)
            assert (await client.call("PUT", f"/schedule/{name}", json=body))[1]["created"]
            return bool(await raw.hexists(Keys(tag_of("", hashed_shard(name, SHARDS))).tasks, name))

        await wait_until(holds, "own keys go by the new number", 20, every_s=0.5)
        for name in own:
            assert not (await client.call("PUT", f"/schedule/{name}", json=body))[1]["created"]
        for key in old + own:
            assert (await client.call("GET", f"/schedule/{key}"))[0] == 200
        _, listed = await client.call("GET", "/schedules")
        assert sorted(one["info"]["key"] for one in listed["data"]) == sorted(old + own)
        assert not api.events("fewer-shards")
    async with serving(tmp_path, REDIS_URL=redis_url) as service, client_of(service) as client:
        [said] = await wait_until(lambda: service.events("fewer-shards"), "it is told that SHARDS is smaller now")
        assert (said["shards"], said["served"]) == (1, SHARDS)
        await hold_at_once(raw, 1)
        for name in own:
            assert not (await client.call("PUT", f"/schedule/{name}", json=body | {"ttl": 0}))[1]["created"]
        for key in old:
            assert (await client.call("PATCH", f"/schedule/{key}", json={"ttl": 0}))[0] == 200
        assert {shards_of(await client.schedule(receiver.url), (SHARDS,))[0] for _ in range(8)} == {0}
        stats = await client.drained(30)
        assert stats["ledger_balanced"]
        # It began with one shard, and serves four.
        await wait_until(lambda: looks_every_ms(raw, DEFAULT.over(SHARDS).look_interval_ms), "it looks less often", 20)
    assert {*receiver.times_by_key.values()} == {1}
    assert {*old, *own} <= {*receiver.times_by_key}


async def test_a_number_that_other_hands_took_from_redis_is_announced_again(
    redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, SHARDS=str(SHARDS)) as service, client_of(service) as client:
        await scheduled_to_the_last(client, "http://127.0.0.1:9/", SHARDS, 3_600)
        await raw.delete(KEYS.shards)

        async def is_announced() -> bool:
            return await raw.zscore(KEYS.shards, str(SHARDS)) is not None

        await wait_until(is_announced, "it is announced again", 20)
        for one in (await client.call("GET", "/schedules"))[1]["data"]:
            assert (await client.call("GET", f"/schedule/{one['info']['key']}"))[0] == 200
        await client.call("POST", "/purge")


async def command(*arguments: str, **variables: str) -> str:
    """Run a command that must end well; what it writes."""
    done = await asyncio.to_thread(run, *arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_commands_see_all_shards(redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path) -> None:
    four = {"REDIS_URL": redis_url, "SHARDS": str(SHARDS)}
    moved = str(tmp_path / "tasks.ndjson")
    async with serving(tmp_path, "api", **four) as api, client_of(api) as client:
        await scheduled_to_the_last(client, "http://127.0.0.1:9/", SHARDS, 3_600)
        for number in range(10):
            body = {"webhook": "http://127.0.0.1:9/", "ttl": 3_600}
            assert (await client.call("PUT", f"/schedule/order-{number}", json=body))[0] == 200
        before = sorted(one["info"]["key"] for one in (await client.call("GET", "/schedules"))[1]["data"])
        await command("pause-all", "--force", **four)
        assert (await client.stats())["all_paused_since"]
        for number in range(SHARDS):
            assert await raw.exists(Keys(tag_of("", number)).pause_all)
        await command("resume-all", **four)
        assert not (await client.stats())["all_paused_since"]
        told = await command("doctor", REDIS_URL=redis_url)  # Redis knows how many there are
        assert [f"Shard {number}:" in told for number in range(SHARDS)] == [True] * SHARDS
        assert told.count("Nothing is wrong") == SHARDS
        told = await command("export", moved, REDIS_URL=redis_url)
        assert f"Exported {len(before)} tasks" in told
        assert (await client.call("POST", "/purge"))[1]["data"] == len(before)
    # Into a deployment of which nothing is there yet, and into one with another number of shards.
    for namespace, shards in (("again", SHARDS), ("other", 3), ("one", 1)):
        into = {"REDIS_URL": redis_url, "SHARDS": str(shards), "NAMESPACE": namespace}
        for skipped in (0, len(before)):
            told = await command("import", moved, **into)
            assert f"Imported {len(before) - skipped} tasks; 0 replaced, {skipped} skipped" in told
        async with serving(tmp_path, "api", **into) as api, client_of(api) as client:
            listed = (await client.call("GET", "/schedules"))[1]["data"]
            assert sorted(one["info"]["key"] for one in listed) == before
            for key in before:
                assert (await client.call("GET", f"/schedule/{key}"))[0] == 200
            await command("doctor", **into)
            await client.call("POST", "/purge")


async def test_an_import_before_a_first_start_begins_with_its_number_of_shards(redis_url: str, tmp_path: Path) -> None:
    """So a start with another number looks for the tasks where they are. (It found no own key before.)"""
    moved, body = str(tmp_path / "tasks.ndjson"), {"webhook": "http://127.0.0.1:9/", "ttl": 3_600}
    four = {"REDIS_URL": redis_url, "SHARDS": str(SHARDS)}
    async with serving(tmp_path, "api", **four) as api, client_of(api) as client:
        keys = await scheduled_to_the_last(client, "http://127.0.0.1:9/", SHARDS, 3_600)
        own = [f"order-{number}" for number in range(12)]
        for name in own:
            assert (await client.call("PUT", f"/schedule/{name}", json=body))[0] == 200
        await command("export", moved, REDIS_URL=redis_url)
        await client.call("POST", "/purge")
    for namespace, shards, said in (("one", "", "1 shard,"), ("two", "2", "2 shards,")):
        new = {"REDIS_URL": redis_url, "NAMESPACE": namespace}
        begins = (
            "The tasks come from 4 shards or more; here nothing had started yet, so it begins with "
            f"{said} by SHARDS and REDIS_URL."
        )
        assert begins not in await command("import", "--dry-run", moved, **new, SHARDS=shards)
        assert begins in await command("import", moved, **new, SHARDS=shards)
        assert "come from" not in await command("import", moved, **new, SHARDS=str(SHARDS))
        async with serving(tmp_path, **new, SHARDS=str(SHARDS)) as service, client_of(service) as client:
            for key in keys + own:
                assert (await client.call("GET", f"/schedule/{key}"))[0] == 200, key
            for name in own:
                assert not (await client.call("PUT", f"/schedule/{name}", json=body))[1]["created"]
            assert "Nothing is wrong" in await command("doctor", **new)
            assert (await client.call("POST", "/purge"))[1]["data"] == len(keys + own)


async def test_the_doctor_tells_what_stands_in_a_shard_in_which_nobody_looks(
    redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    four = {"REDIS_URL": redis_url, "SHARDS": str(SHARDS)}
    key = next(key for key in iter(lambda: new_task_key(2), "") if hashed_shard(key, SHARDS) != 1)
    async with serving(tmp_path, "api", **four) as api, client_of(api) as client:
        await client.schedule("http://127.0.0.1:9/", 3_600)
        keys = Keys(tag_of("", 1), 1)
        async with Shard(redis_url, keys).connected(3) as other:
            await Store(other, "worker-a").schedule(
                [NewTask(key, 60_000, record_tail("http://a/", 60, None, b"1"), None)]
            )
        assert (await client.call("GET", f"/schedule/{key}"))[0] == 404
        done = await asyncio.to_thread(run, "doctor", **four)
        assert done.returncode == 1
        assert f"task {key} stands in shard 1, where nobody looks for its key" in done.stdout
        await client.call("POST", "/purge")
