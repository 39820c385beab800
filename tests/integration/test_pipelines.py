"""Requests that come at once: each gets its own answer, in their order, and a refusal is the last."""

import asyncio
import itertools
import json
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_scheduler.api import bounds
from redis_scheduler.api.limits import Limits
from tests.support.recorder import Recorder, recording
from tests.support.waiting import wait_until

HEAD = b"POST /refused-later HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "a chunk that is none": (CHUNKED + b"ZZ\r\n", 400),
    "a second chunk that is none": (CHUNKED + b"3\r\nabc\r\nZZ\r\n", 400),
    "a chunk's extension that is too long": (CHUNKED + b"5;" + b"x" * 4 * bounds.HEAD_BYTES, 400),
    "a trailer that is too long": (CHUNKED + b"0\r\nX: " + b"x" * 4 * bounds.HEAD_BYTES, 400),
    "two hosts": (HEAD + b"Host: x\r\n\r\n", 400),
    "what is no HTTP": (b"\0\0\0\r\n\r\n", 400),
    "a head that is too long": (HEAD + b"X: " + b"x" * 4 * bounds.HEAD_BYTES, 400),
}
"""What is refused behind whole requests, with the status."""

UNFINISHED = {
    "nothing": b"",
    "half a head": b"GET /tw",
    "no body": HEAD + b"Content-Length: 10\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 10\r\n\r\nabc",
    "half a chunk": CHUNKED + b"5\r\nab",
}

Answer = tuple[int, bytes]


def answers_in(data: bytes) -> list[Answer]:
    """Return status and body of each answer; what is none fails."""
    found: list[Answer] = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), data[:200]
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert len(rest) >= length, "whole"
        found.append((int(head.split()[1]), rest[:length]))
        data = rest[length:]
    return found


def wire_of(number: int, path: str) -> tuple[bytes, bytes]:
    """Return a whole request of one of four kinds, and the path that its answer repeats."""
    path = f"{path}/{number}"
    kinds = [
        b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ]
    return kinds[number % len(kinds)] % path.encode(), path.encode()


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connected(cls, port: int) -> "Client":
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes, cuts: Collection[int] = ()) -> None:
        """Send, in a packet for each piece."""
        for start, end in itertools.pairwise([0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]):
            self.writer.write(data[start:end])
            for _ in range(3):  # the server is in this loop: it has read the piece by then
                await asyncio.sleep(0)

    async def answers(self) -> list[Answer]:
        """Return all answers, once the server has closed its side."""
        data = await asyncio.wait_for(self.reader.read(), 10)
        self.writer.close()
        return answers_in(data)


def is_over(recorder: Recorder) -> Callable[[], bool]:
    """Return whether the server takes nothing more from the one connection."""
    return lambda: all(connection._is_over for connection in recorder.connections)


@pytest.fixture(autouse=True)
def no_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client sends, the server has no fault to log."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


BETWEEN = [0, 1, 2, 13, 14, 15, 40]
"""Whole requests between the one that is answered and the one that is refused; 16 in all are parsed ahead."""


@pytest.mark.parametrize("closes", [False, True], ids=["", "half-closed"])
@pytest.mark.parametrize("end", REFUSED)
def test_a_refusal_is_the_last_answer(runner: asyncio.Runner, recorder: Recorder, end: str, closes: bool) -> None:
    last, status = REFUSED[end]

    def is_ahead(between: int) -> bool:
        """Return whether it is refused while the first is answered: what is long, or far behind, is read later."""
        return between < 13 and len(last) < 1_000

    async def exchange(between: int) -> tuple[list[Answer], list[Answer]]:
        recorder.gate.clear()
        recorder.begun.clear()
        sent = [wire_of(0, "/waits"), *(wire_of(number, "/one") for number in range(1, between + 1))]
        client = await Client.connected(recorder.port)
        await client.send(b"".join(wire for wire, _ in sent) + last)
        if closes:
            client.writer.write_eof()
        if is_ahead(between):
            await wait_until(is_over(recorder), "refused")
        recorder.gate.set()
        return await client.answers(), [(200, path) for _, path in sent]

    for between in BETWEEN:
        answers, due = runner.run(exchange(between))
        assert answers[:-1] == due, f"{between} between"
        assert answers[-1][0] == status
        assert json.loads(answers[-1][1])["status"] == status
        assert "/refused-later" not in recorder.begun or not is_ahead(between)


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("end", UNFINISHED)
def test_who_closes_its_side_gets_every_answer_that_is_due(
    runner: asyncio.Runner, recorder: Recorder, end: str, between: int
) -> None:
    async def exchange() -> tuple[list[Answer], list[Answer]]:
        recorder.gate.clear()
        sent = [wire_of(0, "/waits"), *(wire_of(number, "/one") for number in range(1, between + 1))]
        client = await Client.connected(recorder.port)
        await client.send(b"".join(wire for wire, _ in sent) + UNFINISHED[end])
        client.writer.write_eof()
        await asyncio.sleep(0.01)
        recorder.gate.set()
        return await client.answers(), [(200, path) for _, path in sent]

    answers, due = runner.run(exchange())
    assert answers == due


