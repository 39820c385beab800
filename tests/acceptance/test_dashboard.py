"""The dashboard, as a browser asks for it: its pages and buttons, what a stranger's text becomes, and an outage."""

import re
from base64 import b64encode
from contextlib import aclosing
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from markupsafe import escape

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from tests.scripts import states
from tests.support.audit import plain
from tests.support.names import KEYS, SHARDS
from tests.support.pages import Browser
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, client_of, run, serving
from tests.support.store import Store
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


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDC00", "\\udc00\\ud83d"])
async def test_half_a_surrogate_pair_takes_no_page_from_others(half: str, admin: Browser, api: Client) -> None:
    """JSON can write one, and the API takes it."""
    others = await api.schedule(HOOK, 900, data="\U0001f600")
    headers = {**api.headers, "Content-Type": "application/json"}
    for key, when in (("waits", '"ttl": 900'), ("series", '"repeat": {"every": 900}')):
        body = f'{{"webhook": "{HOOK}", {when}, "data": {{"a{half}": ["{half}", "\\ud83d\\ude00"]}}}}'
        assert (await api.call("PUT", f"/schedule/{key}", data=body, headers=headers))[0] == 200
        page = await admin.get(f"/ui/task/{key}")
        assert page.status == 200
        assert f'{{"a{half}": ["{half}", "\\ud83d\\ude00"]}}'.replace(" ", "") in page.text.replace(" ", "")
    for path, keys in (("tasks", ("waits", "series", others)), ("repeating", ("series",)), ("reference", ())):
        page = await admin.get(f"/ui/{path}")
        assert (page.status, [key for key in keys if key not in page.text]) == (200, [])
    called = await admin.post("/ui/call/get", {"path.key": "waits"}, **HTMX)
    assert (called.status, half in called.text) == (200, True)


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
            return "Redis cannot be reached: this stands as it was at" in page.text

        await wait_until(is_told, "it is told")
        closed = await other.get("/ui/part/tasks")
        assert (closed.status, "Redis cannot be reached" in closed.text) == (503, True)
        page = await other.get("/ui/")
        assert (page.status, " data-again" in page.html) == (503, True), "it tries again by itself"
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
    assert (await admin.post("/ui/hosts", {**name, "concurrency": "8", "rate": "5", "per": "2"})).status == 303
    await admin.post("/ui/hosts", {**name, "verb": "pause"})
    found = await host()
    assert (found["concurrency"], found["rate"], found["per"], found["paused"]) == (8, 5, 2, True)
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


async def test_a_host_leads_to_its_tasks_and_a_limit_key_to_none(admin: Browser, api: Client) -> None:
    for host in ("shop.example:443", "@tenant-7"):
        await admin.post("/ui/hosts", {"host": host, "rate": "5"})
    page = await admin.get("/ui/hosts")
    assert "@tenant-7 well" in page.text
    assert "shop.example:443 not among the busiest" in page.text, "nobody knows whether it is well"
    [path] = re.findall(r'href="(/ui/tasks\?host=[^"]*)"', page.html)
    key = await api.schedule("https://shop.example/charge", 600)
    assert key in (await admin.get(path)).text


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
        assert "API_AUTH set; it is not shown environment" in page.text
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


async def test_a_line_for_a_shell_asks_once_for_one_type(admin: Browser, api: Client) -> None:
    key = await api.schedule(HOOK, 900, f"/schedule?{urlencode({'type': '[1-9]{a,b}&x#'})}")
    assert "/schedule'?type=%5B1-9%5D%7Ba%2Cb%7D%26x%23' -H" in (await admin.get(f"/ui/task/{key}")).text


