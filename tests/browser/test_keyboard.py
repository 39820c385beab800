"""The pages where something is done are enough by the keyboard alone: no step of these needs a mouse."""

import asyncio
from datetime import datetime
from itertools import pairwise

import pytest
from playwright.async_api import Dialog, Route

from tests.browser.conftest import WIDE, Eyes
from tests.support.service import Client
from tests.support.waiting import wait_until

pytestmark = WIDE

STOPS = 80
"""A page has fewer places for the focus up to what is looked for."""

STOP = """(one => ({
    name: one.getAttribute("aria-label") || one.labels?.[0]?.textContent || one.textContent,
    seen: one.matches(":focus-visible") && getComputedStyle(one).outlineStyle !== "none",
}))(document.activeElement)"""


async def tab_to(eyes: Eyes, name: str) -> None:
    """Press Tab until the focus is on what has such a name, and hold that it has a name and is seen at each stop."""
    found = []
    for _ in range(STOPS):
        await eyes.press("Tab")
        stop = await eyes.page.evaluate(STOP)
        found.append(" ".join(stop["name"].split()))
        assert found[-1], "each stop has a name"
        assert stop["seen"], f"{found[-1]} shows that it has the focus"
        if found[-1].startswith(name):
            return
    raise AssertionError(found)


async def write(eyes: Eyes, name: str, text: str) -> None:
    """Write into the field that comes next of this name, in place of what is there."""
    await tab_to(eyes, name)
    await eyes.press("Control+A")
    await eyes.page.keyboard.type(text)


