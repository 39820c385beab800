"""What the tests stop really stands still while they rely on it, and goes on after them."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

BUSY = """
import hashlib, threading

def work():
    while True:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000)  # without the interpreter's lock

for _ in range(4):
    threading.Thread(target=work).start()
"""


@pytest.fixture
def busy() -> Iterator[psutil.Process]:
    """A process whose threads all work at once."""
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def worked_ns(process: psutil.Process) -> int:
    """How long its threads have had a core."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads how long threads have run from /proc")
async def test_no_thread_runs_in_the_block_and_all_go_on_after_it(busy: psutil.Process) -> None:
    await wait_until(lambda: busy.num_threads() == 5, "its threads work")
    for _ in range(20):
        async with standing_still(busy.pid):
            before = worked_ns(busy)
            await asyncio.sleep(0.005)
            assert worked_ns(busy) == before
        await wait_until(lambda: worked_ns(busy) > before, "it goes on")  # noqa: B023


async def test_it_goes_on_after_a_block_that_failed(busy: psutil.Process) -> None:
    with pytest.raises(ZeroDivisionError):
        async with standing_still(busy.pid):
            raise ZeroDivisionError
    await wait_until(lambda: busy.status() != psutil.STATUS_STOPPED, "it goes on")


async def test_a_process_that_was_killed_in_the_block_is_no_failure(busy: psutil.Process) -> None:
    async with standing_still(busy.pid):
        busy.kill()
        busy.wait()
