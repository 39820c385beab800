"""The receiver of the benchmarks: a process of its own that must never be what limits them.

It understands just enough HTTP/1.1: a head, `Content-Length`, connections that are kept, requests that come in pieces
or several at once. Every POST, and PUT, is an arrival, whose time and Schedule-Key (or the header that the argument
names) are kept, and is answered with a constant status, 200 at first. `GET /count` tells how many have come; `GET
/results` hands them over as JSON, `[[time, key], …]`, and starts afresh; `GET /answer/503` does the same and answers
with that status from then on, so what it hands over is what came before. After `GET /delay/500` each answer takes so
many ms, and `GET /flights` tells how many were being answered at once, at most, and the sum of their seconds; it starts
afresh, too.

It listens on HOSTS ports, and prints them; script.py says when it ends.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

from benchmarks import script
from benchmarks.webhooks import HOSTS

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
KEY = "Schedule-Key"
ANSWER_PATH = re.compile(rb"GET /answer/(\d{3}) ")
DELAY_PATH = re.compile(rb"GET /delay/(\d{1,5}) ")


def _answer_of(status: HTTPStatus) -> bytes:
    return f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: 0\r\n\r\n".encode()


@dataclass(slots=True)
class Flights:
    """POSTs that wait for their late answers: how many, how many at most, and the sum of their seconds."""

    running: int = 0
    most: int = 0
    busy_s: float = 0.0
    changed_at: float = 0.0

    def change(self, by: int) -> None:
        now = time.monotonic()
        self.busy_s += self.running * (now - self.changed_at)
        self.running, self.changed_at = self.running + by, now
        self.most = max(self.most, self.running)

    def read(self) -> tuple[int, float]:
        """Return the most and the seconds since the last time."""
        self.change(0)
        found = self.most, self.busy_s
        self.most, self.busy_s = self.running, 0.0
        return found


@dataclass(slots=True)
class State:
    """What all connections share: the header that is kept, the arrivals, the answer to each POST, and when it comes."""

    key: re.Pattern[bytes]
    arrivals: list[tuple[float, str]] = field(default_factory=list)
    answer: bytes = _answer_of(HTTPStatus.OK)
    delay_s: float = 0.0
    flights: Flights = field(default_factory=Flights)


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._unread = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        at = time.time()
        data = self._unread + data
        answers = []
        start = 0
        while (head_end := data.find(b"\r\n\r\n", start)) >= 0:
            length = LENGTH.search(data, start, head_end)
            end = head_end + 4 + (int(length[1]) if length else 0)
            if end > len(data):
                break
            answers.append(self._answer(data, start, head_end, at))
            start = end
        self._unread = data[start:]
        if answers:
            self._transport.write(b"".join(answers))

    def _answer(self, data: bytes, start: int, head_end: int, at: float) -> bytes:
        state = self._state
        if data.startswith((b"POST", b"PUT"), start):
            key = state.key.search(data, start, head_end)
            state.arrivals.append((at, key[1].decode() if key else ""))
            if state.delay_s:
                state.flights.change(1)
                asyncio.get_running_loop().call_later(state.delay_s, self._answer_late)
                return b""
            return state.answer
        if data.startswith(b"GET /flights ", start):
            return _with_body(json.dumps(state.flights.read()))
        if delay := DELAY_PATH.match(data, start):
            state.delay_s = int(delay[1]) / 1000
            return _with_body("null")
        if data.startswith(b"GET /count ", start):
            return _with_body(str(len(state.arrivals)))
        if switch := ANSWER_PATH.match(data, start):
            state.answer = _answer_of(HTTPStatus(int(switch[1])))
        results = json.dumps(state.arrivals)
        state.arrivals.clear()
        return _with_body(results)

    def _answer_late(self) -> None:
        self._state.flights.change(-1)
        if not self._transport.is_closing():
            self._transport.write(self._state.answer)


def _with_body(text: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


async def main(ended: asyncio.Event) -> None:
    """Receive until standard input ends."""
    header = re.escape((sys.argv[1:] or [KEY])[0].encode())
    state = State(re.compile(rb"\r\n%b:[ \t]*([^\r]*)" % header, re.IGNORECASE))
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=1024) for _ in range(HOSTS)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await ended.wait()


if __name__ == "__main__":
    script.run(main)
