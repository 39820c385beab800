"""Limits and permits, as the scripts have them."""

import hashlib
import time
from dataclasses import replace

import msgspec
import pytest
import redis.asyncio

from redis_scheduler.store import limiting as limits
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Asked, HostState, Limiting, in_all
from redis_scheduler.task.limit import Breaker, Limit, read_limit
from redis_scheduler.task.timing import DEFAULT, LAST_MS
from tests.scripts.permits import BEGIN, BEGIN_WITH_PERMIT, HOLD, asked, state
from tests.scripts.states import HELD, Maker, State, ask, change, held, held_retry, in_delivery, state_of
from tests.scripts.verbs import LIMIT
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until

Redis = redis.asyncio.Redis


async def test_no_more_permits_are_given_than_a_concurrency_has(client: RedisClient) -> None:
    limiting = Limiting(client, default=Limit(concurrency=2))
    assert await limiting.permit(asked("a", "b", "c")) == [BEGIN_WITH_PERMIT, BEGIN_WITH_PERMIT, HOLD]
    # Whoever has one keeps it.
    assert await limiting.permit(asked("c", "a")) == [HOLD, BEGIN_WITH_PERMIT]
    assert (await state(limiting)).running == 2
    await limiting.admit(["a"])
    assert await limiting.permit(asked("c", "d")) == [BEGIN_WITH_PERMIT, HOLD]


async def test_a_rate_lets_no_more_begin_than_its_window_has(client: RedisClient, raw: Redis) -> None:
    limiting = Limiting(client, default=Limit(rate=10))
    answers = await limiting.permit(asked(*map(str, range(6))))
    assert answers == [BEGIN] * 3 + [HOLD] * 3  # 0.3 s of it
    limiting = Limiting(client, default=Limit(rate=1, per_s=3_600))
    assert await limiting.permit(asked("a", "b", limit="other:80")) == [BEGIN, HOLD]


@pytest.mark.parametrize("parts", [1, 3, 4])
async def test_the_parts_that_shards_keep_come_to_the_whole_limit(parts: int, client: RedisClient) -> None:
    keys = list(map(str, range(40)))
    for limit, whole in ((Limit(concurrency=10), 10), (Limit(rate=80), 24)):
        limiting, begun = Limiting(client, default=limit), list[int]()
        limiting.parts = parts
        for limiting.part in range(parts):
            name = f"{whole}-{limiting.part}:80"
            begun.append(40 - (await limiting.permit(asked(*keys, limit=name))).count(HOLD))
        assert sum(begun) == whole
        assert max(begun) - min(begun) <= 1


async def test_each_shard_lets_one_begin(client: RedisClient) -> None:
    limiting = Limiting(client, default=Limit(concurrency=1))
    limiting.part, limiting.parts = 3, 4
    assert await limiting.permit(asked("a", "b")) == [BEGIN_WITH_PERMIT, HOLD]


async def test_the_limits_of_another_shard_are_copied(client: RedisClient) -> None:
    limiting = Limiting(client)
    await limiting.say("old:1", Limit(rate=1))
    await limiting.say("other:1", Limit(rate=1))
    wanted = {"other:1": Limit(rate=2), "new:1": Limit(is_paused=True)}
    await limiting.copy(wanted)
    assert await limiting.said() == wanted


def test_how_a_limit_stands_in_all_shards() -> None:
    closing, opened = Breaker("closing", 1, 2, step=3), Breaker("open", 3, 4, probes=1)
    states = [HostState("a:1", Limit(rate=1), 1, 2, closing), HostState("a:1", None, 3, 4, opened)]
    assert in_all(states) == HostState("a:1", Limit(rate=1), 4, 6, opened)
    assert in_all(states[:1]) == states[0]
    assert in_all([HostState("a:1", None, 0, 0)] * 2) == HostState("a:1", None, 0, 0)


