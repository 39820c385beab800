"""No request becomes another, however its bytes are cut, whatever it offers, and whoever shares the connection."""

import asyncio
import contextlib
import itertools
import json
import socket
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.recorder import Recorder


async def send(recorder: Recorder, data: bytes, cuts: set[int], closes: bool = True) -> bytes:
    """Send bytes on a connection of their own, in a packet for each piece; return all that comes back.

    Without `closes`, the server must close the connection by itself.
    """
    recorder.requests.clear()
    recorder.begun.clear()
    recorder.headers.clear()
    with socket.socket() as client:
        client.connect(("127.0.0.1", recorder.port))
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        places = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
        for start, end in itertools.pairwise(places):
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(client, data[start:end])
            for _ in range(3):  # the server is in this loop: it has read the piece by then
                await asyncio.sleep(0)
        if closes:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        answers = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                while piece := await loop.sock_recv(client, 65_536):
                    answers += piece
        return answers


def statuses(answers: bytes) -> list[bytes]:
    return [line.split(b" ")[1] for line in answers.split(b"\r\n") if b"HTTP/1.1 " in line]


SMUGGLED = b"POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

BODIES = [
    b"",
    b"abc",
    SMUGGLED,
    b"x\r\nUpgrade: h2c\r\n",
    b"x\r\nupgrade: " + b"y" * len(SMUGGLED) + b"\r\n" + SMUGGLED,
    b"0\r\n\r\n" + SMUGGLED,
    b"\r\n\r\n" * 5,
]

OFFERS: list[tuple[bytes, ...]] = [
    (),
    (b"Connection: Upgrade", b"Upgrade: h2c"),
    (b"connection: upgrade, HTTP2-Settings", b"UPGRADE: h2c", b"HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA"),
    (b"Upgrade:websocket", b"CONNECTION:  keep-alive , UPGRADE", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Connection: Upgrade", b"uPgRaDe:\tone", b"X: y", b"Upgrade: two"),
    (b"Upgrade: h2c",),
    (b"Connection: Upgrade",),
    (b"Connection: Upgrade", b"Upgrade: "),
    (b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: TLS/1.0, HTTP/2.0"),
]


@dataclass(frozen=True)
class Message:
    """A request, and the bytes of it."""

    path: str
    body: bytes
    head: tuple[bytes, ...]
    chunk: int
    """Bytes in a chunk; 0: sent with its length."""

    @property
    def wire(self) -> bytes:
        lines = [b"POST %s HTTP/1.1" % self.path.encode(), b"Host: x", *self.head]
        if not self.chunk:
            return b"\r\n".join([*lines, b"Content-Length: %d" % len(self.body), b"", self.body])
        pieces = [self.body[at : at + self.chunk] for at in range(0, len(self.body), self.chunk)]
        chunks = [b"%x;extension=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
        return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""]) + b"".join(chunks) + b"0\r\n\r\n"


MESSAGES = st.builds(
    Message,
    path=st.sampled_from(["/one", "/two", "/refused"]),
    body=st.sampled_from(BODIES),
    head=st.sampled_from(OFFERS),
    chunk=st.sampled_from([0, 0, 1, 7, 100]),
)
CUTS = st.sets(st.integers(1, 600), max_size=8)

EXAMPLES = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)


@EXAMPLES
@given(messages=st.lists(MESSAGES, min_size=1, max_size=5), cuts=CUTS)
def test_the_application_is_given_what_was_sent_however_it_is_cut(
    runner: asyncio.Runner, recorder: Recorder, messages: list[Message], cuts: set[int]
) -> None:
    answers = runner.run(send(recorder, b"".join(message.wire for message in messages), cuts))
    sent = [("POST", at.path, b"" if at.path == "/refused" else at.body) for at in messages]
    assert recorder.requests == sent
    assert statuses(answers) == [b"200"] * len(messages)
    assert [part.rpartition(b"\r\n\r\n")[2].decode() for part in answers.split(b"HTTP/1.1 200 OK")[1:]] == [
        message.path for message in messages
    ], "each has its own answer"


