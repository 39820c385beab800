"""Every error the service raises on purpose: one base, one class per meaning.

The docstring of a class is its message when it is raised without one. The code of an error is what a client goes by:
docs/howto/errors.md says what each means, and a test that the page has them all.
"""

from collections.abc import Mapping
from enum import Enum


class Code(Enum):
    """The words by which clients tell errors apart, each with its HTTP status. A word is never given another
    meaning."""

    INVALID_HTTP = "invalid-http", 400
    INCOMPLETE_BODY = "incomplete-body", 400
    NOT_JSON = "not-json", 400
    NOT_AN_OBJECT = "not-an-object", 400
    TOO_DEEP = "too-deep", 400
    UNKNOWN_FIELD = "unknown-field", 400
    MISSING_FIELD = "missing-field", 400
    REPEATED_FIELD = "repeated-field", 400
    INVALID_VALUE = "invalid-value", 400
    CONTRADICTION = "contradiction", 400
    NOTHING_TO_CHANGE = "nothing-to-change", 400
    INVALID_QUERY = "invalid-query", 400
    UNKNOWN_PARAMETER = "unknown-parameter", 400
    UNEXPECTED_BODY = "unexpected-body", 400
    UNSERVED_HEADER = "unserved-header", 400
    UNREADABLE_RECORD = "unreadable-record", 400
    UNAUTHORIZED = "unauthorized", 401
    MISSING_RIGHT = "missing-right", 403
    OTHER_TYPE = "other-type", 403
    OTHER_LIMIT_KEY = "other-limit-key", 403
    OWN_DELIVERY = "own-delivery", 403
    TASK_NOT_FOUND = "task-not-found", 404
    LETTER_NOT_FOUND = "dead-letter-not-found", 404
    HOST_NOT_FOUND = "host-not-found", 404
    PATH_NOT_FOUND = "path-not-found", 404
    METHOD_NOT_ALLOWED = "method-not-allowed", 405
    BODY_TOO_SLOW = "body-too-slow", 408
    TASK_CHANGED = "task-changed", 409
    NEWER_RECORD = "newer-record", 409
    SERVICE_KEY = "service-key", 409
    OLDER_WORKER = "older-worker", 409
    IN_DELIVERY = "in-delivery", 409
    SERIES_QUEUED = "series-queued", 409
    TASK_DEAD = "task-dead", 409
    WRONG_ACKNOWLEDGEMENT = "wrong-acknowledgement", 409
    PRECONDITION_FAILED = "precondition-failed", 412
    BODY_TOO_LARGE = "body-too-large", 413
    UNSUPPORTED_CONTENT = "unsupported-content", 415
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused", 422
    TOKEN_RATE = "token-rate", 429
    INTERNAL_ERROR = "internal-error", 500
    REDIS_UNAVAILABLE = "redis-unavailable", 503
    BUSY = "busy", 503
    NOT_READY = "not-ready", 503
    STOPPING = "stopping", 503
    ALL_PAUSED = "all-paused", 503
    UNSUPPORTED_VERSION = "unsupported-version", 505
    REDIS_FULL = "redis-full", 507
    LIMITS_FULL = "limits-full", 507
    TOKEN_FULL = "token-full", 507
    LABELS_FULL = "labels-full", 507
    IDEMPOTENCY_FULL = "idempotency-full", 507

    def __init__(self, word: str, status: int) -> None:
        self.word = word
        self.status = status


class SchedulerError(Exception):
    """Redis Scheduler could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class SettingsError(SchedulerError):
    """The settings are not valid. Holds one line a problem; the start is refused."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartError(SchedulerError):
    """The service cannot start here (port taken, data folder in use, no server to embed)."""


class OutputFailed(SchedulerError):
    """What a command prints cannot be written."""


class FolderInUse(StartError):
    """DATA_DIR is in use by another redis-scheduler."""


class StoreUnavailable(SchedulerError):
    """Redis cannot be reached, or does not serve now; the outcome of a write under way is unknown. `shard`: the number
    of the shard whose Redis it is; None: of the only one."""

    shard: int | None = None
    was_sent = True
    """Whether anything of the call may have come to Redis. If not, what was to be written can be written elsewhere."""


class StoreRefused(StoreUnavailable):
    """Redis answered a call by refusing it: it lacks the command, may not write, or the user may not call it."""


class WrongServer(StoreRefused):
    """The server is another shard's than REDIS_URL says, or one of several of which REDIS_URL names one."""


class ShardUnknown(StoreUnavailable):
    """This process cannot say for now which shard has a task or is to have it, or it does not reach that shard. Clients
    are told the text as it is: it names no address."""


class StoreUnreplicated(StoreUnavailable):
    """Redis has taken a write, but too few of its replicas have it in time: whether it stays is unknown."""


class StoreFull(SchedulerError):
    """Redis is out of memory and refused the write; nothing was written."""


class RequestRefused(SchedulerError):
    """The request is refused; nothing was written.

    field: of the body, the query or the head, what is at fault, if that is one thing. index: the task of several, from
    0. headers: of the answer.
    """

    def __init__(
        self, code: Code, message: str, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.index: int | None = None
        self.headers = headers


class TaskNotFound(RequestRefused):
    """No task has this key: it was delivered, cancelled or purged, or it never existed."""

    def __init__(self) -> None:
        super().__init__(Code.TASK_NOT_FOUND, TaskNotFound.__doc__ or "")


class LetterNotFound(RequestRefused):
    """No dead letter has this key: it was replayed, deleted or dropped, or its task is not dead."""

    def __init__(self) -> None:
        super().__init__(Code.LETTER_NOT_FOUND, LetterNotFound.__doc__ or "")


class InvalidRequest(RequestRefused):
    """The request is not valid; nothing was written."""


class InvalidField(InvalidRequest):
    """A field is not valid; nothing was written. The message begins with its name."""

    def __init__(self, field: str, problem: str, code: Code = Code.INVALID_VALUE) -> None:
        super().__init__(code, f"{field}: {problem}", field)
