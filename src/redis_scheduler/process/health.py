"""Health: each process touches a file of its own while its event loop runs; `redis-scheduler health` looks at them.

So a worker, which has no port, can be checked as well as an API. A process that waits for Redis is healthy: a restart
would mend nothing.

A process holds a lock on its file, and the system drops the lock when the process ends, in whatever way. So a file that
was left behind is known as such, even if its process id has been given again: to another program, to a thread, or to
the service itself in a restarted container. The files stand in a folder of this user alone (private.py).

A file's time of change is taken from the monotonic clock, which all processes of a machine share: nobody sets it, and
it stands still while the machine sleeps. A program that removes old files takes these for files of 1970; a file that
was removed is made again at the next beat.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from redis_scheduler.logs import Events
from redis_scheduler.process import private
from redis_scheduler.stopping import stop_or_interval

logger = Events(__name__)

BEAT_INTERVAL_S = 5.0
"""Between two beats of a process."""

BEAT_MISSED_S = 20.0
"""A process that has not beaten for so long is not healthy."""

TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # a private folder is made in it
"""Where the folder may be, unless TMPDIR is set: a read-only container may have only the last."""


def _folders() -> list[Path]:
    """The folders that may hold this user's files, best first: the same for the service and for the check."""
    chosen = os.environ.get("TMPDIR", "")
    roots = (chosen,) if os.access(chosen, os.X_OK) else TEMPORARY
    return [Path(root, f"redis-scheduler-{os.geteuid()}") for root in roots if os.access(root, os.X_OK)]


@contextlib.asynccontextmanager
async def beating(
    is_well: Callable[[], bool] = lambda: True, interval_s: float = BEAT_INTERVAL_S
) -> AsyncIterator[None]:
    """Within the block, touch this process's file every few seconds while `is_well()`; then remove it."""
    clear()
    ended = asyncio.Event()
    beat = asyncio.create_task(_beat(ended, is_well, interval_s), name="health")
    try:
        yield
    finally:
        ended.set()
        await beat


async def _beat(ended: asyncio.Event, is_well: Callable[[], bool], interval_s: float) -> None:
    file, has_failed = _BeatFile(), False
    try:
        while not ended.is_set():
            if is_well():
                try:
                    file.touch()
                    has_failed = False
                except OSError as error:
                    # A full or read-only disk stops no delivery; only the health check will say no.
                    if not has_failed:
                        fields = {"error": str(error), "effect": "the health check will say no; set TMPDIR"}
                        logger.warning("beat-failed", **fields)
                    has_failed = True
            await stop_or_interval(ended, interval_s)
    finally:
        file.remove()


def _stamp(descriptor: int) -> None:
    now_ns = time.monotonic_ns()
    os.utime(descriptor, ns=(now_ns, now_ns))


class _BeatFile:
    """The file of this process, locked, in the first folder that takes it."""

    def __init__(self) -> None:
        self._path = Path()
        self._descriptor: int | None = None

    def touch(self) -> None:
        """Say that the process runs; make the file where there is none (any more). Raises OSError."""
        if self._descriptor is not None and not os.fstat(self._descriptor).st_nlink:
            self.remove()
        if self._descriptor is None:
            self._make()
        else:
            _stamp(self._descriptor)

    def _make(self) -> None:
        refusals = []
        for folder in _folders():
            self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.beat"
            try:
                private.make_folder(folder)
                self._descriptor = private.open_file(self._path, os.O_RDWR | os.O_EXCL)
                _stamp(self._descriptor)  # before the lock, with which the file begins to count
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.remove()
                refusals.append(str(error))
            else:
                return  # another's `clear` may have removed it before the lock: then the next beat makes it anew
        raise OSError("; ".join(refusals) or "there is no temporary folder")

    def remove(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None


def _open_files(flags: int) -> Iterator[tuple[Path, int]]:
    """Open each file of this user's processes in turn; each is closed before the next."""
    for folder in _folders():
        with contextlib.suppress(OSError):
            for path in folder.glob("*.beat"):
                with contextlib.suppress(OSError):
                    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                    try:
                        if os.fstat(descriptor).st_uid == os.geteuid():
                            yield path, descriptor
                    finally:
                        os.close(descriptor)


def _is_held(descriptor: int, kind: int) -> bool:
    """Whether the process of a file lives. If not, this takes the lock until the descriptor is closed."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def clear() -> None:
    """Remove the files of processes that are gone."""
    for path, descriptor in _open_files(os.O_RDWR):
        if not _is_held(descriptor, fcntl.LOCK_EX):
            with contextlib.suppress(OSError):
                path.unlink()


def is_healthy(missed_s: float = BEAT_MISSED_S) -> bool:
    """Whether there is a process, and each has touched its file lately. Files of processes that ended do not count."""
    ages_ns = [
        abs(time.monotonic_ns() - os.fstat(descriptor).st_mtime_ns)
        for _, descriptor in _open_files(os.O_RDONLY)
        if _is_held(descriptor, fcntl.LOCK_SH)
    ]
    return bool(ages_ns) and max(ages_ns) < missed_s * 1e9
