"""Who comes into the dashboard: sign-in, cookies, other pages, strangers."""

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.ui.entering import FRESH_S
from tests.support.names import KEYS
from tests.support.pages import Browser
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.tokens import held_back, make_token, revoke
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/hook"
PARTS = (
    "overview",
    "charts",
    "tasks",
    "groups",
    "dead",
    "letter?key=x",
    "repeating",
    "hosts",
    "system",
    "reference",
    "echo",
)
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
        ("127.0.0.1", "https://x.example"),
    ],
)
async def test_elsewhere_the_cookie_is_for_https_alone(host: str, origin: str, browser: Browser) -> None:
    fields = {"token": TOKEN, "origin": origin}
    assert (await browser.post("/ui/login", fields, Host=host, Sec_Fetch_Site="same-origin")).status == 303
    assert "; Secure" in browser.set_cookie


@pytest.mark.parametrize("host", ["scheduler.example:8080", "127.0.0.1"])
async def test_over_http_from_elsewhere_nobody_signs_in(host: str, browser: Browser) -> None:
    fields = {"token": TOKEN, "origin": "http://scheduler.example:8080"}
    page = await browser.post("/ui/login", fields, Host=host, Sec_Fetch_Site="same-origin")
    assert (page.status, browser.set_cookie) == (403, "")
    assert "ask for this page over https" in page.text


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


async def test_a_changed_cookie_counts_nothing(admin: Browser) -> None:
    [(name, value)] = admin.cookies.items()
    for wrong in (
        f"{value[:-1]}{'A' if value[-1] != 'A' else 'B'}",
        value[:-1],
        f"{value}A",
        "",
        "a" * 5_000,
        "é" * 43,
    ):
        admin.cookies[name] = wrong
        assert (await admin.get("/ui/tasks")).status == 303
    admin.cookies[name] = value
    assert (await admin.get("/ui/tasks")).status == 200


async def test_other_cookies_beside_it_do_not_matter(admin: Browser) -> None:
    [(name, value)] = admin.cookies.items()
    admin.cookies = {"a[b]": '"', "redis_scheduler2": "x", name: value, "last": "é{"}
    assert (await admin.get("/ui/tasks")).status == 200


async def test_a_head_full_of_backslashes_holds_nobody_up(browser: Browser) -> None:
    browser.cookies = {"a": f'"{chr(92) * 60_000}"'}
    async with asyncio.timeout(5):  # http.cookies took 30 seconds, in which nothing else went on
        assert (await browser.get("/ui/tasks")).status == 303


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
        assert page.headers["Referrer-Policy"] == "same-origin"
        kept = "public, max-age=31536000, immutable" if path == style else "no-store"
        assert page.headers["Cache-Control"] == kept
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?! src=\"/ui/static/)", page.html), path


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
    expiring = await make_token(client, "read", expires=redis_ms(await client.command("TIME")) + 1_500)
    await browser.sign_in(expiring)
    await wait_until(is_out, "its token has expired")
    page = await browser.sign_in(expiring)
    assert page.status == 401
    assert "has expired" in page.text


