"""What strangers wrote stays text in a real browser, on every page: nothing of it runs, becomes a part of a page, or
asks for anything."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.processes import HostTold, Said, encode_said
from redis_scheduler.ui.echo import KEPT
from redis_scheduler.ui.system import NOTED
from tests.browser.conftest import Eyes, browsing
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.strange_texts import TEXTS
from tests.support.tokens import ALL_RIGHTS, make_token
from tests.support.waiting import wait_until

MOST = 50
"""Characters by which a text is known in a row of a table."""

FOREIGN = """[...document.querySelectorAll("*")].filter(one =>
    one.matches("iframe, img, base, math, template, style, noscript p, body body, script:not([src]), hx-partial, meta[http-equiv]")
    || [...one.attributes].some(given => given.name.startsWith("on") || given.name === "style")
).map(one => one.outerHTML.slice(0, 200))"""
"""What pages have not unless a text became a part of one."""


@dataclass
class Written:
    """What a stranger wrote with one text: the keys of a task that waits and of one that is dead, and a token."""

    text: str
    waits: str
    dead: str
    token: str

    @property
    def known(self) -> str:
        return " ".join(self.text[:MOST].split())


@dataclass
class Strangers:
    """A service in which they wrote everywhere."""

    api: Client
    written: list[Written]


async def answer(request: web.Request) -> web.Response:
    return web.Response(status=500, reason="<b>no</b>", body=await request.read(), headers={"X-A": "<img src=x>"})


def fields_of(text: str, url: str) -> dict[str, Any]:
    """The fields of a task with the text in each of them that takes it."""
    query = text.replace(" ", "+") if text.isprintable() else quote(text)
    fields: dict[str, Any] = {"webhook": f"{url}?{query}", "data": {text: [text, {"a": None}]}}
    if text.isprintable():
        fields |= {"labels": {"text": text[:64].strip()}}
        if text.isascii():
            fields["headers"] = {"X-Text": text.strip()}
            fields["on_failure"] = {"webhook": f"{url}?{query}", "ttl": 86_400, "data": text}
    return fields


@pytest.fixture
async def strangers(tmp_path: Path, redis_url: str, receiver: Receiver) -> AsyncIterator[Strangers]:
    """Each text is in a task that waits, in one that died with its receiver's answer, and in a token."""
    receiver.behaviour = answer
    async with (
        serving(tmp_path, REDIS_URL=redis_url, RETRIES="0", RESULT_TTL="60") as process,
        client_of(process) as api,
        aclosing(RedisClient(redis_url, 3, KEYS)) as store,
    ):
        written = []
        for number, text in enumerate(TEXTS):
            path = f"/schedule?{urlencode({'type': text[:100]})}" if text.isprintable() else "/schedule"
            fields = fields_of(text, receiver.url)
            waits = await api.schedule(fields.pop("webhook"), 900 + number, path, **fields)
            dead = await api.schedule(fields_of(text, receiver.url)["webhook"], 0, path, **fields)
            token = await make_token(store, *ALL_RIGHTS, name=text[:64])
            written.append(Written(text, waits, dead, token))

        async def are_dead() -> bool:
            return bool((await api.stats())["states"]["dead"] == len(TEXTS))

        await wait_until(are_dead, "they died")
        yield Strangers(api, written)


@pytest.fixture
async def eyes(strangers: Strangers) -> AsyncIterator[Eyes]:
    async with browsing(strangers.api.url) as found:
        yield found


def batches(written: list[Written], most: int) -> list[list[Written]]:
    return [written[at : at + most] for at in range(0, len(written), most)]


async def unharmed(eyes: Eyes) -> None:
    """Fail where a text became anything but text, or made the page wider than a screen."""
    assert await eyes.page.evaluate(FOREIGN) == []
    for width in (390, 1280):
        await eyes.page.set_viewport_size({"width": width, "height": 800})
        assert not await eyes.is_too_wide(), f"{eyes.page.url} with {width}"
    assert [url for url in eyes.asked if not url.startswith((eyes.url, "data:image/"))] == []
    assert eyes.complaints == []


async def test_in_lists_of_tasks_and_dead_letters(eyes: Eyes, strangers: Strangers) -> None:
    await eyes.sign_in()
    for path in ("/ui/tasks", "/ui/dead", "/ui/hosts", "/ui/repeating", "/ui/"):
        await eyes.see(path)
        # Once it is read anew, too, and put into the page.
        async with eyes.page.expect_response("**/ui/part/*", timeout=15_000):
            pass
        await unharmed(eyes)
        if path in ("/ui/tasks", "/ui/dead"):
            text = await eyes.text()
            assert [one.text for one in strangers.written if one.text.isprintable() and one.known not in text] == []


