"""Bodies that do not come: the client has a time for it."""

import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from redis_scheduler.api import requests


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_TIMEOUT_S", 0.05)
    sent: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Message:
        if not sent:
            await asyncio.sleep(60)
        return sent.pop()

    with pytest.raises(HTTPException) as refused:
        await requests.read_body(Request({"type": "http", "headers": []}, receive), 100)
    assert refused.value.status_code == 408
    assert refused.value.headers == {"Connection": "close"}
