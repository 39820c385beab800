"""The bytes of a delivery's request, and where they go. `RequestBuilder` alone writes headers: add a new one there."""

import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote

from msgspec import UnsetType
from yarl import URL

from redis_scheduler.delivery.connector import Destination, destination
from redis_scheduler.delivery.credentials import Credentials, SecretMissing
from redis_scheduler.logs import rfc3339
from redis_scheduler.task.acknowledgement import acknowledgement_token
from redis_scheduler.task.alert import ALERT_ORIGIN, ALERT_TYPE
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.content import Content, content_bytes
from redis_scheduler.task.header import HEADERS_BYTES, OF_THE_CONNECTION, SECRET
from redis_scheduler.task.key import is_task_key
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.policy import retries
from redis_scheduler.task.record import DEFAULT_TYPE
from redis_scheduler.task.record_head import Repetition
from redis_scheduler.task.repeat import Occurrence

ORIGINS_MOST = 4_096
"""So many origins are kept with all that their requests have in common."""

OWN_MOST = 256
"""So many tasks' own headers are kept as lines."""

KEY_HEADER = "Schedule-Key"
ATTEMPT_HEADER = "Schedule-Attempt"
ATTEMPTS_MOST_HEADER = "Schedule-Attempts-Most"
DUE_HEADER = "Schedule-Due"
PREVIOUS_STATUS_HEADER = "Schedule-Previous-Status"
INSTANCE_HEADER = "Schedule-Instance"
SERIES_HEADER, OCCURRENCE_HEADER = "Schedule-Series", "Schedule-Occurrence"
ACK_HEADER = "Schedule-Ack"


@dataclass(frozen=True, slots=True)
class Origin:
    """A receiver: as the connector is asked for it, as connections are kept by it, and what all its requests have
    behind their target: `host` with any options, `head` without."""

    destination: Destination
    key: tuple[str, int, bool]
    host: str
    head: str


@dataclass(frozen=True, slots=True)
class _Own:
    """What the requests of tasks with the same options have in common. `headers`: the task's, kept so that no other
    object has their id. `usual` and `lines`: the headers before and behind a trace, up to the task's key. `secrets`:
    the names of those in them."""

    headers: Mapping[str, str] | UnsetType
    has_body: bool
    has_trace: bool
    content_type: str
    usual: str
    lines: str
    secrets: frozenset[str]


_CONTENT_TYPES = {
    "data": "application/json",
    "body": "text/plain; charset=utf-8",
    "body_base64": "application/octet-stream",
}

_WITHOUT_BODY = ("GET", "DELETE")
"""Such a request without content says nothing of a body: no type, no length."""


def _attempts_most(retries: int) -> str:
    """Return the line for attempts that are counted; none if they go on for ever."""
    return f"{ATTEMPTS_MOST_HEADER}: {retries + 1}\r\n" if retries >= 0 else ""


def _previous(claim: Claim) -> str:
    return f"{PREVIOUS_STATUS_HEADER}: {claim.previous_status}\r\n" if claim.previous_status else ""


def _said_of(repetition: Repetition) -> str:
    """Return the lines of a task that a series made. Foreign hands may have written what is no key."""
    if isinstance(repetition, Occurrence) and is_task_key(repetition.series):
        return f"{SERIES_HEADER}: {repetition.series}\r\n{OCCURRENCE_HEADER}: {repetition.number}\r\n"
    return ""


