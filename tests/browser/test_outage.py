"""While Redis is away pages say since when, show what they last knew, and go on once it is back."""

import re
import time
from contextlib import aclosing
from pathlib import Path

from redis_scheduler.store.client import RedisClient
from tests.browser.conftest import browsing
from tests.support.names import KEYS
from tests.support.redis_process import redis_process
from tests.support.service import client_of, serving
from tests.support.tokens import make_token

FAR = "Asia/Kolkata"
"""A time zone of which even the minutes are others than those of UTC."""

GREY = "getComputedStyle(document.querySelector('#part-overview > .counts')).filter"
RED = "getComputedStyle(document.querySelector('#part-overview > .gone')).filter"


def age_s(told: str) -> float:
    """How old a time of UTC is that a line tells."""
    [clock] = re.findall(r" (?:at|since) (\d\d:\d\d:\d\d)[.:]", told)
    hours, minutes, seconds = map(int, clock.split(":"))
    return (time.time() - (hours * 60 + minutes) * 60 - seconds) % 86_400


async def test_an_outage_is_seen_and_its_end(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "redis") as server,
        serving(tmp_path, REDIS_URL=server.url) as process,
        client_of(process) as api,
        browsing(api.url, bypass_csp=True) as eyes,
    ):
        for number in range(3):
            await api.schedule("http://127.0.0.1:9/", 900 + number)
        await eyes.sign_in()
        await eyes.page.wait_for_selector("text=3 scheduled")
        await server.kill()
        await eyes.page.wait_for_selector("#part-overview .stale", timeout=20_000)
        told = await eyes.page.inner_text("#part-overview [role=alert]")
        assert "Redis cannot be reached: this stands as it was at" in told
        assert "3 scheduled" in await eyes.page.inner_text("#part-overview .stale")
        assert await eyes.faults("outage") == []
        await eyes.see("/ui/tasks")
        assert await eyes.faults("outage-tasks") == []
        await eyes.see("/ui/")
        await eyes.page.wait_for_selector("#part-overview .stale", timeout=20_000)
        await server.start()
        await eyes.page.wait_for_selector("#part-overview .stale", state="detached", timeout=20_000)


async def test_what_the_service_cannot_say_any_more_stays_as_it_was(tmp_path: Path) -> None:
    """The service has no copy for a token that it may not take any more: the page has what it showed."""
    async with (
        redis_process(tmp_path / "redis") as server,
        serving(tmp_path, REDIS_URL=server.url, TOKEN_GRACE="0") as process,
        client_of(process) as api,
        aclosing(RedisClient(server.url, 3, KEYS)) as store,
        browsing(api.url, timezone_id=FAR) as eyes,
    ):
        for number in range(3):
            await api.schedule("http://127.0.0.1:9/", 900 + number)
        await eyes.sign_in(await make_token(store, "read", "metrics"))
        await eyes.page.wait_for_selector("text=3 scheduled")
        charts = await eyes.page.inner_text("#part-charts")
        await server.kill()
        await eyes.page.wait_for_selector("#part-overview > .gone", timeout=20_000)
        told = await eyes.page.inner_text("#part-overview > .gone")
        assert "This stands as it was at" in told
        assert age_s(told.partition("Redis")[0]) < 60
        assert "Redis cannot be reached" in told
        assert "3 scheduled" in await eyes.page.inner_text("#part-overview .counts")
        assert charts in await eyes.page.inner_text("#part-charts")
        assert await eyes.page.evaluate(GREY) == "grayscale(1)"
        assert await eyes.page.evaluate(RED) == "none", "that it is of before stands out"
        # However often it asks, it says it once; and once it is back, no more.
        async with eyes.page.expect_response("**/ui/part/overview") as answer:
            pass
        assert (await answer.value).status == 503
        assert await eyes.page.locator("#part-overview > .gone").count() == 1
        await server.start()
        await eyes.page.wait_for_selector("#part-overview > .gone", state="detached", timeout=20_000)
        assert await eyes.page.evaluate(GREY) == "none"
        assert "3 scheduled" in await eyes.page.inner_text("#part-overview .counts")


async def test_a_page_that_cannot_be_shown_comes_by_itself_once_redis_is_back(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "redis") as server,
        serving(tmp_path, REDIS_URL=server.url) as process,
        client_of(process) as api,
        browsing(api.url) as eyes,
    ):
        await eyes.sign_in()
        await server.kill()
        await eyes.see("/ui/tasks")
        assert "Redis cannot be reached since " in await eyes.text()
        assert await eyes.violations() == []
        await server.start()
        await eyes.page.wait_for_selector("#part-tasks", timeout=20_000)


async def test_a_service_that_does_not_answer_looks_unwell(tmp_path: Path, redis_url: str) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url) as process,
        client_of(process) as api,
        browsing(api.url, timezone_id=FAR, bypass_csp=True) as eyes,
    ):
        await eyes.sign_in()
        await eyes.page.wait_for_selector("#part-overview .headline.ok")
        process.process.kill()
        await eyes.page.wait_for_selector("#part-overview .gone", timeout=20_000)
        told = await eyes.page.inner_text("#part-overview .gone")
        assert "The service has not answered since" in told
        assert age_s(told) < 60
        await eyes.page.wait_for_timeout(5_000)
        assert await eyes.page.locator("#part-overview .gone").count() == 1
        assert await eyes.page.evaluate(GREY) == "grayscale(1)"
        assert await eyes.page.evaluate(RED) == "none", "that it is of before stands out"
        eyes.complaints.clear()  # of requests without an answer
        assert [one for one in await eyes.faults("gone") if "Failed to fetch" not in one] == []


async def test_pages_without_a_shard_in_each_look(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "first") as first,
        redis_process(tmp_path / "second") as second,
        serving(tmp_path, REDIS_URL=f"{first.url},{second.url}") as process,
        client_of(process) as api,
        browsing(api.url, bypass_csp=True) as eyes,
    ):
        for number in range(20):
            await api.schedule("http://127.0.0.1:9/", 900 + number)
        await eyes.sign_in()
        await second.kill()
        await eyes.page.wait_for_selector("#part-overview >> text=Shard 1 of 2 has not answered since", timeout=20_000)
        wrong = []
        for path in ("", "tasks", "tasks?shard=0", "dead", "repeating", "hosts", "system", "task/none"):
            await eyes.see(f"/ui/{path}")
            wrong += await eyes.faults(f"shard-away-{path.replace('/', '-').replace('?', '-') or 'overview'}")
        assert wrong == []
