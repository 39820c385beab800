"""The bodies of requests and answers. requests.py checks those of requests."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from redis_scheduler.api.view import TaskView
from redis_scheduler.errors import Code
from redis_scheduler.task.limit import CONCURRENCY_MOST, PER_MOST_S, RATE_MOST
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


class UpdateRequest(_OptionChanges, forbid_unknown_fields=True):  # type: ignore[call-arg, misc]  # a struct, too
    """The body of PATCH /schedule/{key}: absent members stay, and an option that is null gets its default again.

    body, body_base64: null leaves nothing to be sent.
    """

    webhook: str | UnsetType = UNSET
    ttl: int | float | UnsetType = UNSET
    at: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    body: str | UnsetType | None = UNSET
    body_base64: str | UnsetType | None = UNSET


_Concurrency = Annotated[int, Meta(ge=0, le=CONCURRENCY_MOST)]
_Rate = Annotated[int, Meta(ge=0, le=RATE_MOST)] | Annotated[float, Meta(ge=0, le=RATE_MOST)]
_Per = Annotated[int, Meta(ge=1, le=PER_MOST_S)] | Annotated[float, Meta(ge=0.001, le=PER_MOST_S)]

LIMIT_RULES = {
    "concurrency": f"must be a whole number from 0 (no limit) to {CONCURRENCY_MOST}",
    "rate": f"must be a number from 0 (no limit) to {RATE_MOST}",
    "per": f"must be a number of seconds from 0.001 to {PER_MOST_S} (a day)",
    "paused": "must be true or false",
}
"""What the fields of LimitRequest must be."""


class LimitRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /hosts/{host}: attempts at once, attempts in so many seconds, and whether none begins."""

    concurrency: _Concurrency | UnsetType = UNSET
    rate: _Rate | UnsetType = UNSET
    per: _Per | UnsetType = UNSET
    paused: bool | UnsetType = UNSET


class BreakerView(msgspec.Struct):
    """The breaker of a host: `open` or `closing`, since when, and when the next probe or step may be (RFC 3339)."""

    state: str
    since: str
    next: str
    step: int | UnsetType = UNSET


class HostView(msgspec.Struct, kw_only=True):
    """A host, or `@` and a limit_key: what is said of it, tasks that are held, and attempts that run where they are
    counted."""

    host: str
    concurrency: int | UnsetType = UNSET
    rate: int | float | UnsetType = UNSET
    per: int | float | UnsetType = UNSET
    paused: bool = False
    held: int
    running: int
    breaker: BreakerView | UnsetType = UNSET


class _Answer(msgspec.Struct, tag_field="status", tag=200):
    """The body of a 200: its first member is `status`. (As a struct it is encoded in half the time of a dict.)"""


class Scheduled(_Answer):
    """The task's key, twice: clients of the original service read it in `data`. due: when it fires (RFC 3339)."""

    data: str
    key: str
    due: str


class ScheduledTask(msgspec.Struct):
    """A task that was scheduled with others: its key, and when it fires (RFC 3339)."""

    key: str
    due: str


class BatchScheduled(_Answer):
    """The tasks in the order of the request. data: their keys."""

    data: list[str]
    tasks: list[ScheduledTask]


class Updated(_Answer):
    """As Scheduled. found: `updated`; or `in delivery`, if an attempt with the old record is under way."""

    data: str
    key: str
    due: str
    found: str


class PutDone(_Answer):
    """As Scheduled. created: whether there was no task with this key. found: of one that there was, as Updated says, or
    `dead`."""

    data: str
    key: str
    due: str
    created: bool
    found: str | UnsetType = UNSET


class Cancelled(_Answer):
    """What was found: `cancelled`; or `in delivery`, if an attempt is under way."""

    data: str
    key: str


class Previewed(_Answer):
    """The next times (RFC 3339), fewer if the series ends before."""

    data: list[str]


class Found(_Answer):
    """Of a task that was paused, resumed or run, or that its receiver spoke of (done, fail, extend). found: its state
    before, as `info.state` shows it."""

    data: str
    key: str
    found: str


class Shown(_Answer):
    """One task."""

    data: TaskView


class Listed(_Answer):
    """A page of tasks. next: the cursor of the next page, None on the last."""

    data: list[TaskView]
    next: str | None


class DeadGroup(msgspec.Struct, frozen=True):
    """Dead letters of one host and one error (empty where it is not known): how many; key and death of the newest."""

    host: str
    error: str
    count: int
    newest: str
    died: str


class Grouped(_Answer):
    """The groups, the largest first. others: letters in groups beyond those shown; looked_at: how many of the `dead`
    were looked at, the newest; complete: whether these were all."""

    data: list[DeadGroup]
    others: int
    looked_at: int
    dead: int
    complete: bool


class ManyDone(_Answer):
    """What was done to many tasks: the verb, how many the operation has touched and looked at so far; next: the cursor
    with which it goes on, None if that was all. dry_run: nothing was done, they were only counted, those of this
    request. operation: its id, if it may be asked for again."""

    data: str
    touched: int
    looked_at: int
    next: str | None
    dry_run: bool
    operation: str | UnsetType = UNSET


class Purged(_Answer):
    """How many tasks were deleted."""

    data: int


class Statistics(_Answer):
    """Counts and load: stats.py."""

    data: dict[str, Any]


class Ready(_Answer):
    """That the process is ready. all_paused_since: if nothing is promoted, since when (RFC 3339)."""

    data: str
    all_paused_since: str | UnsetType = UNSET


class Said(_Answer):
    """A word that shows that the process is there."""

    data: str


class Tried(msgspec.Struct, omit_defaults=True):
    """What became of a task, where not all of a request were written.

    outcome: `written`; `unknown`, if Redis did not answer, so that GET of the key tells; or `not written`.
    """

    outcome: str
    key: str | None = None
    due: str | None = None


class HostShown(_Answer):
    """A host as it stands."""

    data: HostView


class HostsListed(_Answer):
    """Hosts by their names. more: whether there are further ones of which nothing is said."""

    data: list[HostView]
    more: bool


class Refused(msgspec.Struct):
    """The body of every answer but a 200.

    error: what is wrong, where, and what was given; code: the same as a word that stays (errors.py); field: what is at
    fault, if that is one field, parameter or header; index: of several tasks, which, from 0; tasks: what became of
    each, if some may have been written.
    """

    status: int
    error: str
    code: str
    field: str | UnsetType = UNSET
    index: int | UnsetType = UNSET
    tasks: list[Tried] | UnsetType = UNSET


def refusal(
    code: Code, error: str, field: str | None = None, index: int | None = None, tasks: list[Tried] | None = None
) -> bytes:
    """Return the body of an answer to an error."""
    given = {"field": field, "index": index, "tasks": tasks}
    more: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return encode_answer(Refused(code.status, error, code.word, **more))


_encode = msgspec.json.Encoder().encode


def encode_answer(content: object) -> bytes:
    """Return any answer of the API as a line of JSON."""
    return _encode(content) + b"\n"
