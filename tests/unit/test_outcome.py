"""What an attempt tells of its receiver."""

import pytest

from redis_scheduler.task.outcome import Outcome


@pytest.mark.parametrize(
    ("outcome", "is_well"),
    [
        (Outcome(None, 200, 1), True),
        *((Outcome(f"HTTP {status}", status, 1), False) for status in (500, 503, 599, 408, 429)),
        # It refuses this request; it is there.
        *((Outcome(f"HTTP {status}", status, 1), None) for status in (301, 400, 404, 410, 422)),
        *((Outcome("x", None, 1, fault=fault), False) for fault in ("lookup", "connect", "tls", "timeout", "answer")),
        # Nothing was sent.
        *((Outcome("x", None, 1, fault=fault), None) for fault in ("request", "egress")),
        (Outcome("x", None, 1, is_local=True), None),
        (Outcome("x", None, 1, fault="connect", is_final=True), None),
    ],
)
def test_a_failure_tells_of_its_receiver_only_where_one_was_asked_and_not_where_it_refuses(
    outcome: Outcome, is_well: bool | None
) -> None:
    assert outcome.is_well is is_well
