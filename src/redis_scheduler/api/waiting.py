"""How long a connection of the HTTP server waits for a request and for its body, and how it refuses one.

The body of a request that was refused early is read and thrown away: closing at once would reset the connection, and
the client might never see the answer.
"""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from redis_scheduler.api.admission import CONNECTION
from redis_scheduler.api.bodies import refusal
from redis_scheduler.api.closing import ClosingProtocol
from redis_scheduler.errors import Code


class WaitingProtocol(ClosingProtocol):
    """What JsonHttpProtocol (protocol.py) stands on: its waits and refusals."""

    _idle_since = 0.0
    _address = b""
    _last_words = b""
    """A refusal that waits for the answers before it."""
    _answering: RequestResponseCycle | None = None
    """The request whose application was started last."""
    _head_timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP, as in uvicorn
        """Begin to wait for a request."""
        super().connection_made(transport)
        if self.client is not None:
            # The log shows an IPv4 address as such; a socket for IPv6 and IPv4 says ::ffff:192.0.2.1.
            self.client = (self.client[0].removeprefix("::ffff:"), self.client[1])
        self._await_head()
        self.app_state = {CONNECTION: self}  # each request's state is a copy
        self._address = self.server_state.admission.admit(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end_head()
        self._end_body()
        self.server_state.admission.forget(self, self._address)
        if self._answering is not None:
            # Of several requests uvicorn tells only the latest; the one being answered would write to a closed
            # connection.
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
        # No reference cycle is left for the garbage collector.
        self.app_state, self._answering = {}, None
        self.cycle = None  # type: ignore[assignment]  # uvicorn begins with None, too

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def become_known(self, token_id: str = "") -> None:
        """Note that a request has carried a token, of this id if it has rights."""
        self.is_stranger = False
        self.server_state.admission.know(self, self._address, token_id.encode())

    def become_stranger(self) -> None:
        """Note that a request behind one that has carried a token carries none."""
        self.is_stranger = True
        self.server_state.admission.doubt(self, self._address)

    def close_if_idle(self, now: float) -> None:
        """Close the connection if its client has sent no request for too long. Called from time to time.

        uvicorn's timer for each request cost a microsecond.
        """
        is_idle = self.cycle is None and self._head_timer is None
        if is_idle and now - self._idle_since > self.timeout_keep_alive:
            self.transport.close()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.server_state.limits.head_timeout_s, self.transport.close)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _await_body(self) -> None:
        if self._body_timer is None:
            self._body_timer = self.loop.call_later(self.server_state.limits.body_timeout_s, self._give_up_body)

    def _end_body(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _give_up_body(self) -> None:
        self._refuse(Code.BODY_TOO_SLOW, f"The body did not come within {self.server_state.limits.body_timeout_s} s")

    def _await_more(self) -> None:
        if self.cycle is not None and self.cycle.more_body:
            if not self.pipeline:
                self._await_body()
        elif self._unreported_bytes:
            self._await_head()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks whether to stay open
        """The client has closed its side: keep the connection for the answers to whole requests."""
        self._is_over = self._has_client_ended = True
        return self._dropping_since is None and (bool(self._last_words) or self._give_up_request())

    def _give_up_request(self) -> bool:
        """Tell the application that the rest of a request's body will not come; return whether other answers are
        due."""
        cycle = self.cycle
        if cycle is None or not cycle.more_body:
            return cycle is not None and not cycle.response_complete
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False  # it may not have asked for its body yet
        cycle.message_event.set()
        if not self.pipeline:
            return False
        self.pipeline.popleft()  # the latest
        return True

    def announce_stop(self) -> None:
        """Make the answer to the latest request the last if it has not begun; else the answer to the next request."""
        self._read_at = self.loop.time()
        if self.cycle is not None and not self.cycle.response_started:
            self.close_with_answer()

    def shutdown(self) -> None:
        """Answer a request under way, and close; a request whose body has not come yet is refused."""
        cycle = self.cycle
        if cycle is None:
            self.transport.close()
        elif cycle.response_complete:
            self.close_in_steps()
        elif cycle.response_started or not cycle.more_body:
            self.close_with_answer()
        else:
            self._refuse(Code.STOPPING, "The service is stopping; try again")

    def _refuse(self, code: Code, error: str, field: str | None = None) -> None:
        """Answer the request that is coming after those before it, and close. Nothing behind it is looked at."""
        if self._is_over:
            return
        self._is_over = True
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.more_body and self.cycle.response_started:
            # A second answer would be taken for the answer to another request.
            if self.cycle.response_complete:
                self.close_in_steps()
            else:
                self.transport.close()
            return
        body, status = refusal(code, error, field), code.status
        retry = "retry-after: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
        )
        self._last_words = head.encode() + (b"" if self._is_head() else body)
        if not self._give_up_request():
            self._end()

    def _is_head(self) -> bool:
        """Whether the request that is coming is HEAD, whose answer has no body (RFC 9110, section 9.3.2)."""
        if self.cycle is not None and self.cycle.more_body:
            return bool(self.cycle.scope["method"] == "HEAD")
        # Until the target comes, the parser names the method of the request before.
        return bool(self.url and self.parser.get_method() == b"HEAD")

    def _end(self) -> None:
        if self.transport.is_closing() or self._dropping_since is not None:
            return
        self.transport.write(self._last_words)
        self.close_in_steps()