@pytest.mark.parametrize("offer", OFFERS, ids=[b"; ".join(offer).decode() for offer in OFFERS])
@pytest.mark.parametrize("chunk", [0, 5])
def test_every_cut_of_an_offer_with_a_body(
    runner: asyncio.Runner, recorder: Recorder, offer: tuple[bytes, ...], chunk: int
) -> None:
    messages = [Message("/one", b"x\r\nUpgrade: a\r\n" + SMUGGLED, offer, chunk), Message("/two", b"", (), 0)]
    wire = b"".join(message.wire for message in messages)

    async def send_with_each_cut() -> None:
        for cut in range(len(wire)):
            answers = await send(recorder, wire, {cut})
            assert recorder.requests == [("POST", at.path, at.body) for at in messages], f"cut at {cut}"
            assert statuses(answers) == [b"200", b"200"]

    runner.run(send_with_each_cut())


def test_an_offer_without_a_body_and_http_1_0(runner: asyncio.Runner, recorder: Recorder) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answers = runner.run(
        send(recorder, b"GET /one HTTP/1.1\r\nHost: x\r\n" + offer + b"GET /two HTTP/1.0\r\n" + offer, set())
    )
    assert recorder.begun == ["/one", "/two"]
    assert statuses(answers) == [b"200", b"200"]
    assert all(name != b"upgrade" for fields in recorder.headers for name, _ in fields)


def test_thousands_of_offers_in_one_packet_are_each_answered(runner: asyncio.Runner, recorder: Recorder) -> None:
    offer = b"GET /one HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answers = runner.run(send(recorder, offer * 2_000, set()))
    assert len(recorder.begun) == 2_000
    assert statuses(answers) == [b"200"] * 2_000


REFUSED = {
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "chunks and a length": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "a length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a length with a sign": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
    "two codings": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"POST / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
    "a folded coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"POST / HTTP/1.1\nContent-Length: 3\n\nabc",
    "a bare line feed in the head": b"POST / HTTP/1.1\r\nHost: x\r\nX: a\nContent-Length: 3\r\n\r\nabc",
    "a bare line feed at the end": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\nabc",
    "a bare carriage return": b"POST / HTTP/1.1\r\nHost: x\r\nX: a\rContent-Length: 3\r\n\r\nabc",
    "NUL": b"POST / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\nContent-Length: 3\r\n\r\nabc",
    "a space before the colon": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc",
    "a space before the first name": b"POST / HTTP/1.1\r\nHost: x\r\n Content-Length: 3\r\n\r\nabc",
    "an unknown method": b"SMUGGLE / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target that is none": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "chunks that are none": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunks with bare line feeds": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "a chunk that overflows": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n",
    "an offer with chunks that are none": (
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"
    ),
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
def test_nothing_is_parsed_after_a_refusal(runner: asyncio.Runner, recorder: Recorder, request_: bytes) -> None:
    before = Message("/one", b"abc", (), 0).wire
    for cuts in (set(), {len(before)}, {len(before) + len(request_)}, set(range(1, 300, 3)), set(range(1, 300))):
        answers = runner.run(send(recorder, before + request_ + SMUGGLED * 3, set(cuts), closes=False))
        assert recorder.requests == [("POST", "/one", b"abc")]
        assert "/smuggled" not in recorder.begun
        assert statuses(answers) == [b"200", b"400"], "no reset takes them along"


NO_HOSTS = [
    b"",
    b"Host: x\r\nHost: x\r\n",
    b"Host: x\r\nhOST: y\r\n",
    b"Host: x y\r\n",
    b"Host: a,b\tc\r\n",
    b"Host: x/y\r\n",
    b"Host: x@y\r\n",
    b"Host: http://x\r\n",
    b"Host: x:y\r\n",
    b"Host: x:1:2\r\n",
    b"Host: ::1\r\n",
    b"Host: [::1\r\n",
    b"Host: [::1]x\r\n",
    b"Host: x:123456\r\n",
    b"Host: \xc3\xa9\r\n",
    b"Host: " + b"x" * 256 + b"\r\n",
]


@pytest.mark.parametrize("target", [b"/one", b"http://x/one"])
@pytest.mark.parametrize("fields", NO_HOSTS)
def test_a_request_of_two_hosts_or_none_is_refused(
    runner: asyncio.Runner, recorder: Recorder, fields: bytes, target: bytes
) -> None:
    """RFC 9112, section 3.2: what stands before the service may have looked at the other."""
    for offer in (b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"):
        request_ = b"GET " + target + b" HTTP/1.1\r\nX: y\r\n" + fields + offer + b"\r\n"
        before = Message("/two", b"", (), 0).wire
        for cuts in (set(), {len(before) + 30}, set(range(1, 300))):
            answers = runner.run(send(recorder, before + request_ + SMUGGLED, cuts, closes=False))
            assert recorder.begun == ["/two"]
            assert statuses(answers) == [b"200", b"400"]
            assert b"Host: " in answers.rpartition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"x",
        b"a.b-c_d.",
        b"x:",
        b"x:80",
        b"127.0.0.1:8080",
        b"[::1]",
        b"[fe80::1]:443",
        b"[fe80::1%eth0]",
        b"xn--e1aybc",
        b"%C3%A9:1",
    ],
)
def test_a_host_is_taken_in_any_form_that_it_may_have(runner: asyncio.Runner, recorder: Recorder, host: bytes) -> None:
    request_ = b"GET /one HTTP/1.1\r\nHOST: " + host + b" \r\n\r\n"
    trailed = b"POST /two HTTP/1.1\r\nHost:y\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: " + host + b"\r\n\r\n"
    answers = runner.run(send(recorder, (request_ + trailed) * 2, set()))
    assert recorder.begun == ["/one", "/two"] * 2
    assert statuses(answers) == [b"200"] * 4, "a trailer is no header"


