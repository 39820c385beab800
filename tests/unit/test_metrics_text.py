"""The text of /metrics: both formats, read by the client library of Prometheus."""

import pytest
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.parser import text_string_to_metric_families

from redis_scheduler.metrics.family import (
    ATTEMPTS,
    BOUNDS_NS,
    COUNTED,
    COUNTER,
    FAMILIES,
    LATENESS,
    REQUESTS,
    SLOTS,
    STANDING,
)
from redis_scheduler.metrics.meter import Meter, observe
from redis_scheduler.metrics.text import text_of, wants_open

HOSTILE = 'a"b\\c\nd'


def meter() -> Meter:
    found = Meter()
    found.add(ATTEMPTS, HOSTILE, number=3)
    found.set(SLOTS, "busy", value=7)
    for took_ns in (0, 500_000, 500_001, 3_000_000_000, 61_000_000_000):
        observe(found.numbers(LATENESS), took_ns)
    return found


@pytest.mark.parametrize("is_open", [False, True])
def test_both_formats_are_read_by_a_strict_parser_with_what_was_counted(is_open: bool) -> None:
    text = text_of(FAMILIES, meter().read(), is_open).decode()
    parse = open_parser.text_string_to_metric_families if is_open else text_string_to_metric_families
    samples = {(one.name, *sorted(one.labels.items())): one.value for each in parse(text) for one in each.samples}
    assert samples[ATTEMPTS.name, ("outcome", HOSTILE)] == 3
    assert samples[SLOTS.name, ("state", "busy")] == 7
    late = LATENESS.name
    assert [
        samples[f"{late}_bucket", ("le", bound)] for bound in ("0.0005", "0.001", "2.0", "5.0", "60.0", "+Inf")
    ] == [*(2, 3, 3, 4, 4, 5)]
    assert samples[f"{late}_count",] == 5
    assert samples[f"{late}_sum",] == pytest.approx(64.001000001)


def test_openmetrics_names_counters_without_their_total_and_ends() -> None:
    lines = text_of(FAMILIES, meter().read(), True).decode().splitlines()
    assert "# TYPE redis_scheduler_attempts counter" in lines
    assert lines[-1] == "# EOF"
    assert "# TYPE redis_scheduler_attempts_total counter" in text_of(FAMILIES, meter().read(), False).decode()


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        ("", False),
        ("*/*", False),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text;q=0.2, text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("Application/OpenMetrics-Text; q = 1", True),
        ("application/openmetrics-text;q=x", False),
    ],
)
def test_who_asks_for_openmetrics_gets_it(accept: str, is_open: bool) -> None:
    assert wants_open(accept) is is_open


def test_each_metric_has_a_name_of_its_own_and_its_unit() -> None:
    names = [one.name for one in FAMILIES]
    assert len(set(names)) == len(names)
    assert set(FAMILIES) >= {*COUNTED, *STANDING}
    for one in FAMILIES:
        assert one.name.endswith("_total") == (one.kind == COUNTER), one.name
        assert one.help.endswith(".")
    assert REQUESTS.labels == ("route", "method", "code")
    assert list(BOUNDS_NS) == sorted(BOUNDS_NS)