@pytest.mark.parametrize("closes", [False, True], ids=["", "half-closed"])
@pytest.mark.parametrize("between", [0, 1, 2, 14])
async def test_at_a_stop_a_body_that_has_not_come_is_refused_behind_what_is_due(between: int, closes: bool) -> None:
    async with recording(limits=Limits(stopping_s=0.05)) as stopping:
        stopping.server.config.timeout_graceful_shutdown = 5
        sent = [wire_of(0, "/waits"), *(wire_of(number, "/one") for number in range(1, between + 1))]
        client = await Client.connected(stopping.port)
        await client.send(b"".join(wire for wire, _ in sent) + UNFINISHED["half a body"])
        await wait_until(lambda: stopping.connections and len(stopping.connections[0].pipeline) == between + 1, "come")
        stopping.stop.set()
        await wait_until(is_over(stopping), "refused")
        if closes:
            client.writer.write_eof()
            await wait_until(
                lambda: stopping.connections[0]._has_client_ended or stopping.connections[0].flow.is_held, "closed"
            )
        stopping.gate.set()
        answers = await client.answers()
        assert answers[:-1] == [(200, path) for _, path in sent]
        assert answers[-1][0] == 503
        assert "/refused-later" not in stopping.begun


@pytest.mark.parametrize("between", [0, 1, 2, 14, 30])
async def test_a_body_that_does_not_come_in_time_is_refused_behind_what_is_due(between: int) -> None:
    async with recording(limits=Limits(body_timeout_s=0.2)) as recorder:
        recorder.gate.set()
        sent = [wire_of(number, "/waits") for number in range(between + 1)]
        client = await Client.connected(recorder.port)
        await client.send(b"".join(wire for wire, _ in sent) + UNFINISHED["half a body"])
        answers = await client.answers()
        assert answers[:-1] == [(200, path) for _, path in sent]
        assert answers[-1][0] == 408


@settings(max_examples=200, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    paths=st.lists(st.sampled_from(["/one", "/waits"]), max_size=24),
    end=st.sampled_from([*REFUSED, *UNFINISHED]),
    cuts=st.sets(st.integers(1, 2_000), max_size=8),
    closes=st.booleans(),
    opens_before=st.booleans(),
)
def test_each_request_of_a_pipeline_gets_its_own_answer(
    runner: asyncio.Runner,
    recorder: Recorder,
    paths: list[str],
    end: str,
    cuts: set[int],
    closes: bool,
    opens_before: bool,
) -> None:
    last, status = REFUSED.get(end, (UNFINISHED.get(end, b""), 0))

    async def exchange() -> tuple[list[Answer], list[Answer]]:
        recorder.gate.clear()
        sent = [wire_of(number, path) for number, path in enumerate(paths)]
        client = await Client.connected(recorder.port)
        if opens_before:
            recorder.gate.set()
        await client.send(b"".join(wire for wire, _ in sent) + last, cuts)
        if closes or not status:  # where nothing is refused, the server waits for more
            client.writer.write_eof()
        await asyncio.sleep(0)
        recorder.gate.set()
        return await client.answers(), [(200, path) for _, path in sent]

    answers, due = runner.run(exchange())
    assert answers[: len(due)] == due
    assert [found for found, _ in answers[len(due) :]] == [status] * bool(status)
