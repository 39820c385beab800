"""Each staged outage: the first line of the dashboard names the cause, and the remedy."""

import re
from html import unescape
from pathlib import Path

import aiohttp
import pytest

from tests.support.name_server import has_namespaces
from tests.support.outages import OUTAGES, staged
from tests.support.pages import Browser
from tests.support.service import TOKEN
from tests.support.waiting import wait_until

SEEN_WITHIN_S = 60


def can_stage(name: str) -> bool:
    """Whether an outage can be staged here."""
    return not OUTAGES[name].needs_root or has_namespaces()


@pytest.mark.long
@pytest.mark.parametrize("name", OUTAGES)
async def test_the_first_line_says_what_is_wrong_and_what_mends_it(name: str, tmp_path: Path) -> None:
    if not can_stage(name):
        pytest.skip("needs a name space of mounts, and port 53")
    async with staged(OUTAGES[name].stage, tmp_path, tasks=20_000) as stage, aiohttp.ClientSession() as session:
        browser = Browser(session, stage.api.url)
        said = ""

        async def is_said() -> bool:
            nonlocal said
            page = await (browser.get("/ui/part/overview") if browser.cookies else browser.sign_in(TOKEN))
            found = re.search(r'<p class="(?:headline )?bad"[^>]*>(.*?)</p>', page.html, re.DOTALL)
            said = "" if found is None else unescape(re.sub(r"<[^>]*>", "", found[1]))
            return OUTAGES[name].says in said and OUTAGES[name].mends in said

        try:
            await wait_until(is_said, "the page says it", SEEN_WITHIN_S, 0.5)
        except AssertionError:
            pytest.fail(f"it says: {said[:600]}")
        if not browser.cookies:
            return  # nobody can sign in, and the page for that says why
        page = await browser.get("/ui/")
        assert page.status == 200, "whoever comes now sees the whole page"
        [more, *_] = re.findall(r'<a href="([^"]+)">Show</a>', page.html)
        page = await browser.get(more)
        assert page.status == 200
        if more == "/ui/system":
            assert OUTAGES[name].says in page.text, "what was said is not called well there"
