"""page: reads a sorted set, or the whole list, page by page; what stays is met once, whatever goes meanwhile."""

import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import TEXTS
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.cursor import Position
from redis_scheduler.store.dead_letters import DeadLetters
from redis_scheduler.store.filters import Filters
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.merging import MergedViews
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.script import Script
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.views import READ_BYTES, Reading, Views
from tests.scripts.states import (
    Task,
    ask,
    change,
    dead,
    deferred,
    in_delivery,
    in_due,
    new_task,
    queued,
    tail,
    waiting,
)
from tests.support.names import KEYS
from tests.support.store import Store

INDEX = f"{KEYS.tag}:a-sorted-set"
NAMES = ["-", "0", "9", "A", "B", "Z", "_", "a", "aB", "a_", "aa", "b", "ba", "z", "-a", "_A", "A-", "A_"]
"""Keys whose byte order differs from that of a locale."""


async def read_on(
    client: RedisClient, seen: list[tuple[str, str]], limit: int, is_down: bool = False
) -> list[tuple[str, str]]:
    """Member and score of those behind the last one seen."""
    member, score = seen[-1] if seen else ("", "")
    place = {"index": INDEX, "score": score, "member": member}
    answer = await client.run(Script("page").bind(client.keys, **place, limit=limit, is_down=int(is_down)), TEXTS)
    return [(name.decode(), at.decode()) for name, at in zip(answer[::2], answer[1::2], strict=True)]


