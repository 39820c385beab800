"""A task as a line of an export: it comes back as it was, and what is wrong with a line is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.errors import Code, InvalidRequest
from redis_scheduler.process.task_line import line_of, moved_of, unwritable
from redis_scheduler.store.moves import Moved
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.vault import Vault
from redis_scheduler.task.due import NO_TTL
from redis_scheduler.task.given import shown
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import read_record, record_tail
from redis_scheduler.task.repeat import Progress, Repeat

SAMPLES = Path(__file__).parents[1] / "samples/records"
KEY = "abcdefghijklmnopqrstuQ"
DUE_MS = 1_900_000_000_123
FAILURE = b'{"error":"HTTP 500","elapsed_ms":3,"status":500}'


def stored(
    data: bytes | None = b'{"n":1}',
    type_name: str | None = None,
    attempts: int = 0,
    failure: bytes | None = None,
    state: str = "scheduled",
    expires_ms: int | None = DUE_MS,
    died_ms: int | None = None,
) -> Stored:
    raw = b'{"due":%d' % DUE_MS + record_tail("http://localhost/a?b=1", 2.5, type_name, data)
    return Stored(KEY, raw, read_record(raw), attempts, failure, state, expires_ms, died_ms)


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"null",
        b'{"a": [1, 2.50]}',
        b'{\n "a":\r1}',
        b'"\\ud83d"',
        b'"\xc3\xa9 \xe2\x80\xa8"',
        b"[" * 120 + b"]" * 120,
    ],
)
def test_data_comes_back_byte_for_byte(data: bytes | None) -> None:
    line = line_of(stored(data))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    kept = moved_of(line, 0)
    assert b'{"due":%d' % kept.due_ms + kept.tail == stored(data).raw


def test_a_task_that_has_failed_comes_back_with_its_failures_and_its_next_time() -> None:
    line = line_of(stored(None, "mail", 2, FAILURE, "waiting", DUE_MS + 5))
    tail = record_tail("http://localhost/a?b=1", 2.5, "mail", None)
    assert moved_of(line, 0) == Moved(KEY, DUE_MS, tail, "due", DUE_MS + 5, b"2 " + FAILURE, "mail")
    shifted = moved_of(line, -1_500)
    assert (shifted.due_ms, shifted.at_ms) == (DUE_MS - 1_500, DUE_MS - 1_495)


def test_a_task_of_a_token_comes_back_as_that() -> None:
    raw = b'{"due":%d' % DUE_MS + record_tail("http://localhost/", 2.5, None, b"1", token="0123456789")
    line = line_of(Stored(KEY, raw, read_record(raw), 0, None, "scheduled", DUE_MS))
    kept = moved_of(line, 0)
    assert (b'{"due":%d' % kept.due_ms + kept.tail, kept.token) == (raw, "0123456789")
    assert b"token" not in line_of(stored())
    with pytest.raises(
        InvalidRequest, match='token: must be the id of a token, 10 hexadecimal digits, got "012345678g"'
    ):
        moved_of(line.replace(b"0123456789", b"012345678g"), 0)


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_task_that_came_again_comes_back_with_how_often(is_sealed: bool) -> None:
    raw = b'{"due":%d,"again":2' % DUE_MS + record_tail("http://localhost/", 2.5, None, b"1", Options(again_most=3))
    line = line_of(Stored(KEY, raw, read_record(raw), 0, None, "scheduled", DUE_MS))
    assert b'"again":2,' in line
    kept = moved_of(line, 0)
    back = b'{"due":%d' % kept.due_ms + kept.tail
    if is_sealed:
        vault = Vault([b"k" * 32])
        # A script counts on in front of what is sealed.
        sealed = b'{"due":%d' % kept.due_ms + vault.seal_tail(KEY, kept.tail, kept.listed)
        assert sealed.startswith(b'{"due":%d,"again":2,"head":' % DUE_MS)
        back = vault.opened(KEY, sealed)
    assert back == raw
    assert b'"again":' not in line_of(stored())


def test_a_task_with_a_point_in_time_comes_back_with_it() -> None:
    raw = b'{"due":%d' % DUE_MS + record_tail("http://localhost/", NO_TTL, None, None)
    line = line_of(Stored(KEY, raw, read_record(raw), 0, None, "scheduled", DUE_MS))
    assert b"ttl" not in line
    kept = moved_of(line, 0)
    assert b'{"due":%d' % kept.due_ms + kept.tail == raw


@pytest.mark.parametrize(("rule", "moves_back"), [(Repeat(cron="@daily"), False), (Repeat(every=60), True)])
def test_a_calendar_is_not_moved_back(rule: Repeat, moves_back: bool) -> None:
    tail = record_tail("http://localhost/", 2.5, None, None, Options(repeat=rule), "data", Progress())
    raw = b'{"due":%d' % DUE_MS + tail
    line = line_of(Stored(KEY, raw, read_record(raw), 0, None, "scheduled", DUE_MS))
    back, on = moved_of(line, -1_500), moved_of(line, 1_500)
    assert back.due_ms == back.at_ms == DUE_MS - 1_500 * moves_back
    assert on.due_ms == on.at_ms == DUE_MS + 1_500


@pytest.mark.parametrize("name", ["2-sent", "2-body", "2-bytes", "2-series", "2-occurrence"])
def test_what_is_sent_comes_back_as_it_was(name: str) -> None:
    raw = (SAMPLES / name).read_bytes()
    record = read_record(raw)
    line = line_of(Stored(KEY, raw, record, 0, None, "scheduled", record.due))
    kept = moved_of(line, 0)
    assert b'{"due":%d' % kept.due_ms + kept.tail == raw


def test_a_body_that_foreign_hands_wrote_is_told() -> None:
    raw = (SAMPLES / "2-body").read_bytes().replace(b'"a ', b"a ")
    record = read_record(raw)
    assert unwritable(Stored(KEY, raw, record, 0, None, "scheduled", record.due)) == (
        "its body is no text: other hands wrote it"
    )


def test_a_dead_letter_keeps_the_time_of_its_death() -> None:
    line = line_of(stored(attempts=6, failure=FAILURE, state="dead", expires_ms=None, died_ms=DUE_MS + 9))
    kept = moved_of(line, 60_000)
    assert (kept.place, kept.at_ms, kept.due_ms) == ("dead", DUE_MS + 9, DUE_MS + 60_000)
    assert kept.failure == b"6 " + FAILURE


def test_a_paused_task_stays_paused() -> None:
    moved = moved_of(line_of(stored(state="paused", expires_ms=None)), 60_000)
    assert (moved.place, moved.at_ms) == ("paused", DUE_MS + 60_000)
    for attempts, left_ms in ((1, 0), (1, 7_000), (0, 7_000)):
        failure = FAILURE if attempts else None
        retried = stored(attempts=attempts, failure=failure, state="paused", expires_ms=None)
        retried.left_ms = left_ms
        moved = moved_of(line_of(retried), 60_000)
        assert (moved.place, moved.at_ms) == ("paused", -left_ms)


SHIFTED = {
    "repeat": {"every": 60, "until": "2031-01-01T00:00:00+01:00"},
    "on_success": {
        "webhook": "http://b/",
        "at": "2030-01-02T00:00:00Z",
        "on_failure": {"webhook": "http://c/", "at": "2030-01-03T00:00:00+01:00", "data": {"at": 1}},
    },
    "on_failure": {"webhook": "http://d/", "ttl": 5},
}


def test_points_in_time_of_the_options_are_moved_as_the_task_is() -> None:
    line = json.dumps(GOOD | SHIFTED).encode()
    options = read_record(b'{"due":1' + moved_of(line, 3_600_000).tail).options
    assert options.repeat.until == "2031-01-01T00:00:00.000Z"  # type: ignore[union-attr]
    success: Any = options.on_success
    assert success.at == "2030-01-02T01:00:00.000Z"
    assert (success.on_failure.at, bytes(success.on_failure.data)) == ("2030-01-03T00:00:00.000Z", b'{"at": 1}')
    assert options.on_failure.ttl == 5  # type: ignore[union-attr]
    kept = read_record(b'{"due":1' + moved_of(line, 0).tail).options
    assert kept.on_success.at == "2030-01-02T00:00:00Z"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("until", "moved"),
    [
        ("2031-01-01T00:00:10.0009Z", "2031-01-01T01:00:10.000Z"),
        ("2031-01-01T00:00:10.001Z", "2031-01-01T01:00:10.001Z"),
        ("2030-12-31T23:59:60Z", "2031-01-01T01:00:00.000Z"),
    ],
)
def test_the_end_of_a_series_that_is_moved_lets_no_later_occurrence_come(until: str, moved: str) -> None:
    line = json.dumps(GOOD | {"repeat": {"every": 10, "until": until}}).encode()
    options = read_record(b'{"due":1' + moved_of(line, 3_600_000).tail).options
    assert options.repeat.until == moved  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"repeat": {"every": 60, "until": "9999-01-01T00:00:00Z"}}, "repeat.until: must be from 1970 to 9999 once"),
        ({"on_failure": {"webhook": "http://b/", "at": "9999-01-01T00:00:00Z"}}, "on_failure.at: must be from 1970"),
    ],
)
def test_a_point_in_time_that_cannot_be_moved_is_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        moved_of(json.dumps(GOOD | options).encode(), 400 * 86_400_000)
    assert str(error.value).startswith(told)


def test_a_failure_from_foreign_hands_breaks_no_line() -> None:
    for failure in (b"x", b'{"a":\n1}', b'"\\ud83d"'):
        line = line_of(stored(attempts=1, failure=failure))
        assert line.count(b"\n") == 1
        assert json.loads(line)["last_failure"]["elapsed_ms"] == 0


def test_what_cannot_be_written_is_told() -> None:
    for raw, told in ((b"x", "cannot be read"), (b'{"due":1,"webhook":"http://a/","ttl":1,"new":1}', "newer version")):
        assert told in (unwritable(Stored(KEY, raw, read_record(raw), 0, None, "scheduled", None)) or "")
    assert unwritable(stored()) is None


GOOD = {"key": KEY, "due": "2030-01-01T00:00:00.000Z", "state": "scheduled", "webhook": "http://localhost/", "ttl": 1}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"key": "a.b"}, 'key: cannot be the key of a task, got "a.b"'),
        ({"key": 5}, "key: must be a text, got 5"),
        ({"due": {"a": 1}}, 'due: must be a text, got {"a":1}'),
        *[
            ({"key": word}, f'key: cannot be the key of a task, got "{word}"')
            for word in ("groups", "replay", "delete")
        ],
        ({"key": None}, "key: is missing"),
        ({"state": None}, "state: is missing"),
        ({"state": "newer"}, "state: must be one of dead, paused, scheduled,"),
        ({"due": None}, "due: is missing"),
        ({"due": "tomorrow"}, "due: must be an RFC 3339 time with its offset"),
        ({"due": "2030-01-01T00:00:00"}, "due: must be an RFC 3339 time"),
        ({"due": "1969-12-31T23:59:59Z"}, "due: must be from 1970 to 9999 once it is moved"),
        ({"next": "soon"}, "next: must be an RFC 3339 time"),
        ({"state": "dead"}, "died: is missing"),
        ({"attempts": -1}, "attempts: must be a whole number from 0 to 999999999999999, got -1"),
        ({"attempts": "x"}, "attempts: must be a whole number from 0"),
        ({"left_ms": -1}, "left_ms: must be a whole number from 0"),
        ({"attempts": 10**15}, "attempts: must be a whole number from 0"),
        ({"webhook": "ftp://a/"}, "webhook: must be an absolute http or https URL"),
        ({"webhook": None}, "webhook: is missing"),
        ({"at": "2030-01-01T00:00:00Z"}, "at: is no member of a line"),
        ({"ttl": -1}, "ttl: must be a number of seconds"),
        ({"nonsense": 1}, "nonsense: is an unknown field"),
        ({"type": "x" * 101}, "type: must be 1 to 100 printable characters"),
        ({"progress": {"made": 1, "skipped": 0}}, "repeat: must be given beside progress"),
        (
            {"repeat": {"every": 60}, "occurrence": {"series": "a", "number": 1}},
            "repeat: must be given beside progress",
        ),
        *[
            ({"repeat": {"every": 60}, "progress": progress}, f"progress.{told}")
            for progress, told in [
                ({"made": -1}, "made: must be a whole number from 0 to 9007199254740992, got -1"),
                ({"made": 2**53 + 1}, "made: must be a whole number"),
                ({"skipped": -5}, "skipped: must be a whole number"),
                ({"last": "a\r\n"}, 'last: cannot be the key of a task, got "a\\r\\n"'),
            ]
        ],
        (
            {"repeat": {"every": 60, "times": 3}, "progress": {"made": 3}},
            "repeat.times: must be more than 3, which were",
        ),
        ({"repeat": {"every": 60}, "progress": {"made": 10**30}}, "progress.made: must be a whole number"),
        ({"occurrence": {"series": "x" * 100_000, "number": 1}}, "occurrence.series: cannot be the key of a task"),
        ({"occurrence": {"series": "", "number": 1}}, "occurrence.series: cannot be the key of a task"),
        ({"occurrence": {"series": "a", "number": 0}}, "occurrence.number: must be a whole number from 1"),
        *[
            (
                {"state": state, "died": "2030-01-01T00:00:00Z"},
                f"died: is said only of what is dead, not of what is {state}",
            )
            for state in ("scheduled", "paused", "in delivery")
        ],
        ({"died": "tomorrow"}, "died: is said only of what is dead"),
        ({"left_ms": 5}, "left_ms: is said only of what is paused, not of what is scheduled"),
        (
            {"state": "dead", "died": "2030-01-01T00:00:00Z", "left_ms": 5},
            "left_ms: is said only of what is paused, not of what is dead",
        ),
        *[
            ({"repeat": rule}, f"repeat.{told}")
            for rule, told in [
                ({"cron": "0 0 30 2 *"}, 'cron: never comes: no such month has this day, got "0 0 30 2 *"'),
                (
                    {"cron": "@daily", "tz": "Nowhere"},
                    'tz: must be the name of a time zone, such as "Europe/Berlin", got "N',
                ),
                (
                    {"every": 0.5},
                    "every: must be a number of seconds from 1 to 315360000 (ten years), in whole milliseconds, got 0",
                ),
                ({"every": 5, "tz": "UTC"}, 'tz: has no effect without cron, got "UTC"'),
            ]
        ],
        ({"run": True}, "run: is said of a series alone"),
        ({"run": True, "repeat": {"every": 60}, "ack": True, "acknowledged": "done"}, "run: is said of a series alone"),
        ({"run": False, "repeat": {"every": 60}}, "run: must be true where it is given, got false"),
        ({"acknowledged": "done"}, "acknowledged: is said of a task with ack"),
        ({"again": 1}, "again: is said of a task without again_most"),
        ({"again_most": 3, "again": -1}, "again: must be a whole number from 0 to 1000000, got -1"),
        ({"ack": True, "acknowledged": "perhaps"}, 'acknowledged: must be done or failed, got "perhaps"'),
        ({"last_failure": 5}, "last_failure: is not as an export writes it"),
        ({"last_failure": {"error": 5, "elapsed_ms": 1}}, "last_failure: is not as an export writes it"),
        ({"last_failure": {"error": "x" * 65_536, "elapsed_ms": 1}}, "last_failure: is not as an export writes it"),
        ({"data_base64": "?"}, "data_base64: must be a text in base64"),
        ({"data_base64": "eA=="}, "data_base64: must be JSON in base64"),
        ({"data": 1, "data_base64": "MQ=="}, "data_base64: contradicts data"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(changes: dict[str, object], told: str) -> None:
    line = {name: value for name, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(InvalidRequest) as error:
        moved_of(json.dumps(line, separators=(",", ":")).encode(), 0)
    assert str(error.value).startswith(told)
    if error.value.code in (Code.MISSING_FIELD, Code.UNKNOWN_FIELD) or "is missing" in told:
        return
    given: Any = line
    for name in str(error.value.field).split("."):
        given = given.get(name)
    got = 'the scheme "ftp"' if name == "webhook" else "none" if given is None else shown(given)
    assert str(error.value).endswith(f", got {got}")


@pytest.mark.parametrize("line", [b"x", b"[1]", b"null", b'{"a"', b"[" * 100_000, b"\xff"])
def test_what_is_no_object_is_told(line: bytes) -> None:
    with pytest.raises(ValueError, match="is no JSON object"):
        moved_of(line, 0)


@pytest.mark.parametrize(
    "twice", ['"ttl":2', '"\\u0074tl":2', '"data":1,"data":1', '"key":"b"', '"labels":{"a":"1","a":"2"}']
)
def test_a_member_that_is_given_twice_is_told(twice: str) -> None:
    line = json.dumps(GOOD)[:-1] + f",{twice}}}"
    with pytest.raises(InvalidRequest, match="is given twice"):
        moved_of(line.encode(), 0)


def test_blanks_between_members_are_no_fault() -> None:
    assert moved_of(json.dumps(GOOD, indent=1).encode(), 0) == moved_of(
        json.dumps(GOOD, separators=(",", ":")).encode(), 0
    )


@pytest.mark.parametrize(
    ("state", "expires_ms", "entry", "place", "at_ms"),
    [
        ("scheduled", DUE_MS - 7_000, None, "due", DUE_MS - 7_000),
        ("queued", DUE_MS, f"{DUE_MS - 5_000}-3", "due", DUE_MS - 5_000),
        ("in delivery", DUE_MS, f"{DUE_MS + 5_000}-0", "due", DUE_MS),
        ("queued", DUE_MS, "other hands", "due", DUE_MS),
        ("paused", DUE_MS, None, "paused", 0),
        ("dead", None, None, "dead", DUE_MS + 9),
    ],
)
def test_a_series_that_was_told_to_run_comes_back_so_at_the_time_of_that(
    state: str, expires_ms: int | None, entry: str | None, place: str, at_ms: int
) -> None:
    raw = b'{"due":%d' % DUE_MS + record_tail("http://a/", NO_TTL, None, None, Options(repeat=Repeat(every=60)))
    series = Stored(KEY, raw, read_record(raw), 0, None, state, expires_ms, DUE_MS + 9 if state == "dead" else None)
    series.entry, series.is_told_to_run = entry, True
    moved = moved_of(line_of(series), 0)
    assert (moved.place, moved.at_ms, moved.due_ms, moved.failure) == (place, at_ms, DUE_MS, b"0! ")
    # A version before told to run by the time alone.
    series.is_told_to_run = False
    assert b'"run"' not in line_of(series)
    assert moved_of(line_of(series), 0).failure == b""


def test_a_task_that_is_no_series_any_more_was_not_told_to_run() -> None:
    task = stored()
    task.is_told_to_run = True
    assert line_of(task) == line_of(stored())


@pytest.mark.parametrize("failure", [b"5", b"x", b'{"error":5}', b'{"error":"' + b"x" * 65_536 + b'","elapsed_ms":1}'])
def test_a_failure_that_other_hands_wrote_does_not_keep_a_task_back(failure: bytes) -> None:
    kept = moved_of(line_of(stored(None, None, 2, failure, "waiting", DUE_MS)), 0).failure
    assert b"other hands wrote it" in kept