def test_http_1_0_does_without_a_host_but_not_with_two(runner: asyncio.Runner, recorder: Recorder) -> None:
    for fields, status in (
        (b"", b"200"),
        (b"Host: x\r\n", b"200"),
        (b"Host: x\r\n" * 2, b"400"),
        (b"Host: /\r\n", b"400"),
    ):
        answers = runner.run(send(recorder, b"GET /one HTTP/1.0\r\n" + fields + b"\r\n", set()))
        assert statuses(answers) == [status]


@pytest.mark.parametrize(
    "target", [b"http://x", b"HTTP://x:80", b"https://[::1]:1", b"http://x?a=1&b", b"http://x/?a=1&b"]
)
def test_a_target_without_a_path_means_the_root(runner: asyncio.Runner, recorder: Recorder, target: bytes) -> None:
    recorder.queries.clear()
    answers = runner.run(send(recorder, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n", set()))
    assert statuses(answers) == [b"200"]
    assert recorder.begun == ["/"]
    assert recorder.queries == [target.partition(b"?")[2]]


def test_a_refusal_comes_after_the_answers_before_it(runner: asyncio.Runner, recorder: Recorder) -> None:
    before = Message("/one", b"abc", (), 0).wire
    answers = runner.run(send(recorder, before + before + REFUSED["two lengths"], set(), closes=False))
    assert statuses(answers) == [b"200", b"200", b"400"]
    assert b"retry-after" not in answers.lower()
    assert json.loads(answers.rpartition(b"\r\n\r\n")[2])["status"] == 400


def test_a_body_that_is_none_gets_no_second_answer(runner: asyncio.Runner, recorder: Recorder) -> None:
    head = b"POST /refused HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answers = runner.run(send(recorder, head + b"zz\r\n" + SMUGGLED, {len(head)}, closes=False))
    assert statuses(answers) == [b"200"]
    assert recorder.begun == ["/refused"]


@pytest.mark.parametrize("version", [b"1.1\r\nHost: x\r\nConnection: close", b"1.0", b"1.0\r\nConnection: keep-alive"])
def test_nothing_is_parsed_after_a_request_that_closes(
    runner: asyncio.Runner, recorder: Recorder, version: bytes
) -> None:
    closing = b"GET /one HTTP/" + version + b"\r\n\r\n"
    for behind in (SMUGGLED, b"\0\0\0", REFUSED["two lengths"]):
        for cuts in (set(), {len(closing)}, {len(closing) + 3}):
            answers = runner.run(send(recorder, closing + behind, cuts, closes=False))
            assert recorder.begun == ["/one"]
            assert statuses(answers) == [b"200"]


def test_a_trailer_has_no_say_over_the_connection(runner: asyncio.Runner, recorder: Recorder) -> None:
    """The answer may have gone out before it came, and a proxy have lent the connection to the next client."""
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    trailer = b"0\r\nConnection: close\r\n\r\n"
    for path, fields in itertools.product((b"/one", b"/refused"), (b"", offer)):
        head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n"
        wire = (head + trailer) * 2 + Message("/two", b"abc", (), 0).wire
        length = len(head + trailer)
        for cuts in (set(), {len(head)}, {length}, {len(head), length}, set(range(len(wire)))):
            answers = runner.run(send(recorder, wire, cuts))
            assert recorder.begun == [path.decode()] * 2 + ["/two"]
            assert statuses(answers) == [b"200"] * 3
            assert b"connection: close" not in answers


@pytest.mark.parametrize("version", [b"1.1\r\nHost: x\r\nConnection: close", b"1.0", b"1.0\r\nConnection: keep-alive"])
@pytest.mark.parametrize("trailer", [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"])
def test_nothing_is_parsed_after_the_body_of_a_request_that_closes(
    runner: asyncio.Runner, recorder: Recorder, version: bytes, trailer: bytes
) -> None:
    first = b"POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nConnection: close\r\n\r\n"
    for path, before in itertools.product((b"/one", b"/refused"), (b"", first)):
        head = b"POST " + path + b" HTTP/" + version + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        end = b"0\r\n" + trailer + b"\r\n"
        for behind in (SMUGGLED, b"\0\0\0"):
            at = len(before + head)
            for cuts in (set(), {at}, {at, at + len(end)}):
                answers = runner.run(send(recorder, before + head + end + behind, cuts, closes=False))
                assert recorder.begun == ["/one"] * bool(before) + [path.decode()]
                assert statuses(answers) == [b"200"] * len(recorder.begun)


def test_trailers_are_no_headers(runner: asyncio.Runner, recorder: Recorder) -> None:
    head = b"POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = head + b"0\r\nAuthorization: x\r\nContent-Type: y\r\nExpect: 100-continue\r\n\r\n"
    for cuts in (set(), {len(head)}, {len(head) + 10}):
        answers = runner.run(send(recorder, wire + Message("/two", b"", (), 0).wire, cuts))
        assert recorder.headers == [
            [(b"host", b"x"), (b"transfer-encoding", b"chunked")],
            [(b"host", b"x"), (b"content-length", b"0")],
        ]
        assert statuses(answers) == [b"200", b"200"]


@pytest.mark.parametrize("behind", [b"", b"GET /tw", b"POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nx"])
def test_who_closes_his_side_gets_the_answers_to_what_was_whole(
    runner: asyncio.Runner, recorder: Recorder, behind: bytes
) -> None:
    wire = b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n" + Message("/one", b"abc", (), 0).wire + behind
    recorder.gate.clear()

    async def exchange() -> bytes:
        sending = asyncio.create_task(send(recorder, wire, set()))
        await asyncio.sleep(0.05)  # the end of its side has come by then
        recorder.gate.set()
        return await sending

    answers = runner.run(exchange())
    assert statuses(answers) == [b"200", b"200"]
    assert recorder.requests == [("GET", "/waits", b""), ("POST", "/one", b"abc")]
