"""One attempt over HTTP: POST the bytes of `data` to the webhook, and say how it went. Knows nothing of Redis.

2xx is success. Anything else is a failed attempt: another status, a redirect (never followed), a time-out, a connection
error. Of an answer at most ANSWER_BYTES are read, as they come: nothing is decompressed. A receiver that sends without end
is cut off, also before its answer begins and between its parts, where aiohttp has no limit.
"""

import asyncio
import errno
import select
import socket
import string
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from redis_scheduler import __version__
from redis_scheduler.store import Claim

ANSWER_BYTES = 65_536
FRAME_BYTES = 16_384
"""Bytes of an answer that are not its body: interim answers, head, and what stands between chunks."""

INTERIM_MOST = 16
"""Interim answers (100, 102, 103) before the answer: each costs as much time as a whole one."""

PIECE_BYTES = 4_096
"""What is parsed before the limits are looked at again: some milliseconds at the most."""

TARGETS_MOST = 4_096
"""Webhooks whose parsed form is kept."""

NO_TIMEOUTS = aiohttp.ClientTimeout()
"""Of single phases: an attempt has one in all."""

SWITCHING_PROTOCOLS = 101
"""The only interim status that is an answer."""

ERROR_LENGTH = 200
"""Characters of an error that are kept with a failed task."""

KEY_HEADER = "Schedule-Key"
ATTEMPT_HEADER = "Schedule-Attempt"

LOCAL_FAULTS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, socket.EAI_SYSTEM}

KEEPALIVE_S = 4
"""How long an idle connection to a receiver is kept: less than common servers keep it (5 s), since a POST that meets their
close is a failed attempt."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went: no error is a success. `status` is None when there was no answer.

    `is_local`: the fault is this machine's, out of sockets or memory; no request was made, and it counts as no attempt.
    """

    error: str | None
    status: int | None
    elapsed_ms: int
    is_local: bool = False


class AnswerTooLong(Exception):
    """The receiver sends without end."""


class _Connection(ResponseHandler):
    """aiohttp's protocol, which takes any number of interim answers and any bytes between chunks: here both are limited.

    It also takes what comes while a connection is idle for the answer to the next request, which its receiver may never
    see: a second answer, or the 408 with which proxies close. Here whatever comes after an answer ends the connection.
    """

    _received = 0
    _interim = 0
    _is_answered = False
    _goes_on = False
    """A message came after the answer, in the same packet."""
    _cut_off: AnswerTooLong | None = None
    _unread: "select.poll | None" = None

    def set_response_params(self, **options: Any) -> None:
        self._received = self._interim = 0
        self._is_answered = False
        super().set_response_params(**options)

    def feed_data(self, data: Any, size: int = 0) -> None:
        if self._is_answered:
            self._goes_on = True
            return
        code = data[0].code
        if code >= 200 or code == SWITCHING_PROTOCOLS:
            self._is_answered = True
        else:
            self._interim += 1
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        if not data:
            super().data_received(data)
        for first in range(0, len(data), PIECE_BYTES):
            if self._is_answered and (self._payload is None or self._payload.is_eof()):
                self.abort()
                return
            piece = data[first : first + PIECE_BYTES]
            super().data_received(piece)
            self._received += len(piece)
            body_bytes = self._payload.total_bytes if self._payload else 0
            if self.transport is None or self.transport.is_closing():
                # No HTTP: aiohttp closes, but lets whoever reads the body wait.
                self._end_body(aiohttp.ClientPayloadError())
                return
            if self._received - body_bytes > FRAME_BYTES or self._interim > INTERIM_MOST:
                self._cut_off = AnswerTooLong()
                self._end_body(self._cut_off)
                self.abort()
                return
            if self._is_answered and (self._goes_on or self._has_begun_another()):
                self.abort()
                return

    def is_connected(self) -> bool:
        """Whether it can be used; the pool asks before it gives one out again.

        What has come is looked for also where the event loop has not: a close, most of all.
        """
        if self.transport is None or not super().is_connected():
            return False
        if not self._is_answered:
            return True
        if self._unread is None:
            self._unread = select.poll()
            self._unread.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._unread.poll(0)

    def _has_begun_another(self) -> bool:
        """Whether the answer is at its end, and a part of another stands behind it."""
        if self._parser is None or self._payload is None or not self._payload.is_eof():
            return False
        try:
            return self._parser.feed_eof() is not None
        except Exception:  # what it is does not matter
            return True

    def _end_body(self, error: Exception) -> None:
        if self._payload and not self._payload.is_eof():
            self._payload.set_exception(error)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(self._cut_off or exc)


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast(partial[ResponseHandler], partial(_Connection, loop=asyncio.get_running_loop()))


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a webhook's requests go: what the connector is asked with, and the head as far as every request has it."""

    request: aiohttp.ClientRequest
    head: bytes


