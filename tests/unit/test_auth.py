"""Requests without the token: refused, counted, and logged at a bounded rate."""

import asyncio
import logging
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from redis_scheduler.api import auth
from tests.support.waiting import wait_until

TOKEN = b"a-token"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """What is behind the gate."""
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def is_own(_instances: list[bytes]) -> bool:
    """Nobody asks: no request carries the header."""
    raise AssertionError


async def asked(gate: auth.Gate, address: str | None, *authorization: bytes) -> int:
    """Ask for /stats; return the status of the answer."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("a refused body is not read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/stats",
        "client": (address, 1) if address else None,
        "headers": [(b"authorization", value) for value in authorization],
    }
    await gate(scope, receive, send)
    status: int = sent[0]["status"]
    return status


async def test_refused_requests_are_counted_and_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    gate = auth.Gate(application, [TOKEN.decode()], is_own, auth.Refusals(0.6))

    def told() -> list[dict[str, Any]]:
        return [record.__dict__["fields"] for record in caplog.records if record.message == "refused"]

    with caplog.at_level(logging.WARNING):
        for number in range(100):
            assert await asked(gate, f"10.0.0.{number}", b"hidden") == 401
            assert await asked(gate, "10.0.0.200", TOKEN) == 200
        assert told() == [{"requests": 1, "client": "10.0.0.0", "since_start": 1}]
        await wait_until(lambda: len(told()) == 2, "the others are told")
        assert told()[1] == {"requests": 99, "client": "10.0.0.99", "since_start": 100}
        # After an interval without any, the next is told at once.
        await asyncio.sleep(1.3)
        assert len(told()) == 2
        assert await asked(gate, None) == 401
        assert told()[2] == {"requests": 1, "client": "", "since_start": 101}
    assert "hidden" not in caplog.text
