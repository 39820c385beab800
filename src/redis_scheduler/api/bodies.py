"""The bodies of requests and answers. requests.py checks those of requests."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from redis_scheduler.api.view import TaskView
from redis_scheduler.errors import Code
from redis_scheduler.task.options import Options
from redis_scheduler.task.repeat import Repeat


class ScheduleRequest(Options, frozen=True, forbid_unknown_fields=True):
    """The body of POST /schedule: ttl or at, one of them, unless it repeats."""

    webhook: str
    ttl: int | float | UnsetType = UNSET
    at: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    body: str | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET


class BatchItem(ScheduleRequest, frozen=True, forbid_unknown_fields=True):
    """One of the tasks in the body of POST /schedules: with its type, which POST /schedule takes from the query, and
    its own key, which PUT takes from the path."""

    type: str | UnsetType = UNSET
    key: str | UnsetType = UNSET


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /schedules."""

    tasks: list[BatchItem]


PREVIEW_MOST = 100


class PreviewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /repeat/preview: a rule, and of how many times it is asked."""

    repeat: Repeat
    n: Annotated[int, Meta(ge=1, le=PREVIEW_MOST)] = 5


_OptionChanges: Any = msgspec.defstruct(
    "_OptionChanges",
    [(field.name, field.type | UnsetType | None, UNSET) for field in msgspec.structs.fields(Options)],
    kw_only=True,
)


class UpdateRequest(_OptionChanges, forbid_unknown_fields=True):  # type: ignore[call-arg, misc]  # its base is a struct
    """The body of PATCH /schedule/{key}: absent members stay, and an option that is null gets its default again.

    body, body_base64: null leaves nothing to be sent.
    """

    webhook: str | UnsetType = UNSET
    ttl: int | float | UnsetType = UNSET
    at: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    body: str | UnsetType | None = UNSET
    body_base64: str | UnsetType | None = UNSET


class Answer(msgspec.Struct, tag_field="status", tag=200):
    """The body of a 200: its first member is `status`. (As a struct it is encoded in half the time of a dict.)"""


class Written(Answer, kw_only=True):
    """The body of a 200 to what writes tasks. replicas: with REPLICAS, so many replicas of Redis have it at least."""

    replicas: int | UnsetType = UNSET


class Scheduled(Written):
    """The task's key, twice: clients of the original service read it in `data`. due: when it fires (RFC 3339)."""

    data: str
    key: str
    due: str


class ScheduledTask(msgspec.Struct):
    """A task that was scheduled with others: its key, and when it fires (RFC 3339)."""

    key: str
    due: str


class BatchScheduled(Written):
    """The tasks in the order of the request. data: their keys."""

    data: list[str]
    tasks: list[ScheduledTask]


class Updated(Written):
    """As Scheduled. found: `updated`; or `in delivery`, if an attempt with the old record is under way."""

    data: str
    key: str
    due: str
    found: str


class PutDone(Written):
    """As Scheduled. created: whether there was no task with this key. found: of one that there was, as Updated says, or
    `dead`."""

    data: str
    key: str
    due: str
    created: bool
    found: str | UnsetType = UNSET


class Cancelled(Written):
    """What was found: `cancelled`; or `in delivery`, if an attempt is under way."""

    data: str
    key: str


class Previewed(Answer):
    """The next times (RFC 3339), fewer if the series ends before."""

    data: list[str]


class Found(Written):
    """Of a task that was paused, resumed or run, or that its receiver spoke of (done, fail, extend). found: its state
    before, as `info.state` shows it."""

    data: str
    key: str
    found: str


class Shown(Answer):
    """One task."""

    data: TaskView


class Listed(Answer):
    """A page of tasks. next: the cursor of the next page, None on the last; looked_at: with filters, how many tasks it
    looked at for these, for a caller who may see all types."""

    data: list[TaskView]
    next: str | None
    looked_at: int | UnsetType = UNSET


