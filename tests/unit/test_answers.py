"""What counts as a success: the status line decides, whatever form the rest of the answer has."""

import asyncio

import pytest

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.pool import REST_S
from redis_scheduler.task.outcome import Outcome
from tests.support.raw_receiver import OK, answering, claim_of, says

HEAD = b"HTTP/1.1 200 OK\r\n"

SUCCESSES = {
    "204 with a body in the same packet": (b"HTTP/1.1 204 No Content\r\n\r\nhello",),
    "204 with a length and a body": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",),
    "205 with a body": (b"HTTP/1.1 205 Reset\r\nContent-Length: 5\r\n\r\nhello",),
    "9 kB of one header": (HEAD + b"X: " + b"x" * 9_000 + b"\r\nContent-Length: 0\r\n\r\n",),
    "60 kB of one header": (HEAD + b"X: " + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n",),
    "a name of 60 kB": (HEAD + b"x" * 60_000 + b": 1\r\nContent-Length: 0\r\n\r\n",),
    "a reason of 60 kB": (b"HTTP/1.1 200 " + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n",),
    "150 headers": (HEAD + b"X: 1\r\n" * 150 + b"Content-Length: 0\r\n\r\n",),
    "10,000 headers": (HEAD + b"X: 1\r\n" * 10_000 + b"Content-Length: 0\r\n\r\n",),
    "odd header names": (HEAD + b"X Y: 1\r\n@: 2\r\n\xc3\xa9: 3\r\nContent-Length: 0\r\n\r\n",),
    "a header without a name": (HEAD + b": 1\r\nContent-Length: 0\r\n\r\n",),
    "a header without a colon": (HEAD + b"nonsense\r\nContent-Length: 0\r\n\r\n",),
    "a space before the colon": (HEAD + b"Content-Length : 2\r\n\r\nok",),
    "control characters in a value": (HEAD + b"X: \x00\x01\x7f\xff\r\nContent-Length: 0\r\n\r\n",),
    "a folded header": (HEAD + b"X: a\r\n b\r\n\tc\r\nContent-Length: 0\r\n\r\n",),
    "a folded first line": (HEAD + b" folded\r\nContent-Length: 0\r\n\r\n",),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",),
    "bare carriage returns": (HEAD + b"X: 1\rY: 2\r\nContent-Length: 0\r\n\r\n",),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",),
    "no reason, one space": (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",),
    "no reason, odd header": (b"HTTP/1.1 200\r\nX Y: 1\r\nContent-Length: 0\r\n\r\n",),
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",),
    "the same length twice": (HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",),
    "a list of lengths": (HEAD + b"Content-Length: 2, 2\r\n\r\nok",),
    "a length that is none": (HEAD + b"Content-Length: -2\r\n\r\nok",),
    "an enormous length": (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",),
    "a length and chunks": (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
    "chunks that are none": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",),
    "chunks with extensions and trailers": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a=b \r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
    ),
    "an upgrade that is offered": (HEAD + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok",),
    "an empty line first": (b"\r\n" + OK,),
    "an empty line behind": (OK + b"\r\n",),
    "interim answers": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </>\r\n\r\n" + OK,),
    "an interim answer with odd lines": (b"HTTP/1.1 103 Early\nLink: </>\n\n" + OK,),
    "in single bytes": tuple(bytes([byte]) for byte in b"HTTP/1.1 201 Created\r\nX: 1\r\nContent-Length: 2\r\n\r\nok"),
    "a wrong header in single bytes": tuple(bytes([byte]) for byte in b"HTTP/1.1 202 A\r\nX Y: 1\r\n\r\n"),
    "an endless header": (HEAD + b"X: ", b"x" * 200_000),
    "endless headers": (HEAD, b"X: 1\r\n" * 40_000),
}

ENDED_BY_A_CLOSE = {
    "no length": b"HTTP/1.1 200 OK\r\n\r\nbody",
    "HTTP/1.0 without a length": b"HTTP/1.0 200 OK\r\n\r\nbody",
    "another transfer coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nbody",
    "no length and no body": b"HTTP/1.1 200\r\n\r\n",
    "a length in an interim answer alone": b"HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody",
}

FAILURES = {
    "garbage": (b"XYZ", "the answer is not HTTP"),
    "another version": (b"HTTP/9.9 200 OK\r\n\r\n", "the answer is not HTTP"),
    "four digits": (b"HTTP/1.1 2000 OK\r\n\r\n", "the answer is not HTTP"),
    "two digits": (b"HTTP/1.1 20 OK\r\n\r\n", "the answer is not HTTP"),
    "no space": (b"HTTP/1.1 200OK\r\n\r\n", "the answer is not HTTP"),
    "garbage after an interim answer": (b"HTTP/1.1 100 C\r\n\r\nXYZ", "the answer is not HTTP"),
    "a 500 with a wrong header": (b"HTTP/1.1 500 Bad\r\nX Y: 1\r\n\r\n", "answered 500"),
    "a 500 with 200 behind it": (b"HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n" + OK, "answered 500"),
    "a 500 with a wrong 200 behind it": (
        b"HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX Y: 1\r\n\r\n",
        "answered 500",
    ),
    "a switch of protocols": (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + OK, "answered 101"),
    "interim answers without end": (b"HTTP/1.1 100 C\r\n\r\n" * 5_000, "the answer does not end"),
    "an endless first line": (b"H" * 200_000, "the answer is not HTTP"),
}


@pytest.mark.parametrize("name", SUCCESSES)
async def test_the_status_line_decides(name: str) -> None:
    async with answering(says(*SUCCESSES[name])) as receiver, Deliverer("token", 5) as deliverer:
        for _ in range(2):
            outcome = await deliverer.attempt(claim_of(receiver.url))
            assert outcome.error is None
            assert 200 <= (outcome.status or 0) < 300
        assert len(receiver.heads) == 2


@pytest.mark.parametrize("name", ENDED_BY_A_CLOSE)
async def test_the_end_of_the_connection_ends_a_body_without_a_length(name: str) -> None:
    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(ENDED_BY_A_CLOSE[name])
        writer.close()

    async with answering(behave) as receiver, Deliverer("token", 5) as deliverer:
        outcome = await deliverer.attempt(claim_of(receiver.url))
        assert (outcome.error, outcome.status) == (None, 200)


@pytest.mark.parametrize("header", ["Content-Length: 9", "content-length : 9", "Transfer-Encoding: gzip, Chunked"])
async def test_an_answer_that_breaks_off_is_a_failure(header: str) -> None:
    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(HEAD + header.encode() + b"\r\n\r\n3\r\nok")
        writer.close()

    async with answering(behave) as receiver, Deliverer("token", 5) as deliverer:
        outcome = await deliverer.attempt(claim_of(receiver.url))
        assert (outcome.error, outcome.status) == ("the answer broke off, or is not as its headers say", 200)


@pytest.mark.parametrize("behind", [OK, OK[:1], b"x"])
async def test_what_stands_behind_an_answer_ends_the_connection(behind: bytes) -> None:
    async with answering(says(OK + behind)) as receiver, Deliverer("token", 5) as deliverer:
        for _ in range(3):
            assert (await deliverer.attempt(claim_of(receiver.url))).error is None
            await asyncio.sleep(2 * REST_S)
        assert receiver.connections == 3


@pytest.mark.parametrize("name", FAILURES)
async def test_what_has_no_status_of_success_is_a_failure(name: str) -> None:
    answer, error = FAILURES[name]
    async with answering(says(answer)) as receiver, Deliverer("token", 5) as deliverer:
        outcome: Outcome = await deliverer.attempt(claim_of(receiver.url))
        assert outcome.error == error
        # What was wrong with one answer is not the next one's matter.
        assert (await deliverer.attempt(claim_of(receiver.url))).error == error
        assert receiver.connections == 2


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found", b"500 Bad", b"503 Busy", b"307 There", b"204 None"])
@pytest.mark.parametrize(
    "body", [b"Content-Length: 2\r\n\r\nok", b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
async def test_a_connection_is_kept_after_any_answer_that_ends_as_it_said(status: bytes, body: bytes) -> None:
    if status.startswith(b"204"):
        body = b"\r\n"
    async with answering(says(b"HTTP/1.1 " + status + b"\r\n" + body)) as receiver, Deliverer("token", 5) as deliverer:
        for _ in range(3):
            await deliverer.attempt(claim_of(receiver.url))
            await asyncio.sleep(0.1)
        assert receiver.connections == 1


@pytest.mark.parametrize(
    ("answer", "headers"),
    [
        (OK, {}),
        (b"HTTP/1.1 204 N\r\nRetry-After: 5\r\n\r\n", {}),
        (
            b"HTTP/1.1 503 S\r\nRetry-After:  5 \r\nVia: a\r\nContent-Length: 0\r\nvia: b\r\n\r\n",
            {"retry-after": "5", "via": "a, b", "content-length": "0"},
        ),
        (b"HTTP/1.1 429 T\r\nX: \xe9\r\nContent-Length : 0\r\n\r\n", {"x": "\xe9", "content-length": "0"}),
        # Neither those of an interim answer, nor trailers.
        (
            b"HTTP/1.1 103 E\r\nLink: </>\r\n\r\nHTTP/1.1 500 B\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n\r\n",
            {"transfer-encoding": "chunked"},
        ),
        (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", {"connection": "upgrade", "upgrade": "x"}),
        # What comes after some kB is not kept.
        (
            b"HTTP/1.1 500 B\r\nA: 1\r\nX: " + b"x" * 9_000 + b"\r\nContent-Length: 0\r\n\r\n",
            {"a": "1"},
        ),
    ],
)
async def test_the_headers_of_an_answer_are_kept_that_is_no_success(answer: bytes, headers: dict[str, str]) -> None:
    async with answering(says(answer)) as receiver, Deliverer("token", 5) as deliverer:
        for _ in range(2):
            outcome = await deliverer.attempt(claim_of(receiver.url))
            assert dict(outcome.headers) == headers


async def test_no_header_of_a_failure_is_kept_for_the_answer_after_it() -> None:
    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(OK if number else b"HTTP/1.1 500 B\r\nX: 1\r\nContent-Length: 0\r\n\r\n")

    async with answering(behave) as receiver, Deliverer("token", 5) as deliverer:
        failure = await deliverer.attempt(claim_of(receiver.url))
        await asyncio.sleep(REST_S)
        success = await deliverer.attempt(claim_of(receiver.url))
        assert receiver.connections == 1
        assert (failure.headers, success.headers) == ({"x": "1", "content-length": "0"}, {})
