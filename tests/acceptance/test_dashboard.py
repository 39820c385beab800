"""The dashboard, as a browser asks for it: its pages and buttons, what a stranger's text becomes, and an outage."""

import asyncio
import io
import re
from base64 import b64encode
from contextlib import aclosing
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import redis.asyncio
from markupsafe import escape

from redis_scheduler.api.bodies import ScheduleRequest
from redis_scheduler.api.routes import ROUTES
from redis_scheduler.store.client import RedisClient
from redis_scheduler.ui.echo import Echo
from tests.support.names import KEYS
from tests.support.pages import Browser
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, client_of, run, serving
from tests.support.strange_texts import TEXTS
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/hook"
HTMX = {"HX_Request": "true", "Sec_Fetch_Site": "same-origin"}
ELEMENTS = "a b button code dd details div dl dt form h1 h2 label li ol p pre section span summary textarea time ul"
"""What a task's page is made of."""


async def test_buttons_do_what_they_say(admin: Browser, api: Client) -> None:
    key = await api.schedule(HOOK, ttl=900)

    async def state() -> str:
        found: str = (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["state"]
        return found

    said = await admin.post(f"/ui/do/pause/{key}", HX_Request="true", Sec_Fetch_Site="same-origin")
    assert (said.status, said.text) == (200, f"{key} is paused")
    assert await state() == "paused"
    await admin.post(f"/ui/do/resume/{key}")
    assert await state() == "scheduled"
    await admin.post(f"/ui/do/change/{key}", {"change": '{"ttl": 1800, "retries": 2}'})
    assert (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["retries"] == 2
    said = await admin.post(
        f"/ui/do/change/{key}", {"change": '{"ttl": "x"}'}, HX_Request="true", Sec_Fetch_Site="same-origin"
    )
    assert "ttl: must be" in said.text
    await admin.post(f"/ui/do/run/{key}")
    await admin.post(f"/ui/do/cancel/{key}")
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 404
    assert (await admin.post("/ui/do/nothing/x")).status == 404


@pytest.mark.parametrize("text", TEXTS)
async def test_text_of_strangers_is_shown_as_text(text: str, admin: Browser, api: Client) -> None:
    """In data and its names, and in labels."""
    labels = {"labels": {"a": text[:50]}} if text[:50].isprintable() else {}
    _, found = await api.call("POST", "/schedule", json={"webhook": HOOK, "ttl": 900, "data": {text: [text]}, **labels})
    page = await admin.get(f"/ui/task/{found['key']}")
    assert page.status == 200
    main = page.html.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    tags = re.findall(r"<(/?)([^\s>]*)([^>]*)>", main)
    assert {name for _, name, _ in tags} <= set(ELEMENTS.split())
    attributes = "".join(rest for *_, rest in tags)
    assert not re.search(r"\son|\sstyle|javascript:|evil", attributes)
    assert " ".join(text[:200].split()) in page.text


@pytest.mark.parametrize("text", TEXTS)
async def test_a_body_that_is_no_json_is_shown_as_text(text: str, admin: Browser, api: Client) -> None:
    for name, body in (("body", text), ("body_base64", b64encode(text.encode()).decode())):
        _, found = await api.call("POST", "/schedule", json={"webhook": HOOK, "ttl": 900, name: body})
        page = await admin.get(f"/ui/task/{found['key']}")
        assert page.status == 200
        assert f'<pre class="text">{escape(body[:4_000])}' in page.html
        assert f"&#34;{name}&#34;:" in page.html, "in the line for a shell"


@pytest.mark.parametrize("text", TEXTS)
async def test_text_of_strangers_in_an_address_is_shown_as_text(text: str, admin: Browser) -> None:
    for name in ("type", "host", "key_prefix", "label", "state", "cursor", text):
        page = await admin.get(f"/ui/tasks?{urlencode({name: text})}")
        assert page.status in (200, 400)
        assert text in unescape(page.html) or page.status == 400
        main = page.html.partition("<main")[2]
        assert not re.search(r"<(script|img|svg|iframe|style|body|meta|base|math|template|hx)", main), name


async def test_a_search_leads_to_the_task(admin: Browser, api: Client) -> None:
    key = await api.schedule(HOOK, ttl=900)
    assert (await admin.get(f"/ui/find?key={key}")).headers["Location"] == f"/ui/task/{key}"
    assert (await admin.get("/ui/find?key=%2F..%2F")).status == 400
    assert (await admin.get("/ui/task/nothing")).status == 404


async def test_an_outage_is_told_with_what_was_known(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "redis") as server,
        serving(tmp_path, "api", REDIS_URL=server.url, TOKEN_GRACE="0") as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        aclosing(RedisClient(server.url, 3, KEYS)) as store,
    ):
        key = await api.schedule(HOOK, ttl=900)
        own, other = Browser(session, api.url), Browser(session, api.url)
        await own.sign_in(TOKEN)
        await other.sign_in(await make_token(store, "read", "metrics"))
        assert key in (await own.get("/ui/part/tasks")).html
        await server.kill()

        async def is_told() -> bool:
            page = await own.get("/ui/part/tasks")
            assert page.status == 200
            assert key in page.html
            return "Redis does not answer: this stands as it was at" in page.text

        await wait_until(is_told, "it is told")
        closed = await other.get("/ui/part/tasks")
        assert (closed.status, "Redis cannot be reached" in closed.text) == (503, True)
        page = await other.get("/ui/")
        assert (page.status, '<meta http-equiv="refresh"' in page.html) == (503, True), "it tries again by itself"
        assert server.url.removeprefix("redis://")[:15] not in (await own.get("/ui/part/tasks")).html + closed.html
        assert key not in closed.html
        assert (await own.get(f"/ui/task/{key}")).status == 503


async def test_it_can_be_off(tmp_path: Path, redis_url: str) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url, UI="off") as process, client_of(process) as api:
        assert (await api.call("GET", "/ui/"))[0] == 404
        async with api.session.get(f"{api.url}/ui/") as response:
            assert response.status == 401
    assert run(UI="maybe").returncode != 0