class DeadGroup(msgspec.Struct, frozen=True):
    """Dead letters of one host and one error (empty where it is not known): how many; key and death of the newest."""

    host: str
    error: str
    count: int
    newest: str
    died: str


class Grouped(Answer):
    """The groups, the largest first. others: letters in groups beyond those shown; looked_at: how many of the `dead`
    were looked at, the newest; complete: whether these were all."""

    data: list[DeadGroup]
    others: int
    looked_at: int
    dead: int
    complete: bool


class ManyDone(Written):
    """What was done to many tasks: the verb, how many the operation has touched and looked at so far; next: the cursor
    with which it goes on, None if that was all. dry_run: nothing was done, they were only counted, those of this
    request. operation: its id, if it may be asked for again. away: the numbers of the shards that were away, in which
    it goes on when they are back."""

    data: str
    touched: int
    looked_at: int
    next: str | None
    dry_run: bool
    operation: str | UnsetType = UNSET
    away: list[int] | UnsetType = UNSET


class Purged(Written):
    """How many tasks were deleted."""

    data: int


class Statistics(Answer):
    """Counts and load: stats.py."""

    data: dict[str, Any]


class Ready(Answer):
    """That the process is ready. all_paused_since: if nothing is promoted, since when (RFC 3339)."""

    data: str
    all_paused_since: str | UnsetType = UNSET


class Said(Answer):
    """A word that shows that the process is there."""

    data: str


class Document(msgspec.Struct, kw_only=True):
    """The OpenAPI document of the API. It has no `status`: tools read it as it is."""

    openapi: str
    info: dict[str, Any]
    servers: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    paths: dict[str, Any]
    components: dict[str, Any]


class Tried(msgspec.Struct, omit_defaults=True):
    """What became of a task, where not all of a request were written.

    outcome: `written`; `unknown`, if Redis did not answer, so that GET of the key tells; or `not written`.
    """

    outcome: str
    key: str | None = None
    due: str | None = None


class Refused(msgspec.Struct):
    """The body of every answer but a 200.

    error: what is wrong, where, and what was given; code: the same as a word that stays (errors.py); field: what is at
    fault, if that is one field, parameter or header; index: of several tasks, which, from 0; tasks: what became of
    each, if some may have been written; operation: of what was to be done to many tasks and perhaps began, so that the
    same request with this `operation` goes on.
    """

    status: int
    error: str
    code: str
    field: str | UnsetType = UNSET
    index: int | UnsetType = UNSET
    tasks: list[Tried] | UnsetType = UNSET
    operation: str | UnsetType = UNSET


def refusal(
    code: Code,
    error: str,
    field: str | None = None,
    index: int | None = None,
    tasks: list[Tried] | None = None,
    operation: str | None = None,
) -> bytes:
    """Return the body of an answer to an error."""
    given = {"field": field, "index": index, "tasks": tasks, "operation": operation}
    more: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return encode_answer(Refused(code.status, error, code.word, **more))


_encode = msgspec.json.Encoder().encode


def encode_answer(content: object) -> bytes:
    """Return any answer of the API as a line of JSON."""
    return _encode(content) + b"\n"


_LISTED = encode_answer(Listed([], None)).partition(b"]")[0]
"""How the body of a Listed begins."""


class ListedBody:
    """The body of a Listed: each of its tasks is put into it at once, so that only this is held of a page."""

    def __init__(self) -> None:
        self._body = bytearray(_LISTED)

    def add(self, task: TaskView) -> None:
        """Put the next task into it."""
        if len(self._body) > len(_LISTED):
            self._body += b","
        self._body += _encode(task)

    def ended(self, following: str | None, looked_at: int | UnsetType = UNSET) -> bytearray:
        """Return it whole, with what a Listed says of the page. `following`: the cursor of the next one."""
        self._body += encode_answer(Listed([], following, looked_at)).removeprefix(_LISTED)
        return self._body
