"""join: all processes agree on how many shards there are, and have been; shards but the first keep copies."""

import time
from contextlib import aclosing

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreRefused, StoreUnavailable
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.generations import ANNOUNCED_MS, CLOSED_MS, COMING_MS, STALE_S, Generations
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from tests.scripts.states import ask
from tests.support.names import KEYS


async def test_the_first_process_of_all_begins_with_its_number_of_shards(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    first, second = Deployment(4), Deployment(1)
    for deployment in (first, second, first):
        await deployment.join(client)
        assert (deployment.generations.numbers, deployment.generations.most) == ((4,), 4)
    assert await ask(raw, "ZRANGE", KEYS.shards, "0", "-1", "WITHSCORES") == [b"4", b"0"]
    assert first.generations.to_create() == 4


async def test_where_there_was_never_more_than_one_shard_nothing_stands_of_it(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    for deployment in (Deployment(), Deployment(4), Deployment(0)):
        await deployment.join(client)
        assert deployment.generations.numbers == (1,)
    assert not await ask(raw, "EXISTS", KEYS.shards)


def told(text: bytes, sent: float | None = None) -> Generations:
    """What a process knows that the first shard has told of numbers."""
    found = Generations()
    found.hear(time.monotonic() if sent is None else sent, text)
    return found


async def test_another_shard_keeps_a_copy_by_which_processes_serve_until_the_first_one_tells(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    now_ms = redis_ms(await ask(raw, "TIME"))
    for text in (b"4 0", b"2 %d,4 0" % (now_ms - 1_000)):
        knows = Deployment(0, generations=told(b"%d,%b" % (now_ms, text)))
        for _ in range(2):
            await knows.join(client)
    kept = await ask(raw, "ZRANGE", KEYS.shards, "0", "-1", "WITHSCORES")
    assert kept == [b"4", b"0", b"2", b"%d" % (now_ms - 1_000)]
    starts = Deployment(0)
    await starts.join(client)
    found = starts.generations
    assert (found.known, found.is_first_heard, found.numbers[0], found.most) == (True, False, 2, 4)
    with pytest.raises(StoreUnavailable, match="how many shards"):
        found.to_create()
    # A first shard that lost its data knows of fewer: what the others know of may have tasks still.
    found.hear(time.monotonic(), b"")
    await starts.join(client)
    assert (found.numbers, found.most, found.to_create()) == ((1, 2, 4), 4, 1)


async def test_another_shard_says_that_nothing_has_changed_until_it_keeps_that_a_number_is_coming(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    now_ms = redis_ms(await ask(raw, "TIME"))
    of_others, asked_at = Keys(tag_of("", 1), 1), time.monotonic() - STALE_S - 1
    async with aclosing(RedisClient(client.url, 3, of_others)) as other:
        knows = Deployment(0, generations=told(b"%d,4 0,2 %d" % (now_ms, now_ms - 1_000), asked_at))
        assert knows.generations.is_stale
        await knows.join(other)
        assert (knows.generations.is_stale, knows.generations.to_create()) == (False, 2)
        # Another process is about to announce one that there was before.
        announcing = Deployment(0, generations=told(b"%d,4 0,2 %d" % (now_ms, now_ms - 1_000)))
        coming = announcing.generations.coming(4)
        for _ in range(2):
            await announcing.join(other, coming=coming)
        kept = await ask(raw, "ZRANGE", of_others.shards, "0", "-1", "WITHSCORES")
        assert kept == [b"2", b"%d" % (now_ms - 1_000), b"4", b"%d" % (COMING_MS + now_ms - 1_000)]
        for _ in range(2):  # what it brings was told before, and changes nothing
            await made_stale(knows).join(other)
            assert knows.generations.is_stale
        starts = Deployment(0)
        await starts.join(other)
        assert (starts.generations.numbers[0], starts.generations.most) == (2, 4)
        # The first shard has told it: who knows of that says so.
        knows.generations.hear(asked_at, b"%d,2 %d,4 %d" % (now_ms, now_ms - 1_000, now_ms - 500))
        await knows.join(other)
        assert (knows.generations.is_stale, knows.generations.to_create()) == (False, 4)
        assert (await ask(raw, "ZSCORE", of_others.shards, "4")) == b"%d" % (now_ms - 500)
        # Who has not heard of it neither takes it back, nor creates by what it knows.
        await made_stale(announcing).join(other)
        assert announcing.generations.is_stale
        await announcing.join(other, coming=coming)
        assert (await ask(raw, "ZSCORE", of_others.shards, "4")) == b"%d" % (now_ms - 500)


def made_stale(deployment: Deployment) -> Deployment:
    """It has heard the first shard long ago, which has told what it knows."""
    generations = Generations()
    generations.hear(
        time.monotonic() - STALE_S - 1, b"%d,%b" % (time.time_ns() // 1_000_000, deployment.generations.told)
    )
    deployment.generations = generations
    return deployment


async def test_a_number_is_announced_only_behind_the_newest_that_the_process_knew(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    first, late = Deployment(), Deployment()
    for deployment in (first, late):
        await deployment.join(client)
    late.announced = late.generations.coming(2)
    first.announced = first.generations.coming(4)
    await first.join(client)
    assert first.announced is None
    await ask(raw, "ZADD", KEYS.shards, "1000", "4")
    await late.join(client)
    assert (late.announced, late.generations.numbers) == (None, (4, 1))
    assert await ask(raw, "ZRANGE", KEYS.shards, "0", "-1") == [b"1", b"4"]


async def test_another_number_is_announced_once_and_holds_a_minute_later(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    deployment, other = Deployment(), Deployment()
    await deployment.join(client)
    deployment.announced = deployment.generations.coming(4)
    await deployment.join(client)
    before = await ask(raw, "ZRANGE", KEYS.shards, "0", "-1", "WITHSCORES")
    assert before[:3] == [b"1", b"0", b"4"]
    now_ms = redis_ms(await ask(raw, "TIME"))
    assert ANNOUNCED_MS - 2_000 < int(before[3]) - now_ms <= ANNOUNCED_MS + 2_000
    other.announced = other.generations.coming(4)
    await other.join(client)
    assert await ask(raw, "ZRANGE", KEYS.shards, "0", "-1", "WITHSCORES") == before
    assert (other.generations.numbers, other.generations.newest, other.generations.to_create()) == ((1, 4), 4, 1)
    other.announced = other.generations.coming(2)
    await other.join(client)
    assert await ask(raw, "ZRANGE", KEYS.shards, "0", "-1", "WITHSCORES") == before, "one at a time"
    assert other.announced == (2, other.generations.coming(2).since_ms), "it is told again"
    other.announced = None
    for from_now_ms, numbers, creates in ((CLOSED_MS - 500, (1, 4), False), (-1_000, (4, 1), True)):
        await ask(raw, "ZADD", KEYS.shards, str(redis_ms(await ask(raw, "TIME")) + from_now_ms), "4")
        await other.join(client)
        assert other.generations.numbers == numbers
        if creates:
            assert other.generations.to_create() == 4
        else:
            with pytest.raises(StoreUnavailable, match="is changing"):
                other.generations.to_create()
    other.announced = other.generations.coming(1)
    await other.join(client)
    assert (other.generations.numbers, other.generations.newest) == ((4, 1), 1), "an older number, announced anew"
    other.announced = other.generations.coming(4)
    await other.join(client)
    assert other.generations.numbers == (4, 1), "what holds goes on to hold while another is ahead"


@pytest.mark.parametrize("member", ["0", "16", "four", "4 4"])
async def test_a_number_from_foreign_hands_is_told_of(
    member: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await ask(raw, "ZADD", KEYS.shards, "1", member)
    with pytest.raises(StoreRefused):
        await Deployment().join(client)
    await ask(raw, "DEL", KEYS.shards)
