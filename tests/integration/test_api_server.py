"""The HTTP server: it limits the time that a body may take, and says so; every answer comes whole, and in its order."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redis_scheduler.api import server
from redis_scheduler.api.limits import Limits
from redis_scheduler.store.client import RedisClient
from tests.support.api import api_here
from tests.support.names import KEYS

TOKEN = "test-token"
BODY = b'{"webhook": "http://127.0.0.1:9/", "ttl": 60}'


@pytest.fixture
def limits() -> Limits:
    """A test that needs others is parametrised with them."""
    return Limits(body_timeout_s=0.5)


@pytest.fixture
async def port(client: RedisClient, limits: Limits) -> AsyncIterator[int]:
    """The port of an API whose clients have half a second for a body."""
    async with api_here(client, max_body=1_000, limits=limits) as port:
        yield port


async def exchange(port: int, *pieces: bytes, pause_s: float = 0, token: str = TOKEN) -> tuple[bytes, bytes]:
    """Send the head of a POST /schedule with the length of BODY, then the pieces; return head and body of what
    comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /schedule HTTP/1.1\r\nHost: api\r\nAuthorization: {token}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    for piece in (head.encode(), *pieces):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause_s)
    async with asyncio.timeout(10):
        answer_head = await reader.readuntil(b"\r\n\r\n")
        # To the end where the server closes, which is what follows a refusal.
        length = int(answer_head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = await reader.readexactly(length)
        if b"200 OK" not in answer_head:
            assert await reader.read() == b"", "closed"
    writer.close()
    return answer_head, answer


@pytest.mark.parametrize("pieces", [(), (BODY[:5],), (BODY[:5], BODY[5:10])], ids=["none of it", "a part", "parts"])
async def test_a_body_that_does_not_come_is_given_up(port: int, pieces: tuple[bytes, ...]) -> None:
    head, answer = await exchange(port, *pieces)
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close\r\n" in head
    assert json.loads(answer) == {
        "status": 408,
        "error": "The body did not come within 0.5 s",
        "code": "body-too-slow",
    }


async def test_a_body_that_comes_in_parts_within_the_time_is_taken(port: int) -> None:
    head, answer = await exchange(port, BODY[:5], BODY[5:20], BODY[20:], pause_s=0.02)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer)["status"] == 200


async def test_the_time_is_each_request_s_own(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"POST /schedule HTTP/1.1\r\nHost: api\r\nAuthorization: {TOKEN}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    for _ in range(3):
        writer.write(request.encode())
        await asyncio.sleep(0.2)
        writer.write(BODY)
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"}\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_the_body_of_a_refused_request_is_not_waited_for_without_end(port: int) -> None:
    head, _ = await exchange(port, BODY[:5], token="wrong")
    assert head.startswith(b"HTTP/1.1 401 ")


async def closed_by_the_server(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes, which it must."""
    async with asyncio.timeout(5):
        return await reader.read()


HEAD = f"POST /schedule HTTP/1.1\r\nHost: api\r\nAuthorization: {TOKEN}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


async def test_the_body_of_a_request_that_came_with_the_end_of_another_has_a_time_too(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD)
    await asyncio.sleep(0.05)
    writer.write(BODY + HEAD)
    answers = await closed_by_the_server(reader)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answers
    writer.close()


@pytest.mark.parametrize(
    ("after", "status"),
    [(HEAD, b"408"), (b"GET /stats HT", b""), (b"", b"")],
    ids=["a head without its body", "half a head", "nothing"],
)
@pytest.mark.parametrize("limits", [Limits(head_timeout_s=0.5, body_timeout_s=0.5)], ids=["half a second"])
async def test_after_a_request_that_was_refused_early_the_next_has_its_time(
    port: int, after: bytes, status: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD.replace(TOKEN.encode(), b"wrong"))
    assert (await reader.readuntil(b"}\n")).startswith(b"HTTP/1.1 401 ")
    writer.write(BODY)
    await asyncio.sleep(0.05)
    writer.write(after)
    assert (await closed_by_the_server(reader)).startswith(b"HTTP/1.1 " + status if status else b"")
    writer.close()


async def test_heads_without_end_are_cut_off_after_a_request_that_was_refused_early(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD.replace(TOKEN.encode(), b"wrong"))
    assert (await reader.readuntil(b"}\n")).startswith(b"HTTP/1.1 401 ")
    writer.write(BODY)
    await asyncio.sleep(0.05)
    writer.write(b"GET /stats HTTP/1.1\r\nHost: x\r\n")

    for number in range(200):
        writer.write(b"X-%d: " % number + b"x" * 10_000 + b"\r\n")
        await writer.drain()
    answer = await closed_by_the_server(reader)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"larger than 65536 bytes" in answer
    writer.close()


async def test_the_head_of_an_answer_does_not_wait_where_no_body_follows(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for method in (b"HEAD", b"GET", b"HEAD"):
        writer.write(method + b" / HTTP/1.1\r\nHost: api\r\n\r\n")
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            if method == b"GET":
                assert b'"status":200' in await reader.readuntil(b"}\n")
    writer.close()


async def test_who_waits_for_100_continue_gets_it_and_then_the_answer(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert b'"status":200' in await reader.readuntil(b"}\n")
    writer.close()


async def test_answers_to_requests_that_came_at_once_come_in_their_order(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((HEAD + BODY + b"GET / HTTP/1.1\r\nHost: api\r\n\r\n") * 3)
    async with asyncio.timeout(10):
        for _ in range(3):
            for said in (b'"due"', b"running"):
                await reader.readuntil(b"\r\n\r\n")
                assert said in await reader.readuntil(b"}\n")
    writer.close()


CHUNKED = HEAD.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (CHUNKED + b"ZZ\r\n", b"400"),
        (HEAD + BODY[:5], b"408"),
        (HEAD.replace(b"Content-Length: ", b"Content-Length: 99"), b"413"),
        (HEAD.replace(b"Host: api", b"Host: /"), b"400"),
    ],
    ids=["a chunk that is none", "no body in time", "too large", "no host"],
)
async def test_what_is_entered_is_answered_so_whatever_comes_behind_it(
    port: int, last: bytes, status: bytes, raw: redis.asyncio.Redis
) -> None:
    """The schedule before a bad request was entered, and its client told 400."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((HEAD + BODY) * 3 + last)
    async with asyncio.timeout(10):
        for _ in range(3):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            key = json.loads(await reader.readuntil(b"}\n"))["key"]
            assert await raw.hexists(KEYS.tasks, key)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 " + status)
    writer.close()
    assert await raw.hlen(KEYS.tasks) == 3


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_client_has_the_address_that_it_has_on_its_own_network(address: str) -> None:
    """All interfaces are one socket of IPv6; to that, IPv4 addresses are `::ffff:` and the address."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0])
        await Response()(scope, receive, send)

    stop, hurry = asyncio.Event(), asyncio.Event()
    listener = server.listen("::", 0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.create_server(app, grace_s=1).run_until(stop, hurry, listener))
        reader, writer = await asyncio.open_connection(address, listener.getsockname()[1])
        writer.write(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        stop.set()
    assert seen == [address]
