"""Hosts and System in the dashboard: what workers saw of hosts, which processes there are, and a look at all tasks."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler import __version__
from redis_scheduler.store.client import RedisClient
from tests.acceptance.test_refusals import surroundings
from tests.support.names import KEYS
from tests.support.pages import Browser
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

NOWHERE = "http://127.0.0.1:9/hook"
HTMX = {"HX_Request": "true", "Sec_Fetch_Site": "same-origin"}


@pytest.fixture
async def service(redis_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    """An API, and two workers of a supervisor."""
    for name in ("api", "worker"):
        (tmp_path / name).mkdir()
    variables: dict[str, Any] = {"REDIS_URL": redis_url, "RETRIES": "0"}
    async with (
        serving(tmp_path / "api", "api", **variables) as process,
        serving(tmp_path / "worker", "worker", **variables, PROCESSES="2", CONCURRENCY="7"),
        client_of(process) as client,
    ):
        yield client


@pytest.fixture
async def seen(service: Client, session: aiohttp.ClientSession) -> Browser:
    """Signed in by the service's own token."""
    browser = Browser(session, service.url)
    await browser.sign_in(TOKEN)
    return browser


async def test_what_workers_saw_of_hosts_is_told(
    service: Client, seen: Browser, receiver: Receiver, client: RedisClient, session: aiohttp.ClientSession
) -> None:
    for _ in range(10):
        await service.schedule(receiver.url)
        await service.schedule(NOWHERE)
    name = f"127.0.0.1:{receiver.port}"

    async def hosts() -> dict[str, Any]:
        return {one["host"]: one for one in (await service.call("GET", "/hosts"))[1]["data"]}

    async def are_told() -> bool:
        found = await hosts()
        return all(found.get(one, {}).get("seen", {}).get("attempts") == 10 for one in (name, "127.0.0.1:9"))

    await wait_until(are_told, "the workers tell of ten attempts each", timeout_s=20)
    found = await hosts()
    well, ill = found[name]["seen"], found["127.0.0.1:9"]["seen"]
    assert (well["success"], well["in_flight"], well["slow"]) == (1, 0, False)
    assert 0 < well["per_second"] <= 20
    assert well["p95_ms"] >= 1
    assert "last_error" not in well
    assert (ill["success"], ill["last_error"]) == (0, "connect")
    assert (await service.call("GET", f"/hosts/{name}"))[1]["data"]["seen"]["attempts"] == 10
    page = await seen.get("/ui/hosts")
    for text in (f"{name} well", "100 %", "0 %", "connect", "Pause", "Set"):
        assert text in page.text, text
    assert page.text.index("127.0.0.1:9 fails") < page.text.index(f"{name} well"), "what fails stands first"
    await service.call("PUT", f"/hosts/{name}", json={"rate": 3, "per": 60})

    async def is_limited() -> bool:
        return "3 in 60 s" in (await seen.get("/ui/hosts")).text

    await wait_until(is_limited, "the page is read anew")
    page = await seen.get("/ui/hosts")
    [link] = re.findall(rf'href="(/ui/hosts\?host=[^"]*)#set" aria-label="Set the limit of {name}"', page.html)
    page = await seen.get(unescape(link))
    for field, value in (("host", name), ("concurrency", ""), ("rate", "3"), ("per", "60")):
        assert re.search(rf'<input name="{field}"[^>]* value="{value}">', page.html), field
    # Who may only see figures has no button.
    other = Browser(session, service.url)
    await other.sign_in(await make_token(client, "metrics"))
    page = await other.get("/ui/hosts")
    assert name in page.text
    assert 'action="/ui/hosts"' not in page.html


async def test_each_process_says_its_role_version_and_slots(seen: Browser, raw: redis.asyncio.Redis) -> None:
    async def are_shown() -> bool:
        text = (await seen.get("/ui/part/system")).text
        rows = text.partition("slots taken in delivery lost")[2].partition("Who changed")[0]
        told = [rows.count(text) for text in (f" worker {__version__} ", f" api {__version__} ", "0 of 7")]
        return told == [2, 1, 2] and "says nothing" not in rows

    await wait_until(are_shown, "all three processes are shown", timeout_s=20)
    # One of an older version says only that it lives.
    seconds, _ = await raw.time()
    await raw.zadd(KEYS.workers, {"old-1-abc": seconds * 1000})

    async def is_shown() -> bool:
        await seen.post("/ui/hosts", {"host": "/"}, **HTMX)  # so that the page is read anew
        return "old-1-abc says nothing: it is gone, or of an older version" in (await seen.get("/ui/system")).text

    await wait_until(is_shown, "the older one is shown")


async def test_what_redis_may_lose_is_warned_of(seen: Browser, raw: redis.asyncio.Redis) -> None:
    await raw.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "Redis: maxmemory-policy is allkeys-lru: Redis may evict tasks" in (await seen.get("/ui/system")).text
    finally:
        await raw.config_set("maxmemory-policy", "noeviction")


