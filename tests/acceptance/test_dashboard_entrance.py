"""Who comes into the dashboard, and what each may see and do there: sign-in, cookies, rights, strangers."""

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from redis_scheduler.store.client import RedisClient
from tests.support.pages import Browser
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.tokens import make_token, revoke
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/hook"
PARTS = ("overview", "charts", "tasks", "groups", "dead", "repeating", "hosts", "system", "echo")
PAGES = (
    *(f"/ui/{name}" for name in ("", "tasks", "dead", "repeating", "hosts", "system", "try", "reference")),
    *(f"/ui/part/{name}" for name in PARTS),
)
HTMX = {"HX_Request": "true", "Sec_Fetch_Site": "same-origin"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


async def test_nobody_sees_a_page_without_a_token(browser: Browser, api: Client) -> None:
    key = await api.schedule(HOOK, ttl=900)
    for path in (*PAGES, f"/ui/task/{key}", "/ui/nothing"):
        page = await browser.get(path)
        assert (page.status, page.headers["Location"][:15]) == (303, "/ui/login?next="), path
        page = await browser.get(path, HX_Request="true")
        assert (page.status, page.headers["HX-Redirect"]) == (401, "/ui/login"), path
        assert key not in page.html
    assert (await browser.post(f"/ui/do/cancel/{key}")).headers["Location"].startswith("/ui/login")
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 200


@pytest.mark.parametrize("token", ["", "wrong", f"{TOKEN}x", f"rs_{'0' * 10}_{'A' * 43}", "ä"])
async def test_a_wrong_token_signs_nobody_in_and_is_counted(token: str, browser: Browser) -> None:
    page = await browser.sign_in(token)
    assert page.status == 401
    assert "This token is wrong" in page.text
    assert not browser.cookies


async def test_a_sign_in_is_counted_as_wrong_tokens_are(tmp_path: Path, redis_url: str) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url) as process,
        client_of(process) as api,
        aiohttp.ClientSession() as session,
    ):
        await Browser(session, api.url).sign_in("wrong")
        [event] = await wait_until(lambda: process.events("refused"), "it is logged")
        assert event["requests"] == 1
        assert "wrong" not in process.log


async def test_the_cookie_is_for_this_browser_alone(browser: Browser) -> None:
    page = await browser.sign_in(TOKEN, "/ui/tasks?type=mail")
    assert (page.status, page.headers["Location"]) == (303, "/ui/tasks?type=mail")
    parts = [part.strip() for part in browser.set_cookie.split(";")]
    assert {"HttpOnly", "SameSite=Strict", "Path=/ui/", "Max-Age=43200"} <= set(parts)
    assert "Secure" not in parts  # at loopback
    assert TOKEN not in browser.set_cookie


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("scheduler.example", ""),
        ("scheduler.example:8080", "http://scheduler.example"),
        ("127.0.0.1", "https://x.example"),
        ("127.0.0.1", "http://x.example"),
    ],
)
async def test_elsewhere_the_cookie_is_for_https_alone(host: str, origin: str, browser: Browser) -> None:
    fields = {"token": TOKEN, "origin": origin}
    assert (await browser.post("/ui/login", fields, Host=host, Sec_Fetch_Site="same-origin")).status == 303
    assert "; Secure" in browser.set_cookie


@pytest.mark.parametrize("said", [{"Origin": "https://x.example"}, {"X_Forwarded_Proto": "https"}])
async def test_behind_a_proxy_that_asks_at_loopback_the_cookie_is_for_https_alone(
    said: dict[str, str], browser: Browser
) -> None:
    given = {"Host": "127.0.0.1:8080", "Sec_Fetch_Site": "same-origin"}
    assert (await browser.post("/ui/login", {"token": TOKEN}, **given, **said)).status == 303
    assert "; Secure" in browser.set_cookie


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example/ui/", "/ui/\\evil", "/schedule", "/ui/\r\nX: y"]
)
async def test_a_sign_in_leads_to_no_other_place(place: str, browser: Browser) -> None:
    assert (await browser.sign_in(TOKEN, place)).headers["Location"] == "/ui/"


@pytest.mark.parametrize("at", range(5))
async def test_a_changed_cookie_counts_nothing(at: int, admin: Browser) -> None:
    [(name, value)] = admin.cookies.items()
    parts = value.split(".")
    parts[at] = str(int(parts[at]) + 1) if at == 3 else parts[at][:-1] + ("0" if parts[at][-1] != "0" else "1")
    admin.cookies[name] = ".".join(parts)
    assert (await admin.get("/ui/tasks")).status == 303
    for wrong in ("", "....", "a" * 5_000, "own.x.-.x.x", "é.é.é.1.é"):
        admin.cookies[name] = wrong
        assert (await admin.get("/ui/tasks")).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "{own}"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "{own}.evil.example"},
        {"X_Nothing": "neither is there"},
    ],
)
async def test_no_other_page_changes_anything(headers: dict[str, str], admin: Browser, api: Client) -> None:
    key = await api.schedule(HOOK, ttl=900)
    given = {name: value.format(own=api.url) for name, value in headers.items()}
    for path in (f"/ui/do/cancel/{key}", "/ui/login", "/ui/logout"):
        assert (await admin.post(path, {"token": TOKEN}, **given)).status == 403, path
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 200