async def test_of_a_rate_more_may_begin_soon_without_asking(store: Store, client: RedisClient) -> None:
    limiting = Limiting(client, default=Limit(rate=100))

    async def permitted(*more: int, limit: str = LIMIT, by: Limiting = limiting) -> list[int]:
        return await by.permit([Asked(f"task-{at}", limit, 0, wanted) for at, wanted in enumerate(more)])

    began = time.monotonic()
    assert await permitted(5, 0) == [BEGIN_WITH_PERMIT + 5, BEGIN]
    left = sum(max(0, found - 1) for found in await permitted(1_000))
    assert 22 <= left <= 26 + 100 * (time.monotonic() - began), "what the window had left"

    async def is_held() -> bool:
        return await permitted(5) == [HOLD]

    await wait_until(is_held, "none may begin within 10 ms of the one before")
    # Where permits are counted each asks; and so does each where anything is held, or stands still.
    assert await permitted(5, limit="a:1", by=Limiting(client, default=Limit(concurrency=3, rate=100))) == [2]
    assert await permitted(5, limit="b:1", by=Limiting(client, default=Limit(concurrency=3))) == [2]
    await limiting.say("c:1", Limit(is_paused=True))
    assert await permitted(5, limit="c:1") == [HOLD]
    task = await in_delivery(store)
    task.claim.record = msgspec.structs.replace(task.claim.record, origin="http://d")
    assert await store.hold([task.claim]) == [1]
    assert await permitted(5, limit="d:80") == [HOLD]
    assert await limiting.permit([Asked("x", "d:80", 1, 5)]) == [BEGIN]


async def test_what_is_said_goes_before_what_counts_for_all(client: RedisClient) -> None:
    limiting = Limiting(client, default=Limit(concurrency=1))
    assert await limiting.say(LIMIT, Limit(concurrency=0))
    assert await limiting.permit(asked("a", "b")) == [BEGIN, BEGIN]
    assert await limiting.say(LIMIT, Limit(is_paused=True))
    assert await limiting.permit(asked("a")) == [HOLD]
    assert await limiting.say(LIMIT, None)
    assert not await limiting.say(LIMIT, None)
    assert await limiting.permit(asked("a", "b")) == [BEGIN_WITH_PERMIT, HOLD]


async def test_what_stands_in_the_line_goes_first(store: Store, client: RedisClient) -> None:
    limiting = Limiting(client, default=Limit(concurrency=5))
    await held(store)
    assert await limiting.permit(asked("a")) == [HOLD]
    assert (await limiting.admit()).admitted == 1
    assert await limiting.permit(asked("a")) == [BEGIN_WITH_PERMIT]


async def lines_of(raw: Redis, limit: str = LIMIT) -> list[int]:
    """The eight lines that a limit may have."""
    digits = hashlib.sha1(
        await ask(raw, "HGET", KEYS.sweep, "salt") + limit.encode(), usedforsecurity=False
    ).hexdigest()
    return [int(digits[first : first + 5], 16) % 2**19 for first in range(0, 40, 5)]


async def test_no_limit_takes_the_line_of_another(store: Store, client: RedisClient, raw: Redis) -> None:
    limiting = Limiting(client, default=Limit(concurrency=1))
    assert await limiting.permit(asked("a", limit="other:80")) == [BEGIN_WITH_PERMIT]
    lines = sorted(set(await lines_of(raw)))
    *taken, last = lines
    for line in taken:
        await ask(raw, "HSET", KEYS.lines, line, f"{LAST_MS} host-{line}:80")
    assert await limiting.permit(asked("b", "c")) == [BEGIN_WITH_PERMIT, HOLD]
    assert (await ask(raw, "HGET", KEYS.lines, last)).endswith(LIMIT.encode())
    # All eight are others': the limit counts all the same, so nothing begins.
    await ask(raw, "HSET", KEYS.lines, last, f"{LAST_MS} host-{last}:80")
    task = await in_delivery(store)
    assert await limiting.permit(asked(task.key)) == [HOLD]
    assert await store.hold([task.claim]) == [2]
    assert (await state(limiting)).held == 0
    assert await limiting.permit([Asked(task.key, LIMIT, 1)]) == [BEGIN]


