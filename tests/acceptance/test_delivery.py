"""Deliveries by the real process: what arrives, when, how often, and what happens when it is refused."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from redis_scheduler import __version__
from tests.support.name_server import NO_SUCH_NAME, has_namespaces, naming_for_processes
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.waiting import wait_until


@pytest.fixture
async def retries() -> str:
    """RETRIES of the service; a test may override it."""
    return "3"


@pytest.fixture
async def service(redis_url: str, tmp_path: Path, retries: str) -> AsyncIterator[Client]:
    """The all-in-one service with a short retry time."""
    variables = {"REDIS_URL": redis_url, "RETRIES": retries, "RETRY_TIME": "2", "TIMEOUT": "1"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        yield client


async def test_a_delivery_is_a_post_of_the_data_with_the_services_headers(service: Client, receiver: Receiver) -> None:
    data = '{"z":1, "a":[ ],"n":123456789012345678901234567890,"t":"ü \\u00fc \\n  x","f":1.10}'
    body = f'{{"webhook":"{receiver.url}hook?a=%2F&b=%7e","ttl":0.2,"data": {data} }}'
    headers = {"Content-Type": "application/json"}
    _, content = await service.call("POST", "/schedule", data=body.encode(), headers=headers)
    await wait_until(lambda: receiver.arrivals, "the webhook arrived")
    arrival = receiver.arrivals[0]
    assert arrival.method == "POST"
    assert arrival.path == "/hook?a=%2F&b=%7e"
    assert arrival.body == data.encode()
    assert arrival.headers["Content-Type"] == "application/json"
    assert arrival.headers["Authorization"] == TOKEN
    assert arrival.headers["User-Agent"] == f"redis-scheduler/{__version__}"
    assert (arrival.key, arrival.attempt) == (content["key"], 1)
    assert arrival.at >= datetime.fromisoformat(content["due"]).timestamp()
    await service.drained()
    _, shown = await service.call("GET", f"/schedule/{content['key']}")
    assert shown["data"]["info"]["state"] == "delivered"


async def test_absent_data_is_an_empty_body(service: Client, receiver: Receiver) -> None:
    cases: list[tuple[dict[str, Any], bytes]] = [({}, b""), ({"data": None}, b"null"), ({"data": ""}, b'""')]
    wanted = {await service.schedule(receiver.url, 0, **fields): body for fields, body in cases}
    await service.drained()
    assert {arrival.key: arrival.body for arrival in receiver.arrivals} == wanted
    assert all(arrival.headers["Content-Length"] == str(len(arrival.body)) for arrival in receiver.arrivals)


async def test_two_failures_and_a_success_are_three_attempts_a_retry_time_apart(
    service: Client, receiver: Receiver
) -> None:
    receiver.statuses = [503, 503, 200]
    key = await service.schedule(receiver.url)
    stats = await service.drained()
    times = [arrival.at for arrival in receiver.arrivals]
    assert [arrival.attempt for arrival in receiver.arrivals] == [1, 2, 3]
    # A retry may be late on a busy machine.
    assert all(1.9 < later - earlier < 4 for earlier, later in itertools.pairwise(times)), times
    assert (await service.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["state"] == "delivered"
    assert {name: stats["counters"][name] for name in ("delivered", "failed", "died")} == {
        "delivered": 1,
        "failed": 2,
        "died": 0,
    }


@pytest.mark.parametrize("retries", ["1"])
async def test_exhausted_retries_leave_a_dead_letter(service: Client, receiver: Receiver) -> None:
    receiver.status = 503
    key = await service.schedule(receiver.url, path="/schedule?type=mail", data=[1])
    stats = await service.drained()
    assert len(receiver.arrivals) == 2
    assert (stats["states"]["dead"], stats["counters"]["died"]) == (1, 1)
    _, content = await service.call("GET", f"/schedule/{key}")
    info = content["data"]["info"]
    assert (info["state"], info["retry"], info["expires"]) == ("dead", 2, None)
    assert info["last_failure"]["status"] == 503
    assert content["data"]["data"] == [1]
    for path in ("/schedules", "/schedules?type=mail"):
        assert (await service.call("GET", path))[1]["data"] == []


@pytest.mark.parametrize("retries", ["0"])
async def test_a_dead_letter_comes_back_with_a_new_ttl_and_can_be_deleted(service: Client, receiver: Receiver) -> None:
    receiver.status = 500
    revived, deleted = [await service.schedule(receiver.url) for _ in range(2)]
    assert (await service.drained())["states"]["dead"] == 2
    assert (await service.call("DELETE", f"/schedule/{deleted}"))[1]["data"] == "cancelled"
    receiver.status = 200
    assert (await service.call("PATCH", f"/schedule/{revived}", json={"ttl": 0}))[0] == 200
    stats = await service.drained()
    assert receiver.times_by_key == {revived: 2, deleted: 1}
    assert (stats["states"]["dead"], stats["counters"]["replayed"], stats["ledger_balanced"]) == (0, 1, True)


@pytest.mark.parametrize("retries", ["0"])
async def test_anything_but_2xx_is_a_failed_attempt(service: Client, receiver: Receiver) -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=int(request.path[1:]), headers={"Location": "/elsewhere"})

    receiver.behaviour = redirect
    statuses = (301, 302, 307, 400, 404, 410, 500, 503)
    answered = {await service.schedule(f"{receiver.url}{status}"): status for status in statuses}
    await service.drained()
    assert sorted(arrival.path for arrival in receiver.arrivals) == [f"/{status}" for status in statuses]
    for key, status in answered.items():
        _, content = await service.call("GET", f"/schedule/{key}")
        assert content["data"]["info"]["last_failure"]["error"] == f"answered {status}"


@pytest.mark.parametrize("retries", ["0"])
async def test_no_answer_a_slow_answer_and_no_connection_are_failed_attempts(
    service: Client, receiver: Receiver
) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        if request.path == "/hang":
            await asyncio.sleep(30)  # this receiver answers later than any attempt may take
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x")
            await asyncio.sleep(0.1)  # and each piece of this answer comes in time, the whole never
        return response

    receiver.behaviour = trickle
    wanted = {
        await service.schedule(receiver.url + "hang"): "no answer within 1 s",
        await service.schedule(receiver.url + "trickle"): "the answer did not end in time",
        await service.schedule("http://127.0.0.1:9/"): "cannot connect: Connection refused",
    }
    await service.drained()
    for key, said in wanted.items():
        _, content = await service.call("GET", f"/schedule/{key}")
        assert said in content["data"]["info"]["last_failure"]["error"]


async def test_a_large_answer_of_a_success_is_not_read_to_its_end(service: Client, receiver: Receiver) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * 65_536)
        return response

    receiver.behaviour = flood
    await service.schedule(receiver.url)
    assert (await service.drained())["counters"]["delivered"] == 1
    await wait_until(lambda: receiver.in_flight == 0, "the connection was closed")


async def test_a_cancel_and_an_update_reach_a_task_in_every_state(service: Client, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    in_delivery, updated = [await service.schedule(receiver.url) for _ in range(2)]
    await wait_until(lambda: len(receiver.arrivals) == 2, "both are in delivery")
    assert (await service.call("DELETE", f"/schedule/{in_delivery}"))[1]["data"] == "in delivery"
    status, content = await service.call("PATCH", f"/schedule/{updated}", json={"data": "new"})
    assert (status, content["found"]) == (200, "in delivery")
    receiver.may_answer.set()
    await wait_until(lambda: len(receiver.arrivals) == 3, "the update is delivered")
    assert (receiver.arrivals[2].key, receiver.arrivals[2].body) == (updated, b'"new"')

    receiver.status = 503
    cancelled, changed = [await service.schedule(receiver.url) for _ in range(2)]
    await wait_until(lambda: len(receiver.arrivals) == 5, "both have failed once")

    async def both_wait() -> bool:
        found = [(await service.call("GET", f"/schedule/{key}"))[1] for key in (cancelled, changed)]
        return all(content["data"]["info"]["state"] == "waiting" for content in found)

    await wait_until(both_wait, "both wait for their retry")
    receiver.status = 200
    assert (await service.call("DELETE", f"/schedule/{cancelled}"))[1]["data"] == "cancelled"
    assert (await service.call("PATCH", f"/schedule/{changed}", json={"data": 2}))[1]["found"] == "updated"
    stats = await service.drained()
    assert (receiver.arrivals[-1].key, receiver.arrivals[-1].attempt, receiver.arrivals[-1].body) == (changed, 2, b"2")
    assert receiver.times_by_key[cancelled] == 1
    assert (stats["counters"]["cancelled"], stats["ledger_balanced"]) == (2, True)


async def test_a_task_arrives_at_its_time_and_not_before(service: Client, receiver: Receiver) -> None:
    due = {}
    for number in range(50):
        _, content = await service.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": number * 0.02})
        due[content["key"]] = datetime.fromisoformat(content["due"]).timestamp()
    await service.drained()
    lateness = sorted(arrival.at - due[arrival.key] for arrival in receiver.arrivals)
    assert receiver.times_by_key.total() == 50
    assert lateness[0] >= 0
    assert lateness[25] < 1


async def test_nothing_that_a_receiver_sent_and_no_query_is_logged(redis_url: str, tmp_path: Path) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"no http, but ANSWER-SECRET\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    variables = {"REDIS_URL": redis_url, "RETRIES": "0", "LOG_LEVEL": "debug"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client, server:
        for path in ("/?token=QUERY-SECRET", "/#QUERY-SECRET"):
            await client.schedule(f"http://127.0.0.1:{port}{path}", data="DATA-SECRET")
        assert (await client.drained())["states"]["dead"] == 2
        assert "-SECRET" not in process.log
        assert len(process.events("bury")) == 2


@pytest.mark.skipif(not has_namespaces(), reason="a name server of one's own needs root and unshare")
async def test_a_name_that_does_not_exist_is_a_failed_attempt_and_its_query_is_not_logged(
    redis_url: str, tmp_path: Path
) -> None:
    variables = {"REDIS_URL": redis_url, "RETRIES": "0", "LOG_LEVEL": "debug"}
    async with (
        naming_for_processes(lambda name, kind: NO_SUCH_NAME, tmp_path) as (server, prefix),
        serving(tmp_path, prefix=prefix, **variables) as process,
        client_of(process) as client,
    ):
        key = await client.schedule("http://no-such-host.example/?token=QUERY-SECRET")
        assert (await client.drained())["states"]["dead"] == 1
        _, content = await client.call("GET", f"/schedule/{key}")
        assert "cannot look up no-such-host.example: " in content["data"]["info"]["last_failure"]["error"]
        assert server.times_asked("no-such-host.example") > 0
        assert len(process.events("bury")) == 1
        assert "-SECRET" not in process.log
