"""What an observer is told of the engine's work: each fate of a task once, and each part of a stop."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from unittest.mock import patch

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.delivery.pool import REST_S
from redis_scheduler.engine.observer import DetailedLog, Log, Observer, Observers
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.options import Options
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.retry import Decision, Transition
from redis_scheduler.task.timing import DEFAULT
from tests.integration.conftest import CONCURRENCY, TIMING, schedule, working
from tests.support.names import KEYS
from tests.support.raw_receiver import OK, answering
from tests.support.receiver import Receiver
from tests.support.store import Store, letters
from tests.support.waiting import wait_until


class Recorder(Observer):
    """Notes what it is told, by the key of the task."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def began(self, claim: Claim) -> None:
        self.told.append(("began", claim.key, claim.attempts))

    def resent(self, claim: Claim, error: str) -> None:
        self.told.append(("resent", claim.key, claim.attempts))

    def records_missing(self, task_keys: Sequence[str]) -> None:
        self.told.append(("records missing", *task_keys))

    def delivered(self, claim: Claim, outcome: Outcome) -> None:
        self.told.append(("delivered", claim.key, outcome.status))

    def taken_on(self, claim: Claim, outcome: Outcome) -> None:
        self.told.append(("taken on", claim.key, outcome.status))

    def asked_in_vain(self, claim: Claim, asked: str) -> None:
        self.told.append(("asked in vain", claim.key, asked))

    def given_back(self, claim: Claim, outcome: Outcome) -> None:
        self.told.append(("given back", claim.key, outcome.error))

    def unsettled(self, claim: Claim, decision: Decision, outcome: Outcome | None, attempts_left: int | None) -> None:
        status = None if outcome is None else outcome.status
        self.told.append(("unsettled", claim.key, decision.transition, status, attempts_left))

    def left_to_newer(self, claim: Claim, decision: Decision) -> None:
        self.told.append(("left to newer", claim.key, decision.transition))

    def receiver_slow(self, host: str, in_flight: int) -> None:
        self.told.append(("receiver slow", host, in_flight))

    def receiver_recovered(self, host: str, in_flight: int) -> None:
        self.told.append(("receiver recovered", host, in_flight))

    def clock_set(self, by_ms: float) -> None:
        self.told.append(("clock set", by_ms))

    def swept(self, lost: Mapping[str, int]) -> None:
        self.told.append(("swept", dict(lost)))

    def draining(self, in_flight: int, grace_s: float) -> None:
        self.told.append(("draining", in_flight, grace_s))

    def released(self, deliveries: int) -> None:
        self.told.append(("released", deliveries))

    def stopped_without_redis(self, in_flight: int, error: str) -> None:
        self.told.append(("stopped without Redis", in_flight))

    def of(self, key: str) -> list[tuple[object, ...]]:
        return [(event, *rest) for event, told_key, *rest in self.told if told_key == key]


