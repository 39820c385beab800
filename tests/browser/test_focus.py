"""Who goes by the keyboard stays where they are: a part that is read anew moves the focus to no other button, and what
is closed gives it back to what opened it."""

import pytest

from tests.browser.conftest import WIDE, Eyes
from tests.support.service import Client

pytestmark = WIDE

NOWHERE = "http://127.0.0.1:9/"
FOCUS = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
HOSTS = ("a.example:80", "b.example:80", "c.example:80")


async def focus(eyes: Eyes, selector: str) -> None:
    await eyes.page.focus(selector)


async def focused(eyes: Eyes) -> str:
    found: str = await eyes.page.evaluate(FOCUS)
    return " ".join(found.split())


async def test_a_button_of_a_host_keeps_the_focus_where_the_host_comes_to_stand(eyes: Eyes, service: Client) -> None:
    for host in HOSTS:
        await service.call("PUT", f"/hosts/{host}", json={"concurrency": 2})
    await eyes.see("/ui/hosts")
    await focus(eyes, f"[aria-label='Pause {HOSTS[2]}']")
    await eyes.press("Enter")
    await eyes.page.wait_for_selector(f"[aria-label='Resume {HOSTS[2]}']")
    assert await focused(eyes) == f"Resume {HOSTS[2]}"
    await eyes.press("Enter")
    await eyes.page.wait_for_selector(f"[aria-label='Pause {HOSTS[2]}']")
    assert await focused(eyes) == f"Pause {HOSTS[2]}"
    paused = [(await service.call("GET", f"/hosts/{host}"))[1]["data"]["paused"] for host in HOSTS]
    assert paused == [False] * 3


async def test_a_host_that_is_forgotten_leaves_the_focus_to_the_next(eyes: Eyes, service: Client) -> None:
    for host in HOSTS:
        await service.call("PUT", f"/hosts/{host}", json={"concurrency": 2})
    await eyes.see("/ui/hosts")
    for gone in (0, 2):
        await focus(eyes, f"[aria-label='Forget {HOSTS[gone]}']")
        await eyes.press("Enter")
        await eyes.page.wait_for_selector(f"[aria-label='Forget {HOSTS[gone]}']", state="detached")
        assert await focused(eyes) == HOSTS[1]


async def test_a_button_of_a_group_keeps_the_focus_when_another_group_goes(eyes: Eyes, service: Client) -> None:
    for key, port in (("other", 10), ("third", 11)):
        await service.call("PUT", f"/schedule/{key}", json={"webhook": f"http://127.0.0.1:{port}/", "ttl": 0})
    await service.call("PUT", "/hosts/127.0.0.1:10", json={"paused": False})
    await eyes.see("/ui/dead")
    await eyes.page.wait_for_selector("#part-dead >> text=third")
    await eyes.page.wait_for_selector("#part-dead >> text=other")
    buttons = eyes.page.locator("#part-groups button >> text=Delete all")
    await buttons.nth(2).wait_for()
    await buttons.nth(1).focus()
    label = await focused(eyes)
    gone = await buttons.nth(0).get_attribute("aria-label") or ""
    [key] = [key for key, port in (("dead", 9), ("other", 10), ("third", 11)) if f"127.0.0.1:{port}:" in gone]
    await service.call("DELETE", f"/dead/{key}")
    # Groups are read every five seconds, and are as old at most.
    await eyes.page.wait_for_selector(f"[aria-label='{gone}']", state="detached", timeout=20_000)
    assert await focused(eyes) == label


