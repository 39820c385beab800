"""The bytes of a delivery's request: from the webhook what goes into its first two lines, and where to connect."""

import asyncio
import re
import string
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

import aiohttp
from yarl import URL

ORIGINS_MOST = 4_096
"""Scheme and authority of webhooks, whose parsed form is kept."""

_PARTS = re.compile(r"([^:]+://[^/?#]*)([^#]*)")
"""Of a URL that was checked when it was scheduled: scheme and authority, path and query. A fragment is never sent."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A receiver, as the connector is asked for it, as connections are kept by it, and as its requests name it."""

    request: aiohttp.ClientRequest
    key: tuple[str, int, bool]
    head: str


def _origin(text: str) -> Origin:
    url = URL(text)
    request = aiohttp.ClientRequest("POST", url, loop=asyncio.get_running_loop())
    key = (url.raw_host or "", url.port or 0, url.scheme == "https")
    return Origin(request, key, f"Host: {url.host_port_subcomponent}\r\n")


class Requests:
    """Makes requests that have `headers` in common, lines that each end as lines of a head do."""

    def __init__(self, headers: str) -> None:
        self._headers = headers
        self._origin = lru_cache(ORIGINS_MOST)(_origin)

    def head(self, webhook: str) -> tuple[Origin, str]:
        """Return where a webhook's request goes, and its head as far as every attempt has it.

        The URL arrives as it was given, since a signed one must not be quoted anew: only what is not ASCII is.
        """
        parts = _PARTS.match(webhook)
        if parts is None:
            raise ValueError("no URL")
        origin, target = self._origin(parts[1]), parts[2]
        if not target.isascii():
            target = quote(target, safe=string.punctuation)
        if not target.startswith("/"):
            target = f"/{target}"
        return origin, f"POST {target} HTTP/1.1\r\n{origin.head}{self._headers}"
