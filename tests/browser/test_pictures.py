"""Pictures for the docs: the pages of a shop's deployment, and what the first page says in each staged outage, which
must name cause and remedy in its first line.

They are kept beside those of the other tests; `make pictures` puts them into docs/pictures.
"""

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.test_outages import SEEN_WITHIN_S, can_stage
from tests.browser.conftest import PICTURES, Eyes, browsing
from tests.support.outages import OUTAGES, staged
from tests.support.service import Client
from tests.support.stages import Stage
from tests.support.waiting import wait_until

FOLDER = Path(os.environ.get("DOCS_PICTURES", PICTURES))
SHOWN = (Path(__file__).parents[2] / "docs/pictures.md").read_text()
"""The page that shows outages."""

QUALITY = 55
LOOK = {"viewport": {"width": 1280, "height": 800}}

PAGES = {
    "overview": "/ui/",
    "tasks": "/ui/tasks",
    "task": "/ui/task/order:1041:charge",
    "dead": "/ui/dead",
    "repeating": "/ui/repeating",
    "hosts": "/ui/hosts",
    "system": "/ui/system",
    "try": "/ui/try",
    "reference": "/ui/reference",
    "login": "/ui/login",
}


async def take(eyes: Eyes, name: str) -> None:
    """Keep what is seen, as WebP, which Playwright does not write itself."""
    session = await eyes.page.context.new_cdp_session(eyes.page)
    taken = await session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    keep(name, base64.b64decode(taken["data"]))


def keep(name: str, picture: bytes) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.webp").write_bytes(picture)


async def shop(stage: Stage) -> None:
    """Tasks as a shop has them."""
    await stage.start()
    api: Client = stage.api
    await stage.schedule(stage.well, 900, 1, 8)
    await stage.schedule(stage.well, 2_000, 60, 3_000)
    await stage.schedule(stage.well, 1_500, 3_600, 80_000)
    for number in range(1037, 1045):
        task = {
            "webhook": f"{stage.well}charge",
            "ttl": 45 * number - 46_000,
            "data": {"order": number, "sum": "19.90"},
        }
        await api.call("PUT", f"/schedule/order:{number}", json={**task, "labels": {"order": str(number)}})
    nobody = "http://127.0.0.1:9/charge"
    for number in (1041, 1046, 1047):
        dead = {"webhook": nobody, "ttl": 0, "retry_times": [0.5], "data": {"order": number, "customer": {"id": 7}}}
        await api.call("PUT", f"/schedule/order:{number}:charge", json=dead)
    for key, rule in (("report:daily", {"cron": "0 7 * * *", "tz": "Europe/Berlin"}), ("stock:sync", {"every": 900})):
        await api.call("PUT", f"/schedule/{key}", json={"webhook": stage.well, "repeat": rule})
    await api.call("PUT", "/hosts/mail.example:443", json={"concurrency": 4, "rate": 50, "per": 1})
    await api.call("PUT", "/hosts/erp.example:443", json={"paused": True})
    await api.call("POST", "/schedules/pause?label=order=1040")

    async def is_so() -> bool:
        stats = await api.stats()
        return bool(stats["states"]["dead"] == 3 and stats["counters"]["delivered"] >= 900)

    await wait_until(is_so, "the shop is at work", SEEN_WITHIN_S, 0.2)


@pytest.fixture
async def shopping(tmp_path: Path) -> AsyncIterator[Eyes]:
    async with staged(shop, tmp_path) as stage, browsing(stage.api.url, **LOOK) as eyes:
        await eyes.sign_in()
        yield eyes


async def test_of_each_page(shopping: Eyes) -> None:
    for name, path in PAGES.items():
        await shopping.see(path)
        if name == "try":
            await shopping.page.fill("[name=ttl]", "0")
            await shopping.page.click("text=Schedule it")
            await shopping.page.wait_for_selector("#part-echo .arrival", timeout=20_000)
        if name == "dead":
            await shopping.page.click("table.rows a >> nth=0")
            await shopping.page.wait_for_selector("text=attempt 2", timeout=20_000)
        if name == "reference":
            await shopping.page.click("details.operation summary >> nth=0")
        await take(shopping, name)
    assert shopping.complaints == []


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in OUTAGES if f"outage-{name}.webp" in SHOWN])
async def test_of_an_outage_and_its_remedy(name: str, tmp_path: Path) -> None:
    if not can_stage(name):
        pytest.skip("needs a name space of mounts, and port 53")
    outage = OUTAGES[name]
    async with staged(outage.stage, tmp_path, tasks=20_000) as stage, browsing(stage.api.url, **LOOK) as eyes:
        await eyes.sign_in()
        first = eyes.page.locator("#part-overview .headline.bad >> nth=0")

        async def is_said() -> bool:
            said = await first.inner_text() if await first.count() else ""
            return outage.says in said and outage.mends in said

        await wait_until(is_said, "the first line names cause and remedy", SEEN_WITHIN_S, 0.5)
        await eyes.page.wait_for_timeout(6_000)  # as somebody sees it who comes a little later
        await take(eyes, f"outage-{name}")
        assert eyes.complaints == []