async def test_a_browser_that_says_only_its_origin_may_change_something(admin: Browser, api: Client) -> None:
    key = await api.schedule(HOOK, ttl=900)
    assert (await admin.post(f"/ui/do/pause/{key}", Origin=api.url)).status == 303
    assert (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["state"] == "paused"


async def test_every_answer_has_the_policy(admin: Browser, api: Client) -> None:
    key = await api.schedule(HOOK, ttl=900)
    found = await admin.get("/ui/")
    [style] = re.findall(r'href="([^"]+app\.css)"', found.html)
    for path in (*PAGES, f"/ui/task/{key}", "/ui/login", "/ui/nothing", "/ui/tasks?state=x", "/ui", style):
        page = await admin.get(path)
        assert page.headers["Content-Security-Policy"] == POLICY, path
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        kept = "public, max-age=31536000, immutable" if path == style else "no-store"
        assert page.headers["Cache-Control"] == kept
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?! src=\"/ui/static/)", page.html), path


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


async def test_a_token_that_is_revoked_or_rotated_or_expired_ends_its_sign_in(
    browser: Browser, client: RedisClient
) -> None:
    token = await make_token(client, "read")
    await browser.sign_in(token)
    assert (await browser.get("/ui/tasks")).status == 200
    await revoke(client, token)

    async def is_out() -> bool:
        return (await browser.get("/ui/tasks")).status == 303

    await wait_until(is_out, "it is signed out")
    expiring = await make_token(client, "read", expires=await _now_ms(client) + 1_500)
    await browser.sign_in(expiring)
    await wait_until(is_out, "its token has expired")
    page = await browser.sign_in(expiring)
    assert page.status == 401
    assert "has expired" in page.text


async def _now_ms(client: RedisClient) -> int:
    seconds, micros = await client.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def test_signing_out_takes_the_cookie(admin: Browser) -> None:
    page = await admin.post("/ui/logout")
    assert (page.status, page.headers["Location"]) == (303, "/ui/login")
    assert "Max-Age=0" in admin.set_cookie


async def test_a_delivery_of_this_deployment_gets_no_page(admin: Browser) -> None:
    page = await admin.get("/ui/", Schedule_Instance="0" * 32)
    assert page.status == 403


async def test_a_token_without_the_right_touches_none(browser: Browser, api: Client, client: RedisClient) -> None:
    await api.schedule(HOOK, 900, "/schedule?type=mail")
    await browser.sign_in(await make_token(client, "read", "cancel", types=("mail",)))
    said = await browser.post("/ui/many/cancel", {"type": "mail"}, **HTMX)
    assert (said.status, "has not the right: bulk" in said.text) == (403, True)
    assert "all of these" not in (await browser.get("/ui/tasks?type=mail")).text


async def test_what_strangers_send_is_not_held(tmp_path: Path, redis_url: str) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as process, client_of(process) as api:
        async with api.session.get(f"{api.url}/ui/login") as got:
            assert got.status == 200  # the dashboard is imported
        watched, writers = psutil.Process(process.process.pid), []
        before = watched.memory_info().rss
        for _ in range(60):
            _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(api.url).port)
            writer.write(b"POST /ui/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n" + b"x" * 1_000_000)
            await writer.drain()
            writers.append(writer)
        async with api.session.get(f"{api.url}/ui/login") as got:
            assert got.status == 200  # behind all that came before
        assert watched.memory_info().rss - before < 25_000_000, "of 60 MB that were sent"
        for writer in writers:
            writer.close()


async def test_a_form_to_sign_in_is_small(browser: Browser) -> None:
    assert (await browser.post("/ui/login", {"token": TOKEN, "next": "x" * 20_000})).status == 413


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


async def test_a_stranger_says_nothing_of_the_host(admin: Browser) -> None:
    said = {"X_Forwarded_Host": "x.example", "Origin": "https://x.example"}
    assert (await admin.post("/ui/logout", None, **said)).status == 403


async def test_who_may_only_schedule_can_try_it(browser: Browser, api: Client, client: RedisClient) -> None:
    await browser.sign_in(await make_token(client, "schedule"))
    page = await browser.get("/ui/try")
    assert (page.status, "What the echo receiver got" in page.text) == (200, False)
    assert "is scheduled" in (await browser.post("/ui/try", {"webhook": HOOK, "ttl": "900"}, **HTMX)).text
    assert (await browser.get("/ui/tasks")).status == 403
