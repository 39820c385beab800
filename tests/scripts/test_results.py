"""Summaries of finished tasks: kept for their time within their bytes, in segments that expire."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import SEGMENTS
from redis_scheduler.store.views import Views
from redis_scheduler.task.kept import DEFAULT, Kept
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.repeat import Progress
from redis_scheduler.task.series import Firing
from redis_scheduler.task.summary import Summary, ended_tail, read_summary, summary_tail
from tests.scripts import states
from tests.scripts.contents import counters
from tests.scripts.states import MAKERS, ask, claimed, new_task
from tests.support.names import KEYS
from tests.support.store import Store

BYTES = 150 + 22
"""What a summary counts for beside its value."""


async def finished(store: Store, count: int = 1) -> list[str]:
    """Deliver so many tasks in one call; their keys."""
    tasks = [new_task(0) for _ in range(count)]
    await store.schedule(tasks)
    claims = await claimed(store, count)
    for claim in claims:
        claim.result = summary_tail("delivered", claim.record, 1, 12, 204)
    assert await store.settle(claims) == [True] * count
    return [task.key for task in tasks]


def keeping(client: RedisClient, **fields: int) -> Store:
    return Store(client, f"worker-{new_task_key()}", kept=replace(DEFAULT, **fields))


async def test_what_was_delivered_is_told_while_it_is_kept(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    [key] = await finished(keeping(client))
    summary = await Views(client).summary(key)
    assert summary is not None
    assert (summary.state, summary.attempts, summary.status, summary.elapsed_ms) == ("delivered", 1, 204, 12)
    assert summary.due <= summary.ended <= summary.due + 60_000
    [segment] = [name for name in KEYS.segments if await ask(raw, "EXISTS", name)]
    assert 3_600_000 < await ask(raw, "PTTL", segment) <= 3_600_000 * 16 // 15
    assert await Views(client).summary("unknown") is None


@pytest.mark.parametrize("state", MAKERS)
async def test_only_what_was_alive_is_told_as_cancelled(state: str, client: RedisClient) -> None:
    store = keeping(client)
    task = await MAKERS[state][0](store)
    await store.cancel([(task.key, None, b"", summary_tail("cancelled", task.claim.record, 2))])
    summary = await Views(client).summary(task.key)
    if state in ("missing", "dead"):
        assert summary is None
    else:
        assert summary is not None
        assert (summary.state, summary.attempts) == ("cancelled", 2)


@pytest.mark.parametrize("type_name", [None, "mail"])
async def test_what_expired_is_told(type_name: str | None, client: RedisClient) -> None:
    store = keeping(client)
    tasks = [await states.in_delivery(store, type_name) for _ in range(3)]
    await store.cancel([(tasks[1].key, type_name)])
    for task in tasks:
        task.claim.result = summary_tail("expired", task.claim.record, 4, 12, 503)
    assert await store.expire(states.failed(*tasks)) == [True, False, True]
    found = [await Views(client).summary(task.key) for task in tasks]
    assert [summary and (summary.state, summary.attempts, summary.status) for summary in found] == [
        ("expired", 4, 503),
        None,
        ("expired", 4, 503),
    ]
    assert found[0] is not None
    assert found[0].late_ms == max(0, found[0].ended - 12 - tasks[0].claim.record.due)


def ending(task: states.Task, unless: str = "", goes_on: bool = False) -> Firing:
    """The last time of a series; or the last but one, if the occurrence before is unfinished and it goes on."""
    firing = states.fired(task, next_ms=None, unless=unless)
    firing.after.result = ended_tail(task.claim.record, Progress(3, 1, "last"), states.MADE_MS)
    if goes_on:
        firing.otherwise.due_ms = states.NEXT_MS
    else:
        firing.otherwise.result = ended_tail(task.claim.record, Progress(2, 2, "last"), states.MADE_MS)
    return firing


async def test_a_series_that_ended_is_told_with_what_it_made(client: RedisClient) -> None:
    store = keeping(client)
    before = await states.in_due(store)
    tasks = [await states.in_delivery(store) for _ in range(4)]
    firings = [
        ending(tasks[0]),
        ending(tasks[1], before.key),
        ending(tasks[2], before.key, goes_on=True),
        states.fired(tasks[3]),
    ]
    await store.fire(firings)
    found = [await Views(client).summary(task.key) for task in tasks]
    assert [summary and (summary.state, summary.progress, summary.due) for summary in found] == [
        ("ended", Progress(3, 1, "last"), states.MADE_MS),
        ("ended", Progress(2, 2, "last"), states.MADE_MS),
        None,
        None,
    ]


async def test_without_a_time_nothing_is_kept(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    store = keeping(client, result_ttl_ms=0)
    [key] = await finished(store)
    task = await states.in_due(store)
    await store.cancel([(task.key, None)])
    late = await states.in_delivery(store)
    late.claim.result = summary_tail("expired", late.claim.record, 1)
    await store.expire(states.failed(late))
    await store.fire([ending(await states.in_delivery(store))])
    assert await Views(client).summary(key) is None
    assert await ask(raw, "EXISTS", KEYS.results, *map(KEYS.segment, range(SEGMENTS))) == 0


async def test_a_fenced_outcome_keeps_nothing(client: RedisClient) -> None:
    store = keeping(client)
    task = await states.in_delivery(store)
    await store.cancel([(task.key, None)])
    task.claim.result = summary_tail("delivered", task.claim.record, 1)
    assert await store.settle([task.claim]) == [False]
    assert await Views(client).summary(task.key) is None


async def test_the_oldest_segment_goes_as_soon_as_there_is_too_much(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    [first] = await finished(keeping(client))
    value = len(await ask(raw, "HGET", KEYS.segment(1), first))
    # Each segment has room for two.
    most_bytes = 2 * SEGMENTS * (BYTES + value)
    store = keeping(client, result_bytes=most_bytes)
    keys: list[str] = [first]
    for _ in range(2 * SEGMENTS + 3):
        keys += await finished(store)
    kept = [key for key in keys if await Views(client).summary(key) is not None]
    assert kept == keys[-len(kept) :]
    assert 2 * (SEGMENTS - 1) <= len(kept) <= 2 * SEGMENTS
    sizes = [await ask(raw, "HLEN", segment) for segment in KEYS.segments]
    assert sum(sizes) == len(kept)
    assert max(sizes) == 2
    assert (await counters(raw))["results_dropped"] == len(keys) - len(kept)


async def test_what_does_not_fit_into_a_segment_goes_into_the_next(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    [first] = await finished(keeping(client))
    value = len(await ask(raw, "HGET", KEYS.segment(1), first))
    store = keeping(client, result_bytes=5 * SEGMENTS * (BYTES + value))
    for count in (3, 2, 6, 1):
        await finished(store, count)
    # A call with more than a segment's bytes has one of its own.
    assert [await ask(raw, "HLEN", KEYS.segment(number)) for number in range(1, 6)] == [4, 2, 6, 1, 0]


async def test_a_segment_is_followed_by_the_next_when_its_time_is_over(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    store = keeping(client)
    keys: list[str] = []
    for _ in range(3):
        keys += await finished(store, 2)
        await ask(raw, "HSET", KEYS.results, "until_ms", 1)
    assert [await ask(raw, "HLEN", KEYS.segment(number)) for number in (1, 2, 3, 4)] == [2, 2, 2, 0]
    assert all([await Views(client).summary(key) for key in keys])
    await ask(raw, "HSET", KEYS.results, "until_ms", 10**14)  # the clock was set back
    await finished(store)
    assert await ask(raw, "HLEN", KEYS.segment(4)) == 1


async def test_of_several_the_newest_is_told(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    [key] = await finished(keeping(client))
    await ask(raw, "HSET", KEYS.results, "until_ms", 1)
    await finished(keeping(client))
    await ask(raw, "HSET", KEYS.segment(2), key, '{"ended":5,"state":"cancelled","attempts":0,"due":1}')
    assert await Views(client).summary(key) == Summary("cancelled", 0, 1, ended=5)


@pytest.mark.parametrize("value", ["x", "-1", "1e400", "nan", "9" * 30])
@pytest.mark.parametrize("field", ["number", "until_ms", "bytes"])
async def test_whatever_stands_in_the_fields_results_are_kept(
    field: str, value: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    store = keeping(client)
    await finished(store)
    await ask(raw, "HSET", KEYS.results, field, value)
    for _ in range(2):
        [key] = await finished(store)
        assert await Views(client).summary(key) is not None


async def test_a_result_that_other_hands_wrote_is_none(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    values: list[str | bytes] = ["x", "{}", "[]", b"\xff"]
    for number, value in enumerate(values):
        await ask(raw, "HSET", KEYS.segment(number), f"key-{number}", value)
        assert await Views(client).summary(f"key-{number}") is None


async def test_a_purge_deletes_them(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    store = keeping(client)
    keys = await finished(store)
    await ask(raw, "HSET", KEYS.results, "until_ms", 1)
    keys += await finished(store)
    await store.purge()
    assert [await Views(client).summary(key) for key in keys] == [None, None]
    assert await ask(raw, "EXISTS", KEYS.results, *map(KEYS.segment, range(SEGMENTS))) == 0


def test_how_late_a_task_was_counts_to_the_begin_of_its_last_attempt() -> None:
    summary = read_summary(b'{"ended":1500,"state":"delivered","attempts":1,"due":1000,"elapsed_ms":400}')
    assert summary is not None
    assert summary.late_ms == 100
    assert Kept().result_ttl_ms == 3_600_000