async def test_a_button_of_a_task_never_becomes_another_that_has_the_focus(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/task/paused")
    await focus(eyes, "#part-task button >> text=Resume")
    for name in ("Pause", "Resume", "Pause"):
        await eyes.press("Enter")
        await page.wait_for_selector(f"#part-task button >> text={name}")
        assert await focused(eyes) == name
    await focus(eyes, "#part-task button >> text=Run")
    await eyes.press("Enter")
    await page.wait_for_selector("#part-task button >> text=Replay", timeout=20_000)  # nobody answers, so it died
    assert await page.evaluate("document.activeElement.id") == "main"


async def test_what_was_opened_of_an_arrival_stays_open_when_others_arrive(eyes: Eyes, service: Client) -> None:
    page = eyes.page
    await eyes.see("/ui/try")
    url = await page.input_value("[name=webhook]")
    await service.schedule(url, 0, data="first")
    await page.wait_for_selector(".arrival >> text=first")
    await page.click(".arrival summary")
    for text in ("second", "third"):
        await service.schedule(url, 0, data=text)
        await page.wait_for_selector(f".arrival >> text={text}")
    assert await page.eval_on_selector_all(
        ".arrival:has([open]) pre", "found => found.map(one => one.textContent)"
    ) == ['"first"']
    focused = "document.activeElement.closest('.arrival').querySelector('pre').textContent"
    assert await page.evaluate(focused) == '"first"'


@pytest.mark.parametrize("way", ["Leave it", "Escape"])
async def test_what_is_not_done_to_many_gives_the_focus_back(way: str, eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/tasks?state=scheduled")
    await focus(eyes, "button >> text=Run all of these")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=Run")
    assert await page.evaluate("document.activeElement.id") == "many"
    await eyes.press("Tab")
    assert await page.evaluate("document.activeElement.name") == "minutes"
    if way == "Escape":
        await eyes.press("Escape")
    else:
        await eyes.press("Tab", "Tab", "Enter")
    await page.wait_for_selector("#many form", state="detached")
    assert await focused(eyes) == "Run all of these"


async def test_what_was_done_to_many_is_where_the_focus_is(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/dead")
    await focus(eyes, "#part-groups button >> text=Replay all")
    await eyes.press("Enter")
    await page.wait_for_selector("#many >> text=Replay 1 task?")
    await eyes.press("Tab", "Tab", "Enter")
    await page.wait_for_selector("#many >> text=1 done")
    assert await page.evaluate("document.activeElement.id") == "many"
    await eyes.press("Escape")
    assert await page.inner_text("#many") == ""
    assert await page.evaluate("document.activeElement !== document.body")


@pytest.mark.parametrize("way", ["Close", "Escape"])
async def test_a_letter_that_is_closed_gives_the_focus_back(way: str, eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/dead")
    await eyes.press("j", "Enter")
    await page.wait_for_selector("#letter h2")
    await focus(eyes, "#letter button >> text=Delete")
    if way == "Escape":
        await eyes.press("Escape")
    else:
        await eyes.press("Tab", "Enter")
    await page.wait_for_selector("#letter h2", state="detached")
    assert await focused(eyes) == "dead"
    await eyes.see("/ui/dead?letter=dead")
    await focus(eyes, "#letter button >> text=Close")
    await eyes.press("Enter")
    assert await focused(eyes) == "dead"


async def test_what_is_typed_beside_a_letter_stays_when_it_is_refused(eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/dead?letter=dead")
    await page.fill("#letter [name=ttl]", "soon")
    await page.press("#letter [name=ttl]", "Enter")
    await page.wait_for_selector("#said .bad >> text=ttl: must be")
    await page.wait_for_timeout(500)  # it is read anew
    assert await page.input_value("#letter [name=ttl]") == "soon"
    assert await page.evaluate("document.activeElement.name") == "ttl"


@pytest.mark.parametrize("given", ["soon", "0", "10081", "1,5"])
async def test_wrong_minutes_are_told_beside_their_field(given: str, eyes: Eyes) -> None:
    page = eyes.page
    await eyes.see("/ui/dead")
    await page.click("#part-groups button >> text=Replay all")
    await page.fill("#many [name=minutes]", given)
    await page.press("#many [name=minutes]", "Enter")
    await page.wait_for_selector("#many .bad >> text=minutes: must be")
    assert await page.input_value("#many [name=minutes]") == given
    assert await page.evaluate("document.activeElement.name") == "minutes"
    assert await page.get_attribute("#many [name=minutes]", "aria-invalid") == "true"
    await page.fill("#many [name=minutes]", "0.5")
    await page.press("#many [name=minutes]", "Enter")
    await page.wait_for_selector("#many >> text=Replay: 1 done")
    assert eyes.complaints == []


async def test_a_wrong_number_is_told_beside_its_field(eyes: Eyes, service: Client) -> None:
    page = eyes.page
    tasks = [{"webhook": NOWHERE, "ttl": 900, "labels": {"batch": "1"}} for _ in range(101)]
    assert (await service.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
    await eyes.see("/ui/tasks?label=batch%3D1")
    await page.click("text=Run all of these")
    await page.fill("#many [name=minutes]", "90")
    for given, wrong in (("100", "sure"), ("101", "minutes")):
        if wrong == "minutes":
            await page.fill("#many [name=minutes]", "never")
        await page.fill("#many [name=sure]", given)
        await page.press("#many [name=sure]", "Enter")
        field = page.locator(f"#many [name={wrong}][aria-invalid=true]")
        await field.wait_for()
        assert await page.inner_text(f"#{await field.get_attribute('aria-describedby')}") != ""
        assert await page.evaluate("document.activeElement.name") == wrong
        assert await page.input_value("#many [name=sure]") == given
    assert (await service.stats())["states"]["due"] > 101
    assert eyes.complaints == []


async def test_hosts_are_gone_through_by_keys(eyes: Eyes, service: Client) -> None:
    for host in HOSTS:
        await service.call("PUT", f"/hosts/{host}", json={"concurrency": 2})
    await eyes.see("/ui/hosts")
    found = []
    for _ in range(9):
        await eyes.press("j")
        found.append(await focused(eyes))
    assert [one for one in found if one in HOSTS][:3] == list(HOSTS)
    await eyes.press("k")
    assert await focused(eyes) == HOSTS[1]
    await eyes.press("Enter")
    await eyes.page.wait_for_url("**/ui/tasks?host=b.example*")
