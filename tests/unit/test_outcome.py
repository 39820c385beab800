"""What an attempt tells of its receiver."""

import asyncio

import msgspec
import pytest

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.pool import REST_S
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.options import Options
from redis_scheduler.task.outcome import Outcome
from tests.support.raw_receiver import OK, answering, claim_of, says


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
        # It had less time than the service gives it.
        (Outcome("x", None, 1, fault="timeout", is_impatient=True), None),
        (Outcome("x", None, 1, fault="connect", is_final=True), None),
    ],
)
def test_a_failure_tells_of_its_receiver_only_where_one_was_asked_and_not_where_it_refuses(
    outcome: Outcome, is_well: bool | None
) -> None:
    assert outcome.is_well is is_well


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize(("own_s", "is_well"), [(0.05, None), (0.2, False)])
async def test_a_time_out_tells_of_its_receiver_unless_the_task_allows_less_time_than_the_service(
    own_s: float, is_well: bool | None, is_kept: bool
) -> None:
    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        if is_kept and not number:
            await says(OK)(writer, number)

    async with answering(behave) as receiver, Deliverer("token", 0.2) as deliverer:
        claim = claim_of(receiver.url)
        if is_kept:
            assert (await deliverer.attempt(claim)).is_well
            await asyncio.sleep(2 * REST_S)
        record = msgspec.structs.replace(claim.record, options=Options(timeout=own_s))
        outcome = await deliverer.attempt(Claim("1-1", "key", record, 0))
        assert (outcome.fault, outcome.is_well) == ("timeout", is_well)
        assert receiver.connections == 1
