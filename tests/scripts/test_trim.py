"""trim: drops the oldest dead letters, those that are too old and those that are too much, and counts what nobody has
counted."""

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.retention import Retention, Trim
from redis_scheduler.task.kept import DEFAULT, Kept
from redis_scheduler.task.timing import DEFAULT as TIMING
from redis_scheduler.task.timing import Timing
from tests.scripts import states
from tests.scripts.contents import counters, traces
from tests.scripts.indexes import LETTER_BYTES, letters_of
from tests.scripts.states import DEAD, MAKERS, MISSING, ask, state_of
from tests.support.names import KEYS
from tests.support.store import Store

HOUR_MS = 3_600_000


async def died(store: Store, raw: redis.asyncio.Redis, ago_ms: int) -> states.Task:
    """A task that died so long ago."""
    task = await states.dead(store)
    now_ms = redis_ms(await ask(raw, "TIME"))
    await ask(raw, "ZADD", KEYS.dead, "XX", now_ms - ago_ms, task.key)
    return task


async def began(raw: redis.asyncio.Redis, ago_ms: int) -> None:
    """Let letters be dropped for their age since so long ago."""
    now_ms = redis_ms(await ask(raw, "TIME"))
    await ask(raw, "HSET", KEYS.dead_bytes, ".since_ms", now_ms - ago_ms)


async def size_of(raw: redis.asyncio.Redis, task: states.Task) -> int:
    return LETTER_BYTES + sum([len(await ask(raw, "HGET", place, task.key)) for place in (KEYS.tasks, KEYS.failures)])


