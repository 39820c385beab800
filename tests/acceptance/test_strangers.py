"""A stranger, who has no token, reads nothing, changes nothing, stops nothing and fills nothing: directly, and through
a real nginx."""

import asyncio
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import redis.asyncio

from redis_scheduler.api.routes import ROUTES, Access
from tests.support.reverse_proxies import is_missing, reverse_proxy
from tests.support.service import TOKEN, Client, Process
from tests.support.written import written

RANDOM_REQUESTS = 10_000
"""Each way: 20,000 in all."""

AT_ONCE = 20
TIMEOUT_S = 10.0
GROWTH_BYTES = 32 * 1_048_576
"""More than the buffers of AT_ONCE connections; a hundredth of what the requests bring."""

SECRET = "told-to-nobody"
"""Stands in the webhook, the data, the headers and the key of what waits: no stranger's answer has it."""

HOOK = f"http://127.0.0.1:9/{SECRET}"
OPEN_PATHS = [route.path for route in ROUTES if route.access is Access.OPEN]
STATUSES = {303, 400, 401, 403, 404, 405, 408, 413, 414, 417, 431, 501, 505}
"""What a stranger may be told besides the open answers: that a request is none, or is refused; 303: to sign in."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "G\x7fT"]
NAMES = ["Authorization", "authorization", "AUTHORIZATION", "Proxy-Authorization", "X-Api-Key", "Cookie", "Api-Auth"]
TOKENS = [
    *("", " ", "Bearer", "Bearer ", "bearer x", "Basic dGVzdDp0ZXN0", "null", "undefined", "true", "*", "\x00", "\xff"),
    *(TOKEN[:-1], TOKEN[1:], TOKEN + "x", TOKEN.upper(), TOKEN[::-1], f"{TOKEN[:-1]}\xad", "Bearer " + TOKEN[:-1]),
    *("x" * 9_000, "Bearer " + "rs_1_" + "a" * 43, "rs_", "rs__", "' OR '1'='1", "${API_AUTH}", "%s%n"),
]
FIELDS = [
    *("X-HTTP-Method-Override: DELETE", "X-Original-URL: /schedules", "X-Rewrite-URL: /purge", "X-Forwarded-For: ::1"),
    *("Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1", "Host: localhost", "Origin: http://127.0.0.1", "Expect: x"),
    *("Range: bytes=0-", "Schedule-Instance: 0", "Schedule-Key: 1", "If-Match: *", "Idempotency-Key: 1"),
    *("Content-Type: application/json", "Accept-Encoding: gzip", "Connection: close", "Upgrade: websocket", "A: \x01"),
]
BODIES = [
    *(b"", b"{}", b"[]", b"null", b"\x00", b"[" * 500, b"x" * 20_000),
    json.dumps({"webhook": HOOK, "ttl": 0, "data": 1}).encode(),
    json.dumps({"tasks": [{"webhook": HOOK, "ttl": 0}] * 50}).encode(),
]
PATHS = [
    *(
        "/ui/echo",
        "/ui/do/cancel/x",
        "/ui/part/overview",
        "/ui/tasks",
        "/ui/try",
        "/schedules",
        "//schedules",
        "/schedules/",
        "/SCHEDULES",
        "/./schedules",
        "/healthz/../schedules",
        "/%73chedules",
    ),
    *(
        "/healthz%2f..%2fschedules",
        "/schedules;/healthz",
        "/schedules%00/healthz",
        "/schedules?/healthz",
        "/schedules#/",
    ),
    *("http://127.0.0.1/schedules", "//healthz/schedules", "/readyz/..;/schedules", "/schedules%3f", "*", "schedules"),
    *(f"/schedule/{SECRET}", f"/schedules?token={TOKEN[:-1]}"),
]
"""Other ways to write the same path, as a proxy or a framework may read them."""

HEADER_SETS = [
    [],
    ["Authorization: Bearer"],
    [f"Authorization: {TOKEN[:-1]}", f"Authorization: {TOKEN[-1]}"],
    ["Authorization : x", "X-Authorization: y"],
    ["Authorization:", f" {TOKEN[:-1]}"],
    ["X-HTTP-Method-Override: GET", "X-Original-URL: /schedules"],
    ["X-Forwarded-User: admin", "X-Remote-User: root", "Forwarded: for=127.0.0.1;by=127.0.0.1"],
    ["Cookie: session=1; token=1", "Origin: null", "Sec-Fetch-Site: same-origin"],
    ["Content-Length: 0", "Transfer-Encoding: chunked"],
    ["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "Connection: Upgrade, HTTP2-Settings"],
]


SAME_ORIGIN = "Sec-Fetch-Site: same-origin"
OPEN = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\nTransfer-Encoding: chunked\r\n\r\n"


def odd_requests() -> Iterator[bytes]:
    """What no client of HTTP/1.1 sends, or no browser: other protocols, a token where none is looked for, pages of the
    dashboard with strange parts, protected requests behind open ones."""
    token = TOKEN.encode()
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))
    yield b"CONNECT 127.0.0.1:6379 HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"GET /schedules\r\n\r\n"
    yield b"GET /schedules HTTP/1.1\nHost: x\nConnection: close\nAuthorization: " + token + b"x\n\n"
    for behind in (b"GET /schedules", b"DELETE /schedules", b"POST /purge"):
        yield OPEN * 20 + behind + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    yield b"POST /schedule HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n " + token + b"\r\n\r\n"
    for target in (b"/schedule", b"/ui/login", b"/ui/do/purge"):
        trailer = b"\r\nAuthorization: " + token + b"\r\n\r\n"
        yield b"POST " + target + b" " + CHUNKED + b"5\r\ntoken\r\n0" + trailer
        yield b"POST " + target + b" " + CHUNKED + b"5;" + b"a=b;" * 5_000 + b"\r\ntoken\r\n0\r\n\r\n"
    for length in ("+3", "3, 3", " 3 3", "0x3", "3\x0b"):
        yield request("POST", "/schedule", [f"Content-Length: {length}"], b"abc")
    for cookie in ('"' + "\\" * 20_000, "x; redis_scheduler=y", "a=b; " * 2_000, TOKEN, "A" * 43, "\xff"):
        for path in ("/ui/", "/ui/part/tasks", "/ui/task/x", "/ui/try"):
            yield request("GET", path, [f"Cookie: redis_scheduler={cookie}"], b"")
    for path in ("..%2f..%2fechoes.py", "x/../../../etc/passwd", "a" * 5_000, "%00", "\xff"):
        yield request("GET", f"/ui/static/{path}", [], b"")
    for query in ("?secret=", f"?secret={TOKEN}", "?secret=\xff", "?" + "secret=0&" * 60):
        for headers in ([], [SAME_ORIGIN], ["Schedule-Instance: " + "0" * 32]):
            yield request("POST", f"/ui/echo{query}", [*headers, "Content-Length: 1"], b"x")
    for form in (b"token=\xff\xfe", b"token=%ff%00", b"token=%00", b"a=b&" * 150, b"token=rs_0123456789_" + b"a" * 43):
        yield request("POST", "/ui/login", [SAME_ORIGIN, f"Content-Length: {len(form)}"], form)
    for host in ("[::1", "[x]:y@z", "x" * 3_000, "a b", ""):
        yield request("POST", "/ui/login", [SAME_ORIGIN, "Content-Length: 0"], b"").replace(b"service", host.encode())
    for origin in ("http://[::1", "null", "http://service@x", "//service"):
        yield request("POST", "/ui/do/purge", [f"Origin: {origin}", "Content-Length: 0"], b"")
    yield request("GET", "/schedules", [f"A{number}: b" for number in range(3_000)], b"")
    yield request("GET", "/healthz", ["Schedule-Instance: x"] * 50, b"")


def random_requests(seed: int, keys: list[str]) -> Iterator[bytes]:
    chance = random.Random(seed)
    paths = [route.path for route in ROUTES]
    for _ in range(RANDOM_REQUESTS):
        path = chance.choice(paths).replace("{key}", chance.choice([*keys, "x", "%2e%2e", "é", ""]))
        if chance.random() < 0.2:
            at = chance.randrange(len(path) + 1)
            path = path[:at] + chance.choice(["/", "%", "?", "%00", "..", "\xe9", ";", "\\", " "]) + path[at:]
        if chance.random() < 0.2:
            path += chance.choice(["?limit=1000", "?type=x", "?dry_run=false", "?cursor=0", "?" + "x" * 3_000])
        method = chance.choice([route.method for route in ROUTES] if chance.random() < 0.8 else METHODS)
        headers = [f"{chance.choice(NAMES)}: {chance.choice(TOKENS)}" for _ in range(chance.randrange(3))]
        headers += chance.sample(FIELDS, chance.randrange(4))
        body = chance.choice(BODIES)
        if body or chance.random() < 0.5:
            length = len(body) if chance.random() < 0.95 else chance.choice([-1, 10**30, len(body) + 1])
            headers.append(f"Content-Length: {length}")
        yield request(method, path, headers, body)


def crafted_requests() -> Iterator[bytes]:
    for path, headers in itertools.product(PATHS, HEADER_SETS):
        for method in ("GET", "DELETE") if not headers else ("GET",):
            yield request(method, path, headers, b"")


def request(method: str, path: str, headers: list[str], body: bytes) -> bytes:
    return (
        "\r\n".join((f"{method} {path} HTTP/1.1", "Host: service", "Connection: close", *headers, "", "")).encode(
            "latin-1"
        )
        + body
    )


async def answer_to(port: int, sent: bytes) -> bytes:
    """Send it on a connection of its own, and return all that came. Where more would have to come, say that it is all:
    a proxy that is told so otherwise asks the service for nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        lengths = re.findall(rb"Content-Length: (\d+)\r\n", sent)
        is_cut = bool(lengths) and len(sent.partition(b"\r\n\r\n")[2]) < int(lengths[-1])
        if is_cut or b"chunked" in sent:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), TIMEOUT_S)
    except (ConnectionError, BrokenPipeError):
        return b""
    finally:
        writer.close()


