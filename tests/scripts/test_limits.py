"""Limits, permits and breakers, as the scripts have them."""

import hashlib
import time
from dataclasses import replace

import msgspec
import pytest
import redis.asyncio

from redis_scheduler.store import limiting as limits
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Asked, HostState, Judged, Limiting, PermitAnswer
from redis_scheduler.task.limit import Breaking, Limit, read_limit
from redis_scheduler.task.timing import DEFAULT, LAST_MS
from tests.scripts.states import HELD, Maker, State, ask, change, held, held_retry, in_delivery, state_of
from tests.scripts.verbs import LIMIT
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until

Redis = redis.asyncio.Redis

HOLD, BEGIN, BEGIN_WITH_PERMIT = PermitAnswer
AT_ONCE = replace(DEFAULT, breaker_well_ms=0, breaker_step_ms=0, breaker_gap_ms=0)
"""A breaker opens at once, and is probed at once."""


def asked(*keys: str, limit: str = LIMIT) -> list[Asked]:
    return [Asked(key, limit) for key in keys]


async def state(limiting: Limiting) -> HostState:
    [found] = await limiting.states([LIMIT])
    return found


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


async def test_of_a_rate_more_may_begin_soon_without_asking(store: Store, client: RedisClient) -> None:
    limiting = Limiting(client, default=Limit(rate=100))

    async def permitted(*more: int, limit: str = LIMIT, by: Limiting = limiting) -> list[int]:
        return await by.permit([Asked(f"task-{at}", limit, 0, wanted) for at, wanted in enumerate(more)])

    assert await permitted(5, 0) == [BEGIN_WITH_PERMIT + 5, BEGIN]
    assert sum(max(0, found - 1) for found in await permitted(1_000)) in range(22, 27)  # what the window had left
    assert await permitted(5) == [HOLD]
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


def breaking(client: RedisClient, held_most_ms: int = 3_600_000) -> Limiting:
    return Limiting(client, AT_ONCE, breaking=Breaking(3, held_most_ms))


async def fail(limiting: Limiting, failures: int = 1, wells: int = 0) -> str:
    """Report attempts; the state of the breaker then."""
    await limiting.judge([Judged(LIMIT, failures, wells)])
    breaker = (await state(limiting)).breaker
    return "closed" if breaker is None else f"{breaker.state} {breaker.step or ''}".strip()


async def test_a_breaker_opens_after_failures_in_a_row(client: RedisClient) -> None:
    limiting = breaking(client)
    assert [await fail(limiting), await fail(limiting), await fail(limiting, 0, 1)] == ["closed"] * 3
    assert [await fail(limiting, 2, 4), await fail(limiting)] == ["closed", "open"]


async def test_a_breaker_stays_closed_while_any_was_well_lately(client: RedisClient) -> None:
    limiting = Limiting(client, breaking=Breaking(3))
    assert [await fail(limiting, 100) for _ in range(3)] == ["closed"] * 3


async def test_an_open_breaker_lets_one_probe_begin_and_closes_in_ten_steps(store: Store, client: RedisClient) -> None:
    limiting = breaking(client)
    assert await fail(limiting, 3) == "open"
    assert await limiting.permit(asked("a", "b")) == [BEGIN_WITH_PERMIT, HOLD]
    await limiting.admit(["a"])
    assert [await fail(limiting, 0, 1) for _ in range(11)] == [f"closing {step}" for step in range(1, 11)] + ["closed"]
    assert await client.command("EXISTS", KEYS.breakers, read=int) == 0


async def test_a_closing_breaker_lets_a_tenth_begin_and_opens_again(client: RedisClient) -> None:
    limiting = breaking(client)
    await fail(limiting, 3)
    await fail(limiting, 0, 1)
    answers = await limiting.permit(asked(*map(str, range(30))))
    assert answers.count(BEGIN_WITH_PERMIT) == 10
    assert [await fail(limiting, 1, 1), await fail(limiting, 2, 1)] == ["closing 2", "open"]


async def line_of(raw: Redis, store: Store, count: int) -> list[bytes]:
    """So many held tasks, in the order of their line."""
    for _ in range(count):
        await held(store)
    keys: list[bytes] = await ask(raw, "ZRANGE", KEYS.held, 0, -1)
    return keys


