"""What pages and large tasks may hold of the service."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import redis.asyncio

from redis_scheduler.api.limits import DEFAULT, Limits
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.views import PAGE_BYTES
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.integration.test_api_memory import TOKEN, connect, push
from tests.support.api import api_here
from tests.support.names import KEYS
from tests.support.service import client_of, serving
from tests.support.store import Store
from tests.support.waiting import wait_until

pytestmark = pytest.mark.whole_start


@pytest.fixture
def limits() -> Limits:
    """Those of `api`, which looks every half second for clients that do not read. A test that needs others is
    parametrised with them."""
    return Limits(unread_timeout_s=3)


@pytest.fixture
async def api(client: RedisClient, limits: Limits) -> AsyncIterator[int]:
    """The port of an API."""
    async with api_here(client, limits=limits) as port:
        yield port


async def fill(store: Store, sizes: list[int]) -> list[str]:
    """Schedule tasks of so many bytes; return their keys, in the order of their times."""
    made = []
    for number, size in enumerate(sizes):
        data = json.dumps("x" * size).encode()
        ttl_ms = 3_600_000 + number
        task = NewTask(new_task_key(), ttl_ms, record_tail("http://127.0.0.1:9/", 3_600, None, data), None)
        await store.schedule([task])
        made.append(task.key)
    return made


async def page(port: int, cursor: str | None = None) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    query = f"?cursor={cursor}" if cursor else ""
    writer.write(f"GET /schedules{query} HTTP/1.0\r\nAuthorization: {TOKEN}\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "sizes",
    [[900_000] * 20, [10 * 1_048_576, 10, 9 * 1_048_576, 10], [7_000_000, 1_300_000, 10], [1_000] * 700],
    ids=["large ones", "some larger than a page", "just too large together", "small ones"],
)
async def test_a_page_ends_before_it_is_too_large(api: int, store: Store, sizes: list[int]) -> None:
    made = await fill(store, sizes)
    found: list[str] = []
    cursor = None
    while True:
        status, body = await page(api, cursor)
        content = json.loads(body)
        assert status == 200
        assert len(body) <= PAGE_BYTES or len(content["data"]) == 1
        found += [task["info"]["key"] for task in content["data"]]
        cursor = content["next"]
        if cursor is None:
            break
        assert content["data"], "each page goes on"
    assert found == made


def ask_for_page(port: int, receive_buffer: int = 4_096) -> tuple[socket.socket, bytes]:
    """Return a connection, and what to push into it."""
    return connect(
        port, receive_buffer
    ), f"GET /schedules HTTP/1.1\r\nHost: x\r\nAuthorization: {TOKEN}\r\n\r\n".encode()


MOST_PAGES = DEFAULT.pages_bytes // PAGE_BYTES + 1
"""So many are on their way to slow readers at most."""


async def slow_reader(port: int) -> tuple[socket.socket, bytes]:
    """Return a client whose page is on its way, or is refused; and the beginning of the answer."""
    client, request = ask_for_page(port)
    await push(client, request)
    return client, await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, len(b"HTTP/1.1 200")), 30)


@pytest.mark.parametrize("limits", [Limits(unread_timeout_s=60, reader_s=1_000)], ids=["without end"])
async def test_slow_readers_have_no_more_than_the_room_for_pages(api: int, store: Store) -> None:
    await fill(store, [900_000] * 5)
    slow: list[socket.socket] = []
    answer = b""
    while not answer.endswith(b" 503"):
        assert len(slow) <= MOST_PAGES
        client, answer = await slow_reader(api)
        slow.append(client)
    for client in slow:
        client.close()


@pytest.mark.parametrize("limits", [Limits(unread_timeout_s=60, reader_s=1.0)], ids=["a second"])
async def test_slow_readers_keep_nobody_from_pages(api: int, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Eight that read just enough kept everybody else from pages for an hour."""
    await fill(store, [900_000] * 5)
    slow = []
    for _ in range(MOST_PAGES):
        client, answer = await slow_reader(api)
        assert answer.endswith(b" 200")
        slow.append(client)
    for _ in range(5):
        status, body = await page(api)
        assert status == 200
        assert len(body) > 3_500_000
    cut_off = [record for record in caplog.records if record.getMessage() == "page-cut-off"]
    assert 0 < len(cut_off) <= len(slow)
    for client in slow:
        client.close()


