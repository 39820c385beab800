"""Connections that are kept: which are used again, and what happens to a request that meets its receiver's close."""

import asyncio
import logging
import random
import time
from dataclasses import dataclass

import pytest

from redis_scheduler.delivery import attempt as delivery
from redis_scheduler.delivery import connection, pool
from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.observer import Log
from tests.support.raw_receiver import OK, Behaviour, answering, claim_of, says
from tests.support.waiting import wait_until

CLOSED = "the connection was closed before the answer"
PROVEN_S = 2 * pool.REST_S
"""Idleness after which a receiver is known to keep connections."""


@dataclass
class Clock:
    """In the place of the module `time` for all that is known of connections: it goes on as a test says, and not while
    the machine does something else."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (pool, connection):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def sends_again_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close is behind a request by no more than packets take, however late this process sees it."""
    monkeypatch.setattr(delivery, "RESEND_WITHIN_S", 60.0)


def closes_behind(pause_s: float, took_s: list[float]) -> Behaviour:
    """Answer, and close a moment later without having said so, whatever has come by then; keep how long that took."""

    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        answered_at = time.monotonic()
        writer.write(OK)
        await asyncio.sleep(pause_s)
        writer.close()
        took_s.append(time.monotonic() - answered_at)

    return behave


@pytest.mark.parametrize("pause_s", [0, 0.001, 0.002, 0.02])
async def test_a_receiver_that_closes_behind_its_answers_costs_no_attempt(pause_s: float) -> None:
    random.seed(9)
    took_s: list[float] = []
    late = 0
    async with answering(closes_behind(pause_s, took_s)) as receiver, Deliverer("token", 5) as deliverer:
        for _ in range(200):
            outcome = await deliverer.attempt(claim_of(receiver.url))
            if outcome.error is not None:
                # On a busy machine it may close so late that it was one which keeps its connections.
                assert took_s[-1] >= pool.REST_S, outcome.error
                late += 1
            await asyncio.sleep(random.random() * 2 * min(pause_s, 0.003))
        assert 200 - late <= len(receiver.heads) <= 200


def dies_on_the_second(last_words: bytes = b"", after_s: float = 0) -> Behaviour:
    """Answer the first request of each connection, and close it on the second."""

    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        if number:
            await asyncio.sleep(after_s)
            writer.write(last_words)
            writer.close()
        else:
            writer.write(OK)

    return behave


async def kept(deliverer: Deliverer, url: str, clock: Clock) -> None:
    """Make a connection that is used again."""
    assert (await deliverer.attempt(claim_of(url))).error is None
    clock.now_s += PROVEN_S


