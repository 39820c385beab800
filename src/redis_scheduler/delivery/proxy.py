"""Deliveries through an HTTP proxy: every connection is a tunnel (CONNECT), also for http, so that the proxy sees hosts
and ports, and of what is sent by https nothing.

Then the proxy decides where deliveries may go: it looks the names up.
"""

import asyncio
import re
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import cast
from urllib.parse import unquote, urlsplit

from yarl import URL

ENVIRONMENT = "environment"

HEAD_BYTES = 16_384
"""A proxy's answer may have so many bytes."""

URLS_KEPT = 1_024

_RULE = "must be http://host:port, with user:password@ where the proxy wants them, or environment"
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: |\r|\n)")


class ProxyError(Exception):
    """The proxy opened no way to the receiver. The text repeats nothing that the proxy sent."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: where it is, and the line of a request that says who asks."""

    url: URL
    authorization: str

    def request(self, host: str, port: int) -> bytes:
        """Return the request for a tunnel."""
        at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n{self.authorization}\r\n".encode("latin-1")


def proxy_at(text: str) -> Proxy:
    """Return the proxy that a URL names. Raises ValueError, whose text repeats nothing: it may hold a password."""
    try:
        parts = urlsplit(text)
        is_url = parts.scheme == "http" and parts.hostname and not parts.query and parts.path in ("", "/")
        is_proxy = is_url and parts.port != 0 and text.isprintable() and " " not in text
        url = URL.build(scheme="http", host=parts.hostname or "none", port=parts.port or 80)
    except ValueError:
        raise ValueError(_RULE) from None
    if not is_proxy:
        raise ValueError(_RULE)
    if parts.username is None:
        return Proxy(url, "")
    given = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(url, f"Proxy-Authorization: Basic {b64encode(given.encode()).decode()}\r\n")


class Proxies:
    """Says which proxy a webhook goes through. `setting`: EGRESS_PROXY. Raises ValueError."""

    def __init__(self, setting: str = "") -> None:
        self._only = proxy_at(setting) if setting and setting != ENVIRONMENT else None
        self._named: dict[str, str] = {}
        if setting == ENVIRONMENT:
            from urllib.request import getproxies_environment  # its import takes 20 ms

            self._named = getproxies_environment()
        by_scheme = {name: text for name, text in self._named.items() if name in ("http", "https", "all")}
        self._by_scheme = {
            name: proxy_at(text if "//" in text else f"http://{text}") for name, text in by_scheme.items()
        }
        self.shown = ", ".join(
            sorted({proxy.url.authority for proxy in (self._only, *self._by_scheme.values()) if proxy})
        )
        """Hosts and ports of the proxies."""
        self.is_used = bool(self._only or self._by_scheme)
        self._of_host = lru_cache(URLS_KEPT)(self._new_of_host)

    def of(self, url: URL) -> Proxy | None:
        """Return the proxy for a URL; None: it is reached directly."""
        return self._of_host(url.scheme, url.raw_host or "", url.port or 0) if self.is_used else None

    def _new_of_host(self, scheme: str, host: str, port: int) -> Proxy | None:
        if self._only is not None:
            return self._only
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed leaves it out

        if proxy_bypass_environment(f"{host}:{port}", self._named):
            return None
        return self._by_scheme.get(scheme) or self._by_scheme.get("all")


class Tunnel(asyncio.Protocol):
    """A connection to a proxy until the tunnel stands."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._head = b""
        self._is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self, request: bytes) -> asyncio.Transport:
        """Send the request for a tunnel; return its transport. Raises ProxyError."""
        transport = cast(asyncio.Transport, self.transport)
        transport.write(request)
        await self._is_open
        return transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read the proxy's answer."""
        self._head += data
        status = _STATUS.match(self._head)
        if self._is_open.done():
            return
        if status is not None and not status[1].startswith(b"2"):
            self._fail(f"the proxy answered {status[1].decode()}")
        elif (end := self._head.find(b"\r\n\r\n")) >= 0:
            # Receivers wait for a request, so nothing can be behind the answer.
            if status is None or end + 4 < len(self._head):
                self._fail("the proxy's answer is not HTTP")
            else:
                self._is_open.set_result(None)
        elif len(self._head) > HEAD_BYTES:
            self._fail("the proxy's answer is too long")

    def connection_lost(self, _exc: Exception | None) -> None:
        """Notice that the proxy has closed."""
        if not self._is_open.done():
            self._fail("the proxy closed the connection before it answered")

    def _fail(self, text: str) -> None:
        self._is_open.set_exception(ProxyError(text))
