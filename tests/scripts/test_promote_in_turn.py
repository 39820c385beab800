"""promote_in_turn: the queue is kept short, and what does not fit waits in lines of tokens, which take turns."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.claiming import Promotion
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.keys import GROUP, SealedKeys
from redis_scheduler.store.ledger import read_ledger
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.views import Views
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.listing import TOKEN_MARK, listing_of
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.repeat import Occurrence
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.states import (
    HELD,
    IN_TURN,
    QUEUED,
    WEBHOOK,
    ask,
    held,
    in_turn,
    new_task,
    overdue,
    queued,
    state_of,
    with_room,
)
from tests.scripts.test_promote import queue
from tests.support.names import KEYS, VAULT
from tests.support.store import Store
from tests.support.waiting import wait_until

A, B, C = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"
"""Ids of tokens."""

Redis = redis.asyncio.Redis


async def due(store: Store, token: str | None, count: int) -> list[str]:
    """So many tasks of a token (None: of API_AUTH) that are due, in the order of their times, behind those before."""
    listed = None if token is None else TOKEN_MARK + token
    tasks = [new_task(60_000, listed) for _ in range(count)]
    await store.schedule(tasks)
    for task in tasks:
        at = await store.client.command("ZCARD", KEYS.due)
        while await store.client.command("ZCOUNT", KEYS.due, at, at):
            at += 1
        await store.client.command("ZADD", KEYS.due, at, task.key)
    return [task.key for task in tasks]


async def test_what_fits_goes_straight_into_the_queue(store: Store, raw: Redis) -> None:
    in_order = [*await due(store, A, 3), *await due(store, B, 2), *await due(store, None, 1)]
    assert await store.promote(in_turn=True) == Promotion(6, None)
    assert await queue(raw) == in_order
    assert await ask(raw, "HGET", KEYS.sweep, "turn") is None


async def test_tokens_take_turns_and_each_in_the_order_of_its_times(store: Store, raw: Redis) -> None:
    of_a, of_b, of_none = await due(store, A, 50), await due(store, B, 30), await due(store, None, 3)
    assert (await with_room(store, 0).promote(in_turn=True)).moved == 83
    assert await queue(raw) == []
    assert [await state_of(raw, key) for key in (of_a[0], of_b[0], of_none[0])] == [IN_TURN] * 3
    assert await with_room(store, 60).promote(in_turn=True) == Promotion(0, 0.005)
    first = [*of_none, *of_a[:20], *of_b[:20], *of_a[20:37]]
    assert await queue(raw) == first
    # The turn goes on where it stood, though a call is another worker's.
    other = Store(store.client, "worker-b")
    assert await other.promote(in_turn=True) == Promotion(0, None)
    assert await queue(raw) == [*first, *of_b[20:], *of_a[37:]]
    assert await ask(raw, "HGET", KEYS.sweep, "turn") is None
    assert await ask(raw, "EXISTS", KEYS.held) == 0


async def test_a_flood_is_put_into_its_line_in_larger_steps(store: Store, raw: Redis) -> None:
    for _ in range(4):
        await store.schedule([new_task(1, TOKEN_MARK + A) for _ in range(200)])
    await wait_until(lambda: _are_due(store, 800), "all are due")
    assert (await store.promote(in_turn=True)).moved == DEFAULT.sorted_most == 600
    assert len(await queue(raw)) == DEFAULT.queued_most
    assert (await store.promote(in_turn=True)).moved == 200
    assert await ask(raw, "ZCARD", KEYS.held) == 800 - DEFAULT.queued_most


async def _are_due(store: Store, count: int) -> bool:
    now_ms = redis_ms(await store.client.command("TIME"))
    return bool(await store.client.command("ZCOUNT", KEYS.due, "-inf", now_ms) == count)


async def test_what_waits_in_lines_counts_as_late(client: RedisClient, store: Store, raw: Redis) -> None:
    of_a, of_b = await due(store, A, 2), await due(store, B, 1)
    assert (await with_room(store, 0).promote(in_turn=True)).moved == 3
    now_ms = redis_ms(await ask(raw, "TIME"))
    assert (await read_ledger(client)).oldest_due_ms == 0
    for key, late_ms in ((of_a[0], 5_000), (of_a[1], 99_000), (of_b[0], 60_000)):
        _, rest = (await ask(raw, "HGET", KEYS.tasks, key)).split(b",", 1)
        await ask(raw, "HSET", KEYS.tasks, key, b'{"due":%d,%b' % (now_ms - late_ms, rest))
    # The second of a line was due behind its first, whatever its record says.
    assert 60_000 <= (await read_ledger(client)).oldest_due_ms < 90_000
    await Deployment().join(client)
    [late_ms] = (await ask(raw, "HGETALL", KEYS.oldest))[1::2]
    assert 60_000 <= int(late_ms) < 90_000
    await ask(raw, "HSET", KEYS.failures, of_b[0], "1")
    assert 5_000 <= (await read_ledger(client)).oldest_due_ms < 60_000
    await ask(raw, "HDEL", KEYS.failures, of_b[0])


async def test_a_flood_is_not_before_what_another_has_due_behind_it(store: Store, raw: Redis) -> None:
    flood = await due(store, A, 150)
    narrow = with_room(store, 20)
    assert (await narrow.promote(100, in_turn=True)).moved == 100
    assert await queue(raw) == flood[:20]
    [other] = await due(store, B, 1)
    assert (await narrow.promote(100, in_turn=True)).moved == 51
    assert await state_of(raw, other) == IN_TURN
    await store.settle((await store.claim(20)).claims)
    await narrow.promote(in_turn=True)
    assert await queue(raw) == [other, *flood[20:39]]


async def test_what_comes_later_stands_behind_what_waits_already(store: Store, raw: Redis) -> None:
    first = await due(store, A, 2)
    await with_room(store, 0).promote(in_turn=True)
    [later] = await due(store, A, 1)
    await store.promote(in_turn=True)
    assert await queue(raw) == [*first, later]


async def test_the_room_is_what_nobody_has_claimed(store: Store, raw: Redis) -> None:
    narrow = with_room(store, 2)
    await queued(store)
    in_delivery = (await store.claim(1)).claims
    first = await due(store, A, 2)
    assert await narrow.promote(in_turn=True) == Promotion(2, None)
    [later] = await due(store, A, 1)
    assert await narrow.promote(in_turn=True) == Promotion(1, 0.005)
    assert await state_of(raw, later) == IN_TURN
    in_delivery += (await store.claim(1)).claims
    assert await narrow.promote(in_turn=True) == Promotion(0, None)
    assert await queue(raw) == [in_delivery[0].key, *first, later]


async def test_what_comes_into_the_queue_is_claimed_with_it(store: Store) -> None:
    keys = await due(store, A, 3)
    await with_room(store, 0).promote(in_turn=True)
    promotion = await store.promote(most_claims=2, in_turn=True)
    assert [claim.key for claim in promotion.claims] == keys[:2]
    assert {claim.record.token for claim in promotion.claims} == {A}
    assert await store.settle(promotion.claims) == [1, 1]


async def test_many_workers_call_together_as_often_as_two(store: Store) -> None:
    for number in range(5):
        await queued(store)
        await Store(store.client, f"worker-{number}").claim(1)
    await due(store, A, 1)
    assert await with_room(store, 0).promote(in_turn=True) == Promotion(1, 0.0125)
    await store.promote(in_turn=True)


async def test_beside_a_worker_that_knows_of_no_turns_nothing_is_stranded(store: Store, raw: Redis) -> None:
    in_line = await due(store, A, 3)
    await with_room(store, 0).promote(in_turn=True)
    straight = await due(store, A, 2)
    assert (await store.promote()).moved == 2
    assert await queue(raw) == straight
    assert await store.promote(in_turn=True) == Promotion(0, None)
    assert await queue(raw) == [*straight, *in_line]


async def test_without_the_group_lines_are_emptied_too(store: Store, client: RedisClient, raw: Redis) -> None:
    keys = await due(store, A, 2)
    await with_room(store, 0).promote(in_turn=True)
    await ask(raw, "XGROUP", "DESTROY", KEYS.queue, GROUP)
    await store.promote(in_turn=True)
    assert await queue(raw) == keys
    await client.create_group()


async def test_without_the_number_of_the_turn_nothing_is_stranded(store: Store, raw: Redis) -> None:
    keys = await due(store, A, 2)
    await with_room(store, 0).promote(in_turn=True)
    for foreign in (None, "x", "-5", str(2**40), "nan"):
        await ask(raw, "HDEL", KEYS.sweep, "turn")
        if foreign is not None:
            await ask(raw, "HSET", KEYS.sweep, "turn", foreign)
        await with_room(store, 0).promote(in_turn=True)
        assert await ask(raw, "HGET", KEYS.sweep, "turn") is not None
    await ask(raw, "HDEL", KEYS.sweep, "turn")
    await store.promote(in_turn=True)
    assert await queue(raw) == keys


async def test_looks_tell_while_tasks_stand_in_lines(store: Store) -> None:
    assert not (await store.look(10)).has_lines
    await in_turn(store)
    assert (await store.look(10)).has_lines
    await store.promote(in_turn=True)
    assert not (await store.look(10)).has_lines


async def test_once_what_stood_in_lines_was_cancelled_looks_tell_nothing_more(store: Store) -> None:
    task = await in_turn(store)
    await store.cancel([(task.key, None)])
    assert (await store.look(10)).has_lines
    assert await store.promote(in_turn=True) == Promotion(0, None)
    assert not (await store.look(10)).has_lines


async def test_the_lines_of_limits_are_left_alone(store: Store, raw: Redis) -> None:
    of_limit = await held(store)
    [key] = await due(store, A, 1)
    assert await store.promote(in_turn=True) == Promotion(1, None)
    assert await queue(raw) == [key]
    assert await state_of(raw, of_limit.key) == HELD
    assert await ask(raw, "HGET", KEYS.sweep, "turn") is None


async def test_only_so_many_bytes_are_read_at_once(store: Store, raw: Redis) -> None:
    keys = await due(store, A, 4)
    size = await ask(raw, "HSTRLEN", KEYS.tasks, keys[0])
    reading_two = Store(store.client, store.name, replace(DEFAULT, queued_most=0, load_bytes=size + 1))
    # More is due, so the next call comes at once.
    assert await reading_two.promote(in_turn=True) == Promotion(2, 0)
    assert await reading_two.promote(in_turn=True) == Promotion(2, 0.005)
    await store.promote(in_turn=True)
    assert await queue(raw) == keys


async def test_a_line_that_counts_no_further_takes_tasks_still(store: Store, raw: Redis) -> None:
    first = await due(store, A, 1)
    await with_room(store, 0).promote(in_turn=True)
    line = 2**24 + float(await ask(raw, "ZSCORE", KEYS.held, first[0])) // 2**29
    last = (line + 1 - 2**24) * 2**29 - 1
    await ask(raw, "ZADD", KEYS.held, f"{last - 1:.0f}", first[0])
    later = await due(store, A, 3)
    await with_room(store, 0).promote(in_turn=True)
    assert [float(await ask(raw, "ZSCORE", KEYS.held, key)) for key in later] == [last] * 3
    await store.promote(in_turn=True)
    found = await queue(raw)
    assert (found[0], sorted(found)) == (first[0], sorted([*first, *later]))


OWNED = "5a5a5a5a5a"

DECEPTIVE: dict[str, tuple[str | None, Options, bytes | None, str]] = {
    "plain": (None, NONE, b"1", WEBHOOK),
    "without data": (None, NONE, None, WEBHOOK),
    "of a type": ("mail", NONE, b"1", WEBHOOK),
    "of a type with quotes": (f'x","token":"{B}', NONE, b"1", WEBHOOK),
    "of a type that ends with a backslash": ("x\\", NONE, b"1", WEBHOOK),
    "of a type with escapes": ('\\"\\' * 33, NONE, b"1", WEBHOOK),
    "of a type with letters": ("ß€😀" * 33, NONE, b"1", WEBHOOK),
    "with data": (None, NONE, b'{"a":1,"token":"%b"}' % B.encode(), WEBHOOK),
    "with headers": (None, Options(headers={"a": "b", "token": B}), b"1", WEBHOOK),
    "with labels": (None, Options(labels={"a": "b", "token": B}), b"1", WEBHOOK),
    "with a webhook": (None, NONE, b"1", f'http://localhost/,"ttl":1,"token":"{B}"'),
    "with a trace": (None, Options(traceparent=f"00-{'1' * 32}-{'2' * 16}-01"), b"1", WEBHOOK),
}


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("token", [None, OWNED])
@pytest.mark.parametrize("name", DECEPTIVE)
async def test_a_task_stands_in_the_line_of_its_own_token_whatever_its_members_are_called(
    name: str, token: str | None, is_sealed: bool, client: RedisClient, redis_url: str, raw: Redis
) -> None:
    type_name, options, data, webhook = DECEPTIVE[name]
    writer = RedisClient(redis_url, 3, SealedKeys(KEYS.tag, VAULT)) if is_sealed else client
    store = Store(writer, "worker-a")
    occurrence = Occurrence(new_task_key(), 1) if name == "plain" else None
    tail = record_tail(webhook, -1, type_name, data, options, repetition=occurrence, token=token)
    for again in (b"", b',"again":3'):
        new = NewTask(new_task_key(), 60_000, again + tail, listing_of(type_name, options, token))
        await store.schedule([new])
        await ask(raw, "ZADD", KEYS.due, 1, new.key)
        assert (await with_room(store, 0).promote(in_turn=True)).moved == 1
        line = 2**24 + float(await ask(raw, "ZSCORE", KEYS.held, new.key)) // 2**29
        assert line == (0 if token is None else int(token[:6], 16))
        await store.purge()
    if is_sealed:
        await writer.aclose()


@pytest.mark.parametrize(
    "record", [b"", b"x", b"{}", b'{"due":1,"head":5', b'{"due":1,"head":9999999,"seal":"aa"', b"\xff"]
)
async def test_a_record_that_is_none_stands_in_the_line_of_api_auth(record: bytes, store: Store, raw: Redis) -> None:
    task = await overdue(store)
    await ask(raw, "HSET", KEYS.tasks, task.key, record)
    assert (await with_room(store, 0).promote(in_turn=True)).moved == 1
    assert float(await ask(raw, "ZSCORE", KEYS.held, task.key)) == -(2**53)
    await store.cancel([(task.key, None)])


# What tokens schedule for now


async def test_what_a_token_schedules_for_now_goes_straight_while_there_is_room(store: Store, raw: Redis) -> None:
    tasks = [new_task(0, listed) for listed in (TOKEN_MARK + A, ("mail", TOKEN_MARK + A), "mail", None)]
    await store.schedule(tasks)
    assert await queue(raw) == [task.key for task in tasks]


@pytest.mark.parametrize("is_line", [False, True])
async def test_what_a_token_schedules_for_now_takes_its_turn_once_others_wait(
    is_line: bool, store: Store, raw: Redis
) -> None:
    first = await (in_turn if is_line else queued)(store, TOKEN_MARK + B)
    tasks = [new_task(0, listed) for listed in (TOKEN_MARK + A, ("mail", TOKEN_MARK + A), "mail", None)]
    await (store if is_line else with_room(store, 1)).schedule(tasks)
    straight = [task.key for task in tasks[2:]]
    assert await queue(raw) == (straight if is_line else [first.key, *straight])
    assert await ask(raw, "ZCARD", KEYS.due) == 2

    async def are_queued() -> bool:
        await store.promote(in_turn=True)
        return set(await queue(raw)) == {first.key, *(task.key for task in tasks)}

    await wait_until(are_queued, "their millisecond has begun", every_s=0.001)
    assert await state_of(raw, tasks[0].key) == QUEUED


async def test_it_is_waiting_for_its_turn(store: Store, client: RedisClient) -> None:
    task = await in_turn(store, TOKEN_MARK + A)
    stored = await Views(client).task(task.key)
    assert stored is not None
    assert (stored.state, stored.is_in_turn) == ("held", True)
    by_limit = await Views(client).task((await held(store)).key)
    assert by_limit is not None
    assert (by_limit.state, by_limit.is_in_turn) == ("held", False)