@pytest.mark.parametrize("is_down", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_pages_of_equal_scores_neither_miss_nor_repeat(
    limit: int, is_down: bool, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    for score in (1, 2, 1_795_431_971_234):
        for name in NAMES:
            await ask(raw, "ZADD", INDEX, score, f"{name}{score}")
    whole = await read_on(client, [], 1_000, is_down)
    members = await ask(raw, "ZREVRANGE" if is_down else "ZRANGE", INDEX, 0, -1)
    assert [name for name, _ in whole] == [name.decode() for name in members]
    seen: list[tuple[str, str]] = []
    while page := await read_on(client, seen, limit, is_down):
        seen += page
    assert seen == whole


@pytest.mark.parametrize("is_down", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_what_stays_is_met_once_although_the_last_one_seen_goes(
    seed: int, is_down: bool, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    chance = random.Random(seed)
    for name in NAMES:
        for score in (1, 2):
            await ask(raw, "ZADD", INDEX, score, f"{name}.{score}")
    seen: list[tuple[str, str]] = []
    removed: set[str] = set()
    while page := await read_on(client, seen, chance.randint(1, 4), is_down):
        seen += page
        present = [name.decode() for name in await ask(raw, "ZRANGE", INDEX, 0, -1)]
        gone = {seen[-1][0], *chance.sample(present, min(3, len(present)))}
        removed |= gone
        await ask(raw, "ZREM", INDEX, *gone)
    names = [name for name, _ in seen]
    assert len(names) == len(set(names))
    assert {f"{name}.{score}" for name in NAMES for score in (1, 2)} <= set(names) | removed
    assert [(int(score), name.encode()) for name, score in seen] == sorted(
        ((int(score), name.encode()) for name, score in seen), reverse=is_down
    )


async def test_a_last_one_seen_that_moved_is_looked_for_where_it_stood(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await ask(raw, "ZADD", INDEX, 1, "a", 1, "b", 1, "c", 5, "d")
    await ask(raw, "ZADD", INDEX, 9, "b")
    assert await read_on(client, [("b", "1")], 10) == [("c", "1"), ("d", "5"), ("b", "9")]


async def test_a_page_behind_the_end_or_of_nothing_is_empty(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    assert await read_on(client, [], 10) == []
    assert await read_on(client, [("a", "7")], 10) == []
    await ask(raw, "ZADD", INDEX, 1, "a")
    assert await read_on(client, [("a", "1")], 10) == []
    assert await read_on(client, [("a", "0")], 10) == [("a", "1")]


PAGES_MOST = 1_000


async def pages(views: Views, limit: int, type_name: str | None = None) -> list[list[str]]:
    found, cursor = [], None
    for _ in range(PAGES_MOST):
        page = await views.page(limit, cursor, Filters(type_name))
        found.append([task.key for task in page.tasks])
        cursor = page.next
        if cursor is None:
            return found
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_the_list_goes_over_the_queue_and_then_by_due_time(limit: int, store: Store) -> None:
    await dead(store)
    retry = await deferred(store)
    # The queue's order is that of its entries, whatever became of them.
    in_queue = [await make(store) for make in (in_delivery, waiting, in_delivery, queued, queued)]
    await store.schedule([NewTask(name, 700_000, tail(), None) for name in NAMES])
    late = await in_due(store)
    expected = [task.key for task in (*in_queue, retry, late)] + sorted(NAMES, key=str.encode)
    found = await pages(Views(store.client), limit)
    assert [key for page in found for key in page] == expected
    assert {len(page) for page in found[:-1]} <= {limit}


async def test_a_page_that_finds_none_rests_before_each_further_look(store: Store) -> None:
    await store.schedule([NewTask(name, 700_000, tail(), None) for name in NAMES])
    views, filters, rests = Views(store.client), Filters(host="elsewhere.example"), 0

    async def rest() -> None:
        nonlocal rests
        rests += 1

    for page in (
        await views.page(5, None, filters, Reading(rest=rest)),
        await views.planned(5, None, filters, False, Reading(9, 2**20, rest)),
    ):
        assert (page.tasks, page.looked_at, page.next) == ([], len(NAMES), None)
    assert rests == 2 * (len(NAMES) // 5)


@pytest.mark.parametrize("type_name", [None, "mail"])
async def test_the_list_goes_on_although_the_last_one_seen_was_cancelled_or_moved(
    type_name: str | None, store: Store
) -> None:
    await store.schedule([NewTask(name, 700_000, tail(type_name=type_name), type_name) for name in NAMES])
    first = await queued(store, type_name)
    views, seen, cursor = Views(store.client), [], None
    for _ in range(PAGES_MOST):
        page = await views.page(2, cursor, Filters(type_name))
        seen += [task.key for task in page.tasks]
        cursor = page.next
        if cursor is None:
            break
        if len(seen) % 4 == 0:
            await store.cancel([(seen[-1], type_name)])
        else:
            # Back to the front of what is in DUE, where it is not met again.
            last = Task(seen[-1], first.claim, type_name)
            await store.update([await change(store, last, ttl_ms=1_000)])
    assert seen == [first.key, *sorted(NAMES, key=str.encode)]


async def test_the_list_of_nothing_is_one_empty_page(store: Store) -> None:
    assert await pages(Views(store.client), 10) == [[]]
    assert await pages(Views(store.client), 10, "mail") == [[]]


async def test_a_page_larger_than_a_read_is_whole(store: Store) -> None:
    tasks = [new_task(1_000 + number) for number in range(1_200)]
    for start in range(0, len(tasks), 200):
        await store.schedule(tasks[start : start + 200])
    [first, second, last] = await pages(Views(store.client), 550)
    assert (len(first), len(second), len(last)) == (550, 550, 100)
    assert {*first, *second, *last} == {task.key for task in tasks}


FOREIGN_KEYS = ["é", "a b", " ", "  x ", "", "-", "a" * 23, "x" * 1_000, "\U0001f600" * 3, "a\n\0b", "due 5 x"]


@pytest.mark.parametrize("place", ["due", "type"])
@pytest.mark.parametrize("score", ["1", "1.5", "-3", "inf", "-inf", "1e300", "1e-7", "12345678901234567890", "0.1"])
async def test_every_cursor_that_is_given_is_taken_back(
    place: str, score: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    """Keys and scores of foreign hands are no tasks, but the list goes on behind them."""
    type_name = None if place == "due" else "mail"
    task = new_task(60_000, type_name)
    await store.schedule([task])
    index = KEYS.due if place == "due" else KEYS.type_index("mail")
    for key in FOREIGN_KEYS:
        await ask(raw, "ZADD", index, score, key)
    for limit in (1, 2, 100):
        found = await pages(Views(store.client), limit, type_name)
        assert [key for page in found for key in page] == [task.key]
    await ask(raw, "ZREM", index, *FOREIGN_KEYS)


async def test_a_cursor_is_taken_back_behind_any_entry_of_the_queue(store: Store, raw: redis.asyncio.Redis) -> None:
    first = await queued(store)
    added = [await ask(raw, "XADD", KEYS.queue, "*", "key", key) for key in FOREIGN_KEYS]
    added += [await ask(raw, "XADD", KEYS.queue, f"{2**64 - 1}-{at}", "key", "é") for at in (5, 2**64 - 1)]
    found = await pages(Views(store.client), 1)
    assert [key for page in found for key in page] == [first.key]
    await ask(raw, "XDEL", KEYS.queue, *added)


async def test_a_key_too_long_for_a_cursor_is_passed_over(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_due(store)
    await ask(raw, "ZADD", KEYS.due, 1, "x" * 100_000, 1, "y" * 1_001)
    for limit in (1, 100):
        found = await pages(Views(store.client), limit)
        assert [key for page in found for key in page] == [task.key]
    await ask(raw, "ZREM", KEYS.due, "x" * 100_000, "y" * 1_001)


async def test_a_page_of_few_bytes_reads_few(client: RedisClient, store: Store) -> None:
    """What is behind its end is read in vain: a single record."""
    counts = []

    class Counting(Views):
        async def read_at(self, places: Sequence[Position], read_bytes: int) -> list[Stored | None]:
            found = await super().read_at(places, read_bytes)
            counts.append(len(found))
            return found

    await store.schedule([NewTask(f"{at}", 60_000, tail(data=b'"%s"' % (b"x" * 100_000)), None) for at in range(8)])
    page = await Counting(client).page(50, None, reading=Reading(most_bytes=250_000))
    assert (len(page.tasks), counts) == (2, [2, 1])


async def test_what_is_read_at_once_of_several_shards_is_no_more_than_of_one(redis_url: str) -> None:
    """A page holds so much beside its answer."""
    async with AsyncExitStack() as stack:
        views, places = list[DeadLetters](), []
        for number in range(4):
            client = await stack.enter_async_context(
                aclosing(RedisClient(redis_url, 3, Keys(tag_of("", number), number)))
            )
            await client.create_group()
            tasks = [NewTask(f"{number}:{at}", 60_000, tail(data=b'"%s"' % (b"x" * 100_000)), None) for at in range(8)]
            await Store(client, "worker-a").schedule(tasks)
            views.append(DeadLetters(client))
            places += [("due", "1", task.key, str(number)) for task in tasks]
        random.shuffle(places)
        found = await MergedViews(views).read_at(places, READ_BYTES)
        assert 0 < sum(len(one.raw) for one in found if one is not None) <= READ_BYTES
