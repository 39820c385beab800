"""Every page in a real browser: nothing on its console, nothing that its policy forbids, nothing that axe finds, and as
wide as the screen. A picture of each is kept."""

import re

import pytest

from tests.browser.conftest import PICTURES, Eyes
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
    "/ui/repeating",
    "/ui/hosts",
    "/ui/system",
    "/ui/try",
    "/ui/reference",
    "/ui/login",
)


async def test_each_page_is_clean(eyes: Eyes, look: tuple[str, int]) -> None:
    PICTURES.mkdir(exist_ok=True)
    wrong: list[str] = []
    for path in PAGES:
        await eyes.see(path)
        # Once each part is read anew.
        await eyes.page.wait_for_timeout(2_300 if look == ("light", 1280) else 200)
        name = re.sub(r"\W+", "-", path).strip("-") or "overview"
        await eyes.page.screenshot(path=PICTURES / f"{name}-{look[0]}-{look[1]}.png", full_page=True)
        if await eyes.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wrong.append(f"{path}: is wider than the screen")
        wrong += [f"{path}: {one}" for one in eyes.complaints]
        wrong += [f"{path}: {one}" for one in await eyes.violations()]
        eyes.complaints.clear()
    assert wrong == []


@pytest.mark.parametrize("look", [("light", 1280)], ids=["light"])
async def test_the_keyboard_is_enough(eyes: Eyes) -> None:
    page = eyes.page
    await page.keyboard.press("t")
    await page.wait_for_url("**/ui/tasks")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    second = await page.evaluate("document.activeElement.textContent")
    await page.keyboard.press("k")
    first = await page.evaluate("document.activeElement.textContent")
    assert first != second
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/ui/task/{first}")
    await page.keyboard.press("/")
    await page.keyboard.type("order:17")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/ui/task/order:17")
    await page.keyboard.press("?")
    assert await page.is_visible("#keys")
    await page.keyboard.press("Escape")
    assert not await page.is_visible("#keys")
    for key, place in (("d", "dead"), ("h", "hosts"), ("s", "system"), ("o", "")):
        await page.keyboard.press("g")
        await page.keyboard.press(key)
        await page.wait_for_url(f"**/ui/{place}")
    assert eyes.complaints == []


@pytest.mark.parametrize("look", [("light", 1280)], ids=["light"])
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


@pytest.mark.parametrize("look", [("light", 1280)], ids=["light"])
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


@pytest.mark.parametrize("look", [("light", 1280)], ids=["light"])
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


@pytest.mark.parametrize("look", [("light", 1280)], ids=["light"])
async def test_a_mark_stays_with_its_task(eyes: Eyes, service: Client) -> None:
    page = eyes.page
    await eyes.see("/ui/tasks")
    for _ in range(3):
        await page.keyboard.press("j")
    await page.keyboard.press("x")
    marked = await page.eval_on_selector_all("table.rows input:checked", "found => found.map(one => one.value)")
    assert len(marked) == 1
    first = await page.get_attribute("table.rows input >> nth=0", "value")
    await service.call("DELETE", f"/schedule/{first}")
    await page.wait_for_selector(f"[id='row-{first}']", state="detached")
    assert await page.eval_on_selector_all("table.rows input:checked", "found => found.map(one => one.value)") == marked
    await page.click("#marked >> text=Pause")
    await page.wait_for_selector("#said >> text=pause: 1 of 1")
    assert (await service.call("GET", f"/schedule/{marked[0]}"))[1]["data"]["info"]["state"] == "paused"


@pytest.mark.parametrize("look", [("light", 1280)], ids=["light"])
async def test_axe_finds_what_is_wrong(eyes: Eyes) -> None:
    await eyes.see("/ui/tasks")
    await eyes.page.route("**/ui/hosts", lambda route: route.fulfill(body="<html><img src=x></html>"))
    await eyes.see("/ui/hosts")
    assert any("image-alt" in one for one in await eyes.violations())
