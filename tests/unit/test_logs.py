"""Logs: one event a line, nothing secret."""

import contextlib
import io
import json
import logging
from datetime import UTC, datetime

import pytest

from redis_scheduler.logs import JsonFormatter, TextFormatter, configure, excerpt, location, rfc3339
from redis_scheduler.task.timing import LAST_MS


def record(fields: dict[str, object], error: Exception | None = None) -> logging.LogRecord:
    """An event as the loggers make it."""
    info = (type(error), error, None) if error else None
    made = logging.LogRecord("redis_scheduler.engine.worker", logging.INFO, __file__, 1, "retry", None, info)
    made.fields = fields
    return made


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(record({"key": "k", "error": "two\nlines"}))
    assert "\n" not in line
    content = json.loads(line)
    assert (content["event"], content["level"], content["key"], content["error"]) == (
        "retry",
        "info",
        "k",
        "two\nlines",
    )


def test_text_quotes_what_is_not_one_word() -> None:
    assert (
        TextFormatter()
        .format(record({"key": "k", "error": "two\nlines"}))
        .endswith('INFO    retry key=k error="two\\nlines"')
    )


def test_an_error_brings_its_traceback_into_the_same_line() -> None:
    line = JsonFormatter().format(record({}, ValueError("wrong")))
    assert "ValueError: wrong" in json.loads(line)["traceback"]


def test_a_url_is_logged_without_credentials_and_query() -> None:
    assert location("https://user:secret@host:8/path?token=secret#x") == "https://host:8/path"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"", ""),
        (b"plain", "plain"),
        ("ä 😀".encode(), "ä 😀"),
        (b"a\r\n\t b\x0b\x0cc\xc2\xa0d", "a b c d"),
        (b"\x1b[2J\x00\x7f", "\ufffd[2J\ufffd\ufffd"),
        ("\x9b31m\u202e\u200b".encode(), "\ufffd31m\ufffd\ufffd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 500, "x" * 200),
        ("😀".encode() * 500, "😀" * 200),
        (b" " * 4_000 + b"late", "late"),
        (b"<b>a/b&amp;c</b> a/b&c a\\/b&c a%2Fb%26c a/b", "<b>***</b> *** *** *** a/b"),
        (b"x" * 195 + b"a/b&c", "x" * 195 + "***"),
        (b"x" * 198 + b"a/b&c", "x" * 198 + "**"),
    ],
)
def test_what_a_receiver_sent_is_shown_without_harm(content: bytes, shown: str) -> None:
    assert excerpt(content, "a/b&c") == shown
    line = TextFormatter().format(record({"answer": excerpt(content, "a/b&c")}))
    assert line.isprintable()


@pytest.mark.parametrize(
    "form", ["a/b&cü<dd>eé", "a\\/b&cü<dd>eé", "a/b&amp;cü&lt;dd&gt;eé", "a%2Fb%26c%C3%BC%3Cdd%3Ee%C3%A9"]
)
@pytest.mark.parametrize("before", [b" " * 1_018, b"a/b", b"its a/", b""])
def test_a_secret_within_which_a_text_was_cut_is_hidden(before: bytes, form: str) -> None:
    for cut in range(len(form.encode()) + 1):
        shown = excerpt(before + form.encode()[:cut], "a/b&cü<dd>eé")
        assert shown.removeprefix(before.decode().strip()) in ("", form[:1], form[:2], form[:3], "***")


def test_what_a_text_ends_with_is_kept_where_no_secret_begins_so() -> None:
    assert excerpt(b"no room", "mister") == "no room"
    assert excerpt(b"mister no ", "misters") == "mister no"


def test_a_secret_longer_than_what_is_kept_is_hidden_too() -> None:
    assert excerpt(b"its " + b"0123456789" * 100, "0123456789" * 200) == "its ***"


def test_without_a_secret_nothing_is_hidden() -> None:
    assert excerpt(b"ab", "") == "ab"


def test_a_time_is_told_in_utc_to_the_millisecond() -> None:
    assert rfc3339(1_700_000_000_999) == "2023-11-14T22:13:20.999Z"
    for milliseconds in (0, 1, 951_868_799_999, 951_868_800_000, LAST_MS):
        at = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
        assert rfc3339(milliseconds) == at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def logged(log_format: str | None, process: int | None = None) -> str:
    """What one event comes to on stderr; the loggers are put back afterwards."""
    stream = io.StringIO()
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        with contextlib.redirect_stderr(stream):
            configure("info", log_format, process)
            logging.getLogger("redis_scheduler.test").info("event", extra={"fields": {"a": 1}})
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    return stream.getvalue()


@pytest.mark.parametrize(("log_format", "is_json"), [(None, True), ("json", True), ("text", False)])
def test_the_format_is_json_unless_a_person_reads(log_format: str | None, is_json: bool) -> None:
    assert logged(log_format).startswith("{") == is_json


@pytest.mark.parametrize(
    ("log_format", "shown"), [("json", '"a":1,"process":7}\n'), ("text", " event a=1 process=7\n")]
)
def test_one_of_several_processes_signs_its_lines(log_format: str, shown: str) -> None:
    assert logged(log_format, 7).endswith(shown)
