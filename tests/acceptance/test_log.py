"""What the log tells an operator of failures and purges, by the real process."""

import time
from datetime import datetime
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.receiver import Receiver
from tests.support.service import Client, Process, client_of, serving
from tests.support.waiting import wait_until

TOKEN = "a/token&with=signs"

ANSWER = (
    f"no\r\nsuch\t user: {TOKEN} a\\/token&with=signs a/token&amp;with=signs a%2Ftoken%26with%3Dsigns "
    "\x1b[2J\x9b31m\u202e\x00 'ü' " + "x" * 300
)
SHOWN = "no such user: *** *** *** *** \ufffd[2J\ufffd31m\ufffd\ufffd 'ü' "
SHOWN += "x" * (200 - len(SHOWN))


async def failing(request: web.Request) -> web.Response:
    return web.Response(status=404, text=ANSWER)


async def failed(folder: Path, redis_url: str, receiver: Receiver, count: int, **variables: str) -> Process:
    """Have tasks fail until they are dead; return the process, which has ended."""
    receiver.behaviour = failing
    settings = {"REDIS_URL": redis_url, "API_AUTH": TOKEN, "RETRY_TIME": "0.1"} | variables
    async with serving(folder, **settings) as process, client_of(process, TOKEN) as client:
        for _ in range(count):
            await client.schedule(receiver.url + "hook?secret=1", 0, "/schedule?type=mail")
        await client.drained()
    return process


async def test_a_failure_tells_when_the_next_attempt_is_how_many_are_left_and_how_the_answer_begins(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    before = time.time()
    process = await failed(tmp_path, redis_url, receiver, 1, RETRIES="2")
    first, second = process.events("retry")
    [buried] = process.events("bury")
    assert [event["attempts_left"] for event in (first, second)] == [2, 1]
    for event in (first, second):
        at = datetime.fromisoformat(event["at"]).timestamp()
        # It is written some time after Redis has said when the next is.
        assert -3 < datetime.fromisoformat(event["next"]).timestamp() - at < 0.11
        assert at > before - 0.001
    for event in (first, second, buried):
        assert event["answer"] == SHOWN
        assert len(event["answer"]) == 200
        assert (event["type"], event["status"], event["error"]) == ("mail", 404, "answered 404")
        assert event["webhook"] == receiver.url + "hook"
    assert not {"next", "attempts_left"} & buried.keys()
    for secret in ("a/token", "a\\/token", "a%2Ftoken", "secret"):
        assert secret not in process.log


async def test_a_deferred_retry_without_an_end_is_told_too(redis_url: str, receiver: Receiver, tmp_path: Path) -> None:
    receiver.status = 503
    variables = {"REDIS_URL": redis_url, "API_AUTH": TOKEN, "RETRY_TIME": "3600", "RETRIES": "-1"}
    async with serving(tmp_path, **variables) as process, client_of(process, TOKEN) as client:
        key = await client.schedule(receiver.url, 0)
        [event] = await wait_until(lambda: process.events("defer"), "it is deferred")
        await client.call("DELETE", f"/schedule/{key}")
    at = datetime.fromisoformat(event["at"]).timestamp()
    assert 3595 < datetime.fromisoformat(event["next"]).timestamp() - at < 3600.01
    assert (event["attempts_left"], event["type"]) == (None, "default")
    assert "answer" not in event, "it was empty"


@pytest.mark.parametrize(("method", "path"), [("POST", "/purge"), ("DELETE", "/schedules")])
async def test_a_purge_tells_how_many_and_from_where(
    method: str, path: str, api: Client, api_process: Process, receiver: Receiver
) -> None:
    before = len(api_process.events("purged"))
    for _ in range(3):
        await api.schedule(receiver.url, 3600)
    assert (await api.call(method, path, headers={"X-Forwarded-For": "203.0.113.9"}))[1]["data"] == 3
    [event] = await wait_until(lambda: api_process.events("purged")[before:], "it is logged")
    assert (event["tasks"], event["client"], event["level"]) == (3, "127.0.0.1", "warning")
