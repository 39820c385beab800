"""Health: each process touches a file of its own while its event loop runs; `redis-scheduler health` looks at them.

So a worker, which has no port, can be checked as well as an API. A process that waits for Redis is healthy: to end it
would mend nothing.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from redis_scheduler.outage import stop_or_interval

logger = logging.getLogger(__name__)

BEAT_INTERVAL_S = 5.0
BEAT_MISSED_S = 20.0


def _beat_files() -> Path:
    """The folder-wide name of the files of this user's processes on this machine (or in this container): a pid behind it."""
    return Path(tempfile.gettempdir()) / f"redis-scheduler-{os.getuid()}-"


def _beat_file(process: int) -> Path:
    return Path(f"{_beat_files()}{process}.beat")


@contextlib.asynccontextmanager
async def beating(is_well: Callable[[], bool] = lambda: True) -> AsyncIterator[None]:
    """Touch this process's file during the block, whenever `is_well` holds; then remove it."""
    path = _beat_file(os.getpid())
    ended = asyncio.Event()
    beat = asyncio.create_task(_beat(path, ended, is_well), name="health")
    try:
        yield
    finally:
        ended.set()
        await beat


async def _beat(path: Path, ended: asyncio.Event, is_well: Callable[[], bool]) -> None:
    can_write = True
    try:
        while not ended.is_set():
            could_write, can_write = can_write, not is_well() or _touched(path)
            if could_write and not can_write:
                # A full disk or a read-only one ends no delivery; the health check will say no.
                logger.warning("beat-failed", extra={"fields": {"file": str(path)}})
            await stop_or_interval(ended, BEAT_INTERVAL_S)
    finally:
        _remove(path)


def forget(process: int) -> None:
    """Remove the file that a killed process left: another may be given its id."""
    _remove(_beat_file(process))


def _touched(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.touch()
        return True
    return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def is_healthy() -> bool:
    """Whether there is a process, and each has touched its file lately. Files of processes that are gone do not count."""
    prefix = _beat_files()
    ages = []
    for path in prefix.parent.glob(f"{prefix.name}*.beat"):
        with contextlib.suppress(OSError, ValueError, OverflowError):
            os.kill(int(path.stem.removeprefix(prefix.name)), 0)
            ages.append(time.time() - path.stat().st_mtime)
    return bool(ages) and max(ages) < BEAT_MISSED_S