async def tell_all(port: int, requests: Iterator[bytes], open_answers: set[bytes]) -> Counter[int]:
    """Send all, so many at once; check each answer; return how often each status came."""
    statuses: Counter[int] = Counter()

    async def stranger() -> None:
        for sent in requests:
            answer = await answer_to(port, sent)
            assert SECRET.encode() not in answer.replace(sent, b""), (sent, answer)
            for head, body in re.findall(
                rb"^HTTP/1\.[01] (\d{3}) .*?\r\n\r\n([^\r]*)", answer, re.MULTILINE | re.DOTALL
            ):
                statuses[status := int(head)] += 1
                assert status in STATUSES or (status == 200 and (not body or body in open_answers)), (sent, answer)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(stranger())
    return statuses


WAYS = pytest.mark.parametrize(
    "kind",
    [
        "directly",
        pytest.param("nginx", marks=pytest.mark.skipif(is_missing("nginx"), reason="nginx is not installed")),
    ],
)


@asynccontextmanager
async def way_to(kind: str, port: int, folder: Path) -> AsyncIterator[int]:
    if kind == "directly":
        yield port
    else:
        async with reverse_proxy(kind, folder, port) as proxy_port:
            yield proxy_port


@WAYS
async def test_what_no_client_sends_opens_nothing(
    kind: str, api: Client, api_process: Process, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    key = await api.schedule(HOOK, 3_600, data=SECRET)
    before = await written(raw)
    found: Counter[int] = Counter()
    async with way_to(kind, (await api_process.started())["port"], tmp_path) as port:
        for sent in odd_requests():
            answer = await answer_to(port, sent)
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
            assert {*statuses} <= STATUSES | {200}, (sent, answer)
            assert statuses.count(200) <= sent.count(b"/healthz"), (sent, answer)
            assert SECRET.encode() not in answer, (sent, answer)
            found.update(statuses)
    assert found[200] > 3 * 20, found
    assert found[401] >= 5, found
    assert await written(raw) == before
    assert not api_process.events("fault")
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 200
    await api.call("POST", "/purge")


@pytest.mark.long
@WAYS
async def test_a_stranger_reads_changes_stops_and_fills_nothing(
    kind: str, api: Client, api_process: Process, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    keys = [await api.schedule(HOOK, 3_600, data=SECRET, headers={"X-Secret": SECRET}) for _ in range(3)]
    status, _ = await api.call("PUT", f"/schedule/{SECRET}", json={"webhook": HOOK, "ttl": 3_600})
    assert status == 200
    before = await written(raw)
    at_work = psutil.Process(api_process.process.pid)
    held = at_work.memory_info().rss

    started = await api_process.started()
    answers = [await answer_to(started["port"], request("GET", path, [], b"")) for path in OPEN_PATHS]
    open_answers = {answer.partition(b"\r\n\r\n")[2] for answer in answers}
    async with way_to(kind, started["port"], tmp_path) as port:
        statuses = await tell_all(port, random_requests(17, [*keys, SECRET]), open_answers)
        crafted = list(crafted_requests())
        assert len(crafted) >= 200
        statuses += await tell_all(port, iter(crafted), open_answers)

    assert statuses[401] > RANDOM_REQUESTS / 3, statuses
    assert await written(raw) == before
    assert at_work.memory_info().rss - held < GROWTH_BYTES
    assert not at_work.children()
    assert (await api.call("GET", f"/schedule/{keys[0]}"))[0] == 200
    assert TOKEN not in api_process.log
