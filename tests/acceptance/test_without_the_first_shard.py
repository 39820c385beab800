"""While the server of the first shard is away, or silent: what the others serve that it keeps once for all."""

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import hashed_shard
from tests.acceptance.test_starts_without_a_shard import bring_back, take_away
from tests.support.alerts import told
from tests.support.engine import MODULE
from tests.support.pages import Browser
from tests.support.receiver import receiving
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.several_redis import asked
from tests.support.shards import scheduled_to_the_last, two_servers
from tests.support.waiting import wait_until

WEBHOOK, HOST = "http://127.0.0.1:9/", "127.0.0.1:9"
BODY = {"webhook": WEBHOOK, "ttl": 3_600}
STALE_S = 4.0
"""Instead of half a minute: what the first shard has told of the number of shards is old."""

BY_SHARD = {hashed_shard(f"order-{number}", 2): f"order-{number}" for number in range(10)}


async def put(client: Client, shard: int) -> tuple[int, Any]:
    """Create a task by an own key that belongs to this shard."""
    return await client.call("PUT", f"/schedule/{BY_SHARD[shard]}", json=BODY)


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_own_keys_of_other_shards_are_made_for_as_long_as_it_takes(how: str, tmp_path: Path) -> None:
    variables: dict[str, Any] = {"module": MODULE, "STALE_S": str(STALE_S)}
    async with two_servers(tmp_path, WEBHOOK, "service", **variables) as (one, _, service, client):
        await take_away(one, how)
        away_at = time.monotonic()
        await wait_until(lambda: service.events("redis-away"), "it is noticed", 20)
        await wait_until(lambda: time.monotonic() > away_at + STALE_S, "what it has told is old", STALE_S + 10)
        status, content = await put(client, 1)
        assert (status, content.get("created")) == (200, True), content
        for _ in range(10):
            status, content = await client.call(
                "POST", "/schedule", json=BODY, headers={"Idempotency-Key": BY_SHARD[1]}
            )
            assert (status, content["data"]) == (200, content["key"])
        status, content = await put(client, 0)
        assert (status, "Shard 0" in str(content)) == (503, True), content
        await bring_back(one, how)

        async def is_made() -> bool:
            return (await put(client, 0))[0] == 200

        await wait_until(is_made, "it is back", 15)


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_hosts_are_told_as_the_other_shards_know_them(how: str, tmp_path: Path) -> None:
    async with two_servers(tmp_path, WEBHOOK) as (one, other, service, client):
        status, content = await client.call("PUT", f"/hosts/{HOST}", json={"concurrency": 7})
        assert (status, "away" in content) == (200, False)

        async def is_copied() -> bool:
            return HOST.encode() in await asked(other, "HKEYS", Keys(tag_of("", 1), 1).limits)

        await wait_until(is_copied, "the other shard keeps the limit, too", 20)
        await take_away(one, how)
        await wait_until(lambda: service.events("redis-away"), "it is noticed", 20)
        status, content = await client.call("GET", "/hosts")
        assert (status, content["away"]) == (200, [0]), content
        assert [(host["host"], host["concurrency"]) for host in content["data"]] == [(HOST, 7)]
        status, content = await client.call("GET", f"/hosts/{HOST}")
        assert (status, content["away"], content["data"]["concurrency"]) == (200, [0], 7)
        for method, body in (("PUT", {"concurrency": 9}), ("DELETE", None)):
            status, content = await client.call(method, f"/hosts/{HOST}", json=body)
            assert (status, "Shard 0" in str(content)) == (503, True), content
        await bring_back(one, how)

        async def is_whole() -> bool:
            return "away" not in (await client.call("GET", "/hosts"))[1]

        await wait_until(is_whole, "it is back", 15)


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_api_auth_signs_in_and_out_at_another_shard(
    how: str, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with two_servers(tmp_path, WEBHOOK) as (one, _, service, client):
        before, meanwhile = Browser(session, client.url), Browser(session, client.url)
        await before.sign_in(TOKEN)
        await take_away(one, how)
        await wait_until(lambda: service.events("redis-away"), "it is noticed", 20)
        # Who is known to nobody, since the process that knew was started anew, may sign in again.
        unknown = Browser(session, client.url)
        unknown.cookies = {"redis_scheduler": "x" * 43}
        page = await unknown.get("/ui/system")
        assert (page.status, page.headers["Location"]) == (303, "/ui/login?next=%2Fui%2Fsystem")
        # A sign-in that nobody can look up may be one: a sign-out takes the cookie, and says what it cannot do.
        page = await unknown.post("/ui/logout")
        assert (page.status, "This browser is signed out" in page.text) == (503, True), page.text
        assert unknown.cookies["redis_scheduler"] == ""
        for browser in (unknown, meanwhile):
            assert (await browser.sign_in("wrong")).status == 401
            assert (await browser.sign_in(TOKEN)).status == 303
            assert browser.cookies["redis_scheduler"].endswith(".1")
            page = await browser.get("/ui/system")
            assert (page.status, "Shard 0 of 2 has not answered" in page.text) == (200, True), page.text
        copy = Browser(session, client.url)
        copy.cookies = dict(unknown.cookies)
        assert (await unknown.post("/ui/logout")).status == 303

        async def is_out() -> bool:
            return (await copy.get("/ui/system")).status == 303

        await wait_until(is_out, "its copies are signed out, too")
        copy.cookies = {"redis_scheduler": copy.cookies["redis_scheduler"].partition(".")[0]}
        assert (await copy.get("/ui/system")).status == 303
        assert (await meanwhile.get("/ui/system")).status == 200
        await bring_back(one, how)

        async def is_whole() -> bool:
            return (await client.call("GET", "/schedules"))[0] == 200

        await wait_until(is_whole, "it is back", 15)
        for browser in (before, meanwhile):
            assert (await browser.get("/ui/system")).status == 200
        copy.cookies = {"redis_scheduler": f"{'x' * 43}.14"}
        assert (await copy.get("/ui/system")).status == 303


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_alerts_tell_that_it_is_away_and_that_this_is_over(how: str, tmp_path: Path) -> None:
    """Two processes look, and a worker delivers what is told by a task."""
    async with (
        receiving() as alerted,
        two_servers(tmp_path, WEBHOOK, ALERT_WEBHOOK=alerted.url, ALERT_ON="shard-away", PROCESSES="2") as (one, *_),
    ):
        await take_away(one, how)
        await wait_until(lambda: alerted.arrivals, "it is told", 60)
        await bring_back(one, how)
        await wait_until(lambda: len(alerted.arrivals) > 1, "that it is over is told, too", 60)
        assert told(alerted) == [("shard-away", "began"), ("shard-away", "over")]
        assert alerted.arrivals[0].json()["detail"] == "shard 0 of 2"


async def test_while_another_shard_is_away_no_number_is_announced(tmp_path: Path) -> None:
    first, second = (Keys(tag_of("", number), number).shards for number in range(2))
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        url = f"{one.url},{other.url}"
        async with serving(tmp_path, REDIS_URL=url) as service, client_of(service) as client:
            await scheduled_to_the_last(client, WEBHOOK, 2, 3_600)
        await other.kill()
        async with serving(tmp_path, REDIS_URL=url, SHARDS="1") as service, client_of(service) as client:
            await wait_until(lambda: client.accepts(WEBHOOK, 3_600), "the first shard is served", 20)
            await asyncio.sleep(2)  # a process announces within a second: that it does not shows only with time
            assert await asked(one, "ZRANGE", first, 0, -1) == [b"2"]
            await other.start()

            async def are_announced() -> bool:
                numbers = [await asked(server, "ZRANGE", key, 0, -1) for server, key in ((one, first), (other, second))]
                return numbers == [[b"2", b"1"]] * 2

            await wait_until(are_announced, "both keep it", 30)

            async def are_alike() -> bool:
                return bool(await asked(one, "ZSCORE", first, 1) == await asked(other, "ZSCORE", second, 1))

            await wait_until(are_alike, "the other keeps from when on it holds", 30)
