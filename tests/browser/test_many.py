"""What is done to many goes on by the same form, whatever stood between it and the service for a while."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from playwright.async_api import Page, Route

from tests.browser.conftest import Eyes, browsing
from tests.browser.test_keyboard import schedule_many
from tests.support.service import Client

MANY = 40_000
STEP = "**/ui/many/pause"


@pytest.fixture
async def eyes(service: Client) -> AsyncIterator[Eyes]:
    async with browsing(service.url, bypass_csp=True) as found:
        await found.sign_in()
        yield found


async def no_answer(route: Route) -> None:
    await route.abort()


async def a_proxys_own(route: Route) -> None:
    await route.fulfill(status=502, content_type="text/html", body="<html><body><h1>502 Bad Gateway</h1></body></html>")


async def halted(page: Page, fault: Callable[[Route], Awaitable[None]], said: str) -> None:
    """Let the next step meet a fault; wait until the form says so."""
    await page.route(STEP, fault)
    await page.wait_for_selector(f"#many form >> text={said}")
    await page.unroute(STEP, fault)
    assert await page.locator("#many progress").count() == 0, "nothing is under way"


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "said"),
    [(no_answer, "The service has not answered since"), (a_proxys_own, "502 Bad Gateway")],
    ids=["no answer", "502"],
)
async def test_a_form_goes_on_after_a_fault(
    fault: Callable[[Route], Awaitable[None]], said: str, eyes: Eyes, service: Client
) -> None:
    page = eyes.page
    await schedule_many(service, MANY)
    await eyes.see("/ui/tasks?label=batch%3D1")
    await page.click("text=Pause all of these")
    await page.wait_for_selector("#many >> text=Counting what to pause")
    await halted(page, fault, said)
    await page.click("#many >> text=Go on")
    await page.wait_for_selector(f"#many >> text=Pause {MANY:,} tasks?", timeout=60_000)
    await page.fill("#many [name=sure]", str(MANY))
    await page.press("#many [name=sure]", "Enter")
    await page.wait_for_selector("#many progress")
    await halted(page, fault, said)
    await page.click("#many >> text=Go on")
    await page.wait_for_selector(f"#many >> text=Pause: {MANY:,} done", timeout=60_000)
    assert (await service.stats())["states"]["paused"] == MANY + 1
    assert [one for one in eyes.complaints if "Failed to " not in one] == []  # load, or fetch


@pytest.mark.long
async def test_each_step_in_each_look(eyes: Eyes, service: Client) -> None:
    page, wrong = eyes.page, []
    may_go = asyncio.Event()

    async def wait(route: Route) -> None:
        await may_go.wait()
        await a_proxys_own(route)

    async def look(name: str) -> None:
        """Look while a step takes long, and once it has come to nothing; then go on."""
        may_go.clear()
        await page.route(STEP, wait)
        await page.wait_for_selector("#many progress")
        wrong.extend(await eyes.faults(f"many-{name}"))
        may_go.set()
        await page.wait_for_selector("#many form .gone")  # by the answer, or since the look took longer than a step may
        await page.unroute(STEP, wait)
        eyes.complaints.clear()
        wrong.extend(await eyes.faults(f"many-{name}-halted"))
        await page.click("#many >> text=Go on")

    await schedule_many(service, MANY)
    await eyes.see("/ui/tasks?label=batch%3D1")
    await page.click("text=Pause all of these")
    await look("counting")
    await page.wait_for_selector(f"#many >> text=Pause {MANY:,} tasks?", timeout=60_000)
    await page.fill("#many [name=sure]", str(MANY))
    await page.press("#many [name=sure]", "Enter")
    await look("going")
    await page.wait_for_selector(f"#many >> text=Pause: {MANY:,} done", timeout=60_000)
    wrong += await eyes.faults("many-done")
    # A look may take longer than a step may.
    assert [one for one in wrong if "htmx:error: timeout" not in one] == []
