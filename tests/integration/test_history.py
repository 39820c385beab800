"""The history of a process: what its attempts came to, counted by the minute, written once whatever Redis answers."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
import redis.asyncio

from redis_scheduler.engine.history import Historian
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.history import History
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.acknowledgement import concluded
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.record import SEAL
from redis_scheduler.task.retry import Decision, Transition
from redis_scheduler.task.timing import DEFAULT
from tests.integration.conftest import CONCURRENCY, TIMING, schedule, working
from tests.support.names import KEYS
from tests.support.raw_receiver import claim_of
from tests.support.receiver import Receiver
from tests.support.store import Store
from tests.support.waiting import wait_until

TIMING_HERE = replace(DEFAULT, history_interval_s=0.05)


class Clock:
    """Redis' time, as a test sets it."""

    ms = 600_030_000

    @property
    def ahead_ms(self) -> float:
        return self.ms + 0.5 - time.monotonic() * 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(client: RedisClient) -> History:
    return History(client, "worker-a")


@pytest.fixture
def historian(history: History, clock: Clock) -> Historian:
    return Historian(history, {0: clock}, Outage(), TIMING_HERE)


def late(clock: Clock, by_ms: int, attempts: int = 0) -> Claim:
    """A claim that is over its time by so much once its attempt has ended."""
    claim = claim_of("http://127.0.0.1:9/")
    claim.record = msgspec.structs.replace(claim.record, due=clock.ms - by_ms)
    claim.attempts = attempts
    return claim


def ended(error: str | None, status: int | None, elapsed_ms: int, fault: str = "") -> Outcome:
    """What an attempt came to that has ended now."""
    return Outcome(error, status, elapsed_ms, fault=fault, began_s=time.monotonic() - elapsed_ms / 1000)


def failed(kind: Transition) -> Decision:
    return Decision(kind, 0, "no", b"{}")


async def test_each_attempt_is_counted_by_what_it_came_to(historian: Historian, history: History, clock: Clock) -> None:
    historian.delivered(late(clock, 12), ended(None, 200, 3))
    historian.delivered(late(clock, 2_500), ended(None, 200, 0))
    historian.delivered(late(clock, 5_000), ended(None, 200, 1_500))
    historian.delivered(late(clock, 9, attempts=2), ended(None, 200, 9))
    historian.unsettled(late(clock, 1_000), failed(Transition.RETRY), ended("no", 503, 400), 1)
    historian.unsettled(late(clock, 1, 1), failed(Transition.BURY), ended("no", None, 1, fault="tls"), 0)
    historian.unsettled(late(clock, 1), failed(Transition.EXPIRE), None, 0)
    historian.unsettled(late(clock, 1), failed(Transition.BURY), None, 0)
    historian.taken_on(late(clock, 40), ended(None, 202, 30))
    historian.swept({"worker-b": 2, "worker-c": 1})
    historian.swept({})
    for unknown in (SEAL, "member", None):
        left = claim_of("http://127.0.0.1:9/")
        left.record = msgspec.structs.replace(left.record, unknown=unknown)
        historian.left_to_newer(left, failed(Transition.DEFER))
    await historian.write()
    took = {"took:5": 1, "took:1": 2, "took:2000": 1, "took:10": 1, "took:500": 1, "took:50": 1}
    lateness = {"late:10": 2, "late:5000": 2, "late:1000": 1}
    ends = {"delivered": 4, "died": 2, "expired": 1, "failed:5xx": 1, "failed:tls": 1, "came_back": 3}
    left_to_others = {"left:key": 1, "left:newer": 1, "left:zone": 1}
    assert (await history.minutes([10_000]))[0] == took | lateness | ends | left_to_others


@pytest.mark.parametrize("sign", ["+", "-", ""])
async def test_an_acknowledgement_is_no_attempt(
    sign: str, historian: Historian, history: History, clock: Clock
) -> None:
    claim = late(clock, 100_000)
    claim.mark = f"@1-1{sign}"
    outcome = concluded(claim, 0)
    assert outcome is not None
    if outcome.error is None:
        historian.delivered(claim, outcome)
    else:
        historian.unsettled(claim, failed(Transition.RETRY), outcome, 1)
    await historian.write()
    assert (await history.minutes([10_000]))[0] == ({"delivered": 1} if sign == "+" else {"failed:acknowledgement": 1})