class RequestBuilder:
    """Makes requests with all their headers: those of every request are made here, those of a receiver in
    `_new_origin`, those of a task in `build`. `token`: the API's, of which acknowledgements are made. `agent`: the
    User-Agent. `instance`: the deployment's id, "" while it is not known: then no request carries it. `retries`:
    RETRIES. `credentials`: what requests show; if nothing is said, the token. `now_ms`: the time of signatures."""

    def __init__(
        self,
        token: str,
        agent: str,
        instance: str = "",
        retries: int = 0,
        credentials: Credentials | None = None,
        now_ms: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self._retries = retries
        self._credentials = credentials or Credentials(token)
        self._signatures = self._credentials.signatures
        self._now_ms = now_ms
        authorization = self._credentials.authorization
        self._replaceable = {
            "authorization": f"Authorization: {authorization}\r\n" if authorization else "",
            "user-agent": f"User-Agent: {agent}\r\n",
        }
        self._token = token
        self._instance = f"{INSTANCE_HEADER}: {instance}\r\n" if instance else ""
        self._headers = f"Content-Type: application/json\r\n{''.join(self._replaceable.values())}{self._instance}"
        self._headers += _attempts_most(retries)
        self._of_tokens: RequestBuilder | None = None
        """Makes those of tasks of tokens with rights, where they show something else."""
        if stand_in := self._credentials.stand_in:
            shown = replace(self._credentials, authorization=stand_in, stand_in="")
            self._of_tokens = RequestBuilder(token, agent, instance, retries, shown, now_ms)
        self._own: dict[tuple[int, str, str, int], _Own] = {}
        self._origin = lru_cache(ORIGINS_MOST)(self._new_origin)

    def _new_origin(self, text: str) -> Origin:
        url = URL(text)
        if not url.scheme:  # a record that foreign hands wrote
            raise ValueError("no scheme")
        key = (url.raw_host or "", url.port or 0, url.scheme == "https")
        host = f" HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n"
        return Origin(destination(url), key, host, f"{host}{self._headers}{KEY_HEADER}: ")

    def build(self, claim: Claim) -> tuple[Origin, bytes]:
        """Return where the next attempt goes, and its request. Raises ValueError if nothing can be sent, SecretMissing
        if what its headers name cannot be.

        The URL arrives as it was given, since a signed one must not be quoted anew: only characters beyond ASCII are.
        """
        record = claim.record
        if self._of_tokens is not None and record.token is not None:
            return self._of_tokens.build(claim)
        origin, target = self._origin(record.origin), record.target
        if not target.isascii():
            target = quote(target, safe=string.punctuation)
        if not target.startswith("/"):
            target = f"/{target}"
        if record.options is not NONE or record.content != "data":
            if record.type == ALERT_TYPE and record.origin == ALERT_ORIGIN:
                origin, target = self._to_alerts()
            return origin, self._with_options(claim, origin, target)
        body = record.data or b""
        signature = self._signature(claim, origin, body) if self._signatures else ""
        lines = (
            f"POST {target}{origin.head}{claim.key}\r\n{ATTEMPT_HEADER}: {claim.attempts + 1}\r\n"
            f"{DUE_HEADER}: {rfc3339(record.due)}\r\n{_previous(claim)}"
            f"{(record.repetition and _said_of(record.repetition)) or ''}{signature}Content-Length: {len(body)}\r\n\r\n"
        )
        return origin, lines.encode() + body

    def _to_alerts(self) -> tuple[Origin, str]:
        """Return where alerts go, and their target. Raises SecretMissing."""
        place, target = self._credentials.way_of_alerts()
        return self._origin(place), f"/{quote(target, safe=string.punctuation).removeprefix('/')}"

    def _signature(self, claim: Claim, origin: Origin, body: bytes) -> str:
        """Return the headers that sign a request, or nothing."""
        host, type_name = origin.key[0].removesuffix("."), claim.record.type or DEFAULT_TYPE
        return self._signatures.lines(claim.key, host, type_name, body, self._now_ms()) if self._signatures else ""

    def _with_options(self, claim: Claim, origin: Origin, target: str) -> bytes:
        """Return the request of a task with options or another content than data."""
        record, options = claim.record, claim.record.options
        body, most = content_bytes(record.content, record.data), retries(options, self._retries)
        # The same headers object comes with many tasks (record_head.py keeps options).
        key = id(options.headers), options.method, record.content, most
        own = self._own.get(key) or self._new_own(key, options, record.content, most)
        for name in own.secrets:
            if not self._credentials.secret(name).may_go_to(origin.key[0]):
                raise SecretMissing(f"the secret {name} may not be sent to this host")
        has_body = own.has_body or bool(body)
        trace = f"traceparent: {options.traceparent}\r\n" if options.traceparent and not own.has_trace else ""
        said = _said_of(record.repetition) if record.repetition else ""
        if options.ack:
            said += f"{ACK_HEADER}: {acknowledgement_token(self._token, claim.key, claim.id, claim.attempts)}\r\n"
        if self._signatures:
            said += self._signature(claim, origin, body)
        content_type, length = (own.content_type, f"Content-Length: {len(body)}\r\n") if has_body else ("", "")
        lines = (
            f"{options.method} {target}{origin.host}{content_type}{own.usual}{trace}{own.lines}{claim.key}\r\n"
            f"{ATTEMPT_HEADER}: {claim.attempts + 1}\r\n{DUE_HEADER}: {rfc3339(record.due)}\r\n{_previous(claim)}"
            f"{said}{length}\r\n"
        )
        return lines.encode("latin-1") + body

    def _new_own(self, key: tuple[int, str, str, int], options: Options, content: Content, most: int) -> _Own:
        """Make what requests with these options have in common. Raises ValueError for headers that end a line, and
        SecretMissing."""
        headers = options.headers or {}
        secrets = frozenset(name for value in headers.values() for name in SECRET.findall(value))
        if secrets:
            headers = self._credentials.with_secrets(headers)
        replaced = {name.lower() for name in headers}
        # Without a value, what is replaced is left out.
        kept = [(name, value) for name, value in headers.items() if value or name.lower() not in self._replaceable]
        lines = "".join([f"{name}: {value}\r\n" for name, value in kept])
        if not lines.count("\r") == lines.count("\n") == len(kept) or not OF_THE_CONNECTION.isdisjoint(replaced):
            raise ValueError("headers that the API cannot have taken")
        own = _Own(
            options.headers,
            options.method not in _WITHOUT_BODY,
            "traceparent" in replaced,
            "" if "content-type" in replaced else f"Content-Type: {_CONTENT_TYPES[content]}\r\n",
            "".join([line for name, line in self._replaceable.items() if name not in replaced]),
            f"{lines}{self._instance}{_attempts_most(most)}{KEY_HEADER}: ",
            secrets,
        )
        if len(lines) <= 2 * HEADERS_BYTES:  # foreign hands could fill the memory
            if len(self._own) >= OWN_MOST:
                self._own.clear()
            self._own[key] = own
        return own
