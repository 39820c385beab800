"""What is done to all tasks while a server of several is away: it is done in the others, and said where it is not."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.task.key import shards_of
from tests.support.redis_process import redis_process
from tests.support.service import Client, client_of, run, serving
from tests.support.shards import scheduled_to_the_last
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/"


@pytest.mark.parametrize("away", [0, 1])
async def test_what_is_done_to_many_goes_past_a_shard_that_is_away_and_says_so(away: int, tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        servers = [one, other]
        async with (
            serving(tmp_path, "api", REDIS_URL=f"{one.url},{other.url}") as service,
            client_of(service) as client,
        ):
            await scheduled_to_the_last(client, WEBHOOK, 2, 3_600)
            keys = [await client.schedule(WEBHOOK, 3_600, path="/schedule?type=x") for _ in range(8)]
            shards = [shards_of(key, (2,))[0] for key in keys]
            assert set(shards) == {0, 1}
            there = shards.count(1 - away)
            await servers[away].kill()
            shift = "/schedules/shift?type=x&by=60"
            status, done = await client.call("POST", shift)
            assert status == 200, done
            assert (done["touched"], done["away"]) == (there, [away])
            onward = f"{shift}&cursor={done['next']}"
            status, refused = await client.call("POST", onward)
            assert (status, f"Shard {away}" in refused["error"]) == (503, True)
            status, refused = await client.call("POST", f"{shift}&dry_run=true")
            assert (status, f"Shard {away}" in refused["error"]) == (503, True), "it counts all, or says that it cannot"
            await servers[away].start()

            async def goes_on() -> dict[str, object] | None:
                status, answer = await client.call("POST", onward)
                return answer if status == 200 else None

            done = await wait_until(goes_on, "it goes on when it is back", 15) or {}
            assert (done["touched"], done["next"], "away" in done) == (len(keys), None, False)
            listed = (await client.call("GET", "/schedules?type=x"))[1]["data"]
            ends = [task["info"]["due"] for task in listed]
            assert len(ends) == len(keys)
            status, again = await client.call("POST", onward)
            assert (status, again["touched"]) == (200, len(keys)), "no task is moved twice"
            assert ends == [task["info"]["due"] for task in (await client.call("GET", "/schedules?type=x"))[1]["data"]]

            await servers[away].kill()
            status, refused = await client.call("POST", "/purge")
            assert (status, f"Shard {away}" in refused["error"]) == (503, True)
            assert (await client.call("GET", f"/schedules?shard={1 - away}"))[1]["data"] == []
            await servers[away].start()

            async def is_purged() -> bool:
                return (await client.call("POST", "/purge"))[0] == 200

            await wait_until(is_purged, "it is purged, too", 15)
            assert (await client.call("GET", "/schedules"))[1]["data"] == []


async def test_a_shift_that_loses_its_redis_halfway_says_how_it_goes_on(tmp_path: Path) -> None:
    async with (
        # While it flushes its log, one that flushes every second keeps back what it has answered: a kill would lose it.
        redis_process(tmp_path / "one", "--appendfsync", "always") as server,
        serving(tmp_path, "api", REDIS_URL=server.url) as service,
        client_of(service) as client,
        redis.asyncio.Redis(port=server.port, protocol=2) as raw,
    ):
        for _ in range(40):
            tasks = [{"webhook": WEBHOOK, "ttl": 3_600}] * 100
            assert (await client.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
        before = await _dues(client)
        asking = asyncio.create_task(client.call("POST", "/schedules/shift?by=60"))

        async def has_begun() -> bool:
            return asking.done() or bool(await raw.exists(*await raw.keys("*operation*") or ["none"]))

        await wait_until(has_begun, "a step is written", 5, every_s=0.001)
        await server.kill()
        status, done = await asking
        assert status == 200, done
        assert 0 < done["touched"] < len(before)
        await server.start()

        async def goes_on() -> bool:
            status, answer = await client.call("POST", f"/schedules/shift?by=60&cursor={done['next']}")
            return status == 200 and answer["next"] is None

        await wait_until(goes_on, "it goes on when it is back", 15)
        after = await _dues(client)
        assert {key: after[key] - before[key] for key in before} == dict.fromkeys(before, timedelta(seconds=60))


async def _dues(client: Client) -> dict[str, datetime]:
    dues, cursor = dict[str, datetime](), ""
    while True:
        page = (await client.call("GET", f"/schedules?limit=1000{cursor}"))[1]
        dues |= {task["info"]["key"]: datetime.fromisoformat(task["info"]["due"]) for task in page["data"]}
        if page["next"] is None:
            return dues
        cursor = f"&cursor={page['next']}"


async def test_commands_say_which_shard_they_did_not_reach(tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        url = f"{one.url},{other.url}"
        async with serving(tmp_path, "api", REDIS_URL=url) as service, client_of(service) as client:
            await scheduled_to_the_last(client, WEBHOOK, 2, 3_600)
        await one.kill()
        for command, what in (("pause-all", "not paused"), ("resume-all", "paused as before")):
            done = await asyncio.to_thread(run, command, REDIS_URL=url)
            assert (done.returncode, f"Shard 0 is away, and {what}" in done.stdout) == (1, True), done
            assert ("Paused since" if command == "pause-all" else "Resumed") in done.stdout
        done = await asyncio.to_thread(run, "doctor", REDIS_URL=url)
        assert (done.returncode, "Shard 0 is away, and not examined" in done.stdout) == (1, True), done
        assert "Nothing is wrong" in done.stdout
        await one.start()
        made = await asyncio.to_thread(run, "token", "create", "--name", "x", "--can", "read", REDIS_URL=url)
        assert made.returncode == 0, made
        await other.kill()
        done = await asyncio.to_thread(run, "token", "list", REDIS_URL=url)
        assert (done.returncode, "Shard 1 is away" in done.stderr) == (0, True), done
        await other.start()
        for command in ("resume-all", "doctor"):
            done = await asyncio.to_thread(run, command, REDIS_URL=url)
            assert done.returncode == 0, done.stdout