@pytest.mark.parametrize("limits", [Limits(unread_timeout_s=3, reader_s=0.1)], ids=["a tenth"])
async def test_a_slow_reader_has_its_time_where_nobody_waits_for_room(api: int, store: Store) -> None:
    await fill(store, [900_000] * 3)
    client, request = ask_for_page(api, 100_000)
    await push(client, request)
    answer = b""
    while b'"next"' not in answer[-100:]:
        answer += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100_000), 5)
        await asyncio.sleep(0.02)
    assert len(answer) > 2_700_000
    client.close()


@pytest.mark.parametrize("sizes", [[10] * 10_000, [90_000] * 60], ids=["small ones", "large ones"])
async def test_a_page_holds_little_more_than_its_answer(
    sizes: list[int], tmp_path: Path, redis_url: str, store: Store
) -> None:
    """Read whole before it was put together, large ones took 31 MB, and small ones 17."""
    tail = record_tail("http://127.0.0.1:9/", 3_600, None, json.dumps("x" * sizes[0]).encode())
    for start in range(0, len(sizes), 20):
        await store.schedule([NewTask(new_task_key(), 3_600_000, tail, None) for _ in sizes[start : start + 20]])
    async with serving(tmp_path, "api", REDIS_URL=redis_url, API_AUTH=TOKEN) as process, client_of(process) as client:
        port = int(client.url.rpartition(":")[2])
        await client.call("GET", "/schedules?limit=1")
        folder = Path("/proc", str(process.process.pid))
        (folder / "clear_refs").write_text("5")  # the peak is that from now on
        before = _peak_bytes(folder)
        status, body = await page(port)
        assert (status, len(body) > 2_000_000) == (200, True)
        held = _peak_bytes(folder) - before
        print("page, MB:", held / 1e6)
        assert held < 3 * PAGE_BYTES


def _peak_bytes(folder: Path) -> int:
    return next(
        int(line.split()[1]) * 1024 for line in (folder / "status").read_text().splitlines() if line.startswith("VmHWM")
    )


async def test_all_pages_together_hold_little(tmp_path: Path, redis_url: str, store: Store) -> None:
    """With forty that nobody reads it was 200 MB."""
    await fill(store, [90_000] * 100)
    async with serving(tmp_path, "api", REDIS_URL=redis_url, API_AUTH=TOKEN) as process, client_of(process) as client:
        port = int(client.url.rpartition(":")[2])
        await client.stats()
        service = psutil.Process(process.process.pid)
        before = most = service.memory_info().rss
        asked = [ask_for_page(port) for _ in range(40)]
        for at, request in asked:
            await push(at, request)
        for _ in range(300):
            await asyncio.sleep(0.01)
            most = max(most, service.memory_info().rss)
        for at, _ in asked:
            at.close()
        print("pages, MB:", (most - before) / 1e6)
        # 45 MB: what the parser holds of a page that is read comes on top.
        assert most - before < 1.4 * DEFAULT.pages_bytes


async def _has_page(port: int) -> bool:
    return (await page(port))[0] == 200


async def test_a_page_whose_client_is_gone_gives_back_its_part(
    api: int, store: Store, raw: redis.asyncio.Redis
) -> None:
    await fill(store, [900_000] * 3)
    request = f"GET /schedules HTTP/1.1\r\nHost: x\r\nAuthorization: {TOKEN}\r\n\r\n".encode()
    for _ in range(30):
        client = connect(api)
        await push(client, request)
        client.close()
    await wait_until(lambda: _has_page(api), "room for a page")


