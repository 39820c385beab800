"""While Redis is away pages say since when, show what they last knew, and go on once it is back."""

from pathlib import Path

from playwright.async_api import async_playwright

from tests.browser.conftest import PICTURES, Eyes, chromium
from tests.support.redis_process import redis_process
from tests.support.service import client_of, serving


async def test_an_outage_is_seen_and_its_end(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "redis") as server,
        serving(tmp_path, REDIS_URL=server.url) as process,
        client_of(process) as api,
        async_playwright() as playwright,
    ):
        for number in range(3):
            await api.schedule("http://127.0.0.1:9/", 900 + number)
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        eyes = Eyes(await browser.new_page(), api.url)
        await eyes.sign_in()
        await eyes.page.wait_for_selector("text=3 due")
        await server.kill()
        await eyes.page.wait_for_selector("#part-overview .stale", timeout=20_000)
        told = await eyes.page.inner_text("#part-overview [role=alert]")
        assert "Redis does not answer: this stands as it was at" in told
        assert "3 due" in await eyes.page.inner_text("#part-overview .stale")
        PICTURES.mkdir(exist_ok=True)
        await eyes.page.screenshot(path=PICTURES / "outage.png", full_page=True)
        assert await eyes.violations() == []
        await server.start()
        await eyes.page.wait_for_selector("#part-overview .stale", state="detached", timeout=20_000)
        await browser.close()


async def test_a_service_that_does_not_answer_looks_unwell(tmp_path: Path, redis_url: str) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url) as process,
        client_of(process) as api,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        eyes = Eyes(await browser.new_page(), api.url)
        await eyes.sign_in()
        await eyes.page.wait_for_selector("#part-overview .headline.ok")
        process.process.kill()
        await eyes.page.wait_for_selector("#part-overview .gone", timeout=20_000)
        assert "The service does not answer since" in await eyes.page.inner_text("#part-overview")
        await eyes.page.wait_for_timeout(5_000)
        assert await eyes.page.locator("#part-overview .gone").count() == 1
        PICTURES.mkdir(exist_ok=True)
        await eyes.page.screenshot(path=PICTURES / "gone.png", full_page=True)
        await browser.close()
