"""A connection of the HTTP server: uvicorn's protocol with size and time limits, and JSON for errors raised before the
application runs.

A proxy between a client and this service can rely on this:

- The bytes of a connection go to the parser as they came. Only the parser says what is a request.
- Each request gets one answer at most, and answers come in the order of their requests.
- Nothing is parsed after a refusal (waiting.py), nor after a request that closes the connection. How it ends:
  closing.py.
- What it holds is bounded: bounds.py.

What runs for every request replaces uvicorn's own methods instead of calling them: that costs 31 us a request, not 38.
"""

import re

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from redis_scheduler.api.bounds import HEAD_BYTES
from redis_scheduler.api.request_ids import REQUEST_ID, REQUEST_ID_HEADER, new_request_id
from redis_scheduler.api.waiting import WaitingProtocol
from redis_scheduler.errors import Code
from redis_scheduler.task.given import quoted

HEAD_FIELDS = 256
"""A request may have so many headers: each costs more memory than its bytes."""

_HOST = re.compile(
    rb"(\[[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._~%-]{1,50})?\]|[A-Za-z0-9._~!$&'()*+,;=%-]{0,255})(:[0-9]{0,5})?"
)
"""Host (RFC 9110, section 7.2): a name, an address or nothing, and a port. Some clients send the zone of an address."""

_VERSIONS = ("1.1", "1.0")
"""The versions of HTTP that are served. The parser also knows 0.9, and 2.0 in the words of 1.1."""

_BAD_VERSION = "The request's version must be HTTP/1.1 or HTTP/1.0"

_TOO_MANY_FIELDS = f"The request has more than {HEAD_FIELDS} headers"


class _Refused(Exception):
    """A callback of the parser refuses the request. The parser takes nothing more after that."""

    def __init__(self, error: str = "", code: Code = Code.INVALID_HTTP, field: str | None = None) -> None:
        super().__init__(error)
        self.code = code
        self.field = field


