"""Processes that stand still, as on a machine that hangs, for as long as a test wants it."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.support.waiting import wait_until


def _stands_still(process: psutil.Process) -> bool:
    """Whether none of its threads runs; where the system does not show its threads, whether the process is stopped."""
    try:
        states = [
            stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{process.pid}/task").glob("*/stat")
        ]
    except OSError:  # a thread ended meanwhile
        return False
    return process.status() == psutil.STATUS_STOPPED and all(state == "T" for state in states)


@asynccontextmanager
async def standing_still(*pids: int) -> AsyncIterator[None]:
    """Let processes stand still from the first line of the block to its end, whether it fails or not.

    The signal is not enough: it takes effect after the call that sends it has returned, in one thread after the other.
    """
    processes = [psutil.Process(pid) for pid in pids]
    try:
        for process in processes:
            process.suspend()
        await wait_until(lambda: all(map(_stands_still, processes)), f"{pids} stand still")
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