async def test_what_is_marked_is_changed_alone(admin: Browser, api: Client) -> None:
    keys = [await api.schedule(HOOK, ttl=900 + at) for at in range(4)]
    page = await admin.get("/ui/tasks")
    marks = re.findall(r'type="checkbox"[^>]*name="([^"]+)" value="([^"]+)"', page.html)
    assert [key for _, key in marks] == keys
    wanted = {**dict(marks[1:3]), "verb": "cancel", "key-x": "none"}
    asked = await admin.post("/ui/marked", wanted, **HTMX)
    assert "Cancel 3 tasks?" in asked.text
    assert (await api.stats())["running_schedules"] == 4
    hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', asked.html))
    assert hidden.items() >= wanted.items()
    assert "Cancel: 2 of 3 done. none: " in (await admin.post("/ui/marked", hidden, **HTMX)).text
    assert keys[0] in (await admin.get("/ui/tasks")).html
    assert (await api.stats())["running_schedules"] == 2
    assert "Mark tasks first" in (await admin.post("/ui/marked", {"verb": "cancel"}, **HTMX)).text


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

    told = {"scheduled" if name == "due" else name.replace("_", " "): many for name, many in stats["states"].items()}

    async def agrees() -> bool:
        overview, system = await admin.get("/ui/part/overview"), await admin.get("/ui/part/system")
        return all(
            f"{number} {name}" in overview.text and f"{name} {number}" in system.text for name, number in told.items()
        )

    await wait_until(agrees, "the pages are read anew", timeout_s=15)
    assert (stats["states"]["due"], stats["states"]["paused"]) == (3, 2)
    for name, number in stats["states"].items():
        in_shards = re.findall(rf'_tasks{{[^}}]*state="{name}"[^}}]*}} ([0-9.]+)$', metrics, re.MULTILINE)
        assert (len(in_shards), sum(map(float, in_shards))) == (SHARDS, number), name


async def test_the_first_page_counts_all_shards(redis_url: str, tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, SHARDS="3") as process,
        client_of(process) as api,
        plain(redis_url) as raw,
    ):
        browser = Browser(api.session, api.url)
        await browser.sign_in(TOKEN)
        for at in range(6):
            await api.schedule(HOOK, ttl=600 + at)
        seconds, _ = await raw.time()
        # A worker that does not deliver leaves it there.
        late = Keys(tag_of("", 2))
        await raw.hset(late.oldest, str(seconds // 60), "7000")
        overview, charts = await browser.get("/ui/part/overview"), await browser.get("/ui/part/charts")
        assert "6 scheduled" in overview.text
        assert "Due in the next hour, by the minute: 6 tasks, 0 overdue" in unescape(charts.html)
        assert "oldest due" in charts.text
        assert "7.0 s" in charts.text


async def test_what_was_cancelled_here_comes_in_no_chart_any_more(admin: Browser, api: Client) -> None:
    soon, later = await api.schedule(HOOK, ttl=1800), await api.schedule(HOOK, ttl=36_000)

    async def come(in_hour: int, in_day: int) -> bool:
        shown = unescape((await admin.get("/ui/part/charts")).html)
        return (
            f"Due in the next hour, by the minute: {in_hour} tasks" in shown
            and f"Due in the next day, by the quarter of an hour: {in_day} tasks" in shown
        )

    assert await come(1, 2)
    await admin.post(f"/ui/do/cancel/{later}")
    assert await come(1, 1)
    await admin.post(f"/ui/do/cancel/{soon}")
    assert await come(0, 0)


async def test_what_comes_and_what_is_overdue_are_of_the_same_moment(admin: Browser, api: Client, store: Store) -> None:
    await api.schedule(HOOK, ttl=1.5)
    later = await api.schedule(HOOK, ttl=1800)

    async def charts() -> str:
        await admin.post(f"/ui/do/change/{later}", {"change": '{"retries": 2}'})  # what was read before counts no more
        return unescape((await admin.get("/ui/part/charts")).html)

    async def say(number: int, late: int) -> bool:
        shown = await charts()
        titles = ("hour, by the minute", "day, by the quarter of an hour")
        return all(f"Due in the next {title}: {number} tasks, {late} overdue" in shown for title in titles)

    assert await say(2, 0)
    await wait_until(lambda: say(1, 1), "its time has come, and nobody promotes it", 20, 0.3)
    await states.queued(store)  # and so is the one before
    await wait_until(lambda: say(1, 2), "both are queued, and nobody claims them", 20, 0.3)
