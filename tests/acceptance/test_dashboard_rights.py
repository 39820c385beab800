"""What each token may see and do in the dashboard."""

import asyncio
from pathlib import Path

import aiohttp

from redis_scheduler.store.client import RedisClient
from tests.support.pages import Browser
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/hook"
HTMX = {"HX_Request": "true", "Sec_Fetch_Site": "same-origin"}


async def test_a_token_sees_and_does_what_it_may(browser: Browser, api: Client, client: RedisClient) -> None:
    mail, sms = (
        await api.schedule(HOOK, 900, "/schedule?type=mail"),
        await api.schedule(HOOK, 900, "/schedule?type=sms"),
    )
    await browser.sign_in(await make_token(client, "read", types=("mail",)))
    page = await browser.get("/ui/tasks")
    assert mail in page.html
    assert sms not in page.html
    assert (await browser.get(f"/ui/task/{sms}")).status == 404
    shown = await browser.get(f"/ui/task/{mail}")
    assert "Cancel" not in shown.text
    said = await browser.post(f"/ui/do/cancel/{mail}", HX_Request="true", Sec_Fetch_Site="same-origin")
    assert "has not the right: cancel" in said.text
    assert (await browser.get("/ui/part/overview")).status == 403
    assert "for tokens with the right metrics" in (await browser.get("/ui/")).text


async def test_what_is_read_once_is_kept_apart_for_each_set_of_types(
    browser: Browser, api: Client, client: RedisClient
) -> None:
    mail, sms = (
        await api.schedule(HOOK, 900, "/schedule?type=mail"),
        await api.schedule(HOOK, 900, "/schedule?type=sms"),
    )
    others = [Browser(browser._session, api.url) for _ in range(2)]
    for one, types in zip(others, (("mail",), ("sms",)), strict=True):
        await one.sign_in(await make_token(client, "read", types=types))
    await browser.sign_in(TOKEN)
    pages = await asyncio.gather(*(one.get("/ui/part/tasks?host=127.0.0.1") for one in (browser, *others)))
    assert [(mail in page.html, sms in page.html) for page in pages] == [(True, True), (True, False), (False, True)]


async def test_a_token_without_the_right_touches_none(browser: Browser, api: Client, client: RedisClient) -> None:
    await api.schedule(HOOK, 900, "/schedule?type=mail")
    await browser.sign_in(await make_token(client, "read", "cancel", types=("mail",)))
    said = await browser.post("/ui/many/cancel", {"type": "mail"}, **HTMX)
    assert (said.status, "has not the right: bulk" in said.text) == (403, True)
    assert "all of these" not in (await browser.get("/ui/tasks?type=mail")).text


async def test_figures_alone_name_no_host(tmp_path: Path, redis_url: str, client: RedisClient) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url, RETRIES="0") as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        await api.schedule(HOOK, ttl=0)
        await api.drained()
        admin, other = Browser(session, api.url), Browser(session, api.url)
        await admin.sign_in(TOKEN)
        await other.sign_in(await make_token(client, "metrics"))

        async def has_host(browser: Browser) -> bool:
            page = await browser.get("/ui/part/overview")
            assert page.status == 200
            return "127.0.0.1:9" in page.text

        # Whoever asks first: what is read for one is not shown to the other, and hides nothing from it.
        assert not await has_host(other)
        await wait_until(lambda: has_host(admin), "it is shown")
        assert not await has_host(other)


async def test_the_reference_is_for_whoever_is_signed_in(browser: Browser, client: RedisClient) -> None:
    await browser.sign_in(await make_token(client, "schedule", types=("mail",)))
    page = await browser.get("/ui/reference")
    assert (page.status, "POST /schedule" in page.text) == (200, True)


async def test_who_may_only_schedule_can_try_it(browser: Browser, api: Client, client: RedisClient) -> None:
    await browser.sign_in(await make_token(client, "schedule"))
    page = await browser.get("/ui/try")
    assert (page.status, "What the echo receiver got" in page.text, "Schedule it" in page.text) == (200, False, True)
    assert "is scheduled" in (await browser.post("/ui/try", {"webhook": HOOK, "ttl": "900"}, **HTMX)).text
    assert (await browser.get("/ui/tasks")).status == 403
    await browser.sign_in(await make_token(client, "read"))
    page = await browser.get("/ui/try")
    assert ("What the echo receiver got" in page.text, "Schedule it" in page.text) == (True, False)
    assert "sign in with a token that has the right schedule" in page.text
