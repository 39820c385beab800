"""How much memory a connection of the HTTP server may hold, however fast its client sends and however slowly it reads.

uvicorn parses all that comes, and keeps every request and every answer. Here at most 16 requests are parsed ahead. The
bytes behind them wait: 256 kB at most, which is one read; until then nothing more is read, so the rest stays with the
client. All connections share a bound for the requests that they hold. A connection whose client does not read its
answers is aborted.

A connection is uvicorn's HttpToolsProtocol and four classes on top of it: BoundedProtocol here, ClosingProtocol
(closing.py), WaitingProtocol (waiting.py), JsonHttpProtocol (protocol.py). They build on what uvicorn does not promise
to keep: the callbacks of its parser, FlowControl, RequestResponseCycle, and what these hold. server.py does so with
Server. pyproject.toml bounds uvicorn for that, and tests/unit/test_libraries.py fails first where a release has changed
a part.
"""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from redis_scheduler.api.admission import Admission
from redis_scheduler.api.limits import Limits

HEAD_BYTES = 65_536
"""A request's line and headers may have so many; the parser itself sets no limit."""

HEAD_END = b"\r\n\r\n"

PIPELINED_REQUESTS = 16
"""Requests of one connection that are parsed while an earlier one is answered."""

PIPELINED_BYTES = 16_384
"""Parsing pauses once the requests that wait have so many bytes."""

FIELD_BYTES = 150
"""About what a header costs beside its bytes: the objects of a pair, a name and a value."""

HELD_FREELY_BYTES = 4_096
"""A connection that holds no more than this, the head of a usual request, is not aborted."""


class ConnectionState(ServerState):
    """What the connections of a server share."""

    def __init__(self, admission: Admission, limits: Limits) -> None:
        super().__init__()
        self.admission = admission
        self.limits = limits
        self.held_bytes = 0
        self.is_stopping = False
        """Whether each answer is the last of its connection."""
        self.stop_began_at = float("inf")


class _Flow(FlowControl):
    """uvicorn's flow control, which resumes reading with every answer and for every body; this one can be held."""

    is_held = False
    """Whether reading stays paused because requests wait."""

    def resume_reading(self) -> None:
        """Read on, unless it is held."""
        if self.read_paused and not self.is_held:
            self.read_paused = False
            self._transport.resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these bounds. Subclasses say what a request is."""

    flow: _Flow
    server_state: ConnectionState
    _unreported_bytes = 0
    """Bytes since the parser's last callback: the head that is coming, or a part of it."""
    _unparsed = b""
    """Bytes behind as many requests as may wait."""
    _pipelined_bytes = 0
    """Bytes that were parsed while requests waited."""
    _held_bytes = 0
    """This connection's share of `server_state.held_bytes`."""
    _unread_bytes = 0
    """The most that was unread since the client last read `read_bytes`."""
    _read_at = 0.0
    _is_over = False
    """Whether nothing more of this connection is parsed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP, as in uvicorn
        """Begin."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._read_at = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hold nothing any more."""
        self._unparsed = b""
        self._hold(0)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close at once."""
        self._is_over = True
        self.transport.abort()

    def resume_writing(self) -> None:
        """Write on: the client has read."""
        self._read_at = self.loop.time()
        super().resume_writing()

    def abort_if_unread(self, now: float) -> None:
        """Abort the connection if its client has not read its answers for too long. Called from time to time."""
        unread, limits = self.transport.get_write_buffer_size(), self.server_state.limits
        if not unread or unread <= self._unread_bytes - limits.read_bytes:
            self._unread_bytes, self._read_at = unread, now
        else:
            self._unread_bytes = max(self._unread_bytes, unread)
            if now - self._read_at > limits.unread_timeout_s:
                self.abort()

    def data_received(self, data: bytes) -> None:
        """Parse as many requests as may wait, and keep the rest."""
        if self._is_over:
            self._drop(len(data))
            return
        is_held = self._held_bytes or self.pipeline
        if not is_held and len(data) <= HEAD_BYTES and data.count(HEAD_END) < PIPELINED_REQUESTS:
            # The usual case needs no more than this.
            self._parse(data)
            if not (self._unreported_bytes or self.pipeline or (self.cycle is not None and self.cycle.more_body)):
                return
            if self.pipeline:
                self._pipelined_bytes += len(data)
            data = b""
        self._take(self._unparsed + data if self._unparsed else data)

    def _take(self, data: bytes) -> None:
        at, size = 0, len(data)
        while at < size and not self._is_over:
            end = self._end_of_piece(data, at)
            if end == at:
                break
            self._parse(data if end - at == size else memoryview(data)[at:end])
            if self.pipeline:
                self._pipelined_bytes += end - at
            at = end
        self._unparsed = b"" if self._is_over else data[at:]
        held = 0
        if not self._is_over:
            coming = self._unreported_bytes + FIELD_BYTES * len(self.headers or ())
            held = len(self._unparsed) + self._pipelined_bytes + coming
        if held != self._held_bytes:
            self._hold(held)
        if self.pipeline:
            self.flow.is_held = True
            self.flow.pause_reading()
        if not (self._is_over or self.transport.is_closing()):
            self._await_more()

    def _hold(self, held: int) -> None:
        state = self.server_state
        state.held_bytes += held - self._held_bytes
        self._held_bytes = held
        if state.held_bytes > state.limits.held_bytes and held > HELD_FREELY_BYTES:
            self.abort()

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Return where the next piece ends. It has as many ends of heads as there is room for requests, at most."""
        room = PIPELINED_REQUESTS - len(self.pipeline) if self._pipelined_bytes < PIPELINED_BYTES else 0
        if len(data) - start <= HEAD_BYTES and data.count(HEAD_END, start) < room:
            return len(data)
        end, most = start, min(len(data), start + HEAD_BYTES)
        for _ in range(room - 1):  # one more may have begun before the piece
            found = data.find(HEAD_END, end, most)
            if found < 0:
                return most
            end = found + len(HEAD_END)
        return end

    def _read_on(self) -> None:
        """Parse the bytes that were kept, once no request waits any more."""
        self.flow.is_held = False
        self._pipelined_bytes = 0
        self._take(self._unparsed)
        self.flow.resume_reading()

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse a piece, and count it in `_unreported_bytes`."""
        raise NotImplementedError

    def _await_more(self) -> None:
        """Start a time-out for the rest of what has begun to come."""
        raise NotImplementedError

    def _drop(self, size: int) -> None:
        """Count bytes that came after the last request."""
        raise NotImplementedError
