"""Fixtures: a real service with tasks of each kind, and a real browser, which keeps pictures of what it saw."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
import pytest
from playwright.async_api import ConsoleMessage, Page, async_playwright

from tests.support.chromium import chromium
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.strange_texts import TEXTS
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "browser-pictures"
"""Ignored by git; CI keeps it."""

LOOKS: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", 1280), ("dark", 1280), ("light", 390))
"""Colours and width."""

WIDE = pytest.mark.parametrize("look", [("light", 1280)], ids=["light"])
WIDE_AND_NARROW = pytest.mark.parametrize("look", [("light", 1280), ("light", 390)], ids=["wide", "phone"])

AXE = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js")).read_text()


@pytest.fixture
async def service(tmp_path: Path, redis_url: str) -> AsyncIterator[Client]:
    """A service that delivers to a receiver that is not there, with tasks in every state and hostile text."""
    async with (
        serving(tmp_path, REDIS_URL=redis_url, RETRIES="0", RESULT_TTL="60") as process,
        client_of(process) as api,
    ):
        nowhere = "http://127.0.0.1:9/?<script>alert(1)</script>"
        for at, text in enumerate(TEXTS):
            fields: dict[str, Any] = {"labels": {"text": text[:50]}} if text[:50].isprintable() else {}
            await api.schedule(nowhere, 900 + at * 60, data={text: [text, {"a": None}]}, **fields)
        await api.call("PUT", "/schedule/order:17", json={"webhook": nowhere, "ttl": 1800, "data": [1, {"a": "b"}]})
        await api.call("PUT", "/schedule/paused", json={"webhook": nowhere, "ttl": 1800})
        await api.call("POST", "/schedule/paused/pause")
        await api.call(
            "PUT",
            "/schedule/series",
            json={"webhook": nowhere, "repeat": {"cron": "0 9 * * 1-5", "tz": "Europe/Berlin"}},
        )
        await api.call("PUT", "/hosts/127.0.0.1:10", json={"concurrency": 2, "paused": True})
        await api.call("PUT", "/schedule/dead", json={"webhook": nowhere, "ttl": 0, "data": "<b>dead</b>"})

        async def is_dead() -> bool:
            return bool((await api.stats())["states"]["dead"])

        await wait_until(is_dead, "it died")
        yield api


class Eyes:
    """A page, and all that it complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.asked: list[str] = []
        """The URLs of all that it asked for."""
        page.on("console", self._hear)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    async def sign_in(self, token: str = TOKEN) -> None:
        await self.page.goto(f"{self.url}/ui/login")
        await self.page.fill("#token", token)
        await self.page.press("#token", "Enter")
        await self.page.wait_for_url("**/ui/")

    async def text(self) -> str:
        """All text of the page, also what is folded, with a space for each white space."""
        return " ".join((await self.page.evaluate("document.body.textContent")).split())

    async def see(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def press(self, *keys: str) -> None:
        """Press keys one after another."""
        for key in keys:
            await self.page.keyboard.press(key)

    async def violations(self) -> list[str]:
        """What axe finds on the page read anew. It is run outside of the page's policy, which would not let it."""
        session = await self.page.context.new_cdp_session(self.page)
        await session.send("Page.setBypassCSP", {"enabled": True})
        await self.page.reload()
        await self.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        found = await self.violations_as_it_is()
        await session.send("Page.setBypassCSP", {"enabled": False})
        return found

    async def violations_as_it_is(self) -> list[str]:
        """What axe finds on a page that has no policy."""
        await self.page.add_script_tag(content=AXE)
        found = await self.page.evaluate("async () => (await axe.run()).violations")
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}" for one in found]

    async def is_too_wide(self) -> bool:
        """Whether the page is wider than the screen."""
        root = "document.documentElement"
        return bool(await self.page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))

    async def faults(self, name: str) -> list[str]:
        """What is wrong in each look with what is open on a page that has no policy; of each a picture is kept."""
        wrong = []
        for colours, width in LOOKS:
            await self.page.emulate_media(color_scheme=colours)
            await self.page.set_viewport_size({"width": width, "height": 800})
            await self.keep(f"{name}-{colours}-{width}")
            wrong += ["is wider than the screen"] * await self.is_too_wide() + await self.violations_as_it_is()
        wrong += [one for one in self.complaints if "Failed to load resource" not in one]  # an answer that refuses
        return [f"{name}: {one}" for one in wrong]

    async def keep(self, name: str) -> None:
        """Keep a picture of the page."""
        PICTURES.mkdir(exist_ok=True)
        await self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


@pytest.fixture(params=LOOKS, ids=lambda one: f"{one[0]}-{one[1]}")
def look(request: pytest.FixtureRequest) -> tuple[str, int]:
    """Colours and width."""
    found: tuple[str, int] = request.param
    return found


@asynccontextmanager
async def browsing(url: str, *switches: str, **context: Any) -> AsyncIterator[Eyes]:
    """Open a browser that nobody is signed in with. `url`: of the service; `context`: as Playwright names it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", *switches])
        try:
            yield Eyes(await (await browser.new_context(**context)).new_page(), url)
        finally:
            await browser.close()


@pytest.fixture
async def eyes(service: Client, look: tuple[str, int]) -> AsyncIterator[Eyes]:
    """A browser that is signed in."""
    async with browsing(service.url, color_scheme=look[0], viewport={"width": look[1], "height": 800}) as found:
        await found.sign_in()
        yield found