async def test_a_probe_is_taken_at_random_from_the_line(store: Store, client: RedisClient, raw: Redis) -> None:
    limiting, places = breaking(client), set[int]()
    await fail(limiting, 3)
    line, ended = await line_of(raw, store, 20), list[str]()
    for _ in range(10):
        assert (await limiting.admit(ended)).admitted == 1
        left = await ask(raw, "ZRANGE", KEYS.held, 0, -1)
        [probe] = set(line) - set(left)
        places.add(line.index(probe) * 20 // len(line))
        line, ended = left, [probe.decode()]
    # Each the first: tasks of one client that fail would keep those of others waiting.
    assert len(places) > 2


async def test_what_a_closing_breaker_admits_is_from_all_of_the_line(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    limiting = breaking(client)
    await fail(limiting, 3)
    line = await line_of(raw, store, 30)
    for number in range(10):  # in lines before this one, or behind it
        task = await in_delivery(store)
        task.claim.record = msgspec.structs.replace(task.claim.record, origin=f"http://host-{number}")
        assert await store.hold([task.claim]) == [1]
        await limiting.say(f"host-{number}:80", Limit(is_paused=True))
    await fail(limiting, 0, 1)
    assert (await limiting.admit()).admitted == 10
    left = await ask(raw, "ZRANGE", KEYS.held, 0, -1)
    assert [line.index(key) // 3 for key in line if key not in left] == list(range(10))
    for _ in range(9):
        await fail(limiting, 0, 1)
    for key in line:
        await limiting.admit([key.decode()])
    assert await ask(raw, "ZCARD", KEYS.held) == 10


async def test_gaps_between_probes_grow(client: RedisClient, raw: Redis) -> None:
    limiting = Limiting(client, replace(AT_ONCE, breaker_gap_ms=1_000), breaking=Breaking(1))
    await fail(limiting)
    for gap_ms in (1_000, 2_000, 4_000):
        kept = (await ask(raw, "HGET", KEYS.breakers, LIMIT)).split()
        now_ms = redis_ms(await ask(raw, "TIME"))
        await ask(raw, "HSET", KEYS.breakers, LIMIT, b" ".join([*kept[:4], b"%d" % (now_ms - 1)]))
        assert await limiting.permit(asked("a", "b")) == [BEGIN_WITH_PERMIT, HOLD]
        await limiting.admit(["a"])
        breaker = (await state(limiting)).breaker
        assert breaker is not None
        assert gap_ms <= breaker.next_ms - now_ms < gap_ms + 900


async def test_a_report_tells_what_it_did(store: Store, client: RedisClient) -> None:
    limiting = breaking(client)

    async def told(failures: int, wells: int) -> tuple[str, str, int, int]:
        [verdict] = await limiting.judge([Judged(LIMIT, failures, wells)])
        assert verdict.host == LIMIT
        return verdict.before, verdict.after, verdict.failures, verdict.number

    assert await told(2, 0) == ("closed", "closed", 2, 0)
    began_ms = redis_ms(await client.command("TIME", read=lambda answer: answer))
    assert await told(1, 0) == ("closed", "open", 3, 0)
    assert await told(1, 0) == ("open", "open", 1, 0)
    for key in "ab":
        assert await limiting.permit(asked(key)) == [BEGIN_WITH_PERMIT]
        await limiting.admit([key])
    breaker = (await state(limiting)).breaker
    assert breaker is not None
    assert breaker.probes == 2
    assert await told(0, 1) == ("open", "closing", 0, 2)
    assert await told(0, 1) == ("closing", "closing", 0, 1)
    assert await told(2, 1) == ("closing", "open", 2, 2)
    assert await told(0, 1) == ("open", "closing", 0, 0)
    for step in range(1, 10):
        assert await told(0, 1) == ("closing", "closing", 0, step)
    [verdict] = await limiting.judge([Judged(LIMIT, 0, 1)])
    assert (verdict.before, verdict.after) == ("closing", "closed")
    assert began_ms - 1 <= verdict.since_ms <= redis_ms(await client.command("TIME", read=lambda answer: answer))


async def test_what_a_breaker_has_held_for_long_leaves_at_a_pace(store: Store, client: RedisClient) -> None:
    limiting = Limiting(client, replace(AT_ONCE, breaker_gap_ms=60_000, admission_interval_ms=1), breaking=Breaking(1))
    await fail(limiting)
    for _ in range(45):
        await held(store)
    impatient = Limiting(client, limiting._timing, breaking=Breaking(1, held_most_ms=-1_000))
    first, began = (await impatient.admit()).admitted, time.monotonic()
    assert first == 30  # 0.3 s of 100 a second
    admitted = first

    async def is_empty() -> bool:
        nonlocal admitted
        admitted += (await impatient.admit()).admitted
        return admitted == 45

    await wait_until(is_empty, "all were admitted")
    assert time.monotonic() - began > 0.14
    assert (await state(impatient)).held == 0


async def test_what_a_breaker_has_held_for_long_leaves_within_its_own_limit(store: Store, client: RedisClient) -> None:
    limiting = Limiting(
        client, replace(AT_ONCE, breaker_gap_ms=60_000), Limit(concurrency=2), Breaking(1, held_most_ms=-1_000)
    )
    await fail(limiting)
    for _ in range(5):
        await held(store)
    assert (await limiting.admit()).admitted == 2


async def test_a_breaker_holds_a_task_no_longer_than_it_may(store: Store, client: RedisClient, raw: Redis) -> None:
    limiting = Limiting(client, replace(AT_ONCE, breaker_gap_ms=60_000), breaking=Breaking(1))
    await fail(limiting)
    tasks = [await held(store) for _ in range(3)]
    assert (await limiting.admit()).admitted == 0
    await ask(raw, "HDEL", KEYS.sweep, "round_ms")
    impatient = Limiting(client, AT_ONCE, breaking=Breaking(1, held_most_ms=-1_000))
    assert (await impatient.admit()).admitted == 3
    assert await impatient.permit(asked(*(task.key for task in tasks))) == [BEGIN_WITH_PERMIT] * 3