async def test_no_client_can_tell_which_names_have_lines_in_common(client: RedisClient, raw: Redis) -> None:
    limiting, found = Limiting(client, default=Limit(concurrency=1)), set[int]()
    for _ in range(8):
        assert await limiting.permit(asked("a", "b")) == [BEGIN_WITH_PERMIT, HOLD]
        [line] = await ask(raw, "HKEYS", KEYS.lines)
        assert int(line) in await lines_of(raw)
        found.add(int(line))
        await ask(raw, "DEL", KEYS.lines, KEYS.sweep, KEYS.permits)  # another deployment
    assert len(found) > 4


async def test_a_deployment_keeps_its_salt(store: Store, client: RedisClient, raw: Redis) -> None:
    limiting = Limiting(client, default=Limit(concurrency=1))
    await held(store)
    salt = await ask(raw, "HGET", KEYS.sweep, "salt")
    assert len(salt) == 32
    assert await limiting.permit(asked("a")) == [HOLD]
    assert await ask(raw, "HGET", KEYS.sweep, "salt") == salt


async def test_permits_of_a_worker_that_is_gone_end(client: RedisClient) -> None:
    limiting = Limiting(client, replace(DEFAULT, lease_ms=15_100, window_ms=60_000), Limit(concurrency=1))
    short = Limiting(client, replace(DEFAULT, lease_ms=1, renew_interval_s=0.0004), Limit(concurrency=1))
    assert await short.permit(asked("a")) == [BEGIN_WITH_PERMIT]
    for _ in range(1_000):
        if (await limiting.permit(asked("b"))) == [BEGIN_WITH_PERMIT]:
            break
    else:
        raise AssertionError("a permit does not end")


async def test_lines_of_which_nothing_is_left_are_forgotten(store: Store, client: RedisClient, raw: Redis) -> None:
    limiting = Limiting(client)
    task = await held(store)
    assert await state_of(raw, task.key) == HELD
    assert (await limiting.names(), (await state(limiting)).held) == (([LIMIT], False), 1)
    await limiting.admit()
    await limiting.permit(asked(task.key))
    await ask(raw, "HDEL", KEYS.sweep, "round_ms")
    await limiting.admit()
    assert await ask(raw, "EXISTS", KEYS.lines) == 0


@pytest.mark.parametrize("make", [held, held_retry])
async def test_what_is_under_another_limit_now_is_due_at_once(
    make: Maker, store: Store, client: RedisClient, raw: Redis
) -> None:
    task = await make(store)
    before = await state_of(raw, task.key)
    await store.update([await change(store, task)])
    assert await state_of(raw, task.key) == before
    await store.update([replace(await change(store, task), has_other_limit=True)])
    assert (await state(Limiting(client))).held == 0

    async def is_queued() -> bool:
        return (await store.promote()).moved == 1

    await wait_until(is_queued, "it is due")
    assert await state_of(raw, task.key) == State("queued", attempts=before.attempts)
    # What is not held stays where it is.
    await store.update([replace(await change(store, task), has_other_limit=True)])
    assert await state_of(raw, task.key) == State("queued", attempts=before.attempts)


async def test_as_many_limits_are_kept_as_may_be(client: RedisClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMITS_MOST", 2)
    limiting = Limiting(client)
    assert [await limiting.say(name, Limit(rate=1)) for name in ("a:1", "b:1", "c:1", "a:1")] == [
        True,
        True,
        None,
        True,
    ]


@pytest.mark.parametrize("text", ["", "nonsense", "5", "- 1..2 5 0", "1 1 1 2"])
def test_foreign_text_says_nothing(text: str) -> None:
    assert read_limit(text) == Limit()
