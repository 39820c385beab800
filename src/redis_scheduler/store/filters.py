"""Which tasks a list is to show: filters on what is known of a task where it stands."""

from dataclasses import dataclass, field

from msgspec import UNSET

from redis_scheduler import host as hosts
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.failure import error_of
from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import SERIES
from redis_scheduler.task.record import DEFAULT_TYPE, Record

LISTED = ("scheduled", "deferred", "queued", "in delivery", "waiting", "paused", "awaiting", "held")
"""The states of tasks that GET /schedules lists, as it names them."""


_PLACES = {"scheduled": "due", "deferred": "due", "paused": "paused", "awaiting": "awaiting", "held": "held"}
"""Where tasks of a state stand, if that is not the queue."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a task must be; None: anything. Times are Redis' ms, `due_after_ms` inclusive: when a task fires next, or if
    that is not known (it is in delivery, or paused) its due time."""

    type: str | None = None
    states: tuple[str, ...] | None = None
    host: str | None = None
    """As `hosts.host_named` has it: with its port, or without."""
    key_prefix: str | None = None
    due_after_ms: int | None = None
    due_before_ms: int | None = None
    label: str | None = None
    """`name=value`."""
    error: str | None = None
    """Of the last failed attempt, as GET /dead/groups has it."""
    died_before_ms: int | None = None
    types: tuple[str, ...] | None = None
    """Those of which it must have one."""
    repeats: bool | None = field(default=None, repr=False)
    """Whether it must be a series, or must be none. (Not in the text by which operations of before know theirs.)"""
    other_than: str | None = field(default=None, repr=False)
    """A type that it must not have."""

    def may_skip_many(self, is_dead: bool) -> bool:
        """Whether a walk may look at many tasks, the dead or the others, of which it shows few."""
        return self != Filters(type=self.type) and (is_dead or self != Filters(label=self.label))

    def index(self, has_all_series: bool) -> str | None:
        """Return the name of an index that has all wanted tasks that are to be delivered; None: there is none.
        `has_all_series`: whether that of series has each of them."""
        if self.label is not None:
            return index_of(self.label)
        if self.repeats and has_all_series:
            return SERIES
        return None if self.type == DEFAULT_TYPE else self.type

    def takes_key(self, key: str) -> bool:
        """Whether a task of this key may be wanted."""
        return self.key_prefix is None or key.startswith(self.key_prefix)

    def takes_place(self, place: str) -> bool:
        """Whether a wanted task may stand there: `queue`, `due`, `paused`, `awaiting` or `held`."""
        return self.states is None or any(_PLACES.get(state, "queue") == place for state in self.states)

    def takes(self, task: Stored) -> bool:
        """Whether a task is wanted, if its key is: what it is, where it stands, when it fires next, and how it died."""
        record = task.record
        due_ms = record.due if task.expires_ms is None else task.expires_ms
        return (
            self.type in (None, record.type or DEFAULT_TYPE)
            and (self.other_than is None or record.type != self.other_than)
            and (self.types is None or (record.type or DEFAULT_TYPE) in self.types)
            and (self.states is None or task.state in self.states)
            and (self.due_after_ms is None or due_ms >= self.due_after_ms)
            and (self.due_before_ms is None or due_ms < self.due_before_ms)
            and (self.label is None or self._has_label(record))
            and (self.repeats is None or self.repeats is (record.options.repeat is not UNSET))
            and (self.died_before_ms is None or (task.died_ms or 0) < self.died_before_ms)
            and (self.error is None or self.error == error_of(task.failure))
            and (self.host is None or self.host in _names(host_of(record)))
        )

    def _has_label(self, record: Record) -> bool:
        name, _, value = (self.label or "").partition("=")
        labels = record.options.labels
        return labels is not UNSET and labels.get(name) == value


ANY = Filters()
"""No filter."""


def host_of(record: Record) -> str:
    """Return the receiver's name and port, as limits name it; empty if that cannot be read."""
    origin = record.origin or record.webhook  # a record of a newer version has its webhook alone
    return hosts.host_of(origin) if origin else ""


def _names(host: str) -> tuple[str, str]:
    """Return how a filter may name a host: with its port, or without."""
    name, colon, port = host.rpartition(":")
    return host, name if colon and port.isdigit() else host