@pytest.mark.parametrize("end", ["signed out", "revoked"])
async def test_who_is_signed_out_while_a_form_comes_changes_nothing(
    end: str, browser: Browser, session: aiohttp.ClientSession, api: Client, client: RedisClient
) -> None:
    key, token = await api.schedule(HOOK, ttl=900), await make_token(client, "cancel")
    await browser.sign_in(token)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())

    async def sign_out() -> None:
        await (revoke(client, token) if end == "revoked" else browser.post("/ui/logout"))

    headers = {"Sec-Fetch-Site": "same-origin", "Cookie": cookie}
    place, form = f"{api.url}/ui/do/cancel/{key}", held_back(b"x", b"=1", sign_out, FRESH_S)
    async with session.post(place, data=form, headers=headers, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"][:9]) == (303, "/ui/login")
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 200


async def test_signing_out_takes_the_cookie_and_ends_every_copy_of_it(admin: Browser) -> None:
    copy = dict(admin.cookies)
    page = await admin.post("/ui/logout")
    assert (page.status, page.headers["Location"]) == (303, "/ui/login")
    assert "Max-Age=0" in admin.set_cookie
    admin.cookies = copy
    assert (await admin.get("/ui/tasks")).status == 303


async def test_signing_in_again_ends_the_sign_in_before(admin: Browser) -> None:
    before = Browser(admin._session, admin._url)
    before.cookies = dict(admin.cookies)
    assert (await admin.sign_in(TOKEN)).status == 303
    assert (await admin.get("/ui/tasks")).status == 200
    assert (await before.get("/ui/tasks")).status == 303


async def test_signing_out_counts_for_other_processes(
    admin: Browser, redis_url: str, tmp_path: Path, client: RedisClient
) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as process, client_of(process) as api:
        there = Browser(admin._session, api.url)
        there.cookies = dict(admin.cookies)
        assert (await there.get("/ui/tasks")).status == 200
        await admin.post("/ui/logout")

        async def is_out() -> bool:
            return (await there.get("/ui/tasks")).status == 303

        await wait_until(is_out, "it is signed out there")
        assert await client.command("EXISTS", KEYS.sign_ins) == 0


async def test_all_who_look_cost_one_look_at_who_is_signed_in(
    admin: Browser, api: Client, raw: redis.asyncio.Redis
) -> None:
    others = [Browser(admin._session, api.url) for _ in range(9)]
    for one in others:
        await one.sign_in(TOKEN)
    people = [admin, *others]
    await asyncio.gather(*(one.get("/ui/try") for one in people))
    # After this what Redis said of them counts no more: only time shows it, since each question would be a look.
    await asyncio.sleep(FRESH_S + 0.1)
    before = await asked(raw)
    pages = await asyncio.gather(*(one.get("/ui/try") for one in people))
    assert [page.status for page in pages] == [200] * 10
    assert await asked(raw) - before == 1
    # One of them signs out: the others stay.
    copy = dict(others[0].cookies)
    await others[0].post("/ui/logout")
    others[0].cookies = copy

    async def is_out() -> bool:
        return (await others[0].get("/ui/try")).status == 303

    await wait_until(is_out, "its copy counts no more")
    pages = await asyncio.gather(*(one.get("/ui/try") for one in people))
    assert [page.status for page in pages] == [200, 303, *[200] * 8]


async def asked(raw: redis.asyncio.Redis) -> int:
    """How often Redis was asked for sign-ins, one or several."""
    stats = await raw.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hget", "hmget"))


async def test_another_api_auth_ends_sign_ins_and_a_second_one_does_not(
    admin: Browser, redis_url: str, tmp_path: Path
) -> None:
    for number, (auth, status) in enumerate(((f"a-new-token-of-mine {TOKEN}", 200), ("a-new-token-of-mine", 303))):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with serving(folder, "api", REDIS_URL=redis_url, API_AUTH=auth) as process, client_of(process) as api:
            there = Browser(admin._session, api.url)
            there.cookies = dict(admin.cookies)
            assert (await there.get("/ui/tasks")).status == status


async def test_without_redis_nobody_signs_in_and_a_sign_out_says_what_it_cannot_do(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "redis") as server,
        serving(tmp_path, "api", REDIS_URL=server.url) as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        browser, copy, last = (Browser(session, api.url) for _ in range(3))
        await browser.sign_in(TOKEN)
        assert (await browser.get("/ui/try")).status == 200
        copy.cookies, last.cookies = dict(browser.cookies), dict(browser.cookies)
        await server.stop()
        assert (await browser.get("/ui/try")).status == 200
        stranger = Browser(session, api.url)
        assert (await stranger.sign_in(TOKEN)).status == 503
        stranger.cookies = {name: value[::-1] for name, value in browser.cookies.items()}
        assert (await stranger.get("/ui/try")).status == 503
        page = await browser.post("/ui/logout")
        assert (page.status, "Max-Age=0" in browser.set_cookie) == (503, True)
        assert "A copy of its cookie is not" in page.text
        await server.start()

        async def is_in() -> bool:
            return (await copy.get("/ui/try")).status == 200

        await wait_until(is_in, "Redis is back, and has it")
        await copy.post("/ui/logout")
        assert (await last.get("/ui/try")).status == 303


async def test_a_delivery_of_this_deployment_gets_no_page(admin: Browser) -> None:
    page = await admin.get("/ui/", Schedule_Instance="0" * 32)
    assert page.status == 403


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


async def test_a_stranger_says_nothing_of_the_host(admin: Browser) -> None:
    said = {"X_Forwarded_Host": "x.example", "Origin": "https://x.example"}
    assert (await admin.post("/ui/logout", None, **said)).status == 403