async def test_a_task_is_tried_and_seen_to_arrive(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.press("g", "y")
    await page.wait_for_url("**/ui/try")
    await eyes.press("Tab", "Enter")  # to the content
    await write(eyes, "In so many seconds", "0")
    await write(eyes, "Data: any JSON", '{"hello": "keys"}')
    await write(eyes, "More fields", '{"method": "PUT"}')
    await tab_to(eyes, "Schedule it")
    await eyes.press("Enter")
    await page.wait_for_selector("#said >> text=is scheduled")
    await page.wait_for_selector(".arrival >> text=keys", timeout=20_000)
    await tab_to(eyes, (await page.inner_text(".arrival a"))[:10])
    await tab_to(eyes, str(len(await page.locator(".arrival dt").all())))
    await eyes.press("Enter")
    assert "content-type" in (await page.inner_text(".arrival details")).lower()
    await eyes.press("Shift+Tab", "Enter")
    await page.wait_for_url("**/ui/task/*")
    assert eyes.complaints == []


async def test_a_host_gets_a_limit_is_paused_and_forgotten(eyes: Eyes, service: Client) -> None:
    page, host = eyes.page, "mail.example:443"
    await eyes.press("g", "h")
    await page.wait_for_url("**/ui/hosts")
    await eyes.press("Tab", "Enter")
    await write(eyes, "host with port", host)
    await write(eyes, "at once", "4")
    await eyes.press("Enter")
    await page.wait_for_selector("#said >> text=is set")
    await page.wait_for_selector("[id^=host-mail] >> text=4 at once")
    await page.focus("#main")
    await tab_to(eyes, f"Set the limit of {host}")
    await eyes.press("Enter")
    await page.wait_for_url("**/ui/hosts?**")
    assert await page.input_value(".filters [name=host]") == host
    await write(eyes, "attempts", "50")
    await tab_to(eyes, "Set")
    await eyes.press("Enter")
    await page.wait_for_selector("[id^=host-mail] >> text=50")
    await page.focus("#main")
    await tab_to(eyes, f"Pause {host}")
    for verb, follows in (("Pause", "Resume"), ("Resume", "Pause")):
        await eyes.press("Enter")
        await page.wait_for_selector(f"[aria-label='{follows} {host}']")
        assert (await service.call("GET", f"/hosts/{host}"))[1]["data"]["paused"] == (verb == "Pause")
    await tab_to(eyes, f"Forget {host}")
    await eyes.press("Enter")
    await page.wait_for_selector("[id^=host-mail]", state="detached")
    assert eyes.complaints == []


async def test_a_series_is_run_paused_and_deleted(eyes: Eyes, service: Client) -> None:
    page = eyes.page
    questions: list[str] = []

    async def agree(dialog: Dialog) -> None:
        questions.append(dialog.message)
        await dialog.accept()

    page.on("dialog", agree)
    await eyes.press("g", "e")
    await page.wait_for_url("**/ui/repeating")
    await eyes.press("j")
    await tab_to(eyes, "then")
    await eyes.press("Enter")
    assert await page.locator("[id=then-series] li").first.is_visible()
    await tab_to(eyes, "Run now series")
    await eyes.press("Enter")
    await page.wait_for_selector("#said >> text=series is due now")
    # While it fires there is nothing to pause.
    await page.wait_for_selector(
        "#row-series:has([data-label=made]:text('1')):has([aria-label='Pause series'])", timeout=20_000
    )
    await eyes.press("j")
    await tab_to(eyes, "Pause series")
    await eyes.press("Enter")
    await page.wait_for_selector("[aria-label='Resume series']")
    await eyes.press("Enter")
    await page.wait_for_selector("[aria-label='Pause series']")
    assert await page.locator("[id=then-series] li").first.is_visible(), "what was opened stays open"
    await tab_to(eyes, "Delete series")
    await eyes.press("Enter")
    await page.wait_for_selector("#row-series", state="detached")
    assert questions == ["Delete this series? What it made goes on."]
    assert (await service.call("GET", "/schedule/series"))[1]["data"]["info"]["state"] == "cancelled"
    assert eyes.complaints == [f"dialog: {questions[0]}"]


async def test_all_tasks_are_looked_at(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.press("g", "s")
    await page.wait_for_url("**/ui/system")
    await eyes.press("Tab", "Enter")
    await tab_to(eyes, "Look at all tasks")
    await eyes.press("Enter")
    await page.wait_for_selector("#part-system >> text=nothing is wrong", timeout=30_000)
    assert await page.evaluate("document.activeElement.textContent") == "Look at all tasks"
    assert eyes.complaints == []


async def schedule_many(service: Client, many: int) -> None:
    tasks = [{"webhook": "http://127.0.0.1:9/", "ttl": 9_000, "labels": {"batch": "1"}}] * 1_000
    for _ in range(many // 1_000):
        assert (await service.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200


BARS = """() => {
    window.bars = [];
    new MutationObserver(() => {
        const bar = document.querySelector("#many progress");
        if (bar) bars.push([bar.value, bar.max, bar.labels[0].textContent.trim()]);
    }).observe(document.getElementById("many"), {childList: true, subtree: true});
}"""


async def test_a_bar_shows_how_far_it_is_with_many(eyes: Eyes, service: Client) -> None:
    page, many = eyes.page, 40_000
    await schedule_many(service, many)
    await eyes.see("/ui/tasks?label=batch%3D1")
    await page.evaluate(BARS)
    await tab_to(eyes, "Pause all of these")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=Counting what to pause")
    await page.wait_for_selector(f"#many >> text=Pause {many:,} tasks?", timeout=60_000)
    await write(eyes, f"Type {many}", str(many))
    await eyes.press("Enter")
    await page.wait_for_selector("#many progress")
    await eyes.press("Escape")  # which ends nothing that is under way
    await page.wait_for_selector(f"#many >> text=Pause: {many:,} done", timeout=60_000)
    bars = [bar for bar in await page.evaluate("bars") if "Counting" not in bar[2]]
    assert len(bars) > 1
    assert all(before[0] < after[0] for before, after in pairwise(bars)), bars
    for value, most, said in bars:
        assert (most, said) == (many, f"Pause: {value:,.0f} of {many:,}")
    assert (await service.stats())["states"]["paused"] == many + 1
    assert await page.evaluate("document.activeElement.id") == "many"
    assert eyes.complaints == []


@pytest.mark.parametrize("way", ["That is enough", "Leave it", "Escape"])
async def test_counting_many_is_ended(way: str, eyes: Eyes, service: Client) -> None:
    page = eyes.page

    async def take_long(route: Route) -> None:
        await asyncio.sleep(1)
        await route.continue_()

    await schedule_many(service, 80_000)
    await eyes.see("/ui/tasks?label=batch%3D1")
    await page.route("**/ui/many/run", take_long)
    await tab_to(eyes, "Run all of these")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=Counting what to run")
    await tab_to(eyes, "That is enough")
    async with page.expect_response("**/ui/many/run"):
        pass  # the form is another one then
    await page.wait_for_timeout(200)
    assert await page.evaluate("document.activeElement.textContent") == "That is enough"
    if way == "Leave it":
        await tab_to(eyes, way)
    await eyes.press("Escape" if way == "Escape" else "Enter")
    if way == "That is enough":
        await page.wait_for_selector("#many >> text=Run at least")
        assert await page.locator("#many [name=minutes]").count() == 0, "by how many to divide them is not known"
        assert await page.evaluate("document.activeElement.id") == "many"
        return
    asked = len(eyes.asked)
    assert await page.evaluate("document.activeElement.textContent") == "Run all of these"
    await page.wait_for_timeout(3_000)
    assert [one for one in eyes.asked[asked:] if "/many/" in one] == []
    assert await page.inner_text("#many") == ""
    assert eyes.complaints == []


async def test_many_are_spread_over_minutes(eyes: Eyes, service: Client) -> None:
    page, many, minutes = eyes.page, 60, 30
    tasks = [{"webhook": "http://127.0.0.1:9/", "ttl": 90_000, "labels": {"batch": "1"}}] * many
    assert (await service.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
    await eyes.see("/ui/tasks?label=batch%3D1")
    await tab_to(eyes, "Run all of these")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=Run 60 tasks?")
    await write(eyes, "Spread over minutes", str(minutes))
    await tab_to(eyes, "Run")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=Run: 60 done")
    status, found = await service.call("GET", "/schedules?label=batch%3D1&limit=100")
    assert status == 200
    due = sorted(datetime.fromisoformat(one["info"]["expires"]).timestamp() for one in found["data"])
    gaps = [after - before for before, after in pairwise(due)]
    assert len(due) >= many - 1, "the first is due at once, and dies"
    assert gaps == [pytest.approx(minutes * 60 / many, rel=0.01)] * len(gaps)
    assert eyes.complaints == []


async def test_letters_are_spread_over_minutes(eyes: Eyes, service: Client) -> None:
    page, keys = eyes.page, [f"letter:{number}" for number in range(5)]
    for key in keys:
        await service.call("PUT", f"/schedule/{key}", json={"webhook": "http://127.0.0.1:9/", "ttl": 0})

    async def are_dead() -> bool:
        return bool((await service.stats())["states"]["dead"] == 6)

    await wait_until(are_dead, "they died")
    await eyes.see("/ui/dead")
    await page.wait_for_selector("#part-groups >> text=6")
    await tab_to(eyes, "Replay all 6")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=Replay 6 tasks?")
    await write(eyes, "Spread over minutes", "60")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=from 0.02 to 10 (one task in 100 seconds is the slowest), or empty")
    await eyes.press("Control+A")
    await page.keyboard.type("10")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=Replay: 6 done")
    found = (await service.call("GET", "/schedules?host=127.0.0.1:9&limit=100"))[1]["data"]
    due = sorted(
        datetime.fromisoformat(one["info"]["due"]).timestamp() for one in found if one["info"]["key"] in {*keys, "dead"}
    )
    gaps = [after - before for before, after in pairwise(due)]
    assert gaps == [pytest.approx(100, abs=0.01)] * len(gaps)
    assert len(gaps) >= 4
    assert eyes.complaints == []