async def test_a_button_looks_at_all_tasks(
    service: Client, seen: Browser, client: RedisClient, raw: redis.asyncio.Redis, session: aiohttp.ClientSession
) -> None:
    keys = [await service.schedule(NOWHERE, ttl=900) for _ in range(3)]
    assert "Nobody has looked" in (await seen.get("/ui/system")).text
    other = Browser(session, service.url)
    for rights, types in ((("read", "metrics"), ()), (("admin",), ("mail",))):
        await other.sign_in(await make_token(client, *rights, types=types))
        assert (await other.post("/ui/doctor", {}, **HTMX)).status == 403
    assert (await seen.post("/ui/doctor", {}, Origin="https://evil.example")).status == 403
    assert "Nobody has looked" in (await seen.get("/ui/system")).text

    async def look() -> str:
        said = await seen.post("/ui/doctor", {}, **HTMX)
        assert "The look has begun" in said.text

        async def is_over() -> str:
            await seen.post("/ui/hosts", {"host": "/"}, **HTMX)  # so that the page is read anew
            text = (await seen.get("/ui/part/system")).text.partition("Ledger")[0]
            return text if "took" in text else ""

        return await wait_until(is_over, "the look is over")

    assert "nothing is wrong" in await look()
    await raw.zrem(KEYS.due, keys[0])
    text = await look()
    assert "1 × nowhere" in text
    assert f"task {keys[0]} has a record but stands nowhere" in text
    assert "by the service's own token" in text
    await raw.zadd(KEYS.due, {keys[0]: 1e15})
    assert "nothing is wrong" in await look()


async def test_a_slow_receiver_is_named(service: Client, seen: Browser, receiver: Receiver) -> None:
    ended = asyncio.Event()

    async def wait(_request: web.Request) -> web.Response:
        await ended.wait()
        return web.Response()

    receiver.behaviour = wait
    name = f"127.0.0.1:{receiver.port}"
    try:
        for _ in range(60):
            await service.schedule(receiver.url)

        async def is_told() -> bool:
            host = (await service.call("GET", f"/hosts/{name}"))[1]["data"].get("seen", {})
            return bool(host.get("slow") and host["in_flight"] > 0)

        await wait_until(is_told, "a worker finds it slow", timeout_s=20)
        assert f"{name} slow" in (await seen.get("/ui/hosts")).text

        async def is_named() -> bool:
            return f"{name} slow: " in (await seen.get("/ui/part/overview")).text

        await wait_until(is_named, "the overview names it", timeout_s=20)
    finally:
        ended.set()


async def test_a_receiver_that_fails_is_named_beside_one_that_is_well(
    service: Client, seen: Browser, receiver: Receiver
) -> None:
    for _ in range(150):
        await service.schedule(receiver.url)
    for _ in range(12):
        await service.schedule("http://127.0.0.1:1/")

    async def is_named() -> bool:
        text = (await seen.get("/ui/part/overview")).text
        fails = "127.0.0.1:1 fails: 100% of its attempts in the last minutes, last by: cannot connect"
        return fails in text and "See whether it runs, and whether the workers reach it" in text

    await wait_until(is_named, "the overview names it", timeout_s=40)


async def test_a_look_knows_how_many_shards_there_are(tmp_path: Path, redis_url: str) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, SHARDS="4") as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        for number in range(20):
            body = {"webhook": NOWHERE, "ttl": 900}
            assert (await api.call("PUT", f"/schedule/order:{number}", json=body))[0] == 200
        browser = Browser(session, api.url)
        await browser.sign_in(TOKEN)
        await browser.post("/ui/doctor", {}, **HTMX)

        async def text() -> str:
            found = (await browser.get("/ui/part/system")).text
            return found if " took " in found else ""

        assert "nothing is wrong" in await wait_until(text, "the look is over", timeout_s=20)
        rows = (await browser.get("/ui/part/system")).text.partition("memory of Redis")[2]
        assert [f" {shard} none seen " in rows for shard in range(4)] == [True] * 4


@pytest.mark.one_shard("more shards need more rights")
async def test_memory_that_redis_does_not_tell_is_not_known(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with (
        surroundings(tmp_path, "--maxmemory", "1gb") as at,
        serving(tmp_path, "api", REDIS_URL=at.url) as process,
        client_of(process) as api,
    ):
        browser = Browser(session, api.url)
        await browser.sign_in(TOKEN)

        async def told() -> tuple[str, str]:
            """What follows the ledger in the row of the shard, and the metrics of memory."""
            async with session.get(f"{api.url}/metrics", headers=api.headers) as response:
                lines = (await response.text()).splitlines()
            metrics = " ".join(line.split()[0] for line in lines if line.startswith("redis_scheduler_redis_memory"))
            row = (await browser.get("/ui/part/system")).text.partition("memory of Redis")[2]
            return row.partition("balances ")[2].partition(" ")[0], metrics

        assert await told() == ("not", "")
        await at.acl("+info")

        async def is_known() -> bool:
            mebibytes, metrics = await told()
            names = "redis_scheduler_redis_memory_bytes redis_scheduler_redis_memory_limit_bytes"
            return mebibytes.isdigit() and metrics == names

        await wait_until(is_known, "a second is over, and it is known")


async def test_children_of_a_supervisor_know_where_their_settings_come_from(tmp_path: Path, redis_url: str) -> None:
    variables = {"PROCESSES": "2", "RETRIES": "7"}
    async with (
        serving(tmp_path, "api", "--timeout", "3", REDIS_URL=redis_url, **variables) as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        browser = Browser(session, api.url)
        await browser.sign_in(TOKEN)
        text = (await browser.get("/ui/system")).text.partition("Settings variable")[2]
        rows = ("RETRIES 7 environment", "RETRY_TIME 60 default", "TIMEOUT 3 option", "not shown environment")
        for row in rows:
            assert row in text, row
