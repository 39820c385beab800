"""Strangers behind a proxy, and clients with ways of their own, turn no request into another."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from redis_scheduler.store.client import RedisClient
from tests.support.api import api_here
from tests.support.reverse_proxies import PROXIES, is_missing, reverse_proxy
from tests.support.smuggling import send_as_stranger, smuggling_pair, smuggling_requests

TOKEN = "test-token"


# Through a proxy


@pytest.fixture
async def service(client: RedisClient) -> AsyncIterator[int]:
    """The port of the API."""
    async with api_here(client) as port:
        yield port


@pytest.mark.parametrize("kind", PROXIES)
async def test_strangers_behind_a_proxy_turn_no_request_into_another(
    kind: str, service: int, tmp_path: Path, client: RedisClient
) -> None:
    if is_missing(kind):
        pytest.skip(f"{kind.partition(' ')[0]} is not installed")
    task = {"webhook": "http://127.0.0.1:9/", "ttl": 3_600}
    headers = {"Authorization": TOKEN}
    scheduled: set[str] = set()
    async with reverse_proxy(kind, tmp_path, service) as port, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}"
        for gap in (0, 20, 60, 300):
            for sent in [*((request,) for request in smuggling_requests(gap)), smuggling_pair(gap)]:
                for request in sent:
                    await send_as_stranger(port, request)
                async with session.post(f"{url}/schedule", json=task, headers=headers) as response:
                    answer = await response.json()
                    assert response.status == 200, (sent, answer)
                    scheduled.add(answer["key"])
        async with session.get(f"{url}/schedules?limit=1000", headers=headers) as response:
            page = await response.json()
    assert {found["info"]["key"] for found in page["data"]} == scheduled


async def test_a_trailer_after_an_early_answer_leaves_the_connection_to_the_next(service: int) -> None:
    for is_later in (False, True):
        reader, writer = await asyncio.open_connection("127.0.0.1", service)
        writer.write(b"POST /schedule HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" not in head
        next_one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(b"0\r\nConnection: close\r\n\r\n" + (b"" if is_later else next_one))
        if is_later:
            await writer.drain()
            await asyncio.sleep(0.05)  # it comes in a packet of its own
            writer.write(next_one)
        assert await asyncio.wait_for(reader.readuntil(b"HTTP/1.1 200 "), 5)
        writer.close()


@pytest.mark.parametrize("blanks", [b"", b" ", b" " * 15, b"\t " * 13, b" " * 25, b" " * 5_000])
@pytest.mark.parametrize("zeros", [0, 1, 4_300, 60_000])
async def test_a_length_goes_by_its_value_whatever_stands_around_it(service: int, zeros: int, blanks: bytes) -> None:
    body = b'{"webhook":"http://127.0.0.1:9/","ttl":3600}'
    for length, status in (
        (len(body), b" 200 "),
        (0, b" 400 "),
        (1_048_577, b" 413 "),
        (99_999_999, b" 413 "),
        (2**63, b" 413 "),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", service)
        digits = b"0" * zeros + b"%d" % length
        head = b"POST /schedule HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %s\r\n\r\n"
        writer.write(head % (TOKEN.encode(), digits + blanks) + (body if length == len(body) else b""))
        assert status in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


async def test_a_token_in_a_trailer_authorises_nothing(service: int) -> None:
    for path in (b"/purge", b"/stats"):
        reader, writer = await asyncio.open_connection("127.0.0.1", service)
        writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        writer.write(b"Authorization: " + TOKEN.encode() + b"\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 401 ")
        writer.close()


JAVA = Path(__file__).parents[1] / "support" / "Schedules.java"


async def test_javas_client_which_offers_http_2_with_each_body_is_served(service: int) -> None:
    async def java(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ("java", "-XX:TieredStopAtLevel=1", *arguments)
        return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)

    if shutil.which("java") is None or "jdk.compiler" not in (await java("--list-modules")).stdout:
        pytest.skip("no Java is installed that runs a program from its source")
    done = await java(str(JAVA), f"http://127.0.0.1:{service}", TOKEN)
    assert done.stdout.split() == ["200", "200", "200", "200", "401"], done.stderr
