"""Checks whether a POST can be sent to a webhook, and says in a sentence what is wrong with it.

Many tasks have a URL of their own, but their hosts are few: the verdict on scheme, user, host and port is remembered.
The rest of a URL must only be free of spaces and control characters.
"""

import json
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from yarl import URL

from redis_scheduler.api.diagnosis import RULES
from redis_scheduler.errors import InvalidField
from redis_scheduler.host import is_address
from redis_scheduler.task.given import quoted
from redis_scheduler.task.webhook import WEBHOOK_LENGTH, split

WEBHOOKS_KNOWN, ORIGINS_KNOWN = 128, 4_096
"""The verdicts that are remembered: on webhooks, and on beginnings of some."""

ORIGIN_LENGTH = 300
"""An origin that is remembered has no more characters. A longer one is always wrong: a host has 254 at most."""


def check_webhook(webhook: str) -> None:
    """Raise InvalidField unless a POST can be sent there: an absolute http or https URL, host, no user:password.

    The error repeats the part that is wrong, not the whole: a URL may hold a secret.
    """
    # Its length first: so the memory of verdicts is bounded in size, too.
    if len(webhook) > WEBHOOK_LENGTH:
        raise InvalidField("webhook", f"must be at most {WEBHOOK_LENGTH} characters, got {len(webhook)}")
    if problem := _problem(webhook):
        raise InvalidField("webhook", problem)


@lru_cache(WEBHOOKS_KNOWN)
def _problem(webhook: str) -> str:
    """Return what is wrong with a webhook, or nothing."""
    if not webhook.isprintable() or " " in webhook:
        return _character_problem(webhook)
    origin, _ = split(webhook)
    return _origin_problem(origin) if 0 < len(origin) <= ORIGIN_LENGTH else _url_problem(webhook)


_WHOLE = re.compile(r"((?:[^:/?#]*:)?(?://)?[^/?#]*).*", re.DOTALL)
_BAD_HOST = "must have a host name or address that can exist"


def _url_problem(url: str) -> str:
    """Return what is wrong with scheme, user, host or port of a URL, or nothing. Its rest does not matter."""
    if "@" in re.split(r"[/?#]", url.partition("//")[2], maxsplit=1)[0]:
        return "must not hold a user or password"
    try:
        parts = urlsplit(url)
        return _webhook_problem(url, parts) or _host_problem(URL(url).raw_host or "", parts)
    except ValueError:  # its text may be the whole URL
        return f"{_BAD_HOST}, got {quoted(_beginning(url))}"


def _beginning(url: str) -> str:
    """Return scheme and authority of a URL, or what stands in their place: no user, and no path, which may be
    secret."""
    return _WHOLE.sub(r"\1", url).rpartition("@")[2]


_origin_problem = lru_cache(ORIGINS_KNOWN)(_url_problem)


def _character_problem(webhook: str) -> str:
    number, character = next((n, c) for n, c in enumerate(webhook, 1) if c == " " or not c.isprintable())
    what = (
        "half a surrogate pair (half an emoji)" if "\ud800" <= character <= "\udfff" else "spaces or control characters"
    )
    return f"must not hold {what}, got {json.dumps(character)} as character {number}"


def _webhook_problem(url: str, parts: SplitResult) -> str:
    if parts.scheme not in ("http", "https"):
        got = f"the scheme {quoted(parts.scheme)}" if parts.scheme else f"no scheme in {quoted(_beginning(url))}"
        return f"{RULES['webhook']}, got {got}"
    if not parts.hostname:
        return f"must have a host, got {quoted(_beginning(url))}"
    _, colon, port = parts.netloc.rpartition("]")[2].rpartition(":")
    try:
        # Only one spelling, so that a receiver does not count as several.
        is_port = parts.port != 0 and not (colon and port.startswith("0"))
    except ValueError:  # beyond 65,535, or no number
        is_port = False
    return "" if is_port else f"must have a port from 1 to 65535, without leading zeros, got {quoted(port)}"


_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


def _host_problem(host: str, parts: SplitResult) -> str:
    """It must be an IP address, or a host name by its letters and lengths (RFC 1123, and the underscore of DNS)."""
    name = host.removesuffix(".")
    labels = name.split(".")
    if "%" in host and ":" in host:
        return f"must have an address without a zone, which only one machine knows, got {quoted(host)}"
    if ":" in host or _NUMBER.fullmatch(labels[-1]):  # else 0x7f000001 would be a name, and for some an address
        is_host = is_address(host)
    else:
        is_host = len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not parts.netloc.startswith("[")
    return "" if is_host else f"{_BAD_HOST}, got {quoted(host)}"
