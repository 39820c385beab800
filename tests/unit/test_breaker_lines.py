"""What the log says of breakers: each change once, and not too many."""

import logging

import pytest

from redis_scheduler.engine.breaker_lines import LINES_MOST, BreakerLines
from redis_scheduler.task.limit import Verdict

SINCE_MS = 1_700_000_000_000


def told(
    caplog: pytest.LogCaptureFixture, lines: BreakerLines, *verdict: str | int
) -> list[tuple[str, dict[str, object]]]:
    caplog.clear()
    before, after, failures, number = verdict
    lines.tell(Verdict("host:80", str(before), str(after), int(failures), int(number), SINCE_MS))
    return [(record.message, vars(record)["fields"]) for record in caplog.records]


def test_each_change_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines, common = BreakerLines(), {"host": "host:80", "since": "2023-11-14T22:13:20.000Z"}
    assert told(caplog, lines, "closed", "closed", 19, 0) == []
    assert told(caplog, lines, "closed", "open", 20, 0) == [("breaker-opened", {**common, "failures": 20})]
    assert told(caplog, lines, "open", "open", 4, 0) == []
    assert told(caplog, lines, "open", "open", 1, 3) == [("breaker-probed", {**common, "failures": 1, "probes": 3})]
    assert told(caplog, lines, "open", "closing", 0, 4) == [("breaker-closing", {**common, "probes": 4})]
    assert told(caplog, lines, "closing", "closing", 0, 2) == []
    assert told(caplog, lines, "closing", "open", 5, 2) == [("breaker-opened", {**common, "failures": 5, "step": 2})]
    assert told(caplog, lines, "closing", "closed", 0, 10) == [("breaker-closed", common)]


def test_thousands_of_breakers_make_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    lines, events = BreakerLines(), list[str]()
    for _ in range(1_000):
        events += [event for event, _ in told(caplog, lines, "closed", "open", 20, 0)]
    assert events == ["breaker-opened"] * LINES_MOST + ["breakers-more"]
    lines._from = 0.0  # the minute is over
    [(event, fields)] = told(caplog, lines, "closed", "open", 20, 0)
    assert (event, fields["untold"]) == ("breaker-opened", 1_000 - LINES_MOST)