async def test_each_fate_of_a_task_is_told_once(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    delivered, failing, dying, newer, unreadable, unbegun = await schedule(store, receiver.url, 6)
    record: bytes = await store.client.command("HGET", KEYS.tasks, newer)
    await raw.hset(KEYS.tasks, newer, record.replace(b',"data":', b',"later":{},"data":'))
    await raw.hset(KEYS.tasks, unreadable, "{")
    await raw.hset(KEYS.failures, dying, '2 {"error":"answered 500","elapsed_ms":1}')
    recorder, stop = Recorder(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers["Schedule-Key"] == delivered else 503)

    receiver.behaviour = answer
    async with working(client, store, CONCURRENCY, TIMING, observer=recorder) as engine:
        attempt = engine.worker._deliverer.attempt

        async def attempt_but_one(claim: Claim) -> Outcome:
            if claim.key == unbegun and not recorder.of(unbegun)[1:]:
                return Outcome("no sockets", None, 0, is_local=True)
            return await attempt(claim)

        with patch.object(engine.worker._deliverer, "attempt", attempt_but_one):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
                keys = delivered, failing, dying, newer, unreadable, unbegun
                await wait_until(
                    lambda: all(recorder.of(key) and recorder.of(key)[-1][0] != "began" for key in keys),
                    "each has come to its end",
                )
                stop.set()
    assert recorder.of(delivered) == [("began", 0), ("delivered", 200)]
    assert recorder.of(failing) == [("began", 0), ("unsettled", Transition.RETRY, 503, 2)]
    assert recorder.of(dying) == [("began", 2), ("unsettled", Transition.BURY, 503, 0)]
    assert recorder.of(newer) == [("left to newer", Transition.DEFER)]
    assert recorder.of(unreadable) == [("unsettled", Transition.BURY, None, 2)]
    assert recorder.of(unbegun) == [("began", 0), ("given back", "no sockets")]
    # The audit would find them.
    assert letters(await store.cancel([(unreadable, None), (newer, None)])) == "CC"


async def test_a_stop_tells_what_it_waits_for_and_what_it_gives_back(
    client: RedisClient, store: Store, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    await schedule(store, receiver.url, 2)
    recorder, stop = Recorder(), asyncio.Event()
    async with (
        working(client, store, CONCURRENCY, TIMING, observer=recorder) as engine,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(engine.deliver(stop, asyncio.Event(), 0.1))
        await wait_until(lambda: receiver.in_flight == 2, "both are under way")
        await engine.reclaimer.run_once()
        stop.set()
    assert [told for told in recorder.told if told[0] != "began"] == [
        ("swept", {}),
        ("draining", 2, 0.1),
        ("released", 2),
    ]


async def test_a_stop_that_cannot_write_tells_how_many_deliveries_come_again(
    client: RedisClient, store: Store, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    await schedule(store, receiver.url, 2)
    recorder, stop = Recorder(), asyncio.Event()
    async with working(client, store, CONCURRENCY, TIMING, observer=recorder) as engine:
        with patch.object(store, "release", side_effect=StoreUnavailable):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(engine.deliver(stop, asyncio.Event(), 0.1))
                await wait_until(lambda: receiver.in_flight == 2, "both are under way")
                stop.set()
    assert recorder.told[-1] == ("stopped without Redis", 2)


async def test_a_job_that_its_receiver_takes_on_is_told(client: RedisClient, store: Store, receiver: Receiver) -> None:
    receiver.status = 202
    task = NewTask(new_task_key(), 0, record_tail(receiver.url, 0, None, b"1", Options(ack=True)), None)
    await store.schedule([task])
    recorder, stop = Recorder(), asyncio.Event()
    async with (
        working(client, store, CONCURRENCY, TIMING, observer=recorder) as engine,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
        await wait_until(lambda: len(recorder.told) > 1, "the attempt has ended")
        stop.set()
    assert recorder.of(task.key) == [("began", 0), ("taken on", 202)]


async def test_what_a_receiver_asks_for_in_vain_is_told_and_logged(
    client: RedisClient, store: Store, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(headers={"Schedule-Again-In": "soon"})

    receiver.behaviour = answer
    records = [record_tail(receiver.url, 0, None, b"1", Options(again_most=most, retries=3)) for most in (2, 0)]
    allowed, other = tasks = [NewTask(new_task_key(), 0, tail, None) for tail in records]
    await store.schedule(tasks)
    recorder, stop = Recorder(), asyncio.Event()
    observers = Observers(recorder, Log("secret"))
    async with (
        working(client, store, CONCURRENCY, TIMING, observer=observers) as engine,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(engine.deliver(stop, asyncio.Event(), 10))
        await wait_until(lambda: len(recorder.told) > 4, "both have ended")
        stop.set()
    assert ("asked in vain", "soon") in recorder.of(allowed.key)
    assert recorder.of(other.key) == [("began", 0), ("delivered", 200)]
    [line] = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "asked-in-vain"]
    assert (line["key"], line["asked"]) == (allowed.key, "soon")


async def test_several_observers_are_told_of_what_goes_wrong_below_the_engine(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    async def dies_on_the_second(writer: asyncio.StreamWriter, number: int) -> None:
        if number:
            writer.close()
        else:
            writer.write(OK)

    first, second, stop = Recorder(), Recorder(), asyncio.Event()
    observer = Observers(first, DetailedLog(""), second)
    async with answering(dies_on_the_second) as receiver:
        [gone] = await schedule(store, receiver.url)
        await raw.hdel(KEYS.tasks, gone)
        async with (
            working(client, store, CONCURRENCY, TIMING, observer=observer) as engine,
            asyncio.TaskGroup() as tasks,
        ):
            engine.worker._deliverer._retries = 1
            tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
            [before] = await schedule(store, receiver.url)
            await wait_until(lambda: len(first.of(before)) == 2, "the connection is kept")
            await asyncio.sleep(2 * REST_S)
            [key] = await schedule(store, receiver.url)
            await wait_until(lambda: len(first.of(key)) == 3, "it is delivered on another connection")
            stop.set()
    assert first.told.count(("records missing", gone)) == 1
    assert first.of(key) == [("began", 0), ("resent", 0), ("delivered", 200)]
    assert second.told == first.told


async def test_a_slow_receiver_and_its_recovery_are_told(client: RedisClient, store: Store, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    keys = await schedule(store, receiver.url, 4 * CONCURRENCY)
    recorder, stop = Recorder(), asyncio.Event()

    def told(event: str) -> list[tuple[object, ...]]:
        return [each for each in recorder.told if each[0] == event]

    async with (
        working(client, store, CONCURRENCY, replace(DEFAULT, period_s=0.2), observer=recorder) as engine,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(engine.run(stop, asyncio.Event(), 10))
        await wait_until(lambda: bool(told("receiver slow")), "its line goes back")
        in_flight = receiver.in_flight
        receiver.may_answer.set()
        await wait_until(lambda: len(told("delivered")) == len(keys), "all are delivered")
        await wait_until(lambda: bool(told("receiver recovered")), "it is known to be well")
        stop.set()
    host = receiver.url.removeprefix("http://").removesuffix("/")
    assert told("receiver slow")[0] == ("receiver slow", host, in_flight)
    assert told("receiver recovered")[0][:2] == ("receiver recovered", host)


async def test_a_clock_of_redis_that_was_set_forward_is_told(client: RedisClient, store: Store) -> None:
    recorder = Recorder()
    async with working(client, store, CONCURRENCY, TIMING, observer=recorder) as engine:
        await engine.reclaimer.run_once()
        assert store._clock_offset_ms is not None
        at_least, at_most = store._clock_offset_ms
        # As if the clock had been so much behind at the step before.
        store._clock_offset_ms = at_least - 5_000, at_most - 5_000
        await engine.reclaimer.run_once()
    [(_, by_ms)] = [told for told in recorder.told if told[0] == "clock set"]
    assert 4_000 < float(str(by_ms)) <= 5_000
