"""A day of ends in minutes: what is kept of tasks that have ended stays within its time and its bytes, and what is
dropped is counted. Redis' clock is set an hour forward again and again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from aiohttp import web

from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.support.audit import audited
from tests.support.clock import SettableClock
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client, client_of
from tests.support.waiting import wait_until

HOUR_S, HOURS = 3_600, 24
RESULT_HOURS, DEAD_HOURS = 4, 6
RESULT_BYTES, DEAD_BYTES = scaled(8 * 1_048_576, 1_048_576), scaled(4_000_000, 300_000)
LIMITS = {
    **{"RESULT_TTL": str(RESULT_HOURS * HOUR_S), "RESULT_BYTES": str(RESULT_BYTES)},
    **{"DEAD_TTL": str(DEAD_HOURS * HOUR_S), "DEAD_BYTES": str(DEAD_BYTES)},
}
"""The variables that bound what is kept."""

DELIVERED, DYING, CANCELLED = scaled(3_000, 200), scaled(300, 20), scaled(30, 5)
"""What ends in an hour: it all fits."""

MANY_DELIVERED, MANY_DYING = scaled(45_000, 6_000), scaled(6_000, 600)
"""What ends in the last hour: too much."""


@pytest.fixture
def clock(tmp_path: Path) -> SettableClock:
    """Redis' clock, which is right at first."""
    return SettableClock(tmp_path, 0)


@pytest.fixture
async def server(tmp_path: Path, clock: SettableClock) -> AsyncIterator[RedisProcess]:
    """An empty Redis with that clock."""
    async with redis_process(tmp_path / "redis", environment=clock.environment) as process, audited(process.url):
        yield process


async def answer(request: web.Request) -> web.Response:
    return web.Response(status=500 if request.path == "/dies" else 200)


async def schedule(api: Client, webhook: str, count: int, ttl: float = 0) -> list[str]:
    """Schedule so many tasks, a thousand a request; return their keys."""
    found: list[str] = []
    while len(found) < count:
        tasks = [
            {"webhook": webhook, "ttl": ttl, "data": {"n": n}}
            for n in range(len(found), min(count, len(found) + 1_000))
        ]
        status, content = await api.call("POST", "/schedules", json={"tasks": tasks})
        assert status == 200, content
        found += content["data"]
    return found


class Kept:
    """What Redis keeps, of a moment."""

    def __init__(self, raw: redis.asyncio.Redis) -> None:
        self._raw = raw

    async def summaries(self) -> int:
        return sum([await self._raw.hlen(segment) for segment in KEYS.segments])

    async def summary_bytes(self) -> int:
        """As they are counted: keys, values and 150 bytes each."""
        found = 0
        for segment in KEYS.segments:
            rows = await self._raw.execute_command("HGETALL", segment)
            pairs = rows.items() if isinstance(rows, dict) else zip(rows[::2], rows[1::2], strict=True)
            found += sum(len(key) + len(value) + 150 for key, value in pairs)
        return found

    async def dead_bytes(self) -> int:
        return int(await self._raw.hget(KEYS.dead_bytes, ".bytes") or 0)

    async def memory(self) -> int:
        """Bytes of Redis without those of its connections."""
        return int((await self._raw.info("memory"))["used_memory_dataset"])


async def state_of(api: Client, key: str) -> str:
    status, content = await api.call("GET", f"/schedule/{key}")
    return content["data"]["info"]["state"] if status == 200 else "gone"


