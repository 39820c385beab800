"""How long the parts of an attempt took, where it failed: against real receivers that take their time."""

import asyncio
import gc
import time
from functools import partial

import pytest

from redis_scheduler.delivery import attempt
from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.connector import Opening
from redis_scheduler.delivery.pool import REST_S
from redis_scheduler.resolver import Resolver
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.outcome import NO_PHASES, Outcome
from tests.support.name_server import naming
from tests.support.raw_receiver import OK, answering, claim_of, says
from tests.support.waiting import wait_until

PAUSE_S = 0.1
LEAST_MS = 90
"""What a pause lasts at least, though clocks and rounding may take some."""


async def failing_late(writer: asyncio.StreamWriter, number: int) -> None:
    """Answer after a pause, and end the answer after another."""
    await asyncio.sleep(PAUSE_S)
    writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n1")
    await asyncio.sleep(PAUSE_S)
    writer.write(b"2")


async def test_the_first_byte_and_the_whole_are_apart() -> None:
    async with answering(failing_late) as receiver, Deliverer("token", 5) as deliverer:
        outcome = await deliverer.attempt(claim_of(receiver.url))
    assert outcome.phases.lookup_ms == 0
    assert outcome.phases.connect_ms < LEAST_MS
    assert outcome.phases.first_byte_ms >= LEAST_MS
    assert outcome.elapsed_ms >= outcome.phases.first_byte_ms + LEAST_MS


async def test_a_kept_connection_has_no_phase_before_the_first_byte() -> None:
    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        await (failing_late if number else says(OK))(writer, number)

    async with answering(behave) as receiver, Deliverer("token", 5) as deliverer:
        assert (await deliverer.attempt(claim_of(receiver.url))).phases is NO_PHASES
        await asyncio.sleep(2 * REST_S)
        outcome = await deliverer.attempt(claim_of(receiver.url))
        assert receiver.connections == 1
    assert (outcome.phases.lookup_ms, outcome.phases.connect_ms) == (0, 0)
    assert outcome.phases.first_byte_ms >= LEAST_MS


async def test_a_kept_connection_that_hangs_is_left_in_time_and_not_asked_again() -> None:
    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        if number != 1:
            await says(OK)(writer, number)

    async with answering(behave) as receiver, Deliverer("token", 5, retries=1) as deliverer:
        assert (await deliverer.attempt(claim_of(receiver.url))).error is None
        await asyncio.sleep(2 * REST_S)
        deliverer._timeout_s = 0.05  # within which a connection that breaks would be asked again
        gc.collect()
        gc.disable()
        try:
            outcome = await deliverer.attempt(claim_of(receiver.url))
            assert (outcome.error, outcome.fault) == ("no answer within 0.05 s", "timeout")
            assert outcome.elapsed_ms >= 45
            assert (receiver.connections, len(receiver.heads)) == (1, 2)
            assert [found for found in gc.get_objects() if isinstance(found, Claim)] == []
        finally:
            gc.enable()
        deliverer._timeout_s = 5
        assert (await deliverer.attempt(claim_of(receiver.url))).error is None
        assert (receiver.connections, len(receiver.heads)) == (2, 3)


async def test_a_receiver_that_says_nothing_was_waited_for_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    openings = list[Opening]()

    def noted_opening() -> Opening:
        openings.append(Opening())
        return openings[-1]

    monkeypatch.setattr(attempt, "Opening", noted_opening)
    async with answering(says()) as receiver, Deliverer("token", PAUSE_S) as deliverer:

        async def has_connected() -> tuple[Outcome, float] | None:
            """The outcome, and how long the attempt was prepared; None where a busy machine took so long to connect
            that no time was left to wait."""
            asked_at = time.monotonic()
            outcome = await deliverer.attempt(claim_of(receiver.url))
            prepared_ms = (openings[-1].began_at - asked_at) * 1000
            return (outcome, prepared_ms) if openings[-1].connected_at else None

        found = await wait_until(has_connected, "it has connected in time")
    assert found is not None
    outcome, prepared_ms = found
    assert outcome.error == f"no answer within {PAUSE_S:g} s"
    # Connecting counts towards the time-out, too, and each part is rounded by itself.
    assert outcome.phases.first_byte_ms > 0
    assert -2 <= outcome.elapsed_ms - sum(outcome.phases) <= prepared_ms + 2
    assert outcome.elapsed_ms >= LEAST_MS


def lasted(outcome: Outcome) -> list[bool]:
    return [ms >= LEAST_MS for ms in outcome.phases]


async def test_a_connection_that_is_never_there_was_opened_to_the_end() -> None:
    async with answering(says()) as receiver, Deliverer("token", PAUSE_S) as deliverer:
        outcome = await deliverer.attempt(claim_of(receiver.url.replace("http:", "https:")))
    assert lasted(outcome) == [False, True, False]


async def test_a_name_that_hangs_was_looked_up_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with naming(lambda name, kind: None) as server:
        monkeypatch.setattr(attempt, "Resolver", partial(Resolver, servers=[f"127.0.0.1:{server.port}"]))
        async with Deliverer("token", PAUSE_S) as deliverer:
            outcome = await deliverer.attempt(claim_of("http://silent.example:9/"))
    # The receiver is not to blame.
    assert (outcome.error, outcome.fault) == (f"the name was not looked up within {PAUSE_S:g} s", "lookup")
    assert lasted(outcome) == [True, False, False]


async def test_so_much_is_kept_of_an_answer_as_is_asked_for() -> None:
    body = b"x" * 20_000
    answer = b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for asked, kept in ((0, 1_024), (3_000, 3_000), (16_384, 16_384)):
        async with answering(says(answer)) as receiver, Deliverer("token", 5, answer_bytes=asked) as deliverer:
            assert (await deliverer.attempt(claim_of(receiver.url))).answer == body[:kept]
