"""A task and a dead letter in the dashboard: how they came, what became of them, what they started, and what a button
does for whom."""

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.forecast import FAILED_MOST
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
    """The all-in-one service; a task that failed once is dead."""
    async with serving(tmp_path, REDIS_URL=redis_url, RETRIES="0") as process, client_of(process) as client:
        yield client


@pytest.fixture
async def seen(service: Client, session: aiohttp.ClientSession) -> Browser:
    """Signed in by the service's own token."""
    browser = Browser(session, service.url)
    await browser.sign_in(TOKEN)
    return browser


async def in_state(api: Client, key: str, state: str) -> dict[str, Any]:
    async def info() -> dict[str, Any]:
        status, content = await api.call("GET", f"/schedule/{key}")
        found: dict[str, Any] = content["data"]["info"] if status == 200 else {"state": ""}
        return found

    async def is_so() -> bool:
        return bool((await info())["state"] == state)

    await wait_until(is_so, f"it is {state}")
    return await info()


async def test_a_task_shows_what_its_end_started_and_that_what_started_it(
    service: Client, seen: Browser, receiver: Receiver
) -> None:
    callbacks: Any = {name: {"webhook": NOWHERE, "ttl": 900} for name in ("on_success", "on_failure")}
    for webhook, state in ((receiver.url, "delivered"), (NOWHERE, "dead")):
        key = await service.schedule(webhook, **callbacks)
        started = (await in_state(service, key, state))["started"]
        page = await seen.get(f"/ui/task/{key}")
        assert f"its end started {started}" in page.text
        assert f'href="/ui/task/{started}"' in page.html
        child = await seen.get(f"/ui/task/{started}")
        event = {"delivered": "delivered", "dead": "died"}[state]
        assert f"started, as its data says, when this one had ended ({event}) {key}" in child.text
        assert f'href="/ui/task/{key}"' in child.html


@pytest.mark.parametrize(
    "data",
    [
        {"event": "task.died", "key": "a/b", "attempts": 1, "ended": "2027-01-01T00:00:00Z"},
        {"event": "task.died", "key": "a", "attempts": 1, "ended": "<b>"},
        {"event": "task.other", "key": "a", "attempts": 1, "ended": "2027-01-01T00:00:00Z"},
        {"event": "task.died", "key": ["a"]},
    ],
)
async def test_data_that_tells_of_no_end_is_not_taken_for_it(data: Any, service: Client, seen: Browser) -> None:
    body = msgspec.json.encode({"webhook": NOWHERE, "ttl": 900, "data": data})
    own = {**service.headers, "Content-Type": "application/json"}
    _, found = await service.call("POST", "/schedule", data=body, headers=own)
    page = await seen.get(f"/ui/task/{found['key']}")
    assert "as its data says" not in page.text
    assert "scheduled, by its ttl of 15m" in page.text, page.text


async def test_what_is_due_at_once_was_scheduled_then(service: Client, seen: Browser) -> None:
    key = await service.schedule(NOWHERE, ttl=0)
    await in_state(service, key, "dead")
    assert "scheduled, by its ttl of" in (await seen.get(f"/ui/task/{key}")).text


async def test_a_task_with_a_time_of_its_own_was_scheduled_for_it(service: Client, seen: Browser) -> None:
    body = {"webhook": NOWHERE, "at": "2099-01-31T09:00:00Z"}
    _, found = await service.call("POST", "/schedule", json=body)
    page = await seen.get(f"/ui/task/{found['key']}")
    assert "scheduled, for 2099-01-31 09:00:00 (at); when is not kept" in page.text
    assert page.text.index("when is not kept") < page.text.index("2099-01-31 09:00:00 due")


async def test_each_tab_has_its_number(service: Client, seen: Browser, raw: redis.asyncio.Redis) -> None:
    for _ in range(2):
        await service.schedule(NOWHERE, ttl=900)
    later = await service.schedule(NOWHERE, retry_times=[900])
    await in_state(service, later, "deferred")
    dead = await service.schedule(NOWHERE)
    await in_state(service, dead, "dead")

    async def tabs() -> str:
        return (await seen.get("/ui/tasks?type=default")).text.partition("Filter All")[2].partition(" key state")[0]

    found = await tabs()
    for text in ("scheduled 2 ", "deferred 1 ", "queued 0 "):
        assert text in found, found
    # Of very many that failed it is not counted which are to come.
    others = [f"foreign-{number}" for number in range(FAILED_MOST)]
    await raw.hset(KEYS.failures, mapping=dict.fromkeys(others, "1 {}"))
    await seen.post("/ui/hosts", {"host": "/"}, **HTMX)  # so that the page is read anew
    found = await tabs()
    await raw.hdel(KEYS.failures, *others)
    for text in ("scheduled 3 with deferred ", "deferred queued 0 "):
        assert text in found, found


async def test_what_a_task_may_say_stands_in_its_form(service: Client, seen: Browser) -> None:
    key = await service.schedule(NOWHERE, ttl=900, retries=3, headers={"X-A": "</textarea><b>"})
    page = await seen.get(f"/ui/task/{key}")
    form = page.html.partition("<textarea")[2].partition("</textarea>")[0]
    assert "&#34;retries&#34;: 3" in form
    assert "&lt;/textarea&gt;&lt;b&gt;" in form
    before = (await service.call("GET", f"/schedule/{key}"))[1]["data"]["info"]
    assert "gives a field its default again" in page.text
    said = await seen.post(f"/ui/do/change/{key}", {"change": '{"webhook": "http://127.0.0.1:9/x", "retries": 4}'})
    assert said.status == 303
    after = (await service.call("GET", f"/schedule/{key}"))[1]["data"]["info"]
    assert after == {**before, "webhook": "http://127.0.0.1:9/x", "retries": 4}