class Deliverer:
    """Attempts deliveries. An async context manager: it holds the connections to the receivers.

    aiohttp connects, keeps connections and parses answers. What its session does on top for each request (cookies,
    redirects, headers of many sources, bodies of many kinds) is half of a POST's time, and is not needed here.
    """

    def __init__(self, token: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._headers = (
            f"Content-Type: application/json\r\nAuthorization: {token}\r\nUser-Agent: redis-scheduler/{__version__}\r\n"
        )
        self._target = lru_cache(TARGETS_MOST)(self._prepare)
        self._connector: _Connector

    async def __aenter__(self) -> Self:
        self._connector = _Connector(limit=0, keepalive_timeout=KEEPALIVE_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connector.close()

    async def attempt(self, claim: Claim) -> Outcome:
        """Make one attempt; every way it can fail is an outcome."""
        started = time.monotonic()
        status: int | None = None
        error: str | None = None
        is_local = False
        connection: Connection | None = None
        is_reusable = False
        try:
            async with asyncio.timeout(self._timeout_s):
                target = self._target(claim.record.webhook)
                connection = await self._connector.connect(target.request, [], NO_TIMEOUTS)
                receiver = cast(_Connection, connection.protocol)
                _send(receiver, target.head, claim)
                message, content = await receiver.read()
                while message.code < 200 and message.code != SWITCHING_PROTOCOLS:
                    message, content = await receiver.read()
                status = message.code
                await _read(content)
                is_reusable = True
            if not 200 <= status < 300:
                error = f"answered {status}"
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s" if status is None else "the answer did not end in time"
        except Exception as problem:  # whatever a receiver or a URL can bring about is a failed attempt
            error = _described(problem)
            is_local = isinstance(problem, OSError) and problem.errno in LOCAL_FAULTS
            # It leads back to this claim, which with all its data would stay until the next collection of garbage.
            problem.__traceback__ = None
        finally:
            if connection is not None:
                _give_back(connection, is_reusable)
        return Outcome(error, status, round((time.monotonic() - started) * 1000), is_local)

    def _prepare(self, webhook: str) -> _Target:
        url = _target(webhook)
        head = f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n{self._headers}"
        request = aiohttp.ClientRequest("POST", url, loop=asyncio.get_running_loop())
        return _Target(request, head.encode())


def _give_back(connection: Connection, is_reusable: bool) -> None:
    receiver = cast(_Connection, connection.protocol)
    if not is_reusable:
        # Closed in order it would wait for a receiver that does not take the rest of the body.
        receiver.abort()
        connection.close()
    elif receiver.transport is not None and receiver.transport.get_write_buffer_size():
        # Answered before the body was sent: the rest has some time to follow, but no other request waits behind it.
        asyncio.get_running_loop().call_later(KEEPALIVE_S, receiver.transport.abort)
        connection.close()
    else:
        # It is closed all the same if the receiver said so, or was not read to its end.
        connection.release()


def _send(receiver: _Connection, head: bytes, claim: Claim) -> None:
    body = claim.record.data or b""
    if receiver.transport is None or receiver.transport.is_closing():
        raise aiohttp.ServerDisconnectedError
    receiver.set_response_params(read_until_eof=True, auto_decompress=False)
    end = f"{KEY_HEADER}: {claim.key}\r\n{ATTEMPT_HEADER}: {claim.attempts + 1}\r\nContent-Length: {len(body)}\r\n\r\n"
    receiver.transport.write(b"".join((head, end.encode(), body)))


def _target(webhook: str) -> URL:
    """Return the URL to post to, as it was given: a signed one must not be quoted anew. Only what is not ASCII is."""
    if not urlsplit(webhook).netloc.isascii():
        return URL(webhook)
    return URL(quote(webhook, safe=string.punctuation), encoded=True)


def _described(problem: Exception) -> str:
    """Return what may be kept and logged of an error: nothing that the receiver sent, no query of the URL."""
    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        reason = problem.certificate_error
        return f"the certificate is not valid: {getattr(reason, 'verify_message', reason)}"[:ERROR_LENGTH]
    if isinstance(problem, aiohttp.ClientConnectorSSLError):
        return f"no TLS connection: {getattr(problem.os_error, 'reason', problem.os_error)}"[:ERROR_LENGTH]
    if isinstance(problem, OSError):
        return f"{type(problem).__name__}: {problem}"[:ERROR_LENGTH]
    if isinstance(problem, aiohttp.ServerDisconnectedError):
        # Its text has the head of the answer, where one has begun.
        return "the connection was closed before the answer"
    if isinstance(problem, AnswerTooLong):
        return "the answer does not end"
    if isinstance(problem, HttpProcessingError):
        return "the answer is not HTTP"
    if isinstance(problem, aiohttp.ClientPayloadError):
        return "the answer broke off, or is not as its headers say"
    return type(problem).__name__


async def _read(content: aiohttp.StreamReader) -> None:
    """Read the answer to its end, so that the connection can be used again, or to the limit, which closes it."""
    room = ANSWER_BYTES
    try:
        while room > 0 and (chunk := await content.read(room)):
            room -= len(chunk)
    except AnswerTooLong:
        return  # its status is all that counts