class LosesAnswers(History):
    """Adds as ever, and does not hear of it, so often."""

    lost = 0

    async def add(self, batch: int, minute: int, numbers: Mapping[str, int]) -> None:
        await super().add(batch, minute, numbers)
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable


async def test_what_was_written_without_an_answer_is_not_counted_again(client: RedisClient, clock: Clock) -> None:
    history = LosesAnswers(client, "worker-a")
    history.lost = 2
    historian = Historian(history, {0: clock}, Outage(), TIMING_HERE)
    historian.delivered(late(clock, 3), Outcome(None, 200, 1))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await historian.write()
        historian.delivered(late(clock, 3), Outcome(None, 200, 1))
    await historian.write()
    assert (await history.minutes([10_000]))[0]["delivered"] == 3


async def test_minutes_that_redis_did_not_take_are_bounded_and_written_once_it_is_back(
    client: RedisClient, clock: Clock
) -> None:
    history = LosesAnswers(client, "worker-a")
    historian = Historian(history, {0: clock}, Outage(), replace(TIMING_HERE, history_minutes_most=3))
    for minute in range(6):
        clock.ms = (10_000 + minute) * 60_000 + 30_000
        historian.delivered(late(clock, 3), Outcome(None, 200, 1))
        history.lost = 1  # each time the same call
        with pytest.raises(StoreUnavailable):
            await historian.write()
    await historian.write()
    found = [((await history.minutes([10_000 + minute]))[0]).get("delivered", 0) for minute in range(6)]
    assert found == [1, 0, 0, 3, 1, 1], "the first was sent already; of the others three are kept"


async def test_nothing_is_written_where_nothing_happened(historian: Historian, raw: redis.asyncio.Redis) -> None:
    async with historian.running():
        await asyncio.sleep(0.2)
    assert await raw.keys(f"{KEYS.tag}:history:*") == []
    assert await raw.keys(f"{KEYS.tag}:writer:*:tally") == []


async def all_of(history: History, raw: redis.asyncio.Redis) -> Counter[str]:
    """The numbers of all minutes together."""
    found = Counter[str]()
    name: bytes
    for name in await raw.execute_command("KEYS", f"{KEYS.tag}:history:minute:*"):
        found.update((await history.minutes([int(name.rpartition(b":")[2])]))[0])
    return found


async def test_a_worker_writes_its_history_as_it_goes_and_at_its_end(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver, history: History
) -> None:
    historian = Historian(history, {0: store}, Outage(), TIMING_HERE)
    stop = asyncio.Event()
    async with (
        working(client, store, CONCURRENCY, TIMING, observer=historian) as engine,
        historian.running(),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
        await schedule(store, receiver.url, 5)

        async def is_written() -> bool:
            return (await all_of(history, raw))["delivered"] == 5

        await wait_until(is_written, "what was delivered is told")
        receiver.status = 503
        await schedule(store, receiver.url, 2)
        await wait_until(lambda: len(receiver.arrivals) == 7, "the others came")
        stop.set()
    found = await all_of(history, raw)
    assert found["failed:5xx"] == 2
    assert sum(count for name, count in found.items() if name.startswith("late:")) == 7
    assert sum(count for name, count in found.items() if name.startswith("took:")) == 7
    minute = int((await raw.time())[0]) // 60
    assert (await history.hours([minute // 60]))[0] == found or (await history.hours([minute // 60 - 1]))[0]


async def test_that_workers_were_lost_is_written_at_once(history: History, clock: Clock) -> None:
    """What they had may end this worker, too."""
    historian = Historian(history, {0: clock}, Outage(), replace(DEFAULT, history_interval_s=600))

    async def is_written() -> bool:
        return (await history.minutes([10_000]))[0] == {"came_back": 2}

    async with historian.running():
        historian.swept({"worker-b": 2})
        await wait_until(is_written, "it is written")
