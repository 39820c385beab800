"""The bytes of a delivery's request, and where they go. `RequestBuilder` alone writes headers: add a new one there."""

import string
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from yarl import URL

from redis_scheduler.delivery.connector import Destination, destination
from redis_scheduler.task.claim import Claim

ORIGINS_MOST = 4_096
"""So many origins are kept with all that their requests have in common."""

KEY_HEADER = "Schedule-Key"
ATTEMPT_HEADER = "Schedule-Attempt"
INSTANCE_HEADER = "Schedule-Instance"


@dataclass(frozen=True, slots=True)
class Origin:
    """A receiver: as the connector is asked for it, as connections are kept by it, and what all its requests have
    behind their target."""

    destination: Destination
    key: tuple[str, int, bool]
    head: str


class RequestBuilder:
    """Makes requests with all their headers: those of every request are made here, those of a receiver in
    `_new_origin`, those of a task in `build`. `agent`: the User-Agent. `instance`: the deployment's id, "" while it is
    not known: then no request carries it."""

    def __init__(self, token: str, agent: str, instance: str = "") -> None:
        self._headers = f"Content-Type: application/json\r\nAuthorization: {token}\r\nUser-Agent: {agent}\r\n"
        if instance:
            self._headers += f"{INSTANCE_HEADER}: {instance}\r\n"
        self._origin = lru_cache(ORIGINS_MOST)(self._new_origin)

    def _new_origin(self, text: str) -> Origin:
        url = URL(text)
        if not url.scheme:  # a record that foreign hands wrote
            raise ValueError("no scheme")
        key = (url.raw_host or "", url.port or 0, url.scheme == "https")
        head = f" HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n{self._headers}{KEY_HEADER}: "
        return Origin(destination(url), key, head)

    def build(self, claim: Claim) -> tuple[Origin, bytes]:
        """Return where the next attempt goes, and its request. Raises ValueError if nothing can be sent.

        The URL arrives as it was given, since a signed one must not be quoted anew: only characters beyond ASCII are.
        """
        record = claim.record
        origin, target, body = self._origin(record.origin), record.target, record.data or b""
        if not target.isascii():
            target = quote(target, safe=string.punctuation)
        if not target.startswith("/"):
            target = f"/{target}"
        lines = (
            f"POST {target}{origin.head}{claim.key}\r\n"
            f"{ATTEMPT_HEADER}: {claim.attempts + 1}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return origin, lines.encode() + body
