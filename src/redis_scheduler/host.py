"""Hosts of receivers: one name for every spelling of host and port."""

import contextlib
import ipaddress
import socket
from functools import lru_cache
from urllib.parse import urlsplit

from yarl import URL

HOST_LENGTH = 300
"""Characters of the longest name of a host, with its port, that is looked at."""

SPELLINGS_MOST = 10_000
"""At most so many spellings of hosts are remembered."""


@lru_cache(SPELLINGS_MOST)
def host_of(origin: str) -> str:
    """Return host and port of an origin that was checked when it was scheduled: the same for every spelling of them."""
    try:
        url = URL(origin)
    except ValueError:  # a record that foreign hands wrote
        return origin.partition("//")[2].lower()
    host = _address((url.raw_host or "").removesuffix("."))
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def host_named(given: str) -> str | None:
    """Return what `host_of` calls a host that somebody names, with its port only if that is given; None for a text that
    names none."""
    if len(given) > HOST_LENGTH or not given.isprintable() or "@" in given:
        return None
    try:
        parts = urlsplit(f"http://{given}")
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.netloc != given:
        return None
    name = host_of(f"http://{given}")
    return name.removesuffix(":80") if port is None else name


def name_given(text: str) -> str:
    """Return a host that a setting names, in the letters of those that webhooks lead to: small ones, of DNS (IDNA), and
    without the dot at its end. Raises ValueError."""
    return (URL.build(scheme="http", host=text).raw_host or "").removesuffix(".").lower()


def is_address(text: str) -> bool:
    """Return whether a text is an address in full: 127.1, which `host_of` reads too, is none."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _address(host: str) -> str:
    """Return an address in its canonical form; a name as it is."""
    with contextlib.suppress(OSError, ValueError):
        # As the resolver reads it: 127.1 and 0x7f000001 are addresses too.
        return socket.inet_ntoa(socket.inet_aton(host))
    with contextlib.suppress(ValueError):
        address = ipaddress.IPv6Address(host)
        return str(address.ipv4_mapped or address)
    return host
