"""The real service as a process, as a user starts it; and a client that talks HTTP to it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import aiohttp

from tests.support import starter
from tests.support.documented import check_documented
from tests.support.names import SHARDS
from tests.support.waiting import wait_until

TOKEN = "test-token"


class Process:
    """One `redis-scheduler` process, or one of another module with the same log. Its log is read as events."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        module: str = "redis_scheduler",
        prefix: Sequence[str] = (),
        **variables: str,
    ) -> None:
        number = len(list(folder.glob("service-*.log")))
        self.log_path = folder / f"service-{number}.log"
        shards = {} if "," in variables.get("REDIS_URL", "") else _SHARDS
        variables = {"PORT": "0", "DATA_DIR": str(folder / "data")} | shards | variables
        self._events: list[dict[str, Any]] = []
        self._read_bytes = 0
        with self.open_log() as log:
            self.process = _start([module, *arguments], variables, log, log, prefix)

    def open_log(self) -> BinaryIO:
        """Open what the process writes its log to."""
        return self.log_path.open("wb")

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of one name in the log so far. Each line is read once, since tests ask a hundred times a
        second."""
        with self.log_path.open("rb") as log:
            log.seek(self._read_bytes)
            lines, newline, _ = log.read().rpartition(b"\n")
        self._read_bytes += len(lines + newline)
        self._events += map(json.loads, (line for line in lines.splitlines() if line[:1] + line[-1:] == b"{}"))
        return [event for event in self._events if event["event"] == name]

    async def started(self, timeout_s: float = 60) -> dict[str, Any]:
        """Wait for the start; return its event."""

        def has_started() -> list[dict[str, Any]]:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            return self.events("started")

        return (await wait_until(has_started, f"service started:\n{self.log}", timeout_s))[0]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def ended(self, timeout_s: float = 20) -> int:
        """Wait for the end; return the exit code."""
        return await asyncio.to_thread(self.process.wait, timeout_s)

    async def stop(self) -> None:
        """End the process, gently if it is still there."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                await self.ended(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                await self.ended()


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; of its settings it has these alone."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = _start(["redis_scheduler", *arguments], variables, output, errors)
        try:
            code = process.wait(60)
        finally:
            process.kill()
            process.wait()
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read().decode(), errors.read().decode())


def _start(
    command: Sequence[str],
    variables: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes],
    prefix: Sequence[str] = (),
) -> starter.Started | subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES} | dict(variables)
    outputs = output.fileno(), errors.fileno()
    return (None if prefix else starter.start(command, environment, _READ_AT_START, outputs)) or subprocess.Popen(
        [*prefix, sys.executable, "-W", "error", "-m", *command],
        env=environment,
        stdout=output,
        stderr=errors,
        stdin=subprocess.DEVNULL,
    )


_SHARDS = {"SHARDS": str(SHARDS)} if SHARDS > 1 else {}
"""Where tests run on several shards, so does each service that is told no other number, and has no servers of its own
for them."""

_SETTINGS = (Path(__file__).parents[2] / "src/redis_scheduler").glob("*settings.py")
_VARIABLES = re.findall(r'"([A-Z_]{4,})"', "".join(path.read_text() for path in _SETTINGS))
_READ_AT_START = {
    *_VARIABLES,
    # of engine.py
    *("LEASE_MS", "WINDOW_MS", "RETIRE_IDLE_MS", "RETIRE_INTERVAL_S", "BUFFER_BYTES", "LONG_OWN_LEASE", "UNWATCHED"),
    *("REJOIN_INTERVAL_S", "STALE_S", "CHILD_END_S", "SERVER_STOP_S", "OPEN_FILES", "KEEPALIVE_S"),
    *("TMPDIR", "COLUMNS", "REDIS_SCHEDULER_IMAGE", "PYTEST_CURRENT_TEST"),
    "PYTHONWARNINGS",  # what a supervisor starts reads it; what is forked has them as errors already
}


class Client:
    """A user of the API."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str = TOKEN) -> None:
        self.session = session
        self.url = url
        self.headers = {"Authorization": token}

    def with_token(self, token: str) -> "Client":
        """Whoever asks the same API with another token."""
        return Client(self.session, self.url, token)

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Send a request; return its status and its JSON, a line whose `status` is the same."""
        headers = self.headers | options.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            assert response.content_type == "application/json"
            body = await response.read()
        assert body.endswith(b"}\n")
        content = json.loads(body)
        assert content["status"] == response.status
        check_documented(method, path, response.status, content.get("code"))
        return response.status, content

    async def schedule(self, webhook: str, ttl: float = 0, path: str = "/schedule", **fields: Any) -> str:
        """Schedule a task that must be accepted; return its key."""
        status, content = await self.call("POST", path, json={"webhook": webhook, "ttl": ttl, **fields})
        assert status == 200, content
        key: str = content["key"]
        return key

    async def accepts(self, webhook: str, ttl: float = 0) -> bool:
        """Whether a task is accepted now."""
        return (await self.call("POST", "/schedule", json={"webhook": webhook, "ttl": ttl}))[0] == 200

    async def stats(self) -> dict[str, Any]:
        status, content = await self.call("GET", "/stats")
        assert status == 200, content
        found: dict[str, Any] = content["data"]
        return found

    async def drained(self, timeout_s: float = 20, left: int = 0) -> dict[str, Any]:
        """Wait until nothing is left to deliver but so many tasks, which are not yet due; return the statistics."""

        async def is_drained() -> dict[str, Any] | None:
            stats = await self.stats()
            return stats if stats["running_schedules"] == stats["states"]["due"] == left else None

        return await wait_until(is_drained, "all tasks delivered or dead", timeout_s, every_s=0.05) or {}


@asynccontextmanager
async def client_of(process: Process, token: str = TOKEN) -> AsyncIterator[Client]:
    """Talk to a started service."""
    event = await process.started()
    async with aiohttp.ClientSession() as session:
        yield Client(session, f"http://127.0.0.1:{event['port']}", token)


@asynccontextmanager
async def serving(
    folder: Path,
    *arguments: str,
    module: str = "redis_scheduler",
    prefix: Sequence[str] = (),
    **variables: str,
) -> AsyncIterator[Process]:
    """Run the service until the end of the block."""
    process = Process(folder, *arguments, module=module, prefix=prefix, **({"API_AUTH": TOKEN} | variables))
    try:
        await process.started()
        yield process
    finally:
        await process.stop()
