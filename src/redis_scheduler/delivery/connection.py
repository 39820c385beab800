"""One HTTP/1.1 connection to a receiver, with one request under way at a time. attempt.py sends; pool.py keeps it.

The status decides what an answer means. If the parser refuses what follows a valid status line, or the answer is longer
than the limits below, the answer ends with that status, and the connection ends, too. An answer that breaks off has no
status (docs/decisions/0004).
"""

import asyncio
import select
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import httptools

from redis_scheduler.task.answer import AGAIN_HEADER

ANSWER_BYTES = 65_536
"""So many bytes of a body are read; more end the answer."""

KEPT_BYTES = 1_024
"""At least so many bytes of a body are kept if the answer is no success: the log shows its beginning."""

HEAD_BYTES = 65_536
"""A head, with the interim answers before it, may have so many bytes."""

FRAME_BYTES = 16_384
"""So many bytes may stand between the parts of a body: a chunk of one byte costs as much time as a large one."""

INTERIM_MOST = 16
"""Interim answers (100, 102, 103) before the answer: each costs as much time as a whole one."""

PIECE_BYTES = 8_192
"""So many bytes are parsed between two looks at the limits: some milliseconds at the most."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

AGAIN = AGAIN_HEADER.encode()

DELIMITING_LENGTH_LEAST = len("content-length")
"""A shorter name is no header that says where the body ends, nor AGAIN."""

SWITCHING_PROTOCOLS = 101
"""The only interim status that is an answer."""


NO_HTTP = "the answer is not HTTP"


class AnswerError(Exception):
    """The bytes that came are no answer. The text says why, and repeats none of them."""


class ConnectionClosed(AnswerError):
    """The receiver closed the connection before it answered."""

    def __init__(self) -> None:
        super().__init__("the connection was closed before the answer")


class Connection(asyncio.Protocol):
    """A connection as the event loop drives it. The methods named `on_…` are the parser's callbacks."""

    __slots__ = (
        *("transport", "opened_at", "idle_since", "status", "received", "head_at", "body_start", "headers"),
        *("is_reusable", "on_lost", "_kept_bytes", "_answer", "_parser", "_unread", "_interim", "_body_bytes"),
        *("_frame_bytes", "_wanted_bytes", "_is_success", "_keeps_alive", "_is_delimited", "__weakref__"),
    )

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self.transport: asyncio.Transport | None = None
        self.opened_at = self.idle_since = time.monotonic()
        self.status: int | None = None
        """The status of the answer to the last request, once its head is whole."""
        self.received = 0
        """Bytes that came since the last request was sent."""
        self.head_at = 0.0
        """When the head of the last answer came that is no success, in `time.monotonic` seconds."""
        self.body_start = b""
        """The beginning of the body of an answer that is no success: `kept_bytes` at most. Of any, if the request
        wanted it."""
        self.headers = NO_HEADERS
        """The headers of an answer that is no success, by their names in lower case: those that came in its first
        `PIECE_BYTES`. Of a success at most AGAIN_HEADER."""
        self.is_reusable = False
        """Whether the answer ended as it said, nothing came behind it, and the receiver announced no close."""
        self.on_lost: Callable[[Connection], None] | None = None
        """Called when the connection is lost. While it is idle this is the pool's."""
        self._answer: asyncio.Future[int] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._unread: select.poll | None = None
        self._interim = self._body_bytes = self._frame_bytes = self._wanted_bytes = 0
        self._is_success = False
        """Whether a header was seen that follows a status of success: then none is kept."""
        self._keeps_alive = self._is_delimited = False
        """Whether the receiver keeps the connection; whether the head says where the body ends. If it does not, the end
        of the connection ends the body."""

    def send(self, request: bytes, wanted_bytes: int = 0) -> asyncio.Future[int]:
        """Send a request; return the future status, which is there when the answer has ended. `wanted_bytes`: so much
        is kept of the answer's body, also of a success.

        Raises ConnectionClosed if nothing was sent. Awaiting raises AnswerError, or OSError if the connection broke.
        """
        if self.transport is None or self.transport.is_closing():
            raise ConnectionClosed
        self.status = None
        self.is_reusable = self._is_delimited = self._is_success = False
        self.received = self._interim = self._body_bytes = self._frame_bytes = 0
        self.body_start, self.headers, self._wanted_bytes = b"", NO_HEADERS, wanted_bytes
        self._parser = parser = httptools.HttpResponseParser(self)
        # Old servers send such things and mean no harm.
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent: nothing has come since the last answer, not even a close.

        The socket is asked too: the event loop may not have looked yet.
        """
        if self.transport is None or self.transport.is_closing():
            return False
        if self._unread is None:
            self._unread = select.poll()
            self._unread.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._unread.poll(0)

    @property
    def is_sending(self) -> bool:
        """Whether the socket has not yet taken the whole request."""
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    @property
    def has_answered(self) -> bool:
        """Whether the answer has ended well."""
        answer = self._answer
        return answer is not None and answer.done() and not answer.cancelled() and answer.exception() is None

    def close_in_order(self, within_s: float) -> None:
        """Close once the rest of the request is sent; after `within_s` cut it off."""
        if self.transport is not None:
            self.transport.close()
            asyncio.get_running_loop().call_later(within_s, self.transport.abort)

    def time_out(self) -> None:
        """Wait no longer for the answer: it fails with TimeoutError."""
        self._fail(TimeoutError())

    def abort(self) -> None:
        """Close at once: closing in order would wait for a receiver that does not take the rest of the request."""
        self._parser = None
        if self.transport is not None:
            self.transport.abort()

    # The event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast(asyncio.Transport, transport)  # both event loops have set TCP_NODELAY

    def data_received(self, data: bytes) -> None:
        """Parse the bytes, piece by piece, up to the end of the answer."""
        parser = self._parser
        for first in range(0, len(data), PIECE_BYTES):
            if self._is_answered or parser is None:
                # Nothing asked for this: a second answer, or the 408 with which proxies close.
                self.is_reusable = False
                self.abort()
                return
            piece = data[first : first + PIECE_BYTES]
            self.received += len(piece)
            has_head, body_bytes = self.status is not None, self._body_bytes
            try:
                parser.feed_data(piece)
            except httptools.HttpParserInvalidStatusError:
                # The parser keeps the digits that it read, though they are no status.
                self._fail(AnswerError(NO_HTTP))
                self.abort()
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self._cut_off(parser, AnswerError(NO_HTTP))
            else:
                if has_head:
                    self._frame_bytes += len(piece) - (self._body_bytes - body_bytes)
                is_too_long = self._frame_bytes > FRAME_BYTES if has_head else self._is_head_too_long
                if is_too_long:
                    self._cut_off(parser, AnswerError("the answer does not end"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer. It is whole if only the end of the connection could end it."""
        self.transport = self._parser = None
        self.is_reusable = False
        if self.status is not None and not self._is_delimited:
            self._end()
        elif self.status is not None and exc is None:
            self._fail(AnswerError("the answer broke off, or is not as its headers say"))
        else:
            self._fail(exc or ConnectionClosed())
        if self.on_lost is not None:
            self.on_lost(self)

    @property
    def _is_head_too_long(self) -> bool:
        return self.received - self._body_bytes > HEAD_BYTES or self._interim > INTERIM_MOST

    def _cut_off(self, parser: httptools.HttpResponseParser, error: AnswerError) -> None:
        """End the connection, and the answer with the status that it began with, or with the error if it has none."""
        status = parser.get_status_code()
        if self._is_answered:
            pass  # the refused bytes stand behind the answer
        elif status >= 200:
            self.status = status
            self._end()
        else:
            self._fail(error)
        self.is_reusable = False
        self.abort()

    @property
    def _is_answered(self) -> bool:
        """Whether no answer is waited for."""
        return self._answer is None or self._answer.done()

    def _end(self) -> None:
        if self._answer is not None and self.status is not None and not self._answer.done():
            self._answer.set_result(self.status)

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    # The parser

    def on_message_begin(self) -> None:
        """Notice a second answer."""
        if self._is_answered:
            self.is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Learn whether the head says where the body ends; keep the header of an answer that is no success."""
        if len(name) >= DELIMITING_LENGTH_LEAST:
            stripped = name.strip().lower()
            if stripped == b"content-length" or (stripped == b"transfer-encoding" and b"chunked" in value.lower()):
                self._is_delimited = True
            elif stripped == AGAIN and self.status is None and self._has_success:
                # The one header that is kept of a success.
                self.headers = {AGAIN_HEADER: value.strip().decode("latin-1")}
        if not self._is_success:
            self._keep(name, value)

    @property
    def _has_success(self) -> bool:
        return self._parser is not None and 200 <= self._parser.get_status_code() < 300

    def _keep(self, name: bytes, value: bytes) -> None:
        self._is_success = self._has_success
        # Those behind the body (trailers) come when the status is known.
        if not self._is_success and self.status is None and self.received <= PIECE_BYTES:
            text, key = value.strip().decode("latin-1"), name.strip().lower().decode("latin-1")
            kept = {} if self.headers is NO_HEADERS else cast(dict[str, str], self.headers)
            # As RFC 9110, 5.3, joins several of one name.
            kept[key] = f"{kept[key]}, {text}" if key in kept else text
            self.headers = kept

    def on_headers_complete(self) -> None:
        """Learn the status."""
        if self._is_answered:
            return
        parser = cast(httptools.HttpResponseParser, self._parser)
        status = parser.get_status_code()
        if status >= 200 or status == SWITCHING_PROTOCOLS:
            self.status = status
            self._keeps_alive = parser.should_keep_alive()
            if not self._is_success:
                self.head_at = time.monotonic()
        else:
            self._interim += 1
            self._is_delimited, self.headers = False, NO_HEADERS

    def on_body(self, body: bytes) -> None:
        """Count the body, and end the answer if it is too long to be read."""
        if self.status is not None and (self._wanted_bytes or self.status >= 300):
            self.body_start += body[: max(0, max(self._wanted_bytes, self._kept_bytes) - self._body_bytes)]
        self._body_bytes += len(body)
        if self._body_bytes >= ANSWER_BYTES:
            self._end()

    def on_message_complete(self) -> None:
        """End the answer, unless it was an interim one."""
        if self.status is not None and not self._is_answered:
            self.is_reusable = self._keeps_alive
            self._end()
