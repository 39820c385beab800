"""Health: each process touches a file while its event loop runs; `redis-scheduler health` looks at it.

So a worker, which has no port, can be checked as well as an API. A process that waits for Redis is healthy: to end it
would mend nothing.
"""

import asyncio
import logging
import os
import tempfile
import time
from pathlib import Path

from redis_scheduler.outage import stop_or_interval

logger = logging.getLogger(__name__)

BEAT_INTERVAL_S = 5.0
BEAT_MISSED_S = 20.0


def beat_file() -> Path:
    """Return the file that the processes of this user on this machine (or in this container) touch."""
    return Path(tempfile.gettempdir()) / f"redis-scheduler-{os.getuid()}.beat"


async def beat(stop: asyncio.Event) -> None:
    """Touch the file until `stop` is set."""
    path = beat_file()
    can_write = True
    while not stop.is_set():
        try:
            path.touch()
            can_write = True
        except OSError as error:
            # A full disk or a read-only one ends no delivery; the health check will say no.
            if can_write:
                logger.warning("beat-failed", extra={"fields": {"file": str(path), "error": str(error)}})
            can_write = False
        await stop_or_interval(stop, BEAT_INTERVAL_S)


def is_healthy() -> bool:
    """Whether a process has touched the file lately."""
    try:
        return time.time() - beat_file().stat().st_mtime < BEAT_MISSED_S
    except FileNotFoundError:
        return False
