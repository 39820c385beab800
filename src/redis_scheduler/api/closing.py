"""How answers leave the HTTP server, and how a connection ends: its client sees the last answer, and it ends in time.

A socket that is closed with input unread, or gets more of it afterwards, is reset, and the reset may overtake the
answer. So after its last answer the connection is closed in two steps (RFC 9112, section 9.6): the client is told that
nothing more follows; then what it still sends is read and dropped, until it closes its side too.
"""

import asyncio
import contextlib
import fcntl
import sys
import termios
from collections.abc import Sequence
from typing import cast

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from redis_scheduler.api.bounds import BoundedProtocol

LOOKS_AT_STOP = 10
"""Looks at each connection within `stop_unread_s`."""


CONTINUE = b"HTTP/1.1 100 "
"""The beginning of an answer that asks for the body. The client waits for it, so it is sent at once."""

_LINE_BYTES = bytes(octet for octet in range(256) if octet == ord("\t") or (octet >= ord(" ") and octet != 0x7F))
"""What may stand in a line of a head: no control characters but tabs."""


def send_whole(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes | memoryview) -> bool:
    """Send an answer whose headers give its length and say nothing of the connection; return whether it was done.

    uvicorn's `send` takes head and body apart, and looks at each header: that costs 3 us more. It is left to do so
    where `send` is another's, who may want to see what is sent; where the answer has no body, or is the last of its
    connection; and where the client is slow, or gone. Raises RuntimeError for a control character in a header.
    """
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or not body or cycle.scope["method"] == "HEAD":
        return False
    if not cycle.keep_alive or cycle.disconnected or cycle.response_started or cycle.flow.write_paused:
        return False
    lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
    head = b"%b%b\r\n" % (STATUS_LINE[status], b"".join(lines))
    if head.translate(None, _LINE_BYTES) != b"\r\n" * (len(lines) + 2):
        raise RuntimeError("Invalid HTTP header")
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    transport = cast(AnswerTransport, cycle.transport)  # the connection has put it in place
    transport.send(b"".join((head, body)))
    cycle.message_event.set()
    cycle.on_response()
    return True


class AnswerTransport:
    """uvicorn writes one answer to this, which sends the head together with the first piece of the body.

    uvicorn writes them apart: two system calls and two packets for each answer.
    """

    def __init__(self, connection: "ClosingProtocol") -> None:
        self._connection = connection
        self._head = b""
        self._has_head = False
        self.is_closing = connection.transport.is_closing
        self.closes_in_steps = False

    def write(self, data: bytes) -> None:
        """Keep the head until the next write; send the rest at once."""
        if self._has_head:
            self._connection.transport.write(self._head + data)
            self._head = b""
        elif data.startswith(CONTINUE):
            self._connection.transport.write(data)
        else:
            self._has_head = True
            self._head = data

    def send(self, data: bytes) -> None:
        """Send a whole answer."""
        self._connection.transport.write(data)

    def flush(self) -> None:
        """Send the head of an answer that has no body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection."""
        self.flush()
        if self.closes_in_steps:
            self._connection.close_in_steps()
        else:
            self._connection.transport.close()


class ClosingProtocol(BoundedProtocol):
    """A connection that sends answers in one packet and closes in two steps."""

    is_stranger = True
    """Whether no request of it has carried the token."""
    _has_client_ended = False
    """Whether the client has closed its side."""
    _dropped_bytes = _dropped_bytes_seen = 0
    _dropping_since: float | None = None
    _silence_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        super().connection_lost(exc)

    def close_with_answer(self) -> None:
        """Let the answer to the latest request be the last."""
        self.cycle.keep_alive = False
        self.transport_of(self.cycle).closes_in_steps = True

    def transport_of(self, cycle: RequestResponseCycle) -> AnswerTransport:
        """Return the transport that the answer to a request is written to; the first call puts it in place."""
        transport: object = cycle.transport
        if not isinstance(transport, AnswerTransport):
            transport = cycle.transport = AnswerTransport(self)  # type: ignore[assignment]  # it has all an answer needs
        return transport

    def close_in_steps(self) -> None:
        """Tell the client that nothing more follows, and drop what it still sends. Nothing may be written after
        this."""
        if self.transport.is_closing() or self._dropping_since is not None:
            return
        self._is_over = True
        if self._has_client_ended:
            self.transport.close()
            return
        self.transport.write_eof()
        self._dropping_since = self.loop.time()
        self._unparsed, self.headers, self.url = b"", [], b""
        self._hold(0)
        self.flow.is_held = False
        self.flow.resume_reading()
        self._silence_timer = self.loop.call_later(self.server_state.limits.silent_s, self._close_if_silent)

    def abort_if_unread_at_stop(self, now: float) -> None:
        """Abort the connection if its client delays a stop by not reading. Called from time to time."""
        unread = self.transport.get_write_buffer_size()
        if unread:  # else the system sends the rest, also when the process is gone
            unread += _sent_untaken(self.transport)
        if not unread or unread < self._unread_bytes:
            self._read_at = now
        self._unread_bytes = unread
        since = self.server_state.stop_began_at if self.is_stranger else self._read_at
        if unread and now - since > self.server_state.limits.stop_unread_s:
            self.abort()

    def _close_if_silent(self) -> None:
        is_silent = self._dropped_bytes == self._dropped_bytes_seen
        self._dropped_bytes_seen = self._dropped_bytes
        # A stop waits for no client that goes on sending.
        most_s = 0 if self.server_state.is_stopping else self.server_state.limits.dropping_s
        if is_silent or self.loop.time() - (self._dropping_since or 0) > most_s:
            self.transport.close()
        else:
            self._silence_timer = self.loop.call_later(self.server_state.limits.silent_s, self._close_if_silent)

    def _drop(self, size: int) -> None:
        """Count bytes that came after the last request. While answers are due they are left in the socket."""
        if self._dropping_since is None:
            self.flow.is_held = True
            self.flow.pause_reading()
        self._dropped_bytes += size
        if self._dropped_bytes > self.server_state.limits.dropped_bytes:
            self.transport.close()


def _sent_untaken(transport: asyncio.Transport) -> int:
    """Return how many sent bytes the client's system has not acknowledged; 0 where this system does not tell."""
    answer = bytearray(4)
    with contextlib.suppress(OSError):
        fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, answer)
    return int.from_bytes(answer, sys.byteorder)
