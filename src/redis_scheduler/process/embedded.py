"""The private Redis (or Valkey): the service's own, on a unix socket in the data folder, where REDIS_URL is not set.

These rules hold whichever of the two processes is killed, and when:

- One service a folder. It takes the folder's lock first and gives it back last; the system drops the lock of a killed
  process.
- One server a folder. A server that outlived a killed service is stopped before the data is opened again.
- No server opens what a newer one wrote: Redis 6.2 silently starts empty on a folder of 7.0. So the version is written
  to the folder before the server starts; after a crash between the two a server may be refused that could have served.
- The append-only file is written before Redis answers, and synced every second: a killed server loses nothing (about
  two seconds if the disk was stalling), a power cut the last second or two.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import quote

import psutil

from redis_scheduler.errors import FolderInUse, StartError
from redis_scheduler.logs import Events
from redis_scheduler.process import private
from redis_scheduler.process.memory import half_of_memory
from redis_scheduler.process.private import explained
from redis_scheduler.process.server_binary import Server, candidates, choose, identify
from redis_scheduler.settings import Settings
from redis_scheduler.stopping import stop_or_interval

logger = Events(__name__)

READY_S = 60.0  # a new server may stay silent for so long; one that answers LOADING may take as long as it needs
STOP_S = 10.0  # a server that has not written its file and ended by then is killed
WATCH_S = 0.25  # between two looks at the running server
RESTART_S = 1.0  # the least time from one start of a server that dies to the next
VERSION_FILE = "redis-version"  # it is in the folder before the first server starts there
VERSION_BYTES = 1_024  # more than any version has
LOG_TAIL_BYTES = 65_536  # the last line of the server's log is looked for in so many
NODE_ENTRIES = 16  # of the queue in one block: Redis looks for an entry through half a block, of 100 by default
SOCKET_PATH_LIMIT = 103  # bytes: macOS takes 103, Linux 107, and Redis silently cuts off a longer path


def _kept_version(path: Path) -> Server:
    try:
        with os.fdopen(private.open_file(path, os.O_RDONLY), "rb") as file:
            written_by = identify(file.read(VERSION_BYTES))
    except private.NotPrivate:  # its text would advise to remove the file
        written_by = None
    if written_by is None:
        rule = "must be a file of this user that holds what last wrote this folder, such as 'redis 7.0.15'"
        raise StartError(f"{path} {rule}: mend it")
    return written_by


def _select(folder: Path) -> Server:
    """Choose the server for the folder and write its version there, whole or not at all."""
    kept = folder / VERSION_FILE
    written_by = _kept_version(kept) if os.path.lexists(kept) else None
    server = choose(candidates(), written_by)
    if server != written_by:
        draft = folder / "redis-version.new"
        with os.fdopen(private.open_file(draft, os.O_WRONLY | os.O_TRUNC), "w") as file:
            file.write(f"{server}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(kept)
    return server


def _take_lock(folder: Path) -> int:
    """Take the folder for this process, until the descriptor is closed. No child inherits it."""
    descriptor = private.open_file(folder / "lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        holder = f"pid {os.pread(descriptor, 20, 0).decode(errors='replace').strip()}"
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise
        remedy = "stop that one, or set another DATA_DIR"
        raise FolderInUse(f"DATA_DIR {folder} is in use by another redis-scheduler ({holder}): {remedy}") from None
    return descriptor


def _servers_on(socket: Path) -> list[psutil.Process]:
    """The server processes of this folder, by their command lines.

    A process id in a file may be missing after a crash, or have been given to another program.
    """
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] in ("redis-server", "valkey-server"):
            line = " ".join(process.info["cmdline"] or ()).rstrip()
            # As it was started, and as every version renames itself once it listens.
            if f" --unixsocket {socket} " in line or line.endswith(f" unixsocket:{socket}"):
                found.append(process)
    return found


async def _first_line(socket: Path) -> bytes:
    """The server's answer to PING, or nothing if there is none within a second."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline()
            finally:
                writer.close()
    except OSError:
        return b""


