"""Pages while one of several shards is away, or silent: they show the others, and name it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import aiohttp
import pytest

from redis_scheduler.store.glance import FRESH_S
from redis_scheduler.task.key import shards_of
from tests.support.pages import Browser, Page
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

NOWHERE = "http://127.0.0.1:9/hook"
TASKS = 12
HELD_UP_S = 0.9
"""As long as the API waits for an answer of Redis: no page may wait so long for a shard that is known to be silent."""


@dataclass
class Two:
    """A service with two shards on servers of their own, with TASKS tasks that wait, and a browser that is signed in.
    in_first: how many of them the first shard has."""

    servers: tuple[RedisProcess, RedisProcess]
    api: Client
    browser: Browser
    in_first: int

    async def until(self, path: str, *texts: str, within_s: float = 10) -> str:
        """Return a page once all these texts are on it."""
        found = ""

        async def are_said() -> bool:
            nonlocal found
            found = (await self.browser.get(path)).text
            return all(text in found for text in texts)

        try:
            await wait_until(are_said, "the page says it", within_s)
        except AssertionError:
            pytest.fail(f"{path} says: {found[:1500]}")
        return found


@pytest.fixture
async def two(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Two]:
    async with (
        redis_process(tmp_path / "first") as first,
        redis_process(tmp_path / "second") as second,
        serving(tmp_path, REDIS_URL=f"{first.url},{second.url}") as process,
        client_of(process) as api,
    ):

        async def both_served() -> bool:
            return all(shard["worker_seen"] for shard in (await api.stats())["shards"])

        await wait_until(both_served, "a worker is seen in both")
        keys = [await api.schedule(NOWHERE, 900) for _ in range(TASKS)]
        shards = [shards_of(key, (2,))[0] for key in keys]
        assert {*shards} == {0, 1}
        browser = Browser(session, api.url)
        await browser.sign_in(TOKEN)
        for path in ("/ui/", "/ui/system"):
            text = (await browser.get(path)).text
            assert [said for said in ("does not answer", "do not answer", "has not answered") if said in text] == []
        yield Two((first, second), api, browser, shards.count(0))


async def test_pages_show_the_shards_that_answer_and_name_the_other(two: Two) -> None:
    await two.servers[1].kill()
    text = await two.until("/ui/part/overview", "Shard 1 of 2 has not answered since ")
    assert "are of shard 0 alone: without shard 1" in text
    assert f" {two.in_first} scheduled " in text
    assert "this stands as it was" not in text
    for link in ("/ui/tasks?shard=0&amp;state=scheduled", "/ui/dead?shard=0"):
        assert f'href="{link}"' in (await two.browser.get("/ui/part/overview")).html
    text = await two.until("/ui/part/charts", "are of shard 0 alone: without shard 1", f": {two.in_first} ")
    assert "How attempts ended" in text
    text = await two.until("/ui/part/system", "Sums of all shards are not shown without shard 1", "Shard 1 of 2 has")
    assert "The ledger of shard 0 balances" in text
    assert f"127.0.0.1:{two.servers[1].port}" in text
    rows = text.partition("memory of Redis")[2]
    # Of the other is shown what was there when it answered last.
    assert "does not answer since 2" in rows
    for number in (two.in_first, TASKS - two.in_first):
        assert f" 1 {number} 0 balances" in rows, rows
    assert "scheduled, since ever" not in text
    assert "In delivery and lost: of shard 0 alone" in rows
    await two.servers[1].start()
    await two.until("/ui/part/overview", f" {TASKS} scheduled ", "All well")
    await two.until("/ui/part/system", "every task is accounted for", f"scheduled, since ever {TASKS}")


async def test_hosts_are_seen_as_the_other_shard_tells(two: Two, receiver: Receiver) -> None:
    for _ in range(4):
        await two.api.schedule(receiver.url)
    await two.until("/ui/hosts", f"127.0.0.1:{receiver.port} well", "Pause", within_s=20)
    host = f"127.0.0.1:{receiver.port}"
    status, content = await two.api.call("PUT", f"/hosts/{host}", json={"concurrency": 7})
    assert (status, "away" in content) == (200, False)
    await two.servers[1].kill()
    text = await two.until("/ui/hosts", "Without shard 1 breakers, and what is held, are those of the others alone.")
    assert f"{host} answers" in text
    assert "100 %" in text
    assert "7 at once" in text
    assert "Pause" in text
    status, content = await two.api.call("PUT", f"/hosts/{host}", json={"concurrency": 8})
    assert (status, content["away"], content["data"]["concurrency"]) == (200, [1], 8)
    assert (await two.api.call("PUT", f"/hosts/{host}", json={"paused": True}))[0] == 200
    text = await two.until("/ui/part/overview", "Shard 1 of 2 has not answered since ", f"{host} paused")
    assert "What is held back is of shard 0 alone." in text


async def test_without_the_first_shard_pages_say_what_is_not_known(two: Two) -> None:
    await two.servers[0].kill()
    text = await two.until("/ui/part/overview", "Shard 0 of 2 has not answered since ")
    assert "history, hosts and processes are not known meanwhile" in text
    assert "of shard 1 alone; which are slow or fail is not known without shard 0." in text
    assert f" {TASKS - two.in_first} scheduled " in text
    text = await two.until("/ui/part/charts", "are of shard 1 alone")
    assert "How attempts ended" not in text
    text = await two.until("/ui/part/system", "Shard 0 of 2 has not answered")
    assert "Not known without shard 0, where each says what it is" in text
    assert "Who changed what last is not known" in text
    text = await two.until("/ui/hosts", "Without shard 0", "What workers saw is not known, and no limit can be set")
    assert "Pause" not in text


async def test_a_silent_shard_does_not_hold_up_pages(two: Two) -> None:
    async with standing_still(two.servers[1].pid):
        await two.until("/ui/part/overview", "Shard 1 of 2 has not answered since ", f" {two.in_first} scheduled ")
        await two.until("/ui/part/system", "Shard 1 of 2 has not answered")
        for path in ("/ui/", "/ui/system"):
            took_s = []
            for _ in range(3):  # a busy machine holds up some
                began = time.monotonic()
                assert "shard 0" in (await two.browser.get(path)).text
                took_s.append(time.monotonic() - began)
            assert min(took_s) < HELD_UP_S


async def test_hosts_are_not_left_out_in_silence_while_it_is_not_yet_known_that_a_shard_is_away(two: Two) -> None:
    said = "Which are held back, slow or fail is not known just now, without shard 1."
    number = 0

    async def is_said() -> bool:
        nonlocal number
        number += 1
        await asyncio.sleep(FRESH_S)  # only time shows that the last look counts no more: a page would look anew
        async with standing_still(two.servers[1].pid):
            page = await two.browser.get(
                f"/ui/part/overview?look={number}"
            )  # a page of the same address is kept for a while
        return said in page.text

    await wait_until(is_said, "the first look says it")


async def test_lists_name_the_shard_that_is_missing(two: Two) -> None:
    await two.browser.get("/ui/tasks")
    await two.servers[1].kill()
    await two.until("/ui/tasks", "Shard 1: Redis cannot be reached: this stands as it was at")
    text = await two.until("/ui/tasks?type=default", "Shard 1: Redis cannot be reached since ")
    assert "What is scheduled is kept there" in text
    for path in ("/ui/tasks?type=default", "/ui/dead", "/ui/repeating"):
        page = await two.browser.get(path)
        assert page.status == 503
        for name in ("tasks", "dead"):
            assert f'href="/ui/{name}"' not in page.html, "no link to what fails"
        [alone] = re.findall(r'href="(/ui/[^"]*shard=[^"]*)"', page.html)
        page = await two.browser.get(unescape(alone))
        assert (page.status, page.html.count('<tr id="row-')) == (200, two.in_first if "tasks" in path else 0)
        # What is done to many is done in all shards.
        assert "many/" not in page.html
    page = await two.browser.get("/ui/tasks?shard=1")
    assert (page.status, "shard=" in page.html) == (503, False)


async def test_what_is_done_to_many_goes_on_by_its_form_once_a_shard_is_back(two: Two) -> None:
    asked = await two.browser.post("/ui/many/cancel", {"type": "default"})
    assert f"Cancel {TASKS} tasks?" in asked.text
    await two.servers[1].kill()
    begun = await two.browser.post("/ui/many/cancel", asked.hidden)
    assert f"Cancel: {two.in_first} of {TASKS} Go on" in begun.text
    refused = await two.browser.post("/ui/many/cancel", begun.hidden)
    assert "Shard 1: Redis cannot be reached. What was done stays, and is not done again." in refused.text
    await two.servers[1].start()
    await _goes_on(two.browser, refused, f"Cancel: {TASKS} done")


@asynccontextmanager
async def _of_one_redis(
    tmp_path: Path, session: aiohttp.ClientSession
) -> AsyncIterator[tuple[RedisProcess, Client, Browser]]:
    """An API on a server of its own, and a browser that is signed in."""
    async with (
        redis_process(tmp_path / "redis") as server,
        serving(tmp_path, "api", REDIS_URL=server.url) as process,
        client_of(process) as api,
    ):
        browser = Browser(session, api.url)
        await browser.sign_in(TOKEN)
        yield server, api, browser


async def test_the_form_goes_on_that_redis_left_without_an_answer(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with _of_one_redis(tmp_path, session) as (server, api, browser):
        for _ in range(TASKS):
            await api.schedule(NOWHERE, 900)
        asked = await browser.post("/ui/many/cancel", {"type": "default"})
        await server.stop()
        refused = await browser.post("/ui/many/cancel", asked.hidden)
        assert (refused.status, "Redis cannot be reached. What was done" in refused.text) == (200, True), refused.text
        assert refused.hidden["operation"] == asked.hidden["operation"]
        await server.start()
        done = await _goes_on(browser, refused, f"Cancel: {TASKS} done")
        again = await browser.post("/ui/many/cancel", refused.hidden)
        assert again.text == done.text, "sent once more it does nothing anew"


async def test_counting_goes_on_by_its_form_once_a_shard_is_back(two: Two) -> None:
    await two.servers[1].kill()
    for so_far in ("0", "7"):
        fields = {"type": "default", "so_far": so_far}
        refused = await two.browser.post("/ui/many/cancel", fields)
        said = f"Shard 1: Redis cannot be reached. Nothing was done yet. Counting what to cancel: {so_far} so far"
        assert (refused.status, said in refused.text) == (200, True), refused.text
        assert refused.hidden.items() >= fields.items()
    await two.servers[1].start()
    await _goes_on(two.browser, refused, f"Cancel {TASKS + 7} tasks?")


async def test_counting_goes_on_that_redis_left_without_an_answer(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with _of_one_redis(tmp_path, session) as (server, api, browser):
        await api.schedule(NOWHERE, 900)
        await server.stop()
        refused = await browser.post("/ui/many/cancel", {"type": "default"})
        assert (refused.status, "Redis cannot be reached. Nothing was done yet." in refused.text) == (200, True)
        assert "That is enough" not in refused.text, "nothing was counted"
        await server.start()
        await _goes_on(browser, refused, "Cancel 1 task?")


async def _goes_on(browser: Browser, refused: Page, text: str) -> Page:
    page = refused

    async def is_done() -> bool:
        nonlocal page
        page = await browser.post("/ui/many/cancel", refused.hidden)
        return text in page.text

    try:
        await wait_until(is_done, "it goes on", 15)
    except AssertionError:
        pytest.fail(page.text)
    return page