async def test_a_large_body_is_put_together_once(client: RedisClient) -> None:
    """Put together with each packet anew, 64 MiB took 10 s of the service's time."""
    async with api_here(client, max_body=256 * 1_048_576) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        size = 64 * 1_048_576
        head = f"POST /schedule HTTP/1.0\r\nAuthorization: {TOKEN}\r\nContent-Length: {size}\r\n\r\n"
        began = time.process_time()
        writer.write(head.encode())
        for _ in range(size // 65_536):
            writer.write(b" " * 65_536)
            await writer.drain()
        assert b" 400 " in await reader.readline()
        assert time.process_time() - began < 4, "both sides"
        writer.close()


# Single tasks


@pytest.mark.parametrize("size", [10, 65_300, 65_400, 65_500, 65_600, 900_000, 5_000_000])
async def test_a_task_of_any_size_is_shown_changed_and_deleted(
    api: int, store: Store, raw: redis.asyncio.Redis, size: int
) -> None:
    [key] = await fill(store, [size])
    for method, body, found in (
        ("GET", b"", b'"data":"' + b"x" * size + b'"'),
        ("PATCH", b'{"ttl": 50}', b'"found":"updated"'),
        ("GET", b"", b'"webhook":"http://127.0.0.1:9/"'),
        ("DELETE", b"", b'"data":"cancelled"'),
        ("GET", b"", b'"state":"cancelled"'),
        ("PATCH", b'{"ttl": 50}', b'"status":404'),
        ("DELETE", b"", b'"status":404'),
    ):
        assert found in await answer_of(api, method, f"/schedule/{key}", body)
    assert await raw.hlen(KEYS.tasks) == 0


async def answer_of(port: int, method: str, path: str, body: bytes = b"") -> bytes:
    """Return a whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.0\r\nAuthorization: {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.long
async def test_large_tasks_that_are_asked_for_at_once_hold_little(
    tmp_path: Path, redis_url: str, store: Store, method: str
) -> None:
    """A batch read 200 of them, and kept the answers that nobody read."""
    made = await fill(store, [1_000_000] * 150)
    async with serving(tmp_path, "api", REDIS_URL=redis_url, API_AUTH=TOKEN) as process, client_of(process) as client:
        port = int(client.url.rpartition(":")[2])
        await client.stats()
        service = psutil.Process(process.process.pid)
        before = most = service.memory_info().rss
        body = '{"ttl": 5000}' if method == "PATCH" else ""
        asked = [connect(port) for _ in made]
        for at, key in zip(asked, made, strict=True):
            head = f"{method} /schedule/{key} HTTP/1.1\r\nHost: x\r\nAuthorization: {TOKEN}\r\n"
            await push(at, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        for _ in range(400):
            await asyncio.sleep(0.01)
            most = max(most, service.memory_info().rss)
        began = time.monotonic()
        await client.schedule("http://127.0.0.1:9/", 3_000)
        assert time.monotonic() - began < 1
        for at in asked:
            at.close()
        print(f"large tasks, {method}, MB:", (most - before) / 1e6)
        assert most - before < 1.6 * DEFAULT.pages_bytes


@pytest.mark.parametrize("limits", [Limits(unread_timeout_s=60, reader_s=1_000)], ids=["without end"])
async def test_a_large_task_that_finds_no_room_is_503_and_a_small_one_is_shown(api: int, store: Store) -> None:
    large, small = await fill(store, [8_000_000, 10])
    slow = [connect(api) for _ in range(10)]
    for client in slow:
        await push(client, f"GET /schedule/{large} HTTP/1.1\r\nHost: x\r\nAuthorization: {TOKEN}\r\n\r\n".encode())

    async def is_refused() -> bool:
        return b"HTTP/1.1 503 " in await answer_of(api, "GET", f"/schedule/{large}")

    await wait_until(is_refused, "no room")
    assert b"HTTP/1.1 200 " in await answer_of(api, "GET", f"/schedule/{small}")
    for client in slow:
        client.close()
    assert b"HTTP/1.1 200 " in await answer_of(api, "GET", f"/schedule/{large}")
