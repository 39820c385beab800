"""A Redis server of a test's own, on a TCP port: stopped, killed, paused and started again as the test wants."""

import asyncio
import contextlib
import functools
import itertools
import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from redis_scheduler.process.server_binary import candidates, choose
from tests.support.waiting import wait_until

BUS = 10_000
"""How far above its port a node of a cluster listens to the other nodes."""

PORTS = range(15_000, 22_000)
ROW = 2
"""So many ports in a row a test asks for at most."""

PORTS_MOST = 5
"""So many ports are tried for one server."""


class PortTaken(AssertionError):
    """Another program took the server's port, or that of its bus, between the choice and the start."""


@functools.cache
def _candidates() -> Iterator[int]:
    """The first ports of the rows that this process tries, one row after the other and over again.

    The processes of one run have rows of their own: a port is chosen some time before it is used. All are below those
    that the system gives to connections, which would be taken again.
    """
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    size = len(PORTS) // int(workers)
    start = PORTS.start + int(worker.removeprefix("gw")) * size
    rows = list(range(start, start + size + 1 - ROW, ROW))
    begin = random.randrange(len(rows))  # that of another run is another
    return itertools.cycle(rows[begin:] + rows[:begin])


def free_port(count: int = 1) -> int:
    """Return the first of `count` ports in a row, `ROW` at most, that nothing listens on, on any address; nor on their
    ports for the bus. The process gets it again only when it has gone through all others."""
    assert count <= ROW
    for first in _candidates():
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in range(first, first + count):
                for number in (port, port + BUS):
                    probes.enter_context(socket.socket()).bind(("", number))
            return first
    raise AssertionError("no port is free")


@functools.cache
def _binary() -> Path:
    path = choose(candidates(), None).path
    assert path is not None
    return path


def _output(*arguments: str) -> str:
    return subprocess.run([_binary(), *arguments], capture_output=True, text=True, timeout=10, check=False).stdout


@functools.cache
def server_version() -> tuple[int, ...]:
    """Return the version of the server that a RedisProcess runs."""
    return tuple(map(int, re.findall(r"v=(\d+)\.(\d+)", _output("--version"))[0]))


def speaks_tls() -> bool:
    """Whether that server was built with TLS: only such a one misses the certificate. It ends, whatever it misses."""
    return "No tls-cert-file configured" in _output("--tls-port", "1", "--port", "0")


def migrates_at_once() -> bool:
    """Whether that server moves a slot of a cluster in one step."""
    return "Valkey" in _output("--version") and server_version() >= (9, 0)


class RedisProcess:
    """An append-only server (everysec) in a folder; its data outlives `stop` and `kill`."""

    def __init__(self, folder: Path, *options: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        folder.mkdir(exist_ok=True)
        self.options = options
        """More of its command line, from the next start on."""
        self.command: tuple[str, ...] = ()
        """All of its command line, where it is something else than a plain server."""
        self._environment = dict(os.environ) | dict(environment)
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it, and return when it serves."""
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # it outlives this call
                [_binary(), *(self.command or self._plain)],
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        retry = Retry(NoBackoff(), 0)
        client = redis.asyncio.Redis(port=self.port, protocol=2, retry=retry, socket_timeout=1)

        async def serves() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                said = f"the server ended:\n{self._last_lines()}"
                raise PortTaken(said) if "Address already in use" in said else AssertionError(said)
            with contextlib.suppress(RedisError, OSError):
                await client.ping()
                # Where the port was taken, the server of another run may answer.
                return bool((await client.info("server"))["process_id"] == self.pid)
            return False

        try:
            await wait_until(serves, "Redis serves", 30)
        finally:
            await client.aclose()

    def _last_lines(self) -> str:
        return "\n".join((self.folder / "redis.log").read_text(errors="replace").splitlines()[-10:])

    @property
    def _plain(self) -> tuple[str, ...]:
        return (
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *self.options,
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def stop(self) -> None:
        """Stop it in order: what it answered is on disk."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a crash does."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                self._process.send_signal(number)
                await asyncio.to_thread(self._process.wait, 30)
            finally:
                self._process.kill()
                self._process.wait()


@asynccontextmanager
async def redis_process(
    folder: Path, *options: str, environment: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[RedisProcess]:
    """Run a server until the end of the block, with these variables beside those of this process. Where another program
    has taken its port meanwhile, it takes another one."""
    server = RedisProcess(folder, *options, environment=environment)
    try:
        for number in range(1, PORTS_MOST + 1):
            try:
                await server.start()
                break
            except PortTaken:
                if number == PORTS_MOST:
                    raise
                server.port = free_port()
        yield server
    finally:
        await server.kill()