async def test_in_names_that_other_hands_wrote_into_redis(
    eyes: Eyes, strangers: Strangers, raw: redis.asyncio.Redis
) -> None:
    """Those of hosts with a limit, of processes, and of hosts and errors that these tell of."""
    await strangers.api.call("PUT", "/hosts/shop.example:443", json={"concurrency": 2})
    limit = await raw.hget(KEYS.limits, "shop.example:443")
    assert limit is not None
    seconds, _ = await raw.time()
    for one in strangers.written:
        await raw.hset(KEYS.limits, one.text[:200], limit)
        await raw.zadd(KEYS.workers, {one.text[:200]: seconds * 1000 + 600_000})
        host = HostTold(f"{one.text[:100]}:80", 1, True, 1, [1], one.text, seconds * 1000)
        said = Said(role=one.text, version=one.text, since_ms=seconds * 1000, slots=2, span_ms=9, hosts=[host])
        await raw.hset(KEYS.processes, one.text[:200], b"%d %b" % (seconds * 1000 + 20_000, encode_said(said)))
    await eyes.sign_in()
    for path in ("/ui/hosts", "/ui/system", "/ui/"):
        await eyes.see(path)
        async with eyes.page.expect_response("**/ui/part/*", timeout=15_000):
            pass
        await unharmed(eyes)
        if path in ("/ui/hosts", "/ui/system"):
            text = await eyes.text()
            assert [one.text for one in strangers.written if one.known not in text] == []


@pytest.mark.long
async def test_on_the_page_of_a_task_with_its_answers_and_in_errors(eyes: Eyes, strangers: Strangers) -> None:
    await eyes.sign_in()
    for one in strangers.written:
        for key in (one.waits, one.dead):
            await eyes.see(f"/ui/task/{key}")
            assert one.known in await eyes.text()
            await unharmed(eyes)
        answered = await eyes.page.text_content("[id^=answer-] pre")
        assert json.dumps(one.text)[1:MOST] in (answered or ""), "what the receiver answered"
        await eyes.see(f"/ui/task/{one.waits}")
        await eyes.page.fill("#change", json.dumps({"ttl": one.text}))
        await eyes.page.click("#edit ~ form button")
        await eyes.page.wait_for_selector("#said .bad >> text=ttl: must be")
        await unharmed(eyes)


async def test_in_the_name_of_who_is_signed_in(eyes: Eyes, strangers: Strangers) -> None:
    for one in strangers.written[::4]:
        await eyes.sign_in(one.token)
        assert " ".join(one.text[:30].split()) in " ".join((await eyes.page.inner_text(".leave")).split())
        await unharmed(eyes)
        await eyes.page.context.clear_cookies()


@pytest.mark.long
async def test_in_an_address(eyes: Eyes, strangers: Strangers) -> None:
    await eyes.sign_in()
    for one in strangers.written:
        given = one.text[:MOST]
        asked = [
            ("tasks", "type"),
            ("tasks", "state"),
            ("tasks", given),
            ("dead", "host"),
            ("dead", "label"),
            ("find", "key"),
        ]
        paths = [f"{page}?{urlencode({name: given})}" for page, name in asked]
        for path in (*paths, quote(given, safe=""), f"task/{quote(given)}"):
            await eyes.see(f"/ui/{path}")
            eyes.complaints = [said for said in eyes.complaints if "status of 40" not in said]
            await unharmed(eyes)


async def test_in_what_was_noted_of_changes(eyes: Eyes, strangers: Strangers) -> None:
    await eyes.sign_in()
    for some in batches(strangers.written, NOTED):
        for one in some:
            api = Client(strangers.api.session, strangers.api.url, one.token)
            query = {"type": one.text[:100]} if one.text.isprintable() else {"key_prefix": "none"}
            status, _ = await api.call("POST", f"/schedules/resume?{urlencode(query)}")
            assert status == 200

        async def are_shown(some: list[Written] = some) -> bool:
            text = await eyes.text()
            return all(one.known in text for one in some if one.text.isprintable())

        await eyes.see("/ui/system")
        await wait_until(are_shown, "who changed what, with which filter", 20, 0.2)
        await unharmed(eyes)


async def test_in_what_the_echo_receiver_got(eyes: Eyes, strangers: Strangers) -> None:
    await eyes.sign_in()
    await eyes.see("/ui/try")
    url = await eyes.page.input_value("[name=webhook]")
    for some in batches(strangers.written, KEPT):
        for one in some:
            await strangers.api.schedule(
                url, data=one.text, headers=fields_of(one.text, url).get("headers", {"X-A": "b"})
            )

        async def have_arrived(some: list[Written] = some) -> bool:
            text = await eyes.text()
            return all(" ".join(json.dumps(one.text)[1:MOST].split()) in text for one in some)

        await wait_until(have_arrived, "they arrived", 20, 0.2)
        await unharmed(eyes)