async def test_a_letter_is_seen_beside_the_others(
    service: Client, seen: Browser, client: RedisClient, session: aiohttp.ClientSession
) -> None:
    keys = [await service.schedule(NOWHERE, data={"number": f"<b>{at}"}) for at in range(2)]
    for key in keys:
        await in_state(service, key, "dead")
    page = await seen.get("/ui/dead")
    assert re.search(r'<aside id="letter"[^>]*></aside>', page.html), "none is open"
    assert f'href="/ui/dead?letter={keys[0]}#letter" hx-get="/ui/part/letter?key={keys[0]}"' in page.html
    for path in (f"/ui/dead?letter={keys[0]}", f"/ui/part/letter?key={keys[0]}"):
        page = await seen.get(path)
        assert page.status == 200
        for text in ("attempt 1:", "died: no attempt follows", NOWHERE, '"<b>0"', "Replay", "Delete"):
            assert text in page.text, text
        assert f'hx-post="/ui/do/replay/{keys[0]}"' in page.html
    assert (await seen.get("/ui/dead?letter=none")).status == 200
    assert (await seen.get("/ui/dead?letter=%2F")).status == 200
    assert (await seen.get("/ui/part/letter?key=none")).status == 404
    # Who may only read sees no button, and is refused.
    other = Browser(session, service.url)
    await other.sign_in(await make_token(client, "read"))
    page = await other.get(f"/ui/dead?letter={keys[0]}")
    assert "attempt 1:" in page.text
    assert "/ui/do/" not in page.html.partition("<main")[2]
    assert "right" in (await other.post(f"/ui/do/delete/{keys[0]}", {}, **HTMX)).text
    await in_state(service, keys[0], "dead")
    assert "is brought back" in (await seen.post(f"/ui/do/replay/{keys[0]}", {"ttl": "900"}, **HTMX)).text
    assert (await in_state(service, keys[0], "scheduled"))["ttl"] == 900
    assert "It is no dead letter any more: scheduled" in (await seen.get(f"/ui/part/letter?key={keys[0]}")).text
    await seen.post(f"/ui/do/delete/{keys[1]}")
    assert (await seen.get(f"/ui/part/letter?key={keys[1]}")).status == 404


@pytest.mark.parametrize("page", ["tasks", "dead", "repeating"])
async def test_a_step_of_a_search_has_rows_to_be_put_below_the_others(
    page: str, service: Client, seen: Browser
) -> None:
    keys = [await service.schedule(NOWHERE, 0) for _ in range(3)]
    for key in keys:
        await in_state(service, key, "dead")
    for at in range(3):
        await service.schedule(NOWHERE, 900 + at)
        await service.call("PUT", f"/schedule/each:{at}", json={"webhook": NOWHERE, "repeat": {"every": 900}})
    # Of a page of so many rows one is missing yet.
    most = 25 if page == "repeating" else 50
    query = f"host=127.0.0.1&key_prefix={'each' if page == 'repeating' else ''}".removesuffix("&key_prefix=")
    step = await seen.get(f"/ui/part/more-{page}?{query}&rows={most - 1}&looked=70000&steps=3")
    assert (step.status, step.html.count('<tr id="row-'), "<table" in step.html) == (200, 1, False)
    assert f"Looked at 70,001 tasks, {most} found, as of " in step.text
    assert "that is all" not in step.text
    [onward] = re.findall(r'rel="next" href="([^"]*)"', step.html)
    assert not re.search("rows=|looked=|steps=", onward)
    rest = await seen.get(unescape(onward))
    assert rest.html.count('<tr id="row-') == {"tasks": 5, "dead": 2, "repeating": 2}[page]
    # What no address of ours says changes nothing.
    step = await seen.get(f"/ui/part/more-{page}?{query}&rows=-1&looked=x&steps=1")
    assert "found, as of" in step.text
    assert (await seen.get(f"/ui/part/more-{page}?hots=a")).status == 400


async def test_a_list_that_looked_far_says_so_and_is_still(service: Client, seen: Browser) -> None:
    await service.schedule(NOWHERE, 900)
    assert "data-still" not in (await seen.get("/ui/tasks?host=other.example")).html
    tasks = [{"webhook": NOWHERE, "ttl": 900} for _ in range(1_000)]
    assert (await service.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
    page = await seen.get("/ui/tasks?host=another.example")
    assert "data-still" in page.html
    # On a busy machine a step may not come to the end.
    assert re.search(r"Looked at 1,001 tasks, 0 found, as of|Looking: at [0-9,]+ of 1,001 tasks so far, 0", page.text)
    assert "data-still" not in (await seen.get("/ui/tasks")).html


async def test_where_no_task_is_another_key_can_be_looked_for(service: Client, seen: Browser) -> None:
    await service.call("PUT", "/schedule/order:17", json={"webhook": NOWHERE, "ttl": 900})
    page = await seen.get("/ui/task/order:18")
    assert (page.status, 'action="/ui/find"' in page.html, "Sign in" in page.text) == (404, True, False)
    found = await seen.get("/ui/find?key=order:17")
    assert found.headers["Location"] == "/ui/task/order:17"


async def test_filters_with_few_values_offer_them(service: Client, seen: Browser) -> None:
    await service.schedule(NOWHERE, 900)
    await service.call("PUT", "/schedule/each", json={"webhook": NOWHERE, "repeat": {"every": 900}})
    page = await seen.get("/ui/tasks?repeats=true")
    assert '<option value="true" selected>yes</option>' in page.html
    assert page.html.count('<tr id="row-') == 1
    assert (await seen.get("/ui/dead?repeats=false")).html.count("<select") == 1
