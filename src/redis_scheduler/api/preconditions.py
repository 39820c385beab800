"""Preconditions: a change that is made only while the task is what its caller takes it for.

The ETag of a task is a hash of its key and of what its caller defined: so no other task has it, and attempts, the state
and how the record is stored do not change it. It is no validator of the whole answer, so no GET serves If-None-Match.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from msgspec import UNSET
from starlette.requests import Request

from redis_scheduler.api.headers import headers_of
from redis_scheduler.errors import Code, InvalidField, RequestRefused
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.given import bounded, quoted
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import SEAL, UNREADABLE, Record, read_record, tail_of

ETAG_BYTES = 12

_DUE, _HEAD = b'{"due":', b',"head":'
"""Records begin with a due time; those with options, or of a series, have a head."""

_SEAL, _SEAL_WITHIN = b',"%b":' % SEAL.encode(), 48
"""By then a sealed record has this member: before it stand its due time and the length of its head."""

_ETAG_HEADERS = frozenset([b"if-match", b"if-none-match"])

LIST_LENGTH = 4_096
"""Characters of a list of ETags that are looked at."""

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t]*{_TAG}(?:[ \t]*,[ \t]*{_TAG})*[ \t]*")


def etag_of(stored: Stored) -> str:
    """Return the ETag of a task; of one that this version cannot read, by the bytes of its record."""
    record, raw = stored.record, stored.raw
    if record is UNREADABLE or record.unknown is not None:
        return _etag(stored.key, raw)
    is_of_caller = record.repetition is None and not record.again and not _moves(record.options)
    if is_of_caller and raw.startswith(_DUE) and _SEAL not in raw[:_SEAL_WITHIN]:
        return _etag(stored.key, raw[len(_DUE) :])  # as it would be put together again
    return _etag_of(stored.key, record)


def _moves(options: Options) -> bool:
    """Whether the due time moves by itself: of a series, and where the receiver may want the task again."""
    return options.repeat is not UNSET or options.again_most > 0


def _etag_of(key: str, record: Record) -> str:
    # A due time that moves by itself is not of its caller, and neither is what a series has done.
    due_ms = 0 if _moves(record.options) else record.due
    return _etag(key, b"%d" % due_ms, tail_of(record, record.options, None))


def etag_of_new(key: str, due_ms: int, tail: bytes) -> str:
    """Return the ETag of a task by its key, its due time and its record without that."""
    if not tail.startswith(_HEAD):
        return _etag(key, b"%d" % due_ms, tail)
    return _etag_of(key, read_record(b"%b%d%b" % (_DUE, due_ms, tail)))


def _etag(key: str, *parts: bytes) -> str:
    digest = blake2b(b"".join((key.encode(), b" ", *parts)), digest_size=ETAG_BYTES)
    return f'"{digest.hexdigest()}"'


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What a request demands of the task as it is. etags: one of these, empty: whichever; None: nothing."""

    etags: frozenset[str] | None = None
    must_be_new: bool = False

    def check(self, stored: Stored | None) -> None:
        """Raise 412 unless the task is as demanded; None: there is none."""
        if self.must_be_new and stored is not None:
            raise _failed("If-None-Match", f"the task is there, with the ETag {etag_of(stored)}")
        if self.etags is None:
            return
        if stored is None:
            raise _failed("If-Match", "there is no task with this key")
        if self.etags and etag_of(stored) not in self.etags:
            got = bounded(", ".join(sorted(self.etags)))
            raise _failed("If-Match", f"the task was changed: its ETag is {etag_of(stored)}, got {got}")


def _failed(field: str, problem: str) -> RequestRefused:
    return RequestRefused(Code.PRECONDITION_FAILED, f"{field}: {problem}", field)


def preconditions(request: Request) -> Preconditions:
    """Return those of a request. Raises InvalidField for what is none."""
    if _ETAG_HEADERS.isdisjoint(headers_of(request.scope)):
        return NO_PRECONDITIONS
    given = [(name, value.decode("latin-1")) for name, value in request.scope["headers"] if name in _ETAG_HEADERS]
    matches = [value for name, value in given if name == b"if-match"]
    excludes = [value.strip(" \t") for name, value in given if name == b"if-none-match"]
    if excludes and matches:
        problem = f"must not be given beside If-Match: no task is both, got {quoted(', '.join(excludes))}"
        raise InvalidField("If-None-Match", problem, Code.CONTRADICTION)
    if excludes and excludes != ["*"]:
        raise InvalidField("If-None-Match", f"must be *, got {quoted(', '.join(excludes))}")
    return Preconditions(_etags(matches) if matches else None, bool(excludes))


def _etags(given: Sequence[str]) -> frozenset[str]:
    """Return the ETags of a list, none for `*`. A weak one, W/"…", is none of ours and matches nothing."""
    text = ", ".join(given)
    if text.strip(" \t") == "*":
        return frozenset()
    if len(text) > LIST_LENGTH or not _TAGS.fullmatch(text):
        raise InvalidField("If-Match", f"must be * or ETags in double quotes, as GET gives them, got {quoted(text)}")
    return frozenset(re.findall(_TAG, text))


NO_PRECONDITIONS = Preconditions()