async def more_than_fits(api: Client, url: str, kept: Kept) -> dict[str, int]:
    """End more at once than the bytes hold; return what was counted."""
    in_time = await kept.summaries()
    await schedule(api, url, MANY_DELIVERED)
    await schedule(api, f"{url}dies", MANY_DYING)
    await api.drained(300)

    async def has_room() -> bool:
        return await kept.dead_bytes() <= DEAD_BYTES

    await wait_until(has_room, "the letters keep to their bytes", 60)
    counted: dict[str, int] = (await api.stats())["counters"]
    summary_bytes = await kept.summary_bytes()
    assert summary_bytes <= RESULT_BYTES
    # A sixteenth is not full, and one more has gone; each ends where a batch does not fit.
    assert summary_bytes > scaled(80, 55) / 100 * RESULT_BYTES
    assert await kept.summaries() + counted["results_dropped"] == in_time + MANY_DELIVERED
    assert await kept.dead_bytes() > 0.9 * DEAD_BYTES
    return counted


@pytest.mark.case("33", "a day of ends in minutes: what is kept of them, and Redis' memory")
async def test_what_is_kept_of_ends_stays_within_its_time_and_its_bytes(
    raw: redis.asyncio.Redis, clock: SettableClock, checker: Checker, receiver: Receiver, figures: Figures
) -> None:
    receiver.behaviour = answer
    service = await checker.start(RETRIES="0", **LIMITS)
    kept, first_of_hours, memory = Kept(raw), list[tuple[str, str]](), list[int]()

    async def has_few_dead(most: int) -> bool:
        return bool(await raw.zcard(KEYS.dead) <= most)

    async with client_of(service) as api:
        for hour in range(HOURS):
            delivered = await schedule(api, receiver.url, DELIVERED)
            dying = await schedule(api, f"{receiver.url}dies", DYING)
            for key in await schedule(api, receiver.url, CANCELLED, ttl=60):
                await api.call("DELETE", f"/schedule/{key}")
            first_of_hours.append((delivered[0], dying[0]))
            await api.drained(60)
            # A burial wakes the trimmer.
            most = DYING * (DEAD_HOURS + 1)
            await wait_until(lambda most=most: has_few_dead(most), "the oldest letters are dropped")  # type: ignore[misc]
            memory.append(await kept.memory())
            if hour < HOURS - 1:
                clock.set(clock.ahead_s + HOUR_S)
        states = [(await state_of(api, one), await state_of(api, other)) for one, other in first_of_hours]
        assert {one for one, _ in states[-RESULT_HOURS:]} == {"delivered"}
        assert {one for one, _ in states[: -RESULT_HOURS - 2]} == {"gone"}
        assert {other for _, other in states[-DEAD_HOURS:]} == {"dead"}
        assert {other for _, other in states[: -DEAD_HOURS - 1]} == {"gone"}
        counted = (await api.stats())["counters"]
        assert counted["results_dropped"] == 0, "all of it fits"
        assert counted["died"] == HOURS * DYING
        assert counted["dead_dropped"] == HOURS * DYING - await raw.zcard(KEYS.dead)
        # Once the first have gone, as many come as go.
        before, after = max(memory[HOURS // 3 : 2 * HOURS // 3]), max(memory[2 * HOURS // 3 :])
        assert after <= 1.05 * before + 100_000, memory

        counted = await more_than_fits(api, receiver.url, kept)
        summaries, summary_bytes = await kept.summaries(), await kept.summary_bytes()
        dead = await raw.zcard(KEYS.dead)
        assert dead + counted["dead_dropped"] == counted["died"] == HOURS * DYING + MANY_DYING
        assert await raw.hlen(KEYS.tasks) == dead
        grown = await kept.memory() - after
        assert grown <= 1.25 * (RESULT_BYTES + DEAD_BYTES)
    figures.note(
        hours=HOURS,
        ended=HOURS * (DELIVERED + DYING + CANCELLED) + MANY_DELIVERED + MANY_DYING,
        memory_of_a_third_kb=before / 1024,
        and_of_the_next_kb=after / 1024,
        summaries=summaries,
        of_bytes=summary_bytes / RESULT_BYTES,
        results_dropped=counted["results_dropped"],
        dead_dropped=counted["dead_dropped"],
        grown_by_too_much_kb=grown / 1024,
    )
