"""A log that nobody reads: API and workers share a pipe, as a container's log driver has it, and its reader stands
still."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, Spread, scaled
from tests.support import engine
from tests.support.redis_process import free_port
from tests.support.service import TOKEN, Process
from tests.support.waiting import wait_until

RATE = 200
RETRY_TIME_S = 0.5
BUFFER_BYTES = scaled(262_144, 16_384)
"""Instead of 1 MiB, so that the case need not wait until that is full."""


class Unread(Process):
    """A process whose log is a pipe: what it says is not known, so its port is given to it."""

    def __init__(self, folder: Path, output: int, *arguments: str, **variables: str) -> None:
        self.port, self._output = free_port(), output
        settings = {"PORT": str(self.port), "API_AUTH": TOKEN, "LOG_LEVEL": "debug", "BUFFER_BYTES": str(BUFFER_BYTES)}
        super().__init__(folder, *arguments, module=engine.MODULE, **settings, **variables)

    def open_log(self) -> BinaryIO:
        """The pipe; this end of it is closed once the process has its own."""
        return os.fdopen(os.dup(self._output), "wb")

    async def started(self, timeout_s: float = 60) -> dict[str, Any]:
        """Wait until the port is open."""

        def is_open() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            return False

        await wait_until(is_open, "the port is open", timeout_s)
        return {"port": self.port}


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where it would be read, and where it is written."""
    ends = os.pipe()
    yield ends
    for descriptor in ends:
        os.close(descriptor)


@pytest.mark.case("23", "a log that nobody reads, under load with failures")
@pytest.mark.long
async def test_a_log_that_nobody_reads_costs_nothing_but_its_lines(
    checker: Checker, figures: Figures, tmp_path: Path, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    attempts = Attempts(failures=lambda number: number % 2)
    checker.receiver.behaviour = attempts
    count = RATE * scaled(30, 3)
    variables = {"REDIS_URL": checker.redis_url, "RETRY_TIME": f"{RETRY_TIME_S:g}"}

    async def come(api: Process) -> tuple[Spread, Spread]:
        """Schedule tasks, and wait for them; return how late they came, and how long a schedule took."""
        tasks = await checker.load(api, count, ttl=0.5, rate=RATE)
        await checker.drained()
        arrivals = checker.arrivals()
        attempts.assert_each_once_and_none_early({task.number: arrivals[task.number] for task in tasks}, RETRY_TIME_S)
        lateness = Spread.of(arrivals[task.number][0].at - task.due_at for task in tasks)
        return lateness, Spread.of(task.took_s for task in tasks)

    api = await checker.start("api", LOG_LEVEL="debug")
    workers = [await checker.start("worker", LOG_LEVEL="debug", RETRY_TIME=f"{RETRY_TIME_S:g}") for _ in range(2)]
    read_late, read_took = await come(api)
    read = len(checker.receiver.arrivals)
    for process in (api, *workers):
        await process.stop()

    api = Unread(tmp_path, writer, "api", **variables)
    first, second = (Unread(tmp_path, writer, "worker", **variables) for _ in range(2))
    checker.processes += [api, first, second]
    unread_late, unread_took = await come(api)
    assert is_full(writer), "the case is what it says"
    figures.note(read_lateness_s=read_late, unread_lateness_s=unread_late)
    figures.note(read_schedule_s=read_took, unread_schedule_s=unread_took)

    # A stop is heeded, under load, and burns nothing.
    more = scaled(10, 6) * RATE  # for longer than the end of a process waits for its last lines
    loading = asyncio.create_task(checker.load(api, more, ttl=0.2, rate=RATE))
    await wait_until(lambda: len(checker.sent) > 2 * count + RATE // 2, "it is under load", 30)
    stopped_at = time.monotonic()
    second.signal(signal.SIGTERM)
    assert await second.ended() == 0
    figures.note(stop_s=time.monotonic() - stopped_at)
    assert len(checker.sent) < 2 * count + more, "it was under load to the end"
    await loading
    await checker.drained()
    unread = len(checker.receiver.arrivals) - read

    # Read again, it says what is missing: the lines that are there, and those it counted, are all that were written.
    assert [process.process.poll() for process in (api, first)] == [None, None]
    lines: list[dict[str, Any]] = []
    reading = asyncio.create_task(asyncio.to_thread(read_events, reader, lines))
    await wait_until(lambda: dropped(lines), "it says how many lines were dropped")
    await checker.load(api, 10, ttl=0)
    await checker.drained()
    await checker.verdict()
    os.write(writer, b'{"event":"end"}\n')
    await reading
    figures.note(log_lines=len(lines), log_lines_dropped=dropped(lines))
    its_own = [line for line in lines if line["event"] in ("delivered", "retry")]
    assert len(its_own) + dropped(lines) > unread // 4, "what is told is not little: one worker of two said it all"
    assert sum(line["event"] == "stopped" for line in lines) == 2, "the log flows to its end"


def is_full(pipe: int) -> bool:
    """Whether a pipe has no room for a line."""
    os.set_blocking(pipe, False)
    try:
        os.write(pipe, b" " * 4_096)
    except BlockingIOError:
        return True
    finally:
        os.set_blocking(pipe, True)
    return False


def read_events(pipe: int, lines: list[dict[str, Any]]) -> None:
    """Read the log's lines until that which says that it is the end."""
    with os.fdopen(os.dup(pipe), "rb") as log:
        for line in log:
            event = json.loads(line)
            if event["event"] == "end":
                return
            lines.append(event)


def dropped(lines: list[dict[str, Any]]) -> int:
    return sum(line["lines"] for line in lines if line["event"] == "log-lines-dropped")
