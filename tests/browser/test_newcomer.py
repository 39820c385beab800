"""The README's way for a newcomer, from a clone: `make run`, the address that it prints, Try it, and see it arrive.

What `make install` fetches is what the tests' own environment has: no test asks an index for packages. COLD=1 has the
clone make an environment of its own instead, as a newcomer's does, within the same minute: on two busy cores all takes
37 s, and 41 s where pip has nothing of it kept.
"""

import asyncio
import os
import pty
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.browser.conftest import ROOT, browsing
from tests.support.redis_process import free_port
from tests.support.waiting import wait_until

INSTALLED = ".venv/.service"
"""What `make` takes as the sign that the service is installed."""

COLD = bool(os.environ.get("COLD"))


class Terminal:
    """What a command prints where a person sees it."""

    def __init__(self, side: int) -> None:
        self.text = ""
        self._side = side
        os.set_blocking(side, False)
        asyncio.get_running_loop().add_reader(side, self._read)

    def _read(self) -> None:
        with suppress(OSError):  # it was closed at the other end
            self.text += os.read(self._side, 65_536).decode(errors="replace")

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._side)
        os.close(self._side)


@asynccontextmanager
async def making(
    folder: Path, target: str, **variables: str
) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    """Run `make` in a terminal until the end of the block."""
    own, others = pty.openpty()
    # pytest's own environment must not be the service's.
    kept = {name: text for name, text in os.environ.items() if name not in ("VIRTUAL_ENV", "BROWSER", "API_AUTH")}
    process = await asyncio.create_subprocess_exec(
        *("make", *([] if COLD else [f"--old-file={INSTALLED}"]), target),
        cwd=folder,
        env=kept | variables,
        stdin=others,
        stdout=others,
        stderr=others,
        start_new_session=True,
    )
    os.close(others)
    terminal = Terminal(own)
    try:
        yield terminal, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
        terminal.close()


@pytest.mark.long
async def test_a_newcomer_sees_a_delivery_arrive() -> None:
    # In a folder of a short name: a socket's path has 107 bytes at most, and pytest's own folders may be deeper.
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        await see_a_delivery_arrive(Path(folder) / "clone")


async def see_a_delivery_arrive(clone: Path) -> None:
    began = time.monotonic()
    cloning = await asyncio.create_subprocess_exec("git", "clone", "-q", str(ROOT), str(clone))
    assert await cloning.wait() == 0
    variables = {"PORT": str(free_port())}
    if not COLD:
        (clone / ".venv").symlink_to(sys.prefix)
        assert (clone / INSTALLED).exists()
        variables["PYTHONPATH"] = str(clone / "src")
    async with making(clone, "run", **variables) as (terminal, process):

        def prints(pattern: str) -> list[str]:
            assert process.returncode is None, terminal.text
            return re.findall(pattern, terminal.text)

        await wait_until(lambda: prints("Starting the service"), "make begins", 60, 0.1)
        [address, *_] = await wait_until(lambda: prints(r"(http://\S+)/ui/"), "it prints its address", 30, 0.1)
        [token, *_] = await wait_until(lambda: prints(r"-H 'Authorization: (\S+)'"), "it prints the token", 30, 0.1)
        async with browsing(address) as eyes:
            await eyes.sign_in(token)
            await eyes.page.click("text=Try it")
            await eyes.page.click("text=Schedule it")
            await eyes.page.wait_for_selector("#part-echo .arrival >> text=hello", timeout=30_000)
            assert eyes.complaints == []
        assert time.monotonic() - began < 60
