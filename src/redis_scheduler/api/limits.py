"""The limits and intervals of the API's connections and pages. Units stand in the names.

The server, its connections, the pages and the gate get one `Limits`.
"""

from dataclasses import dataclass

from redis_scheduler.store.token import ANY, Allowed
from redis_scheduler.task.kept import DEFAULT as KEPT
from redis_scheduler.task.kept import Kept
from redis_scheduler.task.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long, how often and how much."""

    # Requests

    head_timeout_s: float = 30
    """A connection must bring the head of its first request, or of one that has begun, within this time."""

    body_timeout_s: float = 30
    """A client must bring the body of a request within this time."""

    held_bytes: int = 64 * 1_048_576
    """What all connections together may hold: heads that are coming, requests that wait. One that adds more is
    aborted."""

    refusals_interval_s: float = 10.0
    """Between two lines of the log about requests that were refused."""

    timeout_most_s: float = 900
    """MAX_TIMEOUT: the longest time-out that a task may have."""

    policy: Policy = Policy(retries=5, delay_ms=60_000)
    """How the service retries what tasks do not say themselves."""

    memory_reserve: float = 0.05
    """MEMORY_RESERVE: the share of Redis' memory that no new task may take, where Redis has a limit."""

    labels_most: int = 1_000_000
    """LABELS_MOST: so many types and labels have tasks at most."""

    idempotency_ttl_s: float = 86_400
    """IDEMPOTENCY_TTL: what was answered for an Idempotency-Key is kept so long."""

    idempotency_bytes: int = 64 * 1_048_576
    """IDEMPOTENCY_BYTES: what is kept of such keys takes no more of Redis."""

    audit_entries: int = 10_000
    """AUDIT_ENTRIES: so many changes are kept for GET /audit."""

    audits_api: bool = False
    """AUDIT_API: whether all that the service's own token changes is noted."""

    token_grace_s: float = 60.0
    """TOKEN_GRACE: a token with rights is taken so long after Redis was last asked about it, while Redis is away."""

    allowed: Allowed = ANY
    """TOKEN_RATE, TOKEN_TASKS, TOKEN_BYTES: what a token may that has no limits of its own."""

    origins: tuple[str, ...] = ()
    """CORS_ORIGINS: pages of these may ask from a browser."""

    has_open_metrics: bool = False
    """API_METRICS: whether /metrics is answered without a token."""

    replicas: int = 0
    """REPLICAS: so many replicas of Redis have what was written, where a request is answered with 200."""

    # Answers

    unread_timeout_s: float = 30
    """A client that reads less than `read_bytes` of its answers, and not all, for so long is cut off."""

    read_bytes: int = 65_536
    """See `unread_timeout_s`."""

    pages_bytes: int = 32 * 1_048_576
    """All pages together hold no more. (A page that is larger is read when it is the only one.)"""

    reader_s: float = 10.0
    """A client has so long for a page that others wait for."""

    room_within_s: float = 2.0
    """A request waits so long for room, as it does for Redis."""

    # The end of a connection

    keepalive_s: float = 75
    """An idle connection of a client is kept so long."""

    watch_s: float = 5.0
    """Between two looks for connections that are idle, or whose answers nobody reads."""

    silent_s: float = 2.0
    """A client that sends nothing for so long has had time to read: the connection is closed. Also the time between
    looks."""

    dropping_s: float = 30.0
    """A client may go on sending for so long after the last answer, as for a body; at a stop, for `silent_s` at
    most."""

    dropped_bytes: int = 16 * 1_048_576
    """So much is read and dropped at most: the body of a refused request, or what follows the last answer."""

    # The stop

    stopping_s: float = 1.0
    """A process that stops waits so long for the last requests of clients that keep a connection, with its port
    open."""

    stop_unread_s: float = 5.0
    """A stop waits so long for a client that reads nothing of its answers; and no longer in all for clients without the
    token.

    Their answers are short. A packet that is lost twice arrives after 3 s, and `docker stop` kills after 10.
    """

    kept: Kept = KEPT
    """What is kept of tasks that have ended."""


DEFAULT = Limits()
"""The limits of every API. Tests give their own."""
