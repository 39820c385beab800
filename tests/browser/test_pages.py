"""Every page in a real browser: nothing on its console, nothing that its policy forbids, nothing that axe finds, and as
wide as the screen. A picture of each is kept."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tests.browser.conftest import WIDE, WIDE_AND_NARROW, Eyes, browsing
from tests.support.service import Client

PAGES = (
    "/ui/",
    "/ui/tasks",
    "/ui/tasks?state=paused",
    "/ui/tasks?type=none",
    "/ui/task/order:17",
    "/ui/task/series",
    "/ui/task/dead",
    "/ui/dead",
    "/ui/dead?letter=dead",
    "/ui/repeating",
    "/ui/hosts",
    "/ui/system",
    "/ui/try",
    "/ui/reference",
    "/ui/login",
)


@pytest.mark.long
async def test_each_page_is_clean(eyes: Eyes, look: tuple[str, int]) -> None:
    wrong: list[str] = []
    for path in PAGES:
        await eyes.see(path)
        # Once each part is read anew.
        await eyes.page.wait_for_timeout(2_300 if look == ("light", 1280) else 200)
        name = re.sub(r"\W+", "-", path).strip("-") or "overview"
        await eyes.keep(f"{name}-{look[0]}-{look[1]}")
        if await eyes.is_too_wide():
            wrong.append(f"{path}: is wider than the screen")
        wrong += [f"{path}: {one}" for one in eyes.complaints]
        wrong += [f"{path}: {one}" for one in await eyes.violations()]
        eyes.complaints.clear()
    assert wrong == []


@WIDE
async def test_the_keyboard_is_enough(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.press("t")
    await page.wait_for_url("**/ui/tasks")
    await eyes.press("j", "j")
    second = await page.evaluate("document.activeElement.textContent")
    await eyes.press("k")
    first = await page.evaluate("document.activeElement.textContent")
    assert first != second
    await eyes.press("Enter")
    await page.wait_for_url(f"**/ui/task/{first}")
    await eyes.press("/")
    await page.keyboard.type("order:17")
    await eyes.press("Enter")
    await page.wait_for_url("**/ui/task/order:17")
    await eyes.press("?")
    assert await page.is_visible("#keys")
    await eyes.press("Escape")
    assert not await page.is_visible("#keys")
    async with page.expect_request("**/ui/part/task?*", timeout=1_500):  # before it is read by itself
        await eyes.press("r")
    places = {"d": "dead", "e": "repeating", "h": "hosts", "s": "system", "y": "try", "a": "reference", "o": ""}
    for key, place in places.items():
        await eyes.press("g", key)
        await page.wait_for_url(f"**/ui/{place}")
    assert eyes.complaints == []


@WIDE
async def test_a_newcomer_sees_a_delivery_arrive(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/try")
    await page.fill("input[name=ttl]", "0")
    await page.fill("textarea[name=data]", '{"hello": "newcomer"}')
    await page.click("text=Schedule it")
    await page.wait_for_selector("#part-echo .arrival", timeout=20_000)
    assert "newcomer" in await page.inner_text("#part-echo")
    assert "is scheduled" in await page.inner_text("#said")
    assert eyes.complaints == []


@WIDE
async def test_buttons_work_in_a_browser(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/task/order:17")
    await page.click("text=Pause")
    await page.wait_for_selector("#part-task >> text=Resume")
    await eyes.see("/ui/dead")
    await page.click("#part-groups button >> text=Replay all")
    await page.click("#many button >> text=Replay")
    await page.wait_for_selector("#many >> text=1 done")
    assert eyes.complaints == []


@WIDE_AND_NARROW
async def test_a_letter_opens_beside_the_list_by_the_keyboard(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/dead")
    width = "document.querySelector('#part-dead').clientWidth / document.querySelector('main').clientWidth"
    assert await page.evaluate(width) > 0.9, "the list has the page to itself"
    await eyes.press("j", "Enter")
    await page.wait_for_selector("#letter >> text=attempt 1:")
    assert (await page.evaluate(width) > 0.9) == await page.evaluate("innerWidth < 1024")
    assert "<b>dead</b>" in await page.inner_text("#letter")
    assert await page.evaluate("document.activeElement.closest('#part-dead') !== null"), "the list has the focus"
    await eyes.press("Escape")
    await page.wait_for_selector("#letter h2", state="detached")
    await eyes.press("Enter")
    await page.wait_for_selector("#letter >> text=attempt 1:")
    await page.fill("#letter input[name=ttl]", "900")
    await page.click("#letter button >> text=Replay")
    await page.wait_for_selector("#said >> text=dead is brought back")
    await page.wait_for_selector("#letter >> text=It is no dead letter any more: scheduled")
    await page.click("#letter >> text=Close")
    await page.wait_for_selector("#letter h2", state="detached")
    assert eyes.complaints == []


COVERED = """([selector, reach]) => [...document.querySelectorAll(selector)].filter((one) => {
    reach === "focus" ? one.focus() : one.scrollIntoView({block: "end"});
    const at = one.getBoundingClientRect();
    const found = document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2);
    return found === null || !(one.contains(found) || found.contains(one));
}).map((one) => one.outerHTML.slice(0, 200))"""
"""Of elements those over which something else is, or that are not to be seen, where they have been scrolled to."""


@WIDE_AND_NARROW
async def test_a_letter_that_is_open_covers_nothing(eyes: Eyes, service: Client) -> None:
    page = eyes.page
    for number in range(12):
        letter = {"webhook": f"http://127.0.0.1:9/{number}", "ttl": 0, "data": ["a"] * 50}
        await service.call("PUT", f"/schedule/letter:{number}", json=letter)
    await eyes.see("/ui/dead")
    await page.wait_for_selector("#part-groups >> text=13")
    await page.wait_for_selector("#part-dead tr >> nth=13")
    await page.click("#part-dead tbody tr >> nth=9 >> a")
    await page.wait_for_selector("#letter h2")
    assert await page.evaluate(COVERED, ["#letter h2 a, #letter button", "focus"]) == []
    for selector in ("#part-groups button", "#part-dead tr a"):
        assert await page.evaluate(COVERED, [selector, "focus"]) == []
    assert await page.evaluate(COVERED, ["#part-groups button", "end"]) == []
    assert await page.locator("#letter h2").count() == 1
    assert eyes.complaints == []


@WIDE_AND_NARROW
async def test_an_operation_is_tried_in_the_reference(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/reference")
    await page.click("#get > summary")
    await page.fill("#get input[name='path.key']", "order:17")
    await page.press("#get input[name='path.key']", "Enter")
    await page.wait_for_selector("#answer-get >> text=GET /schedule/order:17: 200")
    assert '"state": "scheduled"' in await page.inner_text("#answer-get")
    assert eyes.complaints == []


@WIDE
async def test_a_button_looks_at_all_tasks(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/system")
    await page.click("text=Look at all tasks")
    await page.wait_for_selector("#part-system >> text=nothing is wrong", timeout=30_000)
    assert eyes.complaints == []


@WIDE
async def test_a_hidden_tab_asks_for_nothing(eyes: Eyes) -> None:
    page = eyes.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await eyes.see("/ui/tasks")
    async with page.expect_request("**/ui/part/tasks", timeout=5_000):
        pass
    await page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    await page.wait_for_timeout(500)
    asked.clear()
    await page.wait_for_timeout(4_500)
    assert asked == []


@WIDE
async def test_a_mark_stays_with_its_task(eyes: Eyes, service: Client) -> None:
    page = eyes.page
    await eyes.see("/ui/tasks")
    for _ in range(3):
        await eyes.press("j")
    await eyes.press("x")
    marked = await page.eval_on_selector_all("table.rows input:checked", "found => found.map(one => one.value)")
    assert len(marked) == 1
    first = await page.get_attribute("table.rows input >> nth=0", "value")
    await service.call("DELETE", f"/schedule/{first}")
    await page.wait_for_selector(f"[id='row-{first}']", state="detached")
    assert await page.eval_on_selector_all("table.rows input:checked", "found => found.map(one => one.value)") == marked
    await page.click("#marked >> text=Pause")
    await page.wait_for_selector("#many >> text=Pause 1 task?")
    assert (await service.call("GET", f"/schedule/{marked[0]}"))[1]["data"]["info"]["state"] == "scheduled"
    await page.click("#many button >> text=Pause")
    await page.wait_for_selector("#many >> text=Pause: 1 done")
    assert (await service.call("GET", f"/schedule/{marked[0]}"))[1]["data"]["info"]["state"] == "paused"


@WIDE
async def test_axe_finds_what_is_wrong(eyes: Eyes) -> None:
    await eyes.see("/ui/tasks")
    await eyes.page.route("**/ui/hosts", lambda route: route.fulfill(body="<html><img src=x></html>"))
    await eyes.see("/ui/hosts")
    assert any("image-alt" in one for one in await eyes.violations())


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "UTC"])
async def test_times_of_a_series_are_shown_as_they_are_here(zone: str, service: Client) -> None:
    async with browsing(service.url, timezone_id=zone, locale="en-GB") as eyes:
        await eyes.sign_in()
        await eyes.see("/ui/task/series")
        said = await eyes.page.inner_text("time[data-local] >> nth=0")
        utc = await eyes.page.get_attribute("time[data-local] >> nth=0", "datetime")
        assert utc is not None
        here = datetime.fromisoformat(utc).astimezone(ZoneInfo(zone))
        assert said.endswith("UTC" if zone == "UTC" else f" UTC, {here:%d/%m/%Y, %H:%M:%S} here")
        assert eyes.complaints == []


@WIDE
async def test_a_key_to_go_somewhere_counts_for_two_seconds(eyes: Eyes) -> None:
    page = eyes.page
    await page.clock.install()
    await eyes.see("/ui/tasks")
    await eyes.press("g")
    await page.clock.fast_forward(2_100)
    await eyes.press("d")
    await eyes.press("?")  # had it gone, this would be another page's
    assert await page.is_visible("#keys")
    await eyes.press("Escape")
    assert page.url.endswith("/ui/tasks")
    await eyes.press("g")
    await page.clock.fast_forward(1_500)
    await eyes.press("d")
    await page.wait_for_url("**/ui/dead")