REFUSED: dict[str, Callable[[str], Any]] = {
    "type": lambda text: {"type": text},
    "name of a header": lambda text: {"headers": {text: "a"}},
    "header": lambda text: {"headers": {"X-A": f"{text}\n"}},
    "name of a label": lambda text: {"labels": {text: "a"}},
    "label": lambda text: {"labels": {"a": text * 70}},
    "limit_key": lambda text: {"limit_key": f"{text} "},
    "method": lambda text: {"method": text},
    "cron": lambda text: {"repeat": {"cron": text}},
    "zone": lambda text: {"repeat": {"cron": "@daily", "tz": text}},
    "at": lambda text: {"at": text},
    "field": lambda text: {text: 1},
    "callback": lambda text: {"on_failure": {"webhook": text}},
}
"""Where a task may not have such a text: the answer says what was given."""


@pytest.mark.long
async def test_in_what_is_refused(eyes: Eyes, strangers: Strangers) -> None:
    await eyes.sign_in()
    await eyes.see("/ui/try")
    said, sent = eyes.page.locator("#said"), eyes.page.locator("form.try button")
    for at, one in enumerate(strangers.written):
        text = one.text[:200]
        for name in [name for number, name in enumerate(REFUSED) if (number + at) % 3 == 0]:
            await eyes.page.fill("[name=more]", json.dumps(REFUSED[name](text)))
            async with eyes.page.expect_response("**/ui/try"):
                await sent.click()
            await said.locator(".ok, .bad").wait_for()
            await unharmed(eyes)
    await eyes.see("/ui/hosts")
    for one in strangers.written[::2]:
        for name in ("host", "rate"):
            await eyes.page.fill(".filters [name=host]", "shop.example:443")
            await eyes.page.fill(f".filters [name={name}]", one.text[:200])
            async with eyes.page.expect_response("**/ui/hosts"):
                await eyes.page.click("button[value=set]")
            await unharmed(eyes)


@pytest.mark.long
async def test_in_the_longest_names_that_a_task_may_have(strangers: Strangers) -> None:
    """Of keys, labels, types, limits and zones, without a space."""
    api, keys = strangers.api, ["W" * 127, "i" * 127]
    url = f"http://{'-'.join(['w' * 30] * 2)}.{'.'.join(['host' * 12] * 3)}.example:65535/{'path' * 300}"
    for key in keys:
        name = key[0] * 128
        fields = {"webhook": url, "labels": {key[0] * 32: "\ufdfd" * 64}, "limit_key": name}
        assert (await api.call("PUT", f"/hosts/@{name}", json={"paused": True, "rate": 17, "per": 86_400}))[0] == 200
        repeat = {"cron": "0,15,30,45 0,6,12,18 1,2,3 1,2,3 *", "tz": "America/Argentina/ComodRivadavia"}
        for own, more in ((f"{key}s", {"repeat": repeat}), (key, {"ttl": 900}), (f"{key}d", {"ttl": 0})):
            path = f"/schedule/{own}?{urlencode({'type': key[0] * 100})}"
            status, content = await api.call("PUT", path, json={**fields, **more})
            assert status == 200, content
    pages = ("", "tasks", "dead", "repeating", "hosts", *(f"task/{key}{end}" for key in keys for end in ("", "s")))
    async with browsing(api.url, bypass_csp=True) as eyes:
        await eyes.sign_in()
        wrong = []
        for path in pages:
            await eyes.see(f"/ui/{path}")
            wrong += await eyes.faults(f"longest-{path[:6].replace('/', '-')}{path[-1:]}")
    assert wrong == []


async def test_in_text_that_is_no_unicode(eyes: Eyes, strangers: Strangers) -> None:
    """Halves of pairs of UTF-16, which JSON can write."""
    body = '{"webhook": "http://127.0.0.1:9/", "ttl": 900, %s}'
    headers = {**strangers.api.headers, "Content-Type": "application/json"}
    await eyes.sign_in()
    for half in ("\\ud83d", "\\udc00", "\\u0000"):
        for field in (f'"data": {{"{half}": "a{half}"}}', f'"labels": {{"a": "{half}"}}', f'"method": "{half}"'):
            status, content = await strangers.api.call("POST", "/schedule", data=body % field, headers=headers)
            assert status in (200, 400), content
            if status == 200:
                await eyes.see(f"/ui/task/{content['key']}")
                assert half in await eyes.text()
                await unharmed(eyes)
            await eyes.see("/ui/try")
            await eyes.page.fill("[name=more]", f"{{{field}}}")
            await eyes.page.click("text=Schedule it")
            await eyes.page.wait_for_selector("#said p")
            await unharmed(eyes)
