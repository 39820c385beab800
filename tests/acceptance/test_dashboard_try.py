"""The page that tries a task, and the echo receiver that it goes to."""

import asyncio
import io
import re
from pathlib import Path

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.ui.echo import Echo
from tests.support.names import KEYS
from tests.support.pages import Browser
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.waiting import wait_until

HTMX = {"HX_Request": "true", "Sec_Fetch_Site": "same-origin"}


async def test_what_is_tried_arrives(tmp_path: Path, redis_url: str) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url) as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        browser = Browser(session, api.url)
        await browser.sign_in(TOKEN)
        [webhook] = re.findall(r'name="webhook"[^>]*value="([^"]+)"', (await browser.get("/ui/try")).html)
        fields = {"webhook": webhook, "ttl": "0", "data": '{"a": "<i>"}', "more": '{"method": "PUT"}'}
        said = await browser.post("/ui/try", fields, **HTMX)
        assert "is scheduled" in said.text

        async def has_arrived() -> bool:
            page = await browser.get("/ui/part/echo")
            assert TOKEN not in page.html
            return "PUT at" in page.text and '{"a": "<i>"}' in page.text

        await wait_until(has_arrived, "it has arrived")
        said = await browser.post("/ui/try", {**fields, "data": "{"}, **HTMX)
        assert "The body is not JSON" in said.text
        said = await browser.post("/ui/try", {**fields, "more": "[]"}, **HTMX)
        assert (said.status, "More fields: must be an object" in said.text) == (200, True)


async def test_the_first_page_of_a_newcomer_counts_one_worker_and_nothing_done(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with serving(tmp_path) as process, client_of(process) as api:
        browser = Browser(session, api.url)
        await browser.sign_in(TOKEN)

        async def is_said() -> bool:
            return " 1 worker " in (await browser.get("/ui/part/overview")).text

        await wait_until(is_said, "the worker is seen")
        assert "Since ever: nothing. Read at" in (await browser.get("/ui/")).text
        await api.schedule("http://127.0.0.1:9/", 900)

        async def is_counted() -> bool:
            return "Since ever: 1 scheduled. Read at" in (await browser.get("/ui/part/overview")).text

        await wait_until(is_counted, "it is counted")


async def test_the_echo_takes_what_has_its_secret_and_is_bounded(
    admin: Browser, api: Client, raw: redis.asyncio.Redis
) -> None:
    await api.call("GET", "/readyz")  # which puts the deployment's id back, should it be gone
    instance = await raw.get(KEYS.instance)
    assert isinstance(instance, bytes)
    own = {"Schedule-Instance": instance.decode()}
    webhook = f"{api.url}/ui/echo?{Echo([TOKEN]).query}"
    for number in range(30):
        async with api.session.post(webhook, data=f"arrival {number}.", headers=own) as got:
            assert got.status == 200
    async with api.session.post(webhook, data=io.BytesIO(b"x" * 2_000_000), headers=own) as got:
        assert got.status == 413
    for url in (f"{api.url}/ui/echo", f"{webhook}x", f"{webhook}&", webhook[:-1], f"{api.url}/ui/echo?secret="):
        for headers in ({}, own, {"Authorization": TOKEN}, {"Sec-Fetch-Site": "same-origin"}):
            async with api.session.post(url, data="a stranger", headers=headers, allow_redirects=False) as got:
                assert got.status in (303, 403)
    assert "a stranger" not in (await admin.get("/ui/part/echo")).text

    async def are_shown() -> bool:
        page = await admin.get("/ui/part/echo")
        return [f"arrival {number}." in page.text for number in (29, 10, 9)] == [True, True, False]

    await wait_until(are_shown, "the last of them are shown")


async def test_where_workers_are_elsewhere_the_page_names_the_echo_of_the_api(admin: Browser, api: Client) -> None:
    [webhook] = re.findall(r'name="webhook"[^>]*value="([^"]+)"', (await admin.get("/ui/try")).html)
    assert webhook == f"{api.url}/ui/echo?{Echo([TOKEN]).query}"


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "0.0.0.0"])
async def test_workers_elsewhere_deliver_to_it_with_what_the_page_says(
    listens_on: str, tmp_path: Path, redis_url: str, session: aiohttp.ClientSession
) -> None:
    for name in ("api", "forbidden", "allowed"):
        (tmp_path / name).mkdir()
    async with (
        serving(tmp_path / "api", "api", REDIS_URL=redis_url, HOST=listens_on, RETRIES="0") as process,
        client_of(process) as api,
    ):
        browser = Browser(session, api.url)
        await browser.sign_in(TOKEN)
        page = await browser.get("/ui/try")
        [webhook] = re.findall(r'name="webhook"[^>]*value="([^"]+)"', page.html)
        [allowed] = re.findall(r"<code>EGRESS_ALLOW=([^<]+)</code>", page.html)

        async def states(state: str) -> bool:
            return bool((await api.stats())["states"][state])

        async def has_arrived() -> bool:
            return "POST at" in (await browser.get("/ui/part/echo")).text

        fields = {"webhook": webhook, "ttl": "0", "data": "{}", "more": ""}
        async with serving(tmp_path / "forbidden", "worker", REDIS_URL=redis_url, RETRIES="0"):
            await browser.post("/ui/try", fields, **HTMX)
            await wait_until(lambda: states("dead"), "it is refused")
        assert not await has_arrived()
        async with serving(tmp_path / "allowed", "worker", REDIS_URL=redis_url, EGRESS_ALLOW=allowed):
            await browser.post("/ui/try", fields, **HTMX)
            await wait_until(has_arrived, "it has arrived")


async def test_the_port_of_the_echo_takes_what_has_its_secret() -> None:
    echo = Echo(["one", "the next"])
    try:
        url = f"http://127.0.0.1:{await echo.listen()}/"
        async with aiohttp.ClientSession() as session:
            for query in ("", "?secret=", f"?{Echo(['other']).query}"):
                with pytest.raises(aiohttp.ClientError):
                    await session.post(url + query, data="a stranger")
            for query in (echo.query, Echo(["the next"]).query):
                async with session.post(f"{url}?{query}", data="own") as got:
                    assert got.status == 200
        assert [one.body for one in echo.arrivals] == ["own"] * 2
    finally:
        echo.close()


async def test_the_echo_can_be_off(tmp_path: Path, redis_url: str) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, UI_ECHO="off") as process,
        client_of(process) as api,
        api.session.post(
            f"{api.url}/ui/echo?{Echo([TOKEN]).query}",
            data="x",
            headers={"Sec-Fetch-Site": "same-origin"},
            allow_redirects=False,
        ) as got,
    ):
        assert got.status == 303


async def test_the_echo_opens_one_port_however_many_ask_at_once() -> None:
    echo = Echo([TOKEN])
    try:
        assert len(set(await asyncio.gather(*(echo.listen() for _ in range(5))))) == 1
    finally:
        echo.close()
