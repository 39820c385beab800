"""Logs: one event a line, nothing secret."""

import contextlib
import io
import json
import logging
from datetime import UTC, datetime

import pytest

from redis_scheduler.logs import JsonFormatter, TextFormatter, configure, location, rfc3339
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
