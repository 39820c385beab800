"""Breakers, as the scripts have them: when they open, what they let begin, and how they close."""

import time
from dataclasses import replace

import msgspec
import pytest
import redis.asyncio

from redis_scheduler.store import limiting as limiting_module
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Judged, Limiting
from redis_scheduler.task.limit import Breaking, Limit
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.permits import BEGIN_WITH_PERMIT, HOLD, asked, state
from tests.scripts.states import ask, held, in_delivery
from tests.scripts.verbs import LIMIT
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until

Redis = redis.asyncio.Redis

AT_ONCE = replace(DEFAULT, breaker_well_ms=0, breaker_step_ms=0, breaker_gap_ms=0)
"""A breaker opens at once, and is probed at once."""


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


async def test_the_breaker_of_a_shard_goes_by_its_part(client: RedisClient) -> None:
    limiting = Limiting(client, AT_ONCE, breaking=Breaking(failures=20))
    limiting.parts = 4
    assert [await fail(limiting, 4), await fail(limiting)] == ["closed", "open"]
    for step in range(1, 11):
        await fail(limiting, 0, 1)
        found = await limiting.permit(asked(*(f"{step}-{number}" for number in range(30))))
        begun = [f"{step}-{number}" for number, answer in enumerate(found) if answer == BEGIN_WITH_PERMIT]
        assert len(begun) == 25 * step // 10  # a fourth of 100, in ten steps
        await limiting.admit(begun)


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


async def test_hosts_to_which_nobody_sends_any_more_are_forgotten(client: RedisClient, raw: Redis) -> None:
    """A client that schedules to thousands of hosts which fail would else take the places of all others for good."""
    now = await client.command("TIME", read=redis_ms)
    row = b"%b 5 1000 60000 %d"
    for name, kind, used in (("open", b"o", 0), ("gone", b"o", 4_000_000), ("half", b"r", 4_000_000)):
        await ask(raw, "HSET", KEYS.breakers, name, row % (kind, now - used))
    await fail(breaking(client))
    assert await ask(raw, "HKEYS", KEYS.breakers) == [b"open", LIMIT.encode()]


@pytest.mark.parametrize(("kind", "is_told"), [(b"c", False), (b"o", True), (b"r", True)])
async def test_workers_hear_that_an_open_breaker_is_forgotten(
    kind: bytes, is_told: bool, client: RedisClient, raw: Redis
) -> None:
    now = await client.command("TIME", read=redis_ms)
    await ask(raw, "HSET", KEYS.breakers, "gone", b"%b 5 1000 60000 %d" % (kind, now - 4_000_000))
    await Limiting(client, breaking=Breaking(3)).judge([Judged(LIMIT, 1, 0)])
    assert await ask(raw, "HKEYS", KEYS.breakers) == [LIMIT.encode()]
    assert await ask(raw, "HEXISTS", KEYS.sweep, "limits") == is_told


async def test_an_open_breaker_is_not_forgotten_while_tasks_are_held_by_it(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    """As behind a pause of its host for hours: all of them would begin at once."""
    limiting = Limiting(client, replace(AT_ONCE, breaker_gap_ms=60_000), breaking=Breaking(1))
    await fail(limiting)
    task = await held(store)
    now = await client.command("TIME", read=redis_ms)
    await ask(raw, "HSET", KEYS.breakers, LIMIT, b"o 5 1000 60000 %d" % (now - 4_000_000))
    await limiting.judge([Judged("other", 1, 0)])
    assert (await state(limiting)).breaker is not None
    await store.pause([task.key])
    await limiting.judge([Judged("other", 1, 0)])
    assert (await state(limiting)).breaker is None


async def test_hosts_that_failed_once_leave_their_places_to_others(
    client: RedisClient, raw: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiting_module, "LIMITS_MOST", 3)
    limiting = Limiting(client, breaking=Breaking(3))
    await limiting.judge([Judged(f"host-{number}", 1, 0) for number in range(3)])
    for _ in range(2):
        await fail(limiting)
    assert await ask(raw, "HEXISTS", KEYS.breakers, LIMIT) == 1