async def test_hosts_are_set_paused_and_forgotten(admin: Browser, api: Client) -> None:
    async def host() -> dict[str, Any]:
        found: dict[str, Any] = (await api.call("GET", "/hosts/shop.example:443"))[1]["data"]
        return found

    name = {"host": "shop.example:443"}
    assert (await admin.post("/ui/hosts", {**name, "concurrency": "3", "rate": "5", "per": "2"})).status == 303
    await admin.post("/ui/hosts", {**name, "verb": "pause"})
    found = await host()
    assert (found["concurrency"], found["rate"], found["per"], found["paused"]) == (3, 5, 2, True)
    assert "shop.example:443" in (await admin.get("/ui/hosts")).text
    await admin.post("/ui/hosts", {**name, "verb": "resume"})
    assert (await host())["paused"] is False
    said = await admin.post("/ui/hosts", {**name, "concurrency": "<b>"}, **HTMX)
    assert "concurrency: must be a whole number" in said.text
    assert "<b>" not in said.html
    said = await admin.post("/ui/hosts", {**name, "rate": "[" * 5_000}, **HTMX)
    assert "rate: must be a number" in said.text
    await admin.post("/ui/hosts", {**name, "verb": "forget"})
    assert "concurrency" not in await host()
    assert (await admin.post("/ui/hosts", {"host": "/../schedules", "verb": "forget"})).status == 409


async def test_the_system_shows_no_secret_and_only_to_admins(
    tmp_path: Path, redis_url: str, client: RedisClient
) -> None:
    secrets = {
        "API_AUTH": f"{TOKEN} another-secret",
        "WEBHOOK_SECRET": "whsec_" + "QUJD" * 8,
        "DATA_KEY": "QUJD" * 10 + "QUI=",
    }
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, **secrets) as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        browser = Browser(session, api.url)
        await browser.sign_in("another-secret")
        page = await browser.get("/ui/system")
        assert "The ledger balances" in page.text
        assert "RETRY_TIME 60 default" in page.text
        assert not [one for text in (redis_url, *secrets.values()) for one in text.split() if one in page.html]
        for rights, types in ((("read", "metrics"), ()), (("read", "admin"), ("mail",))):
            await browser.sign_in(await make_token(client, *rights, types=types))
            assert (await browser.get("/ui/system")).status == 403


async def test_many_are_counted_first_and_touched_when_their_number_is_typed(admin: Browser, api: Client) -> None:
    for _ in range(3):
        tasks = [{"webhook": HOOK, "ttl": 900, "labels": {"batch": "1"}} for _ in range(50)]
        assert (await api.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
    await api.schedule(HOOK, ttl=900)
    filters = {"label": "batch=1"}
    asked = await admin.post("/ui/many/cancel", filters, **HTMX)
    assert "Cancel 150 tasks?" in asked.text
    assert (await api.stats())["running_schedules"] == 151
    for sure in ("", "149", "1500"):
        said = await admin.post("/ui/many/cancel", {**filters, "counted": "150", "sure": sure}, **HTMX)
        assert "Type 150 to say that it is meant" in said.text
    done = await admin.post("/ui/many/cancel", {**filters, "counted": "150", "sure": "150"}, **HTMX)
    assert "Cancel: 150 done" in done.text
    assert (await api.stats())["running_schedules"] == 1
    assert (await admin.post("/ui/many/cancel", {"counted": "0"}, **HTMX)).status == 400  # without a filter
    assert (await admin.post("/ui/many/purge", {}, **HTMX)).status == 404


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
        assert "is not valid JSON" in said.text or "JSON" in said.text
        assert (await browser.post("/ui/try", {**fields, "more": "[]"}, **HTMX)).status == 200


async def test_the_echo_takes_deliveries_of_this_deployment_and_is_bounded(
    admin: Browser, api: Client, raw: redis.asyncio.Redis
) -> None:
    await api.call("GET", "/readyz")  # which puts the deployment's id back, should it be gone
    instance = await raw.get(KEYS.instance)
    assert isinstance(instance, bytes)
    own = {"Schedule-Instance": instance.decode()}
    for number in range(30):
        async with api.session.post(f"{api.url}/ui/echo", data=f"arrival {number}.", headers=own) as got:
            assert got.status == 200
    async with api.session.post(f"{api.url}/ui/echo", data=io.BytesIO(b"x" * 2_000_000), headers=own) as got:
        assert got.status == 413
    for headers in ({}, {"Schedule-Instance": "x"}, {"Schedule-Instance": "0" * 32}):
        async with api.session.post(f"{api.url}/ui/echo", data="a stranger", headers=headers) as got:
            assert got.status == 401
    assert "a stranger" not in (await admin.get("/ui/part/echo")).text
    page = await admin.get("/ui/part/echo")
    assert [f"arrival {number}." in page.text for number in (29, 10, 9)] == [True, True, False]


async def test_a_line_for_a_shell_asks_once_for_one_type(admin: Browser, api: Client) -> None:
    key = await api.schedule(HOOK, 900, f"/schedule?{urlencode({'type': '[1-9]{a,b}&x#'})}")
    assert "/schedule'?type=%5B1-9%5D%7Ba%2Cb%7D%26x%23' -H" in (await admin.get(f"/ui/task/{key}")).text


async def test_the_echo_can_be_off(tmp_path: Path, redis_url: str) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, UI_ECHO="off") as process,
        client_of(process) as api,
        api.session.post(
            f"{api.url}/ui/echo", data="x", headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
        ) as got,
    ):
        assert got.status == 401


