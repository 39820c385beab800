"""What is no request as HTTP has it, or larger than may be: it is answered in JSON, and nothing is written."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import redis.asyncio

from tests.acceptance.test_bad_input import GOOD, JSON, refused
from tests.support.service import TOKEN, Client
from tests.support.written import written


async def test_a_large_body_is_refused_by_its_length(api: Client, raw: redis.asyncio.Redis) -> None:
    status, error = await refused(api, raw, "POST", "/schedule", json=GOOD | {"data": "x" * 10_000})
    assert (status, "9000 bytes" in error) == (413, True)


@pytest.mark.parametrize("size", [10_000, 300_000, 1_000_000])
async def test_a_refused_body_is_answered_whatever_its_size_and_keeps_the_connection(api: Client, size: int) -> None:
    def chunks() -> AsyncIterator[bytes]:
        async def send() -> AsyncIterator[bytes]:
            for _ in range(0, size, 1000):
                yield b"x" * 1000

        return send()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        client = Client(session, api.url)
        for data in (b"x" * size, chunks()):
            assert (await client.call("POST", "/schedule", data=data, headers=JSON))[0] == 413
        client.headers = {"Authorization": "wrong"}
        for data in (b"x" * size, chunks()):
            assert (await client.call("POST", "/schedule", data=data, headers=JSON))[0] == 401


async def test_a_refused_body_without_end_is_cut_off(api: Client) -> None:
    host, _, port = api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(HEAD + b"Content-Length: 9000000000\r\n\r\n")
    assert b" 413 " in await reader.readline()

    async def send_on() -> None:
        for _ in range(64):
            writer.write(b"x" * 1_048_576)
            await asyncio.wait_for(writer.drain(), 10)

    with pytest.raises(ConnectionError):
        await send_on()
    writer.close()


async def exchange(api: Client, request: bytes, end: bool = True) -> bytes:
    """Send bytes as they are; return the bytes that come back until the connection ends."""
    host, _, port = api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    if end and writer.can_write_eof():
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


HEAD = f"POST /schedule HTTP/1.1\r\nHost: x\r\nAuthorization: {TOKEN}\r\n".encode()


async def test_a_chunked_body_is_refused_once_it_is_too_large(api: Client, raw: redis.asyncio.Redis) -> None:
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    answer = await exchange(api, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 4)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"status":413' in answer
    assert not await written(raw)


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 500\r\n\r\n" + json.dumps(GOOD).encode(),
        b"Transfer-Encoding: chunked\r\n\r\n40\r\n{",
        b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: x\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"Bad Header: x\r\n\r\n",
    ],
)
async def test_a_body_that_lies_about_its_length_writes_nothing(
    api: Client, raw: redis.asyncio.Redis, rest: bytes
) -> None:
    answer = await exchange(api, HEAD + rest)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert not await written(raw)


async def test_what_is_not_http_is_answered_in_json(api: Client, raw: redis.asyncio.Redis) -> None:
    answer = await exchange(api, b"hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400


@pytest.mark.parametrize("line", [b"GET /" + b"a" * 200_000, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000])
async def test_a_head_without_end_is_refused(api: Client, line: bytes) -> None:
    answer = await exchange(api, line, end=False)
    assert b"larger than" in answer


async def test_an_offer_of_another_protocol_is_passed_over(api: Client) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQBAAAAAAIAAAAA"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(2):
            status, _content = await Client(session, api.url).call("POST", "/schedule", json=GOOD, headers=offer)
            assert status == 200


async def test_a_token_given_twice_is_refused(api: Client) -> None:
    answer = await exchange(
        api, b"GET /stats HTTP/1.1\r\nHost: x\r\n" + f"Authorization: {TOKEN}\r\n".encode() * 2 + b"\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 401")