@pytest.mark.parametrize("state", MAKERS)
async def test_only_the_dead_are_dropped(
    state: str, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    make, before = MAKERS[state]
    task = await make(store)
    counted = await counters(raw)
    dropped = int(state == "dead")
    for kept in (Kept(dead_ttl_ms=0), Kept(dead_bytes=0)):
        assert await Retention(client, kept).trim() == Trim(dropped, None)
        assert await state_of(raw, task.key) == (MISSING if state == "dead" else before)
        assert await counters(raw) == counted | ({"dead_dropped": 1} if state == "dead" else {})
        dropped = 0
    if state == "dead":
        assert await traces(raw, task) == []


async def test_what_is_older_than_its_time_goes_and_the_rest_says_when(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    old, newer = await died(store, raw, 2 * HOUR_MS), await died(store, raw, HOUR_MS)
    await began(raw, 9 * HOUR_MS)
    trim = await Retention(client, Kept(dead_ttl_ms=HOUR_MS + 600_000)).trim()
    assert trim.dropped == 1
    assert 500 < (trim.wait_s or 0) <= 600
    assert [await state_of(raw, task.key) for task in (old, newer)] == [MISSING, DEAD]


async def test_the_time_of_an_old_letter_counts_from_the_first_start(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await died(store, raw, 24 * HOUR_MS)
    trim = await Retention(client, Kept(dead_ttl_ms=HOUR_MS)).trim()
    assert trim.dropped == 0
    assert 3_590 < (trim.wait_s or 0) <= 3_600
    since = await ask(raw, "HGET", KEYS.dead_bytes, ".since_ms")
    await Retention(client, Kept(dead_ttl_ms=HOUR_MS)).trim()
    assert await ask(raw, "HGET", KEYS.dead_bytes, ".since_ms") == since
    await began(raw, HOUR_MS)
    assert (await Retention(client, Kept(dead_ttl_ms=HOUR_MS)).trim()).dropped == 1
    assert await state_of(raw, task.key) == MISSING


async def test_the_oldest_go_until_the_rest_fits(client: RedisClient, store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await died(store, raw, (10 - number) * 1_000) for number in range(5)]
    room = sum([await size_of(raw, task) for task in tasks[3:]])
    trim = await Retention(client, Kept(dead_bytes=room + 1)).trim()
    assert trim.dropped == 3
    assert [await state_of(raw, task.key) for task in tasks] == [MISSING] * 3 + [DEAD] * 2
    assert (await Retention(client, Kept(dead_bytes=room)).trim()).dropped == 0
    assert (await Retention(client, Kept(dead_bytes=room - 1)).trim()).dropped == 1


async def test_a_letter_counts_for_what_it_is_now(client: RedisClient, store: Store, raw: redis.asyncio.Redis) -> None:
    task = await states.dead(store)
    for data in (b"1", b'"' + b"x" * 1_000 + b'"', b"2"):
        await store.update([await states.change(store, task, data=data)])
        assert await letters_of(raw) == {task.key: await size_of(raw, task)}
    await store.replay([await states.change(store, task, 1_000)])
    assert await letters_of(raw) == {}


async def test_letters_of_an_older_version_are_counted_step_by_step(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await died(store, raw, (10 - number) * 1_000) for number in range(7)]
    await ask(raw, "DEL", KEYS.dead_bytes)
    newest = await died(store, raw, 0)
    retention = Retention(client, DEFAULT, Timing(batch_limit=2))
    for _ in range(20):
        if (await retention.trim()).wait_s != 0:
            break
        # The place of the others moves when one of them goes.
        if tasks[1:]:
            await store.cancel([(tasks.pop(0).key, None)])
    assert await letters_of(raw) == {task.key: await size_of(raw, task) for task in (*tasks, newest)}
    assert (await retention.trim()).wait_s


@pytest.mark.parametrize(
    ("field", "value"),
    [(".bytes", "x"), (".bytes", "-1"), (".bytes", "1e3"), (".bytes", "9" * 18), ("nobody's", "5"), (".at", "x")],
)
async def test_a_count_that_is_wrong_is_made_anew(
    field: str, value: str, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await states.dead(store) for _ in range(3)]
    await began(raw, HOUR_MS)
    since = await ask(raw, "HGET", KEYS.dead_bytes, ".since_ms")
    await ask(raw, "HSET", KEYS.dead_bytes, field, value)
    for _ in range(3):
        assert (await Retention(client, DEFAULT).trim()).dropped == 0
    if field != ".at":
        assert await letters_of(raw) == {task.key: await size_of(raw, task) for task in tasks}
    assert await ask(raw, "HGET", KEYS.dead_bytes, ".since_ms") == since


async def test_a_trim_takes_a_batch_at_most(client: RedisClient, store: Store, raw: redis.asyncio.Redis) -> None:
    for _ in range(5):
        await states.dead(store)
    retention = Retention(client, Kept(dead_bytes=0), Timing(batch_limit=2))
    assert [await retention.trim() for _ in range(4)] == [Trim(2, 0), Trim(2, 0), Trim(1, None), Trim(0, None)]
    assert TIMING.batch_limit == 200
    assert (await counters(raw))["dead_dropped"] == 5


@pytest.mark.parametrize("score", ["inf", "-inf", "-5", "1e300"])
async def test_a_score_that_is_no_time_stops_nothing(
    score: str, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await states.dead(store)
    await ask(raw, "ZADD", KEYS.dead, "XX", score, task.key)
    await began(raw, 2 * HOUR_MS)
    dropped = (await Retention(client, Kept(dead_ttl_ms=HOUR_MS)).trim()).dropped
    assert dropped == (score.startswith("-"))
    assert (await Retention(client, Kept(dead_bytes=0)).trim()).dropped == 1 - dropped


async def test_summaries_give_way_first_and_then_the_oldest_letters(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    oldest, newest = await died(store, raw, 2 * HOUR_MS), await died(store, raw, HOUR_MS)
    await ask(raw, "HSET", KEYS.results, "number", 20, "until_ms", 2**45, "bytes", 600)
    before_it, written = KEYS.segment(3), KEYS.segment(20 % 16)
    await ask(raw, "HSET", before_it, "one", "{}", "two", "{}")
    await ask(raw, "HSET", written, "three", "{}")
    retention = Retention(client, DEFAULT, Timing(batch_limit=1))

    async def gives_way() -> tuple[int, int]:
        trim = await retention.give_way()
        return trim.results_dropped, trim.dropped

    assert await gives_way() == (2, 0)
    assert [await ask(raw, "EXISTS", segment) for segment in (before_it, written)] == [0, 1]
    assert await ask(raw, "HGET", KEYS.results, "until_ms") == str(2**45).encode()
    assert await gives_way() == (1, 0)
    assert await ask(raw, "HGET", KEYS.results, "until_ms") == b"0", "the next summary begins a segment of its own"
    assert await gives_way() == (0, 1)
    assert [await state_of(raw, task.key) for task in (oldest, newest)] == [MISSING, DEAD]
    assert [await gives_way() for _ in range(2)] == [(0, 1), (0, 0)]
    found = await counters(raw)
    assert (found["results_dropped"], found["dead_dropped"]) == (3, 2)