class JsonHttpProtocol(WaitingProtocol):
    """One connection: what its parser finds becomes requests."""

    _discarded_bytes = 0
    _given_id = b""
    _host_count = 0
    _host = _valid_host = b""
    """The Host of the request that is coming; and the last one that was checked."""

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse a piece. A head without end is refused, and the body of a refused request is cut off."""
        self._unreported_bytes += len(data)
        if self._unreported_bytes > HEAD_BYTES + len(data):
            self._refuse(Code.INVALID_HTTP, f"The request's head is larger than {HEAD_BYTES} bytes")
            return
        if self.cycle is not None and self.cycle.more_body and self.cycle.response_complete:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > self.server_state.limits.dropped_bytes:
                self._is_over = True
                self.transport.close()
                return
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            refused = error.__context__
            if self.cycle is not None and not self.cycle.keep_alive and not self.cycle.more_body:
                self._is_over = True  # it came behind a request that closes the connection
            elif isinstance(refused, _Refused):
                self._refuse(refused.code, str(refused), refused.field)
            elif str(error) == "Invalid HTTP version":
                self._refuse(Code.UNSUPPORTED_VERSION, _BAD_VERSION)
            else:
                self._refuse(Code.INVALID_HTTP, "The request is not valid HTTP/1.1")
        if self._unreported_bytes and self.headers and len(self.headers) > HEAD_FIELDS:
            self._refuse(Code.INVALID_HTTP, _TOO_MANY_FIELDS)

    def _feed(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                end = offer.args[0]
            else:
                return
            # The parser takes nothing behind the head for HTTP. The offer is ignored (RFC 9110, section 7.8): the same
            # head without it goes to a new parser, and so does what follows.
            data = memoryview(data)[end:]
            head = self._head_without_offer()
            self.parser = httptools.HttpRequestParser(self)
            # As uvicorn's own parser: bytes behind a request that closes the connection are passed over.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_headers_complete(self) -> None:
        """Begin a request, unless one before it closes the connection."""
        self._unreported_bytes = self._discarded_bytes = 0
        if self.cycle is not None and not self.cycle.keep_alive:
            raise _Refused
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused("CONNECT: this service is no proxy")
            return  # it comes again without the offer
        if len(self.headers) > HEAD_FIELDS:
            raise _Refused(_TOO_MANY_FIELDS)
        if self._host_count != 1 or self._host != self._valid_host:
            self._check_host()
        if self.url[:1] != b"/":
            self.url = _with_path(self.url)
        self._end_head()
        super().on_headers_complete()
        request_id, self._given_id = new_request_id(self._given_id), b""
        self.scope[REQUEST_ID] = request_id  # type: ignore[literal-required]  # a member that only we add
        self.cycle.default_headers = [*self.cycle.default_headers, (REQUEST_ID_HEADER, request_id)]
        if self.scope["http_version"] != "1.1":
            self._check_version()
        if not self.cycle.keep_alive or self.server_state.is_stopping:
            self.close_with_answer()
        # The cycle has them now, and an idle connection keeps nothing. Trailers go to a new list: among the headers, a
        # trailer with the token would authorise the request.
        self.headers, self.url = [], b""
        self.scope = None  # type: ignore[assignment]  # uvicorn begins with None, too

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, or a trailer."""
        name = name.lower()
        if name == b"host":
            self._host_count += 1
            self._host = value
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == REQUEST_ID_HEADER:
            self._given_id = value
        self.headers.append((name, value))

    def _check_host(self) -> None:
        """Refuse what a server must refuse (RFC 9112, section 3.2): two servers could read different hosts from it."""
        if self._host_count > 1:
            given = " and ".join(quoted(value.decode("latin-1")) for name, value in self.headers if name == b"host")
            raise _Refused(f"Host: must be given once, got {given}", field="Host")
        if self._host_count:
            if not _HOST.fullmatch(self._host.rstrip(b" \t")):
                raise _Refused(
                    "Host: must be a host name or address, and a port if it is not the usual one, got "
                    + quoted(self._host.decode("latin-1")),
                    field="Host",
                )
            self._valid_host = self._host
        elif self.parser.get_http_version() == "1.1":
            raise _Refused("Host: is missing", field="Host")

    def _check_version(self) -> None:
        """Refuse other versions than those of HTTP/1. The application was not started."""
        if self.scope["http_version"] not in _VERSIONS:
            raise _Refused(_BAD_VERSION, Code.UNSUPPORTED_VERSION)
        self.cycle.waiting_for_100_continue = False  # HTTP/1.0 has no such answer (RFC 9110, section 10.1.1)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if cycle.scope["http_version"] in _VERSIONS:
            self._answering = cycle
            self.transport_of(cycle)
            super()._start_asgi_task(cycle, app)

    def on_chunk_header(self) -> None:
        """Count anew."""
        self._unreported_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Count anew, and keep the body unless its request is answered already."""
        self._unreported_bytes = 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End the wait: the body is there."""
        self._host_count = 0
        if self.parser.should_upgrade():
            return
        self._unreported_bytes = 0
        if len(self.headers) > HEAD_FIELDS:
            raise _Refused(_TOO_MANY_FIELDS)  # trailers
        if self._body_timer is not None:
            self._end_body()
        # After an early answer uvicorn does not do this: the next request would be taken for more of this one.
        self.cycle.more_body = False
        self.cycle.message_event.set()
        if self.headers:
            self.headers = []
            if not self.parser.should_keep_alive():
                # A trailer says `close`, but the answer may have gone out: the parser takes what follows all the same.
                self.parser.set_dangerous_leniencies(lenient_keep_alive=True)
        if self.cycle.response_complete:
            self.cycle = None  # type: ignore[assignment]  # uvicorn begins with None, too
            self._await_head()

    def on_response_complete(self) -> None:
        """Go on with the next request, or end after the last."""
        if self._answering is not None:
            self.transport_of(self._answering).flush()
            self._answering = None  # an idle connection keeps nothing of it
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        is_last = not self.pipeline
        if not is_last:
            self._start_asgi_task(*self.pipeline.pop())
        if self.flow.is_held and not self.pipeline:
            self._read_on()
        # The latest request may be one that was given up, while the one before it has just begun.
        cycle = self.cycle
        if not is_last or cycle is None or not (cycle.response_complete or cycle.disconnected):
            return
        if self._is_over:
            self._end()
        elif not cycle.more_body:
            self.cycle = None  # type: ignore[assignment]  # uvicorn begins with None, too
            self._idle_since = self.loop.time()


def _with_path(target: bytes) -> bytes:
    """Return a request's target with its path. Raises the parser's error if it is no target."""
    found = httptools.parse_url(target)
    return target if found.path is not None else b"/?" + found.query if found.query else b"/"
