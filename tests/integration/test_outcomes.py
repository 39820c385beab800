"""Outcomes with follow-ups: each is passed with the end that it follows, in batches that Redis takes quickly."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import redis.asyncio
from msgspec import structs

from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.listing import LABEL_BYTES, listing_of
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.repeat import Repeat
from redis_scheduler.task.retry import Transition
from redis_scheduler.task.timing import DEFAULT
from tests.integration.conftest import OneShard, schedule
from tests.integration.test_claims import claimed
from tests.support.names import KEYS
from tests.support.store import Store

WEBHOOK = "http://127.0.0.1:9/"


def new_task(size: int) -> NewTask:
    """A task whose record has so many bytes, without its due time."""
    rest = len(record_tail(WEBHOOK, 600, None, b'""'))
    tail = record_tail(WEBHOOK, 600, None, b'"%s"' % (b"x" * (size - rest)))
    assert len(tail) == size
    return NewTask(new_task_key(), 600_000, tail, None)


async def held(engine: OneShard, client: RedisClient, store: Store, count: int, new: int | None = None) -> list[Claim]:
    """Claims that this engine holds, and that wait for their outcome; so many, or all, of tasks that are new."""
    if new != 0:
        await schedule(store, WEBHOOK, new or count)
    found, _ = await store.load(await claimed(client, store.name, count))
    engine.holdings.claims.update({claim.id: claim for claim in found})
    return found


def end(outcomes: Outcomes, how: str, claim: Claim, follow_up: NewTask | None = None) -> None:
    if how == "settle":
        outcomes.settle(claim, follow_up)
    else:
        outcomes.unsettle(Transition(how), Unsettled(claim, b'{"error":"no","elapsed_ms":1}'), follow_up)


def ends_are(engine: OneShard, how: str) -> int:
    """How many ends are not written yet."""
    return len(engine.outcomes.to_settle if how == "settle" else engine.outcomes.unsettled)


@pytest.mark.parametrize("timing", [replace(DEFAULT, load_bytes=1_000, batch_limit=8)])
@pytest.mark.parametrize("how", ["settle", "bury", "expire"])
async def test_a_batch_with_follow_ups_is_cut_where_their_records_come_to_the_most_bytes_of_a_call(
    how: str, engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    claims = await held(engine, client, store, 26)
    call, batches = getattr(store, how), list[tuple[int, dict[int, str]]]()

    async def noted_call(items: Sequence[Any], follow_ups: dict[int, NewTask]) -> list[bool]:
        batches.append((len(items), {index: task.key for index, task in follow_ups.items()}))
        if len(batches) == 2:
            raise StoreUnavailable
        answer: list[bool] = await call(items, follow_ups)
        return answer

    # 400 bytes each: three pass the limit. One of 3,000 goes, too, with what is before it.
    sizes: list[int | None] = [400] * 6 + [None, None, 3_000, None] + [None] * 4
    follow_ups = [None if size is None else new_task(size) for size in sizes] + [None] * 12
    for claim, follow_up in zip(claims, follow_ups, strict=True):
        end(engine.outcomes, how, claim, follow_up)
    with patch.object(store, how, noted_call):
        with pytest.raises(StoreUnavailable):
            await engine.outcomes.write()
        assert ends_are(engine, how) == 23, "what was not written stays"
        await engine.outcomes.write()
    keys = [follow_up.key for follow_up in follow_ups if follow_up is not None]
    assert batches == [
        (3, dict(enumerate(keys[:3]))),
        (3, dict(enumerate(keys[3:6]))),
        (3, dict(enumerate(keys[3:6]))),
        (3, {2: keys[6]}),
        (8, {}),
        (8, {}),
        (1, {}),
    ]
    assert sorted(await raw.zrange(KEYS.due, 0, -1)) == sorted(key.encode() for key in keys)
    assert (engine.outcomes._follow_ups, engine.holdings.claims) == ({}, {})


@pytest.mark.parametrize("timing", [replace(DEFAULT, load_bytes=1_000)])
async def test_a_batch_of_failures_is_cut_where_what_is_kept_of_them_comes_to_the_most_bytes_of_a_call(
    engine: OneShard, client: RedisClient, store: Store
) -> None:
    call, batches = store.bury, list[int]()

    async def noted_call(items: Sequence[Unsettled], follow_ups: Mapping[int, NewTask]) -> list[bool]:
        batches.append(len(items))
        return await call(items, follow_ups)

    for claim, size in zip(await held(engine, client, store, 7), [400, 400, 400, 2_000, 10, 10, 10], strict=True):
        engine.outcomes.unsettle(Transition.BURY, Unsettled(claim, b"{%s}" % (b" " * size)))
    with patch.object(store, "bury", noted_call):
        await engine.outcomes.write()
    assert batches == [3, 1, 3]


@pytest.mark.parametrize("timing", [replace(DEFAULT, load_bytes=10 * LABEL_BYTES)])
@pytest.mark.parametrize("how", ["settle", "bury", "expire", "again"])
async def test_a_batch_is_cut_where_its_labels_come_to_what_a_call_may_take(
    how: str, engine: OneShard, client: RedisClient, store: Store
) -> None:
    options = Options(labels=dict.fromkeys("abcd", "x"), again_most=1)
    tail, listed = record_tail(WEBHOOK, 0, None, b"1", options), listing_of(None, options)
    await store.schedule([NewTask(new_task_key(), 0, tail, listed) for _ in range(7)])
    claims = await held(engine, client, store, 9, new=2)
    call, batches = getattr(store, how), list[int]()

    async def noted_call(items: Sequence[Any], *rest: Any) -> list[bool]:
        batches.append(len(items))
        answer: list[bool] = await call(items, *rest)
        return answer

    for claim in claims:
        end(engine.outcomes, how, claim)
    with patch.object(store, how, noted_call):
        await engine.outcomes.write()
    assert batches == [3, 3, 3], "four labels each"
    assert engine.holdings.claims == {}


async def test_outcomes_without_follow_ups_beside_those_that_have_some_go_as_ever(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    first, second, third, fourth = await held(engine, client, store, 4)
    follow_up = new_task(200)
    engine.outcomes.unsettle(Transition.RETRY, Unsettled(first, b"{}", 1_000))
    end(engine.outcomes, "bury", second)
    end(engine.outcomes, "bury", third, follow_up)
    engine.outcomes.release([fourth])
    await engine.outcomes.write()
    assert await raw.zrange(KEYS.due, 0, -1) == [follow_up.key.encode()]
    assert set(await raw.zrange(KEYS.dead, 0, -1)) == {second.key.encode(), third.key.encode()}
    pending = await raw.xpending_range(KEYS.queue, GROUP, "-", "+", 10)
    expected = dict.fromkeys([first.id.encode(), fourth.id.encode()], WAITING.encode())
    assert {row["message_id"]: row["consumer"] for row in pending} == expected
    assert engine.holdings.claims == {}


@pytest.mark.parametrize("transition", [Transition.RETRY, Transition.DEFER])
async def test_a_task_that_comes_again_has_no_follow_up(
    transition: Transition, engine: OneShard, client: RedisClient, store: Store
) -> None:
    [claim] = await held(engine, client, store, 1)
    with pytest.raises(ValueError, match="follow-up"):
        engine.outcomes.unsettle(transition, Unsettled(claim, b"{}", 1_000), new_task(200))
    assert ends_are(engine, "bury") == 0
    assert engine.outcomes._follow_ups == {}


async def test_others_go_on_while_many_series_work_out_what_they_missed(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    """No two have one rule, and each is years behind. Measured in time of this thread, not by the clock."""
    rules = [Repeat(cron=f"{number} {number % 24} * * 1-5", tz="Europe/Berlin") for number in range(50)]
    wanted = [Options(repeat=repeat) for repeat in rules]
    tails = [(record_tail(WEBHOOK, 0, None, b"1", options), listing_of(None, options)) for options in wanted]
    await store.schedule([NewTask(new_task_key(), 0, tail, listed) for tail, listed in tails])
    for claim in await held(engine, client, store, len(rules), new=0):
        claim.record = structs.replace(claim.record, due=1_170_000_000_000)
        engine.outcomes.fire(claim)
    began_s = time.thread_time()
    writing, longest_s, seen_s = asyncio.ensure_future(engine.outcomes.write()), 0.0, began_s
    while not writing.done():
        await asyncio.sleep(0)
        now_s = time.thread_time()
        longest_s, seen_s = max(longest_s, now_s - seen_s), now_s
    await writing
    assert await raw.zcard(KEYS.due) == len(rules)
    assert longest_s < (seen_s - began_s) / 4
