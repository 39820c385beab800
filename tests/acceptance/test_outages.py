"""Each staged outage: the first page of the dashboard says what it is."""

import os
import shutil
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.support.outages import OUTAGES, staged
from tests.support.pages import Browser
from tests.support.service import TOKEN
from tests.support.waiting import wait_until

SEEN_WITHIN_S = 60


def _can_mount() -> bool:
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(
            ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "true"], capture_output=True, check=False
        ).returncode
    )


@pytest.mark.long
@pytest.mark.parametrize("name", OUTAGES)
async def test_the_first_page_says_what_is_wrong(name: str, tmp_path: Path) -> None:
    if name == "name-servers-silent" and not (_can_mount() and os.geteuid() == 0):
        pytest.skip("needs a name space of mounts, and port 53")
    async with staged(name, tmp_path, tasks=20_000) as stage, aiohttp.ClientSession() as session:
        browser = Browser(session, stage.api.url)
        await browser.sign_in(TOKEN)
        said = ""

        async def is_said() -> bool:
            nonlocal said
            page = await browser.get("/ui/part/overview")
            said = page.text
            return page.status == 200 and "All well" not in said and OUTAGES[name].says in said

        try:
            await wait_until(is_said, "the page says it", SEEN_WITHIN_S, 0.5)
        except AssertionError:
            pytest.fail(f"it says: {said[:600]}")
