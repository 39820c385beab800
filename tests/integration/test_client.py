"""The connections to Redis, on the event loop of the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.connection import CONNECTIONS_MOST
from tests.support.names import KEYS
from tests.support.proxy import proxying
from tests.support.redis_process import redis_process


def test_connections_that_were_reset_while_idle_are_replaced(tmp_path: Path) -> None:
    async def reset_and_go_on() -> None:
        async with redis_process(tmp_path / "redis") as server, proxying(server.port) as proxy:
            client = RedisClient(proxy.url, 3, KEYS)
            try:
                for _ in range(3):
                    answers = await asyncio.gather(*(client.command("PING") for _ in range(5)))
                    assert answers == [b"PONG"] * 5
                    await proxy.cut()
                    await proxy.listen()
            finally:
                await client.aclose()

    uvloop.run(reset_and_go_on())


async def test_a_call_that_is_cancelled_leaves_no_connection_taken_and_no_answer_to_another(
    client: RedisClient,
) -> None:
    for number in range(150):  # more than the pool has connections
        call = asyncio.create_task(client.command("BLPOP", "nothing", 60))
        await asyncio.sleep(0 if number % 2 else 0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await client.command("ECHO", str(number)) == str(number).encode()
    assert not client._redis.connection_pool._in_use_connections


async def test_calls_beyond_the_connections_wait_for_one_and_are_no_outage(client: RedisClient) -> None:
    numbers = range(3 * CONNECTIONS_MOST)
    answers = await asyncio.gather(*(client.command("ECHO", str(number)) for number in numbers))
    assert answers == [str(number).encode() for number in numbers]
    assert not client.outage.is_away
    assert len(client._redis.connection_pool._available_connections) <= CONNECTIONS_MOST


def test_what_the_socket_does_not_take_at_once_is_waited_for_and_no_longer_than_the_limit(tmp_path: Path) -> None:
    large = b"x" * 16 * 1_048_576  # more than the buffers of two connections

    async def send_much() -> None:
        async with redis_process(tmp_path / "redis") as server, proxying(server.port) as proxy:
            patient, client = RedisClient(proxy.url, 30, KEYS), RedisClient(proxy.url, 1, KEYS)
            try:
                assert await patient.command("ECHO", large) == large
                assert await client.command("PING") == b"PONG"
                # The time is longer than both sends may take; a write without end would be cut off there.
                async with proxy.stalled(), asyncio.timeout(10):
                    with pytest.raises(StoreUnavailable):
                        await client.command("ECHO", large)
                assert await client.command("PING") == b"PONG"
            finally:
                await patient.aclose()
                await client.aclose()

    uvloop.run(send_much())


@asynccontextmanager
async def answering(answer: bytes, times: int = 1_000_000, credentials: str = "") -> AsyncIterator[str]:
    """The URL of a server that has one answer to everything, so many times in a connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            if not await reader.read(65_536):
                break
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://{credentials}127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak its protocol"),
        (b"\x15\x03\x03\x00\x02\x02\x0a", "where it speaks TLS, REDIS_URL begins with rediss://"),
        (b"-ERR Protocol error: unauthenticated multibulk length\r\n", "REDIS_URL lacks the password"),
        (b"-NOAUTH Authentication required.\r\n", "REDIS_URL lacks the password"),
        (b"-DENIED Redis is running in protected mode because" + b" x" * 500 + b"\r\n", "give it a password"),
        (b"-ERR max number of clients reached\r\n", "raise its maxclients"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING Redis is loading"),
        (b"-ERR DB index is out of range\r\n", "DB index is out of range"),
        (b"-ERR unknown command 'AUTH', with args beginning with: 'user' 'hidden' \r\n", "was renamed"),
        (b"-MOVED 12872 10.0.0.7:7001\r\n", "slot 12872, where the service has its keys, is kept by 10.0.0.7:7001"),
        (
            b"-ASK 12872 10.0.0.7:7001\r\n",
            "is on its way to 10.0.0.7:7001; REDIS_URL must be redis+cluster://10.0.0.7:7001",
        ),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "CLUSTERDOWN Hash slot not served"),
        (b"-CROSSSLOT Keys in request don't hash to the same slot\r\n", "CROSSSLOT"),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", "TRYAGAIN"),
        (b"-SOMETHING nobody has seen before\r\n", "SOMETHING nobody has seen before"),
        (b"", "Connection closed by server.; where it speaks TLS, REDIS_URL begins with rediss://"),
    ],
)
async def test_whatever_answers_there_is_one_short_line_without_the_password(answer: bytes, said: str) -> None:
    async with answering(answer, 1, "user:hidden@") as url:
        client = RedisClient(url, 1, KEYS)
        try:
            for _ in range(3):
                with pytest.raises(StoreUnavailable) as caught:
                    await client.command("PING")
                line = str(caught.value)
                assert said in line
                assert "hidden" not in line
                assert "\n" not in line
                assert len(line) < 600
            assert client.outage.is_away
        finally:
            await client.aclose()


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        ("redis", "where it speaks TLS, REDIS_URL begins with rediss://"),
        ("rediss", "where it speaks no TLS, REDIS_URL begins with redis://"),
        ("rediss+cluster", "where it speaks no TLS, REDIS_URL begins with redis+cluster://"),
    ],
)
async def test_where_nothing_was_ever_answered_it_is_said_that_tls_may_be_at_fault(scheme: str, said: str) -> None:
    async with answering(b"", 9) as url:
        client = RedisClient(url.removesuffix("/0").replace("redis", scheme), 0.3, KEYS)
        try:
            for has_served in (False, True):
                client.outage.has_served = has_served
                with pytest.raises(StoreUnavailable) as caught:
                    await client.command("PING")
                assert (said in str(caught.value)) == (not has_served), caught.value
        finally:
            await client.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        *(b"+OK\r\n", b"+PONG\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"*-1\r\n", b"*0\r\n", b":0\r\n", b":1\r\n", b":7\r\n"),
        *(b"*1\r\n*0\r\n", b"*3\r\n:1\r\n:2\r\n:3\r\n", b"*1\r\n+OK\r\n", b"*3\r\n*0\r\n$-1\r\n-ERR no\r\n"),
        b"*3\r\n+a\r\n+b\r\n+c\r\n",
    ],
)
async def test_a_server_whose_answers_have_another_shape_is_no_redis(answer: bytes) -> None:
    async with answering(answer) as url:
        client = RedisClient(url, 1, KEYS)
        try:
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match="does not speak its protocol"):
                    await client.command("PING")
            assert client.outage.is_away
        finally:
            await client.aclose()