async def test_the_echo_opens_one_port_however_many_ask_at_once() -> None:
    echo = Echo()
    try:
        assert len(set(await asyncio.gather(*(echo.listen() for _ in range(5))))) == 1
    finally:
        echo.close()


async def test_what_is_marked_is_changed_alone(admin: Browser, api: Client) -> None:
    keys = [await api.schedule(HOOK, ttl=900 + at) for at in range(4)]
    page = await admin.get("/ui/tasks")
    marks = re.findall(r'type="checkbox"[^>]*name="([^"]+)" value="([^"]+)"', page.html)
    assert [key for _, key in marks] == keys
    said = await admin.post("/ui/marked", {**dict(marks[1:3]), "verb": "cancel", "key-x": "none"}, **HTMX)
    assert "cancel: 2 of 3; none: " in said.text
    assert keys[0] in (await admin.get("/ui/tasks")).html
    assert (await api.stats())["running_schedules"] == 2
    assert "Mark tasks first" in (await admin.post("/ui/marked", {"verb": "cancel"}, **HTMX)).text


async def test_the_reference_has_each_route_and_each_field(admin: Browser, api: Client) -> None:
    page = await admin.get("/ui/reference")
    for route in ROUTES:
        assert f"<code>{route.method} {route.path}</code>" in page.html
    for name in ScheduleRequest.__struct_fields__:
        assert f"<code>{name}</code>" in page.html


async def test_behind_a_proxy_with_a_path(tmp_path: Path, redis_url: str) -> None:
    proxied = {"BASE_PATH": "/jobs/", "TRUSTED_PROXIES": "127.0.0.0/8", "ENVIRONMENT": "production"}
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, **proxied) as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        browser = Browser(session, api.url)
        assert (await browser.get("/ui/tasks")).headers["Location"] == "/jobs/ui/login?next=%2Fjobs%2Fui%2Ftasks"
        said = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "x.example", "Origin": "https://x.example"}
        page = await browser.post("/ui/login", {"token": TOKEN, "next": "/jobs/ui/tasks"}, **said)
        assert (page.status, page.headers["Location"]) == (303, "/jobs/ui/tasks")
        assert {"Path=/jobs/ui/", "Secure"} <= {part.strip() for part in browser.set_cookie.split(";")}
        page = await browser.get("/ui/tasks")
        assert set(re.findall(r'(?:href|src|action|hx-get|hx-post)="(/[a-z]+/)', page.html)) == {"/jobs/"}
        assert '<span class="badge production">production</span>' in page.html
        assert (await browser.post("/ui/logout", Origin="https://x.example")).status == 403


async def test_its_numbers_are_those_of_stats_and_metrics(admin: Browser, api: Client) -> None:
    for at in range(5):
        key = await api.schedule(HOOK, ttl=900 + at)
        if at < 2:
            await api.call("POST", f"/schedule/{key}/pause")
    await api.call("PUT", "/hosts/127.0.0.1:9", json={"concurrency": 1})
    stats = await api.stats()
    async with api.session.get(f"{api.url}/metrics", headers=api.headers) as response:
        metrics = await response.text()

    async def agrees() -> bool:
        overview, system = await admin.get("/ui/part/overview"), await admin.get("/ui/part/system")
        return all(
            f"{number} {name.replace('_', ' ')}" in overview.text
            and f"{name.replace('_', ' ')} {number}" in system.text
            for name, number in stats["states"].items()
        )

    await wait_until(agrees, "the pages are read anew", timeout_s=15)
    assert (stats["states"]["due"], stats["states"]["paused"]) == (3, 2)
    for name, number in stats["states"].items():
        assert re.search(rf'_tasks{{[^}}]*state="{name}"[^}}]*}} {number}(\.0)?$', metrics, re.MULTILINE), name