class EmbeddedServer:
    """The private Redis: `start`, then `run` for as long as the service lives, then `stop`."""

    def __init__(
        self,
        data_dir: Path,
        max_memory: int | None = None,
        *,
        ready_s: float = READY_S,
        stop_s: float = STOP_S,
        restart_s: float = RESTART_S,
    ) -> None:
        self._ready_s, self._stop_s, self._restart_s = ready_s, stop_s, restart_s
        self.data_dir = data_dir
        self._max_memory = max_memory or half_of_memory()
        self._folder = Path(os.path.realpath(data_dir))
        self._socket = self._folder / "redis.sock"
        self._log = self._folder / "redis.log"
        self._server: Server | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Where clients connect to: known before `start`, and the same after a restart."""
        return f"unix://{quote(os.fsencode(self._socket))}"

    @property
    def has_data(self) -> bool:
        """Whether a server was ever started in the folder. Changes nothing there."""
        with explained(self._folder):
            return (self._folder / VERSION_FILE).exists()

    @property
    def description(self) -> str:
        """The server's flavour and version, such as `redis 6.2.14`."""
        return str(self._server or "not started")

    async def start(self) -> None:
        """Take the folder, stop a server left in it, start one, and return when it serves.

        Raises StartError with one line that says what to do, or FolderInUse where another process has the folder; then
        this one leaves nothing running or locked.
        """
        if (excess := len(os.fsencode(self._socket)) - SOCKET_PATH_LIMIT) > 0:
            raise StartError(
                f"DATA_DIR {self._folder} is {excess} bytes too long for the unix socket in it: set a shorter DATA_DIR"
            )
        try:
            with explained(self._folder):
                private.make_folder(self.data_dir)
                self._lock = _take_lock(self._folder)
                await self._stop_orphans()
                self._spawn(await asyncio.to_thread(_select, self._folder))
                await self._wait_until_ready()
        except BaseException:
            await self.stop()
            raise

    async def run(self, stop: asyncio.Event) -> None:
        """Start the server again whenever it dies, at most once each `restart_s`; return soon after `stop` is set."""
        while not await stop_or_interval(stop, WATCH_S):
            died = self._process
            if died is None or died.poll() is None:
                continue
            fields = {"server": self.description, "exit": died.returncode, "last": self._last_log_line()}
            logger.error("embedded-died", **fields)
            if await stop_or_interval(stop, self._started_at + self._restart_s - time.monotonic()):
                return
            try:
                server = await asyncio.to_thread(_select, self._folder)
                if self._process is died:  # else stop() was called meanwhile
                    self._spawn(server)
            except (OSError, StartError):
                self._started_at = time.monotonic()
                logger.exception("embedded-restart-failed")

    async def stop(self) -> None:
        """Stop the server once its data is on disk, and give the folder back. May be called at any time, repeatedly."""
        process, lock, self._process, self._lock = self._process, self._lock, None, None
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    await asyncio.to_thread(process.wait, self._stop_s)
                except subprocess.TimeoutExpired:
                    process.kill()
                    await asyncio.to_thread(process.wait)
        finally:
            if lock is not None:
                os.close(lock)

    async def _stop_orphans(self) -> None:
        orphans: list[psutil.Process] = []
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            orphans = await asyncio.to_thread(_servers_on, self._socket)
            for orphan in orphans:
                logger.warning("embedded-orphan", pid=orphan.pid, signal=signal_number.name)
                with contextlib.suppress(psutil.Error):
                    orphan.send_signal(signal_number)
            deadline = time.monotonic() + self._stop_s
            while orphans and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                # Asked by command line again: a process that nobody reaps keeps its id, but no command line.
                orphans = await asyncio.to_thread(_servers_on, self._socket)
        if orphans or await _first_line(self._socket):
            pids = ", ".join(str(orphan.pid) for orphan in orphans) or "unknown"
            raise StartError(f"DATA_DIR {self._folder} is still served by a server (pid {pids}): stop it first")

    def _spawn(self, server: Server) -> None:
        self._server = server
        self._started_at = time.monotonic()
        # No --logfile: errors from before Redis opens it would be lost.
        options = ["--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        options += ["--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        options += ["--maxmemory", str(self._max_memory), "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        options += ["--stream-node-max-entries", str(NODE_ENTRIES)]
        with contextlib.suppress(FileNotFoundError):
            self._log.replace(self._folder / "redis.log.old")
        with os.fdopen(private.open_file(self._log, os.O_WRONLY | os.O_APPEND), "ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # a server that was found, and options of our own
                [str(server.path), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "LC_ALL": "C"},  # from 7.2 on, a locale that is not installed stops the server
                umask=0o077,
                start_new_session=True,  # Ctrl-C at the terminal must not reach it: the stop of the service still needs it
            )

    async def _wait_until_ready(self) -> None:
        answered_at = time.monotonic()
        while True:
            process = self._process
            if process is None or process.poll() is not None:
                raise StartError(f"the embedded {self._server} could not start: {self._last_log_line()}")
            answer = await _first_line(self._socket)
            if answer and not answer.startswith(b"-LOADING"):
                return
            if answer:
                answered_at = time.monotonic()
            elif time.monotonic() - answered_at > self._ready_s:
                raise StartError(
                    f"the embedded {self._server} gave no answer for {self._ready_s:g} s: {self._last_log_line()}"
                )
            await asyncio.sleep(0.02)

    def _last_log_line(self) -> str:
        """The last line of the server's log since it was started, without process id and time."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                lines = file.read(LOG_TAIL_BYTES).decode(errors="replace").splitlines()
        except OSError as error:
            return f"its log cannot be read ({error})"
        last = next((line for line in reversed(lines) if line.strip()), f"see {self._log}")
        return re.sub(r"^\d+:\w+ .*? [#*.-] ", "", last).strip()


@contextlib.asynccontextmanager
async def redis_at(
    settings: Settings, serving: Callable[[EmbeddedServer], AbstractAsyncContextManager[None]]
) -> AsyncIterator[str]:
    """Yield the URL of Redis: the one that is set, or that of a private one, which `serving` starts and this stops."""
    if settings.redis_url:
        yield settings.redis_url
        return
    server = EmbeddedServer(settings.data_dir, settings.max_memory)
    try:
        async with serving(server):
            yield server.url
    finally:
        await server.stop()
