"""schedule_once: a task for each idempotency id, and for a known id what was stored before."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.keys import IDS_MARK
from redis_scheduler.store.written import IDEMPOTENCY_ID_BYTES, OnceAnswer, OnceTask, StoredTask
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.conftest import Full
from tests.scripts.contents import counters, dump
from tests.scripts.indexes import typed_keys
from tests.scripts.states import DUE, MISSING, QUEUED, ask, claimed, new_task, record_of, state_of
from tests.support.names import KEYS
from tests.support.store import Store

KEPT_MS = 60_000


TOKEN, OTHER = "0123456789", "abcdef0123"


def once(
    name: str, mac: str = "mac", ttl_ms: int = 600_000, type_name: str | None = None, token: str | None = None
) -> OnceTask:
    return OnceTask(name, mac, new_task(ttl_ms, type_name), token and IDS_MARK + token)


def some_of(token: str | None, name: str, count: int) -> list[OnceTask]:
    return [once(f"{name}-{number}", token=token) for number in range(count)]


async def stored(store: Store, *tasks: OnceTask, kept_ms: int = KEPT_MS, most: int = 1_000) -> list[object]:
    return list(await store.schedule_once(tasks, kept_ms, most))


async def keys_of(store: Store, *tasks: OnceTask, kept_ms: int = KEPT_MS) -> list[str]:
    found = await store.schedule_once(tasks, kept_ms, 1_000)
    return [one.key for one in found if isinstance(one, StoredTask)]


async def test_new_ids_get_their_tasks_where_they_are_due(store: Store, raw: redis.asyncio.Redis) -> None:
    before_ms = redis_ms(await ask(raw, "TIME"))
    later, now, typed = once("a"), once("b", ttl_ms=0), once("c", ttl_ms=0, type_name="mail")
    found = await store.schedule_once([later, now, typed], KEPT_MS, 1_000)
    for wanted, one, state in zip((later, now, typed), found, (DUE, QUEUED, QUEUED), strict=True):
        assert isinstance(one, StoredTask)
        assert one.key == wanted.task.key
        assert 0 <= one.due_ms - wanted.task.ttl_ms - before_ms < 1_000
        assert await record_of(raw, one.key) == b'{"due":%d' % one.due_ms + wanted.task.tail
        assert await state_of(raw, one.key) == state
    assert await typed_keys(raw) == {"mail": {typed.task.key}}
    assert await counters(raw) == {"scheduled": 3}


async def test_a_known_id_is_answered_by_what_it_has(store: Store, raw: redis.asyncio.Redis) -> None:
    first = await stored(store, once("a"))
    before = await dump(raw)
    assert await stored(store, once("a", ttl_ms=5)) == first
    assert await stored(store, once("a", mac="other")) == [OnceAnswer.OTHER_CONTENT]
    assert await dump(raw) == before


async def test_an_id_that_comes_twice_in_a_call_gets_one_task(store: Store, raw: redis.asyncio.Redis) -> None:
    first, second, third = once("a"), once("a"), once("a", mac="other")
    found = await stored(store, first, second, third)
    assert found[0] == found[1]
    assert found[2] is OnceAnswer.OTHER_CONTENT
    assert await state_of(raw, first.task.key) == DUE
    assert await state_of(raw, second.task.key) == MISSING


async def test_a_resend_finds_its_own_task_even_if_that_was_delivered(store: Store, raw: redis.asyncio.Redis) -> None:
    task = once("a", ttl_ms=0)
    first = await stored(store, task)
    before = await dump(raw)
    assert await stored(store, task) == first
    assert await dump(raw) == before
    assert await store.settle(await claimed(store, 1)) == [1]
    before = await dump(raw)
    assert await stored(store, task) == first
    assert await dump(raw) == before
    assert await state_of(raw, task.task.key) == MISSING


async def test_an_id_is_new_again_after_its_end(store: Store, raw: redis.asyncio.Redis) -> None:
    [first] = await keys_of(store, once("a"), kept_ms=1)
    await ask(raw, "ZADD", KEYS.idempotency_ends, 1, "a")
    [second] = await keys_of(store, once("a", mac="other"))
    assert second != first
    assert await keys_of(store, once("a", mac="other")) == [second]


async def test_each_new_id_removes_two_that_have_ended(store: Store, raw: redis.asyncio.Redis) -> None:
    await stored(store, *(once(f"old-{number}") for number in range(5)), once("kept"))
    for number in range(5):
        await ask(raw, "ZADD", KEYS.idempotency_ends, 1 + number, f"old-{number}")
    await stored(store, once("kept"))
    assert await ask(raw, "HLEN", KEYS.idempotency) == 6
    await stored(store, once("a"))
    assert await ask(raw, "HLEN", KEYS.idempotency) == 5
    await stored(store, once("b"), once("c"))
    assert await ask(raw, "HLEN", KEYS.idempotency) == await ask(raw, "ZCARD", KEYS.idempotency_ends) == 4
    assert await ask(raw, "HEXISTS", KEYS.idempotency, "kept") == 1


async def test_no_more_ids_are_kept_than_may_be_and_none_is_dropped_early(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    found = await stored(store, once("a"), once("b"), once("c"), most=2)
    assert found[2] is OnceAnswer.FULL
    before = await dump(raw)
    assert await stored(store, once("c"), once("a"), most=2) == [OnceAnswer.FULL, found[0]]
    assert await dump(raw) == before
    await ask(raw, "ZADD", KEYS.idempotency_ends, 1, "a")
    assert len(await keys_of(store, once("c"))) == 1


async def counted(raw: redis.asyncio.Redis, token: str = TOKEN) -> dict[int, int]:
    fields = await ask(raw, "HGETALL", KEYS.ids_of(token))
    return {int(end): int(count) for end, count in zip(fields[::2], fields[1::2], strict=True)}


def kinds(found: list[object]) -> list[object]:
    return ["stored" if isinstance(one, StoredTask) else one for one in found]


@pytest.mark.parametrize("is_one_call", [True, False])
async def test_a_token_has_no_more_ids_than_are_free_for_others(is_one_call: bool, store: Store) -> None:
    async def give(tasks: list[OnceTask]) -> list[object]:
        parts = [tasks] if is_one_call else [[task] for task in tasks]
        return kinds([one for part in parts for one in await stored(store, *part, most=12)])

    assert await give(some_of(TOKEN, "a", 8)) == ["stored"] * 6 + [OnceAnswer.TOKEN_FULL] * 2
    assert await give(some_of(OTHER, "b", 4)) == ["stored"] * 3 + [OnceAnswer.TOKEN_FULL]
    assert await give(some_of(TOKEN, "a", 8)) == ["stored"] * 6 + [OnceAnswer.TOKEN_FULL] * 2
    assert await give(some_of(None, "c", 4)) == ["stored"] * 3 + [OnceAnswer.FULL]
    assert await give(some_of(OTHER, "d", 1)) == [OnceAnswer.FULL]


async def test_ids_of_a_token_count_until_they_have_ended(store: Store, raw: redis.asyncio.Redis) -> None:
    await stored(store, *some_of(TOKEN, "a", 3), most=6)
    assert await stored(store, once("b", token=TOKEN), most=6) == [OnceAnswer.TOKEN_FULL]
    [[end_ms, count]] = (await counted(raw)).items()
    now_ms = redis_ms(await ask(raw, "TIME"))
    assert count == 3
    assert KEPT_MS - 1_000 < end_ms - now_ms <= KEPT_MS * 17 / 16
    assert 0 < await ask(raw, "PTTL", KEYS.ids_of(TOKEN)) <= KEPT_MS * 17 / 16
    await ask(raw, "DEL", KEYS.ids_of(TOKEN))
    await ask(raw, "HSET", KEYS.ids_of(TOKEN), now_ms, 3)
    assert kinds(await stored(store, once("b", token=TOKEN), most=6)) == ["stored"]
    assert list((await counted(raw)).values()) == [1]


@pytest.mark.parametrize("value", [["SET", "foreign"], ["HSET", "x", "y"], ["HSET", str(10**13), "x"]])
async def test_a_count_that_no_script_wrote_refuses_nothing(
    value: list[str], store: Store, raw: redis.asyncio.Redis
) -> None:
    command, *content = value
    await ask(raw, command, KEYS.ids_of(TOKEN), *content)
    assert kinds(await stored(store, *some_of(TOKEN, "a", 2), most=6)) == ["stored"] * 2
    if command == "SET":
        assert await ask(raw, "GET", KEYS.ids_of(TOKEN)) == b"foreign"
        assert await ask(raw, "TTL", KEYS.ids_of(TOKEN)) == -1
    else:
        assert (await ask(raw, "HVALS", KEYS.ids_of(TOKEN)))[-1] == b"2"


async def test_ids_that_a_purge_forgot_are_not_held_against_their_token(store: Store) -> None:
    await stored(store, *some_of(TOKEN, "a", 8), most=16)
    await store.purge()
    assert kinds(await stored(store, *some_of(TOKEN, "b", 8), most=16)) == ["stored"] * 8


async def test_the_largest_batch_is_entered_whole(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [once(f"{number}", ttl_ms=number % 2 * 90_000) for number in range(DEFAULT.batch_limit)]
    assert len(await keys_of(store, *tasks)) == DEFAULT.batch_limit
    assert await counters(raw) == {"scheduled": DEFAULT.batch_limit}


@pytest.mark.parametrize("value", ["x", "", "mac", "mac key", "mac key 1x", "\xff"])
async def test_what_no_script_wrote_is_written_anew(value: str, store: Store, raw: redis.asyncio.Redis) -> None:
    await stored(store, once("a"))
    await ask(raw, "HSET", KEYS.idempotency, "a", value)
    task = once("a")
    assert await keys_of(store, task) == [task.task.key]


async def test_a_full_redis_leaves_nothing(full: Full, store: Store, raw: redis.asyncio.Redis) -> None:
    before = await dump(raw)
    for tasks in ([once("a"), once("b", ttl_ms=0)], [once("a", type_name="mail")], [once("a", token=TOKEN)]):
        async with full():
            with pytest.raises(StoreFull):
                await stored(store, *tasks)
        assert await dump(raw) == before


async def test_a_full_redis_answers_what_is_known(full: Full, store: Store) -> None:
    first = await stored(store, once("a"))
    async with full():
        assert await stored(store, once("a")) == first


@pytest.mark.parametrize(
    "place",
    [KEYS.tasks, KEYS.entries, KEYS.due, KEYS.queue, KEYS.idempotency, KEYS.idempotency_ends],
)
async def test_a_foreign_key_is_refused_and_nothing_written(place: str, store: Store, raw: redis.asyncio.Redis) -> None:
    await ask(raw, "DEL", place)
    await ask(raw, "SET", place, "foreign")
    before = await dump(raw)
    with pytest.raises(StoreUnavailable):
        await stored(store, once("a"), once("b", ttl_ms=0))
    assert await dump(raw) == before
    await ask(raw, "DEL", place)
    await store.client.create_group()


async def test_a_queue_that_takes_no_more_entries_keeps_no_id(store: Store, raw: redis.asyncio.Redis) -> None:
    await ask(raw, "XADD", KEYS.queue, f"{2**64 - 1}-{2**64 - 1}", "key", "foreign")
    before = await dump(raw)
    with pytest.raises(StoreUnavailable):
        await stored(store, once("a"), once("b", ttl_ms=0))
    assert await dump(raw) == before
    await ask(raw, "DEL", KEYS.queue)
    await store.client.create_group()


async def test_a_purge_forgets_all_ids(store: Store, raw: redis.asyncio.Redis) -> None:
    await stored(store, once("a"))
    assert await store.purge() == 1
    assert not await ask(raw, "EXISTS", KEYS.idempotency, KEYS.idempotency_ends)
    task = once("a", mac="other")
    assert await keys_of(store, task) == [task.task.key]


async def test_of_many_requests_at_once_one_writes(store: Store, raw: redis.asyncio.Redis) -> None:
    calls: list[Callable[[], Awaitable[list[str]]]] = [lambda: keys_of(store, once("a"), once("b"))] * 10
    found = await asyncio.gather(*(call() for call in calls))
    assert len(set(map(tuple, found))) == 1
    assert await counters(raw) == {"scheduled": 2}


async def test_an_id_takes_no_more_than_is_counted(store: Store, raw: redis.asyncio.Redis) -> None:
    count = 2_000
    for start in range(0, count, 200):
        tasks = [once(f"{number:022}", mac="m" * 22) for number in range(start, start + 200)]
        await stored(store, *tasks, most=count)
    sizes = [await ask(raw, "MEMORY", "USAGE", key, "SAMPLES", 0) for key in (KEYS.idempotency, KEYS.idempotency_ends)]
    assert 0.5 < sum(sizes) / count / IDEMPOTENCY_ID_BYTES < 1, sum(sizes) / count