@pytest.mark.usefixtures("sends_again_late")
async def test_a_request_that_met_the_close_of_a_kept_connection_is_sent_once_more(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with answering(dies_on_the_second()) as receiver, Deliverer("token", 5, retries=1) as deliverer:
        deliverer.on_resent = Log("").resent
        await kept(deliverer, receiver.url, clock)
        for number in (1, 2):
            outcome = await deliverer.attempt(claim_of(f"{receiver.url}{number}?secret"))
            assert (outcome.error, outcome.status) == (None, 200)
            assert receiver.lines[-2:] == [f"POST /{number}?secret HTTP/1.1"] * 2
            assert receiver.connection_of[-1] == receiver.connection_of[-2] + 1
            assert receiver.heads[-1] == receiver.heads[-2]
            # Since a close came so soon behind an answer, it stands idle for longer before it is used again.
            clock.now_s += 6 * PROVEN_S
    fields = [record.__dict__["fields"] for record in caplog.records if record.message == "resent"]
    assert [found["resent"] for found in fields] == [1, 2]
    assert fields[0]["webhook"].endswith("/1")
    assert fields[0]["error"] == CLOSED


@pytest.mark.parametrize(
    ("behave", "resends"),
    [
        pytest.param(dies_on_the_second(), False, id="with no retries"),
        pytest.param(dies_on_the_second(b"H"), True, id="after a byte of an answer"),
        pytest.param(
            dies_on_the_second(after_s=1.5 * delivery.RESEND_WITHIN_S), True, id="after more than the crossing"
        ),
    ],
)
async def test_it_is_not_sent_again(behave: Behaviour, resends: bool, clock: Clock) -> None:
    async with answering(behave) as receiver, Deliverer("token", 5, retries=int(resends)) as deliverer:
        await kept(deliverer, receiver.url, clock)
        assert (await deliverer.attempt(claim_of(receiver.url))).error == CLOSED
        assert len(receiver.heads) == 2


async def test_a_new_connection_that_is_closed_is_a_failed_attempt() -> None:
    async def dies(writer: asyncio.StreamWriter, number: int) -> None:
        writer.close()

    async with answering(dies) as receiver, Deliverer("token", 5, retries=1) as deliverer:
        assert (await deliverer.attempt(claim_of(receiver.url))).error == CLOSED
        assert len(receiver.heads) == 1


@pytest.mark.usefixtures("sends_again_late")
async def test_one_that_dies_of_the_body_is_hit_twice_at_most(clock: Clock) -> None:
    """Once on the kept connection, once on the new one; then it is a failed attempt like any other."""

    async def dies_of_it(writer: asyncio.StreamWriter, number: int) -> None:
        if len(receiver.heads) > 1:
            writer.close()
        else:
            writer.write(OK)

    async with answering(dies_of_it) as receiver, Deliverer("token", 5, retries=1) as deliverer:
        await kept(deliverer, receiver.url, clock)
        assert (await deliverer.attempt(claim_of(receiver.url))).error == CLOSED
        assert len(receiver.heads) == 3


async def test_a_receiver_that_was_seen_to_close_is_given_no_request_until_it_is_seen_to_keep(clock: Clock) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        writers.append(writer)
        writer.write(OK)

    async with answering(behave) as receiver, Deliverer("token", 5) as deliverer:
        await kept(deliverer, receiver.url, clock)
        await kept(deliverer, receiver.url, clock)
        assert receiver.connections == 1
        await deliverer.attempt(claim_of(receiver.url))
        writers[-1].close()
        await wait_until(lambda: not deliverer._pool._idle, "the close is seen")
        for _ in range(3):
            assert (await deliverer.attempt(claim_of(receiver.url))).error is None
        assert receiver.connections == 4
        clock.now_s += PROVEN_S
        for _ in range(3):
            await deliverer.attempt(claim_of(receiver.url))
        assert receiver.connections == 4


async def test_a_busy_connection_has_a_greatest_age(clock: Clock) -> None:
    async with answering(says(OK)) as receiver, Deliverer("token", 5) as deliverer:
        while clock.now_s < 2.5 * pool.AGE_MOST_S:
            await kept(deliverer, receiver.url, clock)
            clock.now_s += 1
        assert receiver.connections == 3


async def test_connections_are_kept_for_half_the_time_after_which_a_receiver_closes(clock: Clock) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        writers.append(writer)
        writer.write(OK)

    async with answering(behave) as receiver, Deliverer("token", 5) as deliverer:
        for pause_s in (pool.REST_S, 2 * pool.BEHIND_S):
            await deliverer.attempt(claim_of(receiver.url))
            clock.now_s += pause_s
        writers[-1].close()
        await wait_until(lambda: not deliverer._pool._idle, "the close is noticed")
        for idle_s in (0.99, 0.99, 1.01, 0):
            await deliverer.attempt(claim_of(receiver.url))
            clock.now_s += idle_s * pool.BEHIND_S
        assert receiver.connection_of == [1, 1, 2, 2, 2, 3]


async def test_idle_connections_are_closed_and_nothing_is_kept_of_them(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LOOK_S", 0.1)
    async with answering(says(OK)) as receiver, Deliverer("token", 5) as deliverer:
        await asyncio.gather(*(deliverer.attempt(claim_of(receiver.url)) for _ in range(20)))
        assert len(deliverer._pool._idle) == 20
        clock.now_s += pool.KEEPALIVE_S
        await wait_until(lambda: not deliverer._pool._idle, "they are closed")
        assert all(not host.idle for host in deliverer._pool._hosts.values())


async def test_what_is_known_and_what_is_idle_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "HOSTS_MOST", 10)
    monkeypatch.setattr(pool, "IDLE_MOST", 5)
    async with answering(says(OK), "0.0.0.0") as receiver, Deliverer("token", 5) as deliverer:
        for number in range(50):
            url = f"http://127.0.0.{number + 1}:{receiver.port}/"
            assert (await deliverer.attempt(claim_of(url))).error is None
            assert len(deliverer._pool._idle) <= 5
            assert len(deliverer._pool._hosts) <= 10
