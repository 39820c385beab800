"""What opens on a page - forms, questions, letters, answers, refusals - in each look: nothing that axe finds, and no
wider than the screen. Pictures are kept."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from redis_scheduler.store.client import RedisClient
from tests.browser.conftest import Eyes, browsing
from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.tokens import make_token

NOWHERE = "http://127.0.0.1:9/"
LONG = f"{NOWHERE}{'long' * 60}?{'a' * 300}"

Open = Callable[[Eyes], Awaitable[object]]


@pytest.fixture
async def eyes(service: Client) -> AsyncIterator[Eyes]:
    """Signed in, where more is due than may be touched without its number."""
    tasks = [{"webhook": LONG, "ttl": 900, "labels": {"batch": "1"}} for _ in range(101)]
    assert (await service.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
    async with browsing(service.url, bypass_csp=True) as found:
        await found.sign_in()
        yield found


async def open_all(eyes: Eyes, dialogs: dict[str, tuple[str, Open]]) -> None:
    wrong = []
    for name, (path, open_it) in dialogs.items():
        await eyes.see(path)
        await open_it(eyes)
        wrong += await eyes.faults(name)
        eyes.complaints.clear()
    assert wrong == []


async def click(eyes: Eyes, wanted: str, shown: str) -> None:
    await eyes.page.click(wanted)
    await eyes.page.wait_for_selector(shown)


async def ask_for_keys(eyes: Eyes) -> None:
    await eyes.page.keyboard.press("?")
    await eyes.page.wait_for_selector("#keys[open]")


async def replay_a_group(eyes: Eyes) -> None:
    await click(eyes, "#part-groups button >> text=Replay all", "#many >> text=Replay 1 task?")


async def replay_a_group_over_no_time(eyes: Eyes) -> None:
    await replay_a_group(eyes)
    await eyes.page.fill("#many [name=minutes]", "never")
    await click(eyes, "#many button >> text=Replay", "#many .bad >> text=minutes: must be")


async def run_many(eyes: Eyes) -> None:
    await click(eyes, "text=Run all of these", "#many >> text=Run 101 tasks?")


async def run_many_by_a_wrong_number(eyes: Eyes) -> None:
    await run_many(eyes)
    await eyes.page.fill("#many [name=sure]", "17")
    await click(eyes, "#many button >> text=Run", "#many .bad >> text=Type 101")


async def pause_what_is_marked(eyes: Eyes) -> None:
    for number in range(12):
        await eyes.page.click(f"table.rows [type=checkbox] >> nth={number}")
    await click(eyes, "#marked >> text=Pause", "#many >> text=Pause 12 tasks?")


async def pause_what_is_gone(eyes: Eyes) -> None:
    keys = [await one.get_attribute("value") for one in await eyes.page.locator("table.rows [type=checkbox]").all()]
    await pause_what_is_marked(eyes)
    for key in keys[:9]:
        await eyes.page.request.post(f"{eyes.url}/ui/do/cancel/{key}", headers={"Sec-Fetch-Site": "same-origin"})
    await click(eyes, "#many button >> text=Pause", "#many >> text=Pause: 3 of 12 done.")


async def pause_nothing(eyes: Eyes) -> None:
    await click(eyes, "#marked >> text=Pause", "#many >> text=Mark tasks first")


async def open_a_letter(eyes: Eyes) -> None:
    await click(eyes, "#row-dead a", "#letter h2")


async def open_a_letter_that_is_gone(eyes: Eyes) -> None:
    await eyes.page.wait_for_selector("#letter .bad")


async def refuse_a_ttl(eyes: Eyes) -> None:
    await open_a_letter(eyes)
    await eyes.page.fill("#letter [name=ttl]", "a" * 200)
    await click(eyes, "#letter button >> text=Replay", "#said .bad >> text=ttl: must be")


async def refuse_a_change(eyes: Eyes) -> None:
    await eyes.page.fill("#change", '{"ttl": "soon"}')
    await click(eyes, "#edit ~ form button", "#said .bad >> text=ttl: must be")


async def pause_it(eyes: Eyes) -> None:
    await click(eyes, "#part-task button >> text=Pause", "#said .ok >> text=is paused")


async def open_the_times(eyes: Eyes) -> None:
    await eyes.page.click("#row-series summary")


async def refuse_a_limit(eyes: Eyes) -> None:
    await eyes.page.fill(".filters [name=host]", "b" * 200)
    await eyes.page.fill(".filters [name=rate]", "soon")
    await click(eyes, "button[value=set]", "#said .bad")


async def try_it(eyes: Eyes) -> None:
    await eyes.page.fill("[name=ttl]", "0")
    await click(eyes, "text=Schedule it", "#part-echo .arrival")
    await eyes.page.click(".arrival summary")


async def refuse_to_try(eyes: Eyes) -> None:
    await eyes.page.fill("[name=more]", "[" + "1," * 200)
    await click(eyes, "text=Schedule it", "#said .bad >> text=More fields")


async def open_the_tables(eyes: Eyes) -> None:
    await eyes.page.wait_for_selector("#part-charts details")
    await eyes.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")


async def look_at_all(eyes: Eyes) -> None:
    await eyes.page.click("text=Look at all tasks")
    await eyes.page.wait_for_selector("#part-system >> text=nothing is wrong", timeout=30_000)


def ask_for(operation: str, key: str) -> Open:
    async def ask(eyes: Eyes) -> None:
        await eyes.page.click(f"#{operation} > summary")
        await eyes.page.fill(f"#{operation} input[name='path.key']", key)
        await eyes.page.press(f"#{operation} input[name='path.key']", "Enter")
        await eyes.page.wait_for_selector(f"#answer-{operation} pre")

    return ask


async def nothing(_: Eyes) -> None:
    """What the page shows by itself."""


@pytest.mark.long
async def test_what_is_to_be_done_to_many(eyes: Eyes) -> None:
    many = "/ui/tasks?label=batch%3D1"
    await open_all(
        eyes,
        {
            "dialog-keys": ("/ui/", ask_for_keys),
            "dialog-replay": ("/ui/dead", replay_a_group),
            "dialog-replay-refused": ("/ui/dead", replay_a_group_over_no_time),
            "dialog-run": (many, run_many),
            "dialog-run-refused": (many, run_many_by_a_wrong_number),
            "dialog-marked": (many, pause_what_is_marked),
            "dialog-marked-failed": (many, pause_what_is_gone),
            "dialog-marked-none": (many, pause_nothing),
        },
    )


@pytest.mark.long
async def test_what_opens_beside_a_list_and_what_is_said_of_changes(eyes: Eyes) -> None:
    await open_all(
        eyes,
        {
            "dialog-letter": ("/ui/dead", open_a_letter),
            "dialog-letter-gone": ("/ui/dead?letter=none", open_a_letter_that_is_gone),
            "dialog-letter-refused": ("/ui/dead", refuse_a_ttl),
            "dialog-change-refused": ("/ui/task/order:17", refuse_a_change),
            "dialog-paused": ("/ui/task/order:17", pause_it),
            "dialog-times": ("/ui/repeating", open_the_times),
            "dialog-limit": ("/ui/hosts?host=127.0.0.1%3A10&concurrency=2", nothing),
            "dialog-limit-refused": ("/ui/hosts", refuse_a_limit),
            "dialog-tried": ("/ui/try", try_it),
            "dialog-try-refused": ("/ui/try", refuse_to_try),
            "dialog-tables": ("/ui/", open_the_tables),
            "dialog-look": ("/ui/system", look_at_all),
            "dialog-called": ("/ui/reference", ask_for("get", "order:17")),
            "dialog-call-refused": ("/ui/reference", ask_for("get", "none")),
        },
    )


@pytest.mark.long
async def test_what_is_refused(eyes: Eyes, redis_url: str) -> None:
    await open_all(
        eyes,
        {
            "refused-filter": (f"/ui/tasks?{'f' * 200}=1", nothing),
            "refused-key": ("/ui/task/none", nothing),
            "refused-page": (f"/ui/{'p' * 200}", nothing),
            "empty-filtered": ("/ui/tasks?type=none", nothing),
            "empty-letters": ("/ui/dead?type=none", nothing),
            "empty-series": ("/ui/repeating?type=none", nothing),
        },
    )
    async with aclosing(RedisClient(redis_url, 3, KEYS)) as store:
        await eyes.page.context.clear_cookies()
        await eyes.sign_in(await make_token(store, "read", name="w" * 64))
    rights = {path or "overview": (f"/ui/{path}", nothing) for path in ("", "dead", "system", "task/order:17", "try")}
    await open_all(eyes, {f"rights-{name.replace('/', '-')}": one for name, one in rights.items()})
    await eyes.page.context.clear_cookies()
    await eyes.see("/ui/tasks")
    await eyes.page.fill("#token", "wrong")
    await click(eyes, "text=Sign in >> nth=-1", ".bad >> text=This token is wrong")
    assert await eyes.faults("refused-token") == []
