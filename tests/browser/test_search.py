"""A host that is looked for among many tasks: the page goes on by itself until it has what there is, then it is
still."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from playwright.async_api import Route

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.writes import Writes
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.browser.conftest import Eyes, browsing
from tests.support.names import KEYS
from tests.support.redis_process import redis_process
from tests.support.service import Client, client_of, serving

TASKS, BATCH, WANTED_EACH = 40_000, 1_000, 10_000
SEARCH = "/ui/tasks?host=wanted.example"
STEPS = "**/ui/part/more-tasks?*"
READ_ANEW_MS = 4_500
"""More than two times after which a list of few tasks is read anew."""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Client]:
    """A service with many tasks, one in many of them for the host that is wanted."""
    async with redis_process(tmp_path / "redis") as server, aclosing(RedisClient(server.url, 30, KEYS)) as client:
        await client.create_group()
        await Deployment().join(client)
        writes = Writes(client, "seed")
        tails = [record_tail(f"http://{host}.example/", 86_400, None, b"{}") for host in ("other", "wanted")]
        for first in range(0, TASKS, BATCH):
            numbers = range(first, first + BATCH)
            tasks = [(number, tails[number % WANTED_EACH == WANTED_EACH - 1]) for number in numbers]
            await writes.schedule(
                [NewTask(new_task_key(), 3_600_000 + 10 * number, tail, None) for number, tail in tasks]
            )
        async with serving(tmp_path, REDIS_URL=server.url) as process, client_of(process) as api:
            yield api


@pytest.fixture
async def eyes(service: Client) -> AsyncIterator[Eyes]:
    async with browsing(service.url, viewport={"width": 1280, "height": 800}) as found:
        await found.sign_in()
        yield found


def steps_of(eyes: Eyes) -> list[str]:
    """What was asked for to go on."""
    return [url for url in eyes.asked if "/part/" in url]


async def test_a_page_looks_on_by_itself_until_the_end_and_is_then_still(eyes: Eyes) -> None:
    await eyes.see(SEARCH)
    await eyes.page.wait_for_selector("#part-tasks >> text=/Looking: at [0-9,]+ of 40,000 tasks so far/")
    await eyes.page.wait_for_selector("#part-tasks >> text=/Looked at 40,000 tasks, 4 found, .*: that is all/")
    assert await eyes.page.locator("#part-tasks tbody tr[id^=row-]").count() == TASKS // WANTED_EACH
    assert len(steps_of(eyes)) > 1, "each request is short"
    eyes.asked.clear()
    await eyes.page.wait_for_timeout(READ_ANEW_MS)
    await eyes.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await eyes.page.wait_for_timeout(500)
    assert eyes.asked == []
    await eyes.press("r")
    await eyes.page.wait_for_selector("#part-tasks >> text=Looking:")
    await eyes.page.wait_for_selector("#part-tasks >> text=that is all")
    assert await eyes.page.locator("#part-tasks tbody tr[id^=row-]").count() == TASKS // WANTED_EACH
    assert eyes.complaints == []
    assert await eyes.violations() == []


async def test_a_list_that_is_read_at_once_is_read_anew(eyes: Eyes) -> None:
    await eyes.see("/ui/tasks?host=other.example")
    async with eyes.page.expect_request("**/ui/part/tasks?*", timeout=5_000):
        pass


async def test_a_hidden_tab_looks_no_further_and_goes_on_when_it_is_seen(eyes: Eyes) -> None:
    await eyes.see(SEARCH)
    await eyes.page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    await eyes.page.wait_for_timeout(1_000)  # so that what was on its way is there
    eyes.asked.clear()
    await eyes.page.wait_for_timeout(1_000)
    assert eyes.asked == []
    assert "Looking:" in await eyes.page.inner_text("#part-tasks")
    await eyes.page.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    await eyes.page.wait_for_selector("#part-tasks >> text=that is all", timeout=20_000)
    assert eyes.complaints == []


async def test_a_search_that_met_a_fault_goes_on_when_that_is_over(eyes: Eyes) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=503, body='<p class="bad">Redis is away</p>')

    await eyes.page.route(STEPS, refuse)
    await eyes.see(SEARCH)
    await eyes.page.wait_for_selector("#part-tasks > .gone >> text=Redis is away")
    await eyes.page.unroute(STEPS, refuse)
    await eyes.page.wait_for_selector("#part-tasks >> text=that is all", timeout=20_000)
    await eyes.page.wait_for_selector("#part-tasks > .gone", state="detached")
