"""What a series does when it comes due: its occurrences, what its record says then, and its next time."""

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from redis_scheduler.logs import rfc3339
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import Record, decode_record, record_tail
from redis_scheduler.task.repeat import Occurrence, Progress, Repeat
from redis_scheduler.task.series import EARLY_MS, Firing, firing

DUE_MS, MINUTE_MS = 1_795_737_600_000, 60_000
MOST_BYTES = 1_048_576


def fired(
    late_ms: int = 0,
    progress: Progress | None = None,
    most_bytes: int = MOST_BYTES,
    queued_ms: int = 1,
    is_told_to_run: bool = False,
    **repeat: Any,
) -> tuple[Firing, list[Record]]:
    """What a series of one a minute does, and the records of its occurrences."""
    options = Options(repeat=Repeat(**({"every": 60} | repeat)), retries=3)
    tail = record_tail("http://h/", -1, "mail", b'{"a":1}', options, "data", progress)
    claim = Claim(
        f"{queued_ms}-0", "series", decode_record(b'{"due":%d' % DUE_MS + tail), 0, is_told_to_run=is_told_to_run
    )
    found = firing(claim, DUE_MS + late_ms, most_bytes)
    return found, [decode_record(b'{"due":%d' % one.due_ms + one.tail) for one in found.made]


def after(tail: bytes) -> Record:
    return decode_record(b'{"due":1' + tail)


def test_an_occurrence_is_the_task_without_its_rule_and_says_where_it_is_from() -> None:
    found, [made] = fired()
    assert made == Record(
        *(DUE_MS, "http://h/", -1, "mail", b'{"a":1}', None, "http://h", "/"),
        options=Options(retries=3),
        repetition=Occurrence("series", 1),
    )
    assert found.made[0].listed == "mail"
    assert found.made[0].key not in ("series", fired()[0].made[0].key)
    assert found.unless == ""
    assert found.after.due_ms == DUE_MS + MINUTE_MS
    series = after(found.after.tail)
    assert series == msgspec.structs.replace(
        found.claim.record, due=1, repetition=Progress(made=1, last=found.made[0].key)
    )


def test_an_occurrence_without_options_is_read_by_its_repetition() -> None:
    claim = Claim("1-0", "series", Record(DUE_MS, "http://h/", 0, options=Options(repeat=Repeat(every=60))), 0)
    [made] = firing(claim, DUE_MS, MOST_BYTES).made
    record = decode_record(b'{"due":1' + made.tail)
    assert (record.repetition, record.options, record.data) == (Occurrence("series", 1), Options(), None)


def test_it_counts_on_from_what_it_has_done() -> None:
    found, made = fired(progress=Progress(4, 2, "last"), late_ms=3 * MINUTE_MS)
    assert [one.repetition for one in made] == [Occurrence("series", 5)]
    assert after(found.after.tail).repetition == Progress(5, 5, found.made[0].key)


@pytest.mark.parametrize(("made", "late", "count", "ends"), [(0, 0, 1, False), (2, 0, 1, True), (0, 9, 3, True)])
def test_it_ends_with_its_last_time(made: int, late: int, count: int, ends: bool) -> None:
    found, _ = fired(late * MINUTE_MS, Progress(made), times=3, missed="all")
    assert (len(found.made), found.after.due_ms is None) == (count, ends)


def test_a_series_that_has_made_more_than_it_may_makes_none_and_ends() -> None:
    found, _ = fired(progress=Progress(5, 0, "last"), times=3)
    assert (found.made, found.after.due_ms) == ([], None)


def test_with_overlap_skip_it_goes_on_otherwise_while_the_one_before_is_unfinished() -> None:
    found, _ = fired(progress=Progress(2, 1, "last"), overlap="skip", times=3)
    assert (found.unless, found.after.due_ms, found.otherwise.due_ms) == ("last", None, DUE_MS + MINUTE_MS)
    assert after(found.after.tail).repetition == Progress(3, 1, found.made[0].key)
    assert after(found.otherwise.tail).repetition == Progress(2, 2, "last")
    assert fired(overlap="skip")[0].unless == ""
    assert fired(progress=Progress(2, 1, "last"))[0].unless == ""


def test_what_is_too_much_for_one_call_comes_in_the_next() -> None:
    """The series comes again at once, for the first that is left."""
    found, made = fired(9 * MINUTE_MS, most_bytes=3 * 170, missed="all")
    assert 1 < len(made) < 10
    assert found.after.due_ms == DUE_MS + len(made) * MINUTE_MS
    assert after(found.after.tail).repetition == Progress(len(made), 0, found.made[-1].key)
    found, made = fired(9 * MINUTE_MS, most_bytes=1, missed="all")
    assert len(made) == 1


@pytest.mark.parametrize("late_ms", [-600_000, -1, 0, 1, 600_000])
def test_one_that_was_told_to_run_makes_one_more_and_keeps_its_time_however_near_it_is(late_ms: int) -> None:
    """Or past: then it comes again at once."""
    found, [made] = fired(
        late_ms, Progress(4, 2, "last"), queued_ms=DUE_MS + late_ms, is_told_to_run=True, missed="all"
    )
    assert (made.due, found.after.due_ms) == (DUE_MS + late_ms, DUE_MS)
    assert after(found.after.tail).repetition == Progress(5, 2, found.made[0].key)
    found, _ = fired(late_ms, Progress(4), queued_ms=DUE_MS + late_ms, is_told_to_run=True, times=5)
    assert found.after.due_ms is None


def test_one_that_a_version_before_told_to_run_makes_one_more_and_keeps_its_time() -> None:
    found, [made] = fired(-EARLY_MS - 1)
    assert (made.due, found.after.due_ms) == (DUE_MS - EARLY_MS - 1, DUE_MS)
    found, [made] = fired(-EARLY_MS)
    assert (made.due, found.after.due_ms) == (DUE_MS, DUE_MS + MINUTE_MS)


def test_one_that_was_queued_at_its_time_is_not_early_though_the_clock_was_set_back_since() -> None:
    found, [made] = fired(-600_000, queued_ms=DUE_MS)
    assert (made.due, found.after.due_ms) == (DUE_MS, DUE_MS + MINUTE_MS)
    found, [made] = fired(-600_000, queued_ms=DUE_MS - EARLY_MS - 1)
    assert (made.due, found.after.due_ms) == (DUE_MS - 600_000, DUE_MS)


def test_a_task_without_a_rule_is_no_series() -> None:
    claim = Claim("1-0", "task", Record(DUE_MS, "http://h/", 0), 0)
    assert claim.record.options.repeat is UNSET
    with pytest.raises(ValueError, match="no series"):
        firing(claim, DUE_MS, MOST_BYTES)


def test_a_series_that_was_moved_behind_its_until_ends_without_an_occurrence() -> None:
    until = rfc3339(DUE_MS - 1)
    found, made = fired(progress=Progress(4, 2, "last"), until=until, overlap="skip")
    assert (made, found.after.due_ms, found.unless) == ([], None, "")
    assert after(found.after.tail).repetition == Progress(4, 2, "last")
    assert b'"ended"' in found.after.result
    assert fired(until=rfc3339(DUE_MS))[1] != []
