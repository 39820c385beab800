"""What an error of Redis means: one of our own errors, in one line that says what to do.

No answer of Redis ends a process: an error that nobody knows is a refusal that repeats its text.
"""

import re

from redis.exceptions import (
    AskError,
    AuthenticationError,
    InvalidResponse,
    MovedError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from redis_scheduler.errors import ShardUnknown, StoreFull, StoreRefused, StoreUnavailable, StoreUnreplicated
from redis_scheduler.store.answer import AnswerTooLarge
from redis_scheduler.store.answer_shape import WrongAnswer
from redis_scheduler.store.url import host_and_port


class WrongPlace(RedisError):
    """REDIS_URL leads to another kind of server than it says. The text says to which, and what to do."""


class Unconnected(RedisConnectionError):
    """Redis, or a proxy on the way, turned the new connection away: so nothing of the call was sent."""


LOST_CONNECTION = (RedisConnectionError, RedisTimeoutError, OSError)

TEXT_MOST = 300
"""So many characters of an error are repeated: that of protected mode fills a page."""

_NO_RIGHT = r"NOPERM|(?i:can't (run|access|publish)|no permissions?|ACL failure)"
"""The words of Redis 6.2, 7.0 and later, outside and within scripts."""

ADVICE = (
    (r"NOAUTH|unauthenticated", "REDIS_URL lacks the password: redis://user:password@host:6379/0"),
    (r"WRONGPASS|invalid password", "the user name or the password in REDIS_URL is wrong"),
    (r"without any password configured", "no password is set there: leave it out of REDIS_URL, or set it"),
    # The library's words where a server says so, or ends the connection, before it is asked.
    (r"max number of clients|Connection not ready", "raise its maxclients, or find who holds its connections"),
    (r"DENIED", "let Redis listen for others: give it a password, and REDIS_URL too"),
    (r"READONLY", "REDIS_URL must name the master"),
    (r"MISCONF", "Redis cannot save to its disk: make room there, or see its log"),
    (
        r"WRONGTYPE",
        "a key of a foreign program has one of this service's names: give the service a database of its own",
    ),
    (r"DB index is out of range", "REDIS_URL names a database that is not there: see `databases` in its configuration"),
    (
        r"Hash slot not served",
        "this is a node of a cluster, in which no node has the slot of the keys; REDIS_URL must be redis+cluster://host:port",
    ),
    (r"WRONG_VERSION_NUMBER|record layer", "it does not speak TLS there: REDIS_URL begins with redis://"),
    (r"CERTIFICATE_REQUIRED", "it wants a client certificate: see ssl_certfile and ssl_keyfile of REDIS_URL"),
    (r"CERTIFICATE_VERIFY_FAILED", "see ssl_ca_certs, ssl_check_hostname and ssl_cert_reqs of REDIS_URL"),
    (r"wrong answer", "REDIS_URL must lead to a Redis or Valkey, with nothing on the way that changes its answers"),
    (r"unknown command", "the server is older than 6.2, or the command was renamed: the service needs it by its name"),
    (_NO_RIGHT, "the user in REDIS_URL needs it: see the smallest ACL in RELIABILITY.md"),
)
"""What to do about an error whose text matches; the first match counts."""

_NOT_PERMITTED = re.compile(_NO_RIGHT)
_UNKNOWN = re.compile(r"unknown (redis )?command", re.IGNORECASE)
_LINE = re.compile(r"user_script: ?([1-9][0-9]{0,3})")
_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")
_CODE = re.compile(r"\b[A-Z]{3,}\b")
# The arguments follow: that of AUTH is the password.
_ARGUMENTS = re.compile(r",? with args beginning with.*", re.DOTALL)
_REFUSAL = re.compile(
    r"\b(WRONGTYPE|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|CROSSSLOT)\b"
)


def is_lost(error: BaseException) -> bool:
    """Whether the connection ended before the answer came. A refused password ends it by an answer."""
    return isinstance(error, LOST_CONNECTION) and not isinstance(error, AuthenticationError)


def is_turned_away(error: BaseException) -> bool:
    """Whether who is connected to has refused at once: nobody listens there, or the server ends the connection."""
    return is_lost(error) and not isinstance(error, RedisTimeoutError | TimeoutError)


def is_no_group(error: Exception) -> bool:
    """Whether the queue's consumer group is missing, or went while a claim waited: flushed or destroyed."""
    return isinstance(error, ResponseError) and re.search(r"NOGROUP|UNBLOCKED", str(error)) is not None


def is_elsewhere(text: str) -> bool:
    """Whether the address may lead to another kind of server: a replica, a Sentinel."""
    return re.search(r"READONLY|MASTERDOWN|unknown command", text) is not None


_UNANSWERED = re.compile(r"no answer in time|while reading|closed by server|Timeout (connecting|reading)")


def suspected(error: Exception, url: str) -> str:
    """Return the text of an error of a server that has answered nothing yet: it may be that one of both speaks TLS."""
    if not _UNANSWERED.search(str(error)) or "SSL:" in str(error) or url.startswith("unix"):
        return str(error)
    scheme, _, rest = url.partition("://")[0].partition("+")
    other, does = ("redis", "no TLS") if scheme == "rediss" else ("rediss", "TLS")
    return f"{error}; where it speaks {does}, REDIS_URL begins with {other}{'+' * bool(rest)}{rest}://"


_MOVING = re.compile(
    r"\b(READONLY|MASTERDOWN|CLUSTERDOWN Hash slot not served|CLUSTERDOWN|TRYAGAIN|WAIT cannot be used with replica)\b"
)


def moving(error: Exception) -> str | None:
    """Return the code of an error that says that a master, or its slot, is elsewhere by now, or on its way; else None.

    Redis 6.2 puts it into the text of a script's error.
    """
    if isinstance(error, AskError):
        return "MOVED" if isinstance(error, MovedError) else "ASK"
    found = _MOVING.search(whole_text(error)) if isinstance(error, ResponseError) else None
    return found[0] if found else None


def away(code: str) -> StoreUnavailable:
    """Return our error for a master, or a slot, that is on its way."""
    return StoreUnavailable(f"Redis is not available: {code}: {_WHY_AWAY.get(code, _WHY_AWAY[''])}")


_WHY_AWAY = {
    "": "its master changes, or the slot of the keys moves",
    "CLUSTERDOWN Hash slot not served": "no node of the cluster has the slot of the keys: see CLUSTER SLOTS there",
    "CLUSTERDOWN": "a master of the cluster is away; the others serve meanwhile only with cluster-require-full-coverage no",
}
"""Why a master, or a slot, is away, by Redis' code; empty: any other code."""


def whole_text(error: Exception) -> str:
    """Return what Redis said, with the code that the library takes out of the text where it knows that."""
    return f"{getattr(error, 'status_code', None) or ''} {error}".strip()


def kind_of(error: Exception) -> str:
    """Return what two errors share that are the same to an operator: the advice for them, or Redis' code."""
    code = _CODE.search(str(error))
    return f"{type(error).__name__} {_advice(str(error)) or (code[0] if code else '')}"


def _advice(text: str) -> str | None:
    return next((advice for pattern, advice in ADVICE if re.search(pattern, text)), None)


def name_command(error: ResponseError, script: str) -> None:
    """Put the command in front of the error of a script that may not call it: most servers tell only the line."""
    text = str(error)
    line = _LINE.search(text) if _NOT_PERMITTED.search(text) or _UNKNOWN.search(text) else None
    if line is None:
        return
    # A server that is no Redis may name a line that the script does not have.
    number = int(line[1])
    if called := _CALL.findall(" ".join(script.splitlines()[number - 1 : number])):
        error.args = (f"{' or '.join(called)}: {text}",)


def translated(error: Exception) -> StoreUnavailable | StoreFull:
    """Return our error for one of the library or the system: it says what that means and what to do."""
    if isinstance(error, WrongPlace):
        return StoreRefused(f"Redis refuses the service: {advised(str(error))}")
    if isinstance(error, AnswerTooLarge):
        return StoreUnavailable(
            f"Redis is not available: its answer is too large ({error}): what answers there is no Redis, or a foreign program "
            "wrote what was asked for"
        )
    if isinstance(error, WrongAnswer):
        return StoreRefused(advised(f"Redis gives a wrong answer: {error}"))
    if isinstance(error, InvalidResponse):
        return StoreUnavailable(
            "Redis is not available: what answers there does not speak its protocol; where it speaks TLS, REDIS_URL "
            "begins with rediss://"
        )
    if isinstance(error, MovedError | AskError):
        node = host_and_port(error.host, error.port)
        code, what = ("ASK", "is on its way to") if type(error) is AskError else ("MOVED", "is kept by")
        return StoreRefused(
            f"Redis refuses the service: {code}: this is a node of a cluster, and slot {error.slot_id}, where the "
            f"service has its keys, {what} {node}; REDIS_URL must be redis+cluster://{node}"
        )
    text = whole_text(error)
    if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in text:
        return StoreFull()
    if is_lost(error):
        return StoreUnavailable(f"Redis is not available: {advised(text)}")
    return StoreRefused(f"Redis refuses a call: {advised(text)}")


_CODES = re.compile(
    r"\b(NOAUTH|WRONGPASS|NOPERM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|CROSSSLOT|WRONGTYPE|"
    r"DENIED|BUSY|unknown command)\b"
)


UNREACHABLE = "Redis cannot be reached"
"""What clients are told where nothing else is known of an outage."""


def told(error: StoreUnavailable | StoreFull) -> str:
    """Return what a client is told of the error. Not its text, which may name servers, users and keys: the log has
    that."""
    shard = error.shard if isinstance(error, StoreUnavailable) else None
    return _told(error) if shard is None else f"Shard {shard}: {_told(error)}"


def _told(error: StoreUnavailable | StoreFull) -> str:
    text = str(error)
    if isinstance(error, ShardUnknown):
        return text
    if isinstance(error, StoreUnreplicated):
        return "Too few replicas of Redis have the write in time, so whether it stays is unknown"
    if re.search(r"\bLOADING\b|loading the dataset", text):
        return "Redis is loading its data"
    if "max number of clients" in text:
        return "Redis takes no more connections"
    if isinstance(error, StoreRefused):
        code = _CODES.search(text)
        if code and code[0] == "MISCONF":
            return "Redis refuses what the service asks (MISCONF): it cannot save to its disk; make room there, or see its log"
        return f"Redis refuses what the service asks{f' ({code[0]})' if code else ''}: the service's log says why"
    return UNREACHABLE


def advised(text: str) -> str:
    """Return an error's text in one line, and what to do about it."""
    text = _ARGUMENTS.sub("", " ".join(text.split()))
    text = text if len(text) <= TEXT_MOST else f"{text[:TEXT_MOST]}…"
    advice = _advice(text)
    return f"{text}; {advice}" if advice else text


def refused_calls(rows: list[tuple[str, str, str]]) -> str | None:
    """Return what keeps the service from working, by a check's rows (command, key, error); None if nothing does."""
    for _, key, error in rows:
        if _REFUSAL.search(error):
            return f"Redis refuses the service: {advised(f'{key}: {error}' if 'WRONGTYPE' in error else error)}"
    found = []
    for code, pattern in (("unknown command", _UNKNOWN), ("NOPERM for", _NOT_PERMITTED)):
        commands = {command: None for command, _, error in rows if pattern.search(error)}
        if commands:
            found.append(advised(f"{code} {', '.join(commands)}"))
    return f"Redis refuses the service: {'; '.join(found)}" if found else None
