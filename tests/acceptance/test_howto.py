"""Each page of docs/howto, as its reader follows it: on a service with its own Redis, and a receiver."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.howto import (
    FOLDER,
    Block,
    answers,
    blocks,
    has_request,
    only_reads,
    prints_as_shown,
    start_variables,
    steps,
)
from tests.support.redis_process import free_port
from tests.support.service import Process
from tests.support.waiting import wait_until

WAIT_S = 20
DONE = "-- done"
pytestmark = pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="needs bash and curl")
PAGES = sorted(path.name for path in FOLDER.glob("*.md") if path.name != "README.md")


class Reader:
    """Follows a page in one shell, in the folder where the service was started."""

    def __init__(self, shell: asyncio.subprocess.Process, errors: Path, ports: dict[str, int], received: Path) -> None:
        self._shell = shell
        self._errors = errors
        self._ports = ports
        self._received = received
        self._last: dict[str, Any] = {}

    async def follow(self, block: Block, shown: Block | None) -> None:
        """Do what a block says; fail unless it comes out as the page shows it."""
        place = f"line {block.line}:\n{block.text}"
        if block.kind == "http":
            await wait_until(lambda: has_request(self._received.read_text(), block.text), place, WAIT_S)
        elif shown and only_reads(block):
            printed = ""

            async def is_as_shown() -> bool:
                nonlocal printed
                printed = await self._run(block.text, place)
                return prints_as_shown(printed, shown)

            try:
                await wait_until(is_as_shown, place, WAIT_S, every_s=0.1)
            except AssertionError as error:
                raise AssertionError(f"{error}\nprinted:\n{printed}\nnot:\n{shown.text}") from None
        else:
            printed = await self._run(block.text, place)
            if shown:
                assert prints_as_shown(printed, shown), f"{place}\nprinted:\n{printed}\nnot:\n{shown.text}"
            refused = [one for one in answers(printed) if isinstance(one, dict) and one.get("status", 0) >= 400]
            assert shown or not refused, f"{place}\nprinted:\n{printed}"

    async def _run(self, text: str, place: str) -> str:
        """Run a block; what it printed. A line `KEY=…` gets the `key` of the last answer before it."""
        printed = ""
        for part in re.split(r"^(?=[A-Z_]+=…)", text, flags=re.MULTILINE):
            printed += await self._run_part(part, place)
            objects = [one for one in answers(printed) if isinstance(one, dict)]
            self._last = objects[-1] if objects else self._last
        return printed

    async def _run_part(self, text: str, place: str) -> str:
        for written, port in self._ports.items():
            text = text.replace(written, f"127.0.0.1:{port}")
        text = re.sub(r"^([A-Z_]+)=…", lambda one: f"{one[1]}={self._last[one[1].lower()]}", text, flags=re.MULTILINE)
        stdin, stdout = self._shell.stdin, self._shell.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{text}\nprintf '\\n%s\\n' '{DONE}'\n".encode())
        printed = b""
        async with asyncio.timeout(60):
            while not printed.endswith(f"\n{DONE}\n".encode()):
                line = await stdout.readline()
                assert line, f"{place}\nfailed:\n{printed.decode()}\n{self._errors.read_text()}"
                printed += line
        return printed.decode().removesuffix(f"\n{DONE}\n")


@asynccontextmanager
async def receiver_at(received: Path) -> AsyncIterator[int]:
    """The receiver of the how-to pages, on a free port."""
    with received.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(FOLDER / "receiver.py"), "0", stdout=log, start_new_session=True
        )
    try:
        line = await wait_until(lambda: re.match(r"(\d+)\n", received.read_text()), "the receiver listens")
        assert line
        yield int(line[1])
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def reading(page: str, folder: Path) -> AsyncIterator[Reader]:
    """Start the service, a receiver and a shell."""
    data, errors = folder / "redis-scheduler-data", folder / "errors"
    async with receiver_at(folder / "received") as receiver_port:
        settings = {
            name: text.replace("127.0.0.1:9000", f"127.0.0.1:{receiver_port}")
            for name, text in start_variables(page).items()
        }
        service = Process(folder, DATA_DIR=str(data), LOG_FORMAT="json", **settings)
        try:
            port = (await service.started())["port"]
            with errors.open("wb") as log:
                shell = await asyncio.create_subprocess_exec(
                    *("bash", "-e", "-o", "pipefail"),
                    cwd=folder,
                    env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)},
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    limit=16 * 1024 * 1024,
                    start_new_session=True,
                )
            try:
                ports = {"127.0.0.1:8080": port, "127.0.0.1:9000": receiver_port, "127.0.0.1:9001": free_port()}
                yield Reader(shell, errors, ports, folder / "received")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
                await shell.communicate()
        finally:
            await service.stop()


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_holds(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    page = (FOLDER / name).read_text()
    async with reading(page, tmp_path_factory.mktemp("page")) as reader:
        setup = [block for block in blocks((FOLDER / "README.md").read_text()) if block.kind == "sh"]
        for block in setup:
            await reader.follow(block, None)
        done = 0
        for block, shown in steps(page):
            await reader.follow(block, shown)
            done += 1
        assert done, "a page without an example"


async def test_the_readme_holds_where_it_is_used(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each line of its examples is taken, and none is refused."""
    page = (FOLDER.parents[1] / "README.md").read_text()
    used = page[page.index("## Use it\n") : page.index("## Run it for real\n")]
    examples = [block for block in blocks(used) if block.kind == "sh"]
    async with reading("", tmp_path_factory.mktemp("readme")) as reader:
        for block in examples:
            for line in block.text.splitlines():
                await reader.follow(Block("sh", line + "\n", block.line), None)
    assert len(examples) == 2


def test_the_list_has_each_page() -> None:
    assert sorted(re.findall(r"^- \[.*\]\((.*)\)$", (FOLDER / "README.md").read_text(), re.MULTILINE)) == PAGES
