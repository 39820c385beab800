"""Others on one database: the start says so, in one line each, be it another deployment or a foreign program under our
names.

Redis keeps nothing of a token.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.neighbour import neighbours, stranger
from tests.scripts import states
from tests.support.names import KEYS
from tests.support.service import Process, serving
from tests.support.store import Store
from tests.support.waiting import wait_until

OURS, THEIRS = "our-secret-token-1", "their-secret-token-2"


async def _put_index(raw: redis.asyncio.Redis) -> None:
    await raw.set(KEYS.type_index("mail"), "foreign")
    await raw.sadd(KEYS.types, "mail")


async def warned(raw: redis.asyncio.Redis, folder: Path, url: str, token: str, role: str, **variables: str) -> int:
    """Start a process, stop it once it has left its mark, and return how often it warned of neighbours."""
    before = await raw.get(KEYS.token_mark)

    async def has_met() -> bool:
        return before != await raw.get(KEYS.token_mark)

    arguments = {"REDIS_URL": url, "API_AUTH": token, "HOST": "127.0.0.1"} | variables
    process: Process
    async with serving(folder, role, **arguments) as process:
        await wait_until(has_met, "it has met Redis")
    return sum("had another API_AUTH" in event["warning"] for event in process.events("hazard"))


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_the_start_of_another_deployment_is_told_in_one_line(
    processes: str, redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    starts = [(OURS, "api", 0), (OURS, "worker", 0), (THEIRS, "worker", 1), (THEIRS, "api", 0), (OURS, "api", 1)]
    for token, role, lines in starts:
        assert await warned(raw, tmp_path, redis_url, token, role, PROCESSES=processes) == lines
    await raw.flushall()
    assert await warned(raw, tmp_path, redis_url, THEIRS, "api", PROCESSES=processes) == 0


async def test_redis_keeps_a_salted_mark_and_nothing_of_the_token(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    marks = set()
    for _ in range(3):
        assert await stranger(client, OURS) is None
        mark = bytes(await raw.get(KEYS.token_mark) or b"")  # type: ignore[arg-type]  # not decoded here
        assert OURS.encode() not in mark
        marks.add(mark.split()[0])
    assert len(marks) == 3


@pytest.mark.parametrize("found", ["", "x", ":", "salt:mark", "salt:mark elsewhere", "\xff:\xff host", "0123456789:af"])
async def test_what_another_program_has_in_place_of_the_mark_is_told_of_and_stays(
    found: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await raw.set(KEYS.token_mark, found.encode("latin-1"))
    [warning] = await neighbours(client, OURS)
    assert f"key {KEYS.token_mark} holds what this service did not write" in warning
    assert await client.command("GET", KEYS.token_mark) == found.encode("latin-1")
    await raw.delete(KEYS.token_mark)


Put = Callable[[redis.asyncio.Redis], Awaitable[object]]

FOREIGN: dict[str, tuple[Put, str]] = {
    "a record": (lambda raw: raw.hset(KEYS.tasks, "job:1", "x"), "task job:1 has a record that cannot be read"),
    "a record of nowhere": (
        lambda raw: raw.hset(KEYS.tasks, "job:1", '{"due":1,"webhook":"http://a/","ttl":1}'),
        "task job:1 has a record but stands nowhere",
    ),
    "a member of due": (
        lambda raw: raw.zadd(KEYS.due, {"job:1": 9e12}),
        "task job:1 stands in due without a record",
    ),
    "a dead letter": (lambda raw: raw.zadd(KEYS.dead, {"job:1": 1}), "task job:1 stands in dead without a record"),
    "an entry": (lambda raw: raw.xadd(KEYS.queue, {"payload": "x", "job": "1"}), "is in the queue but not that of"),
    "a place in the queue": (
        lambda raw: raw.hset(KEYS.entries, "job:1", "1-1"),
        "task job:1 stands in entries without a record",
    ),
    "a failure": (lambda raw: raw.hset(KEYS.failures, "job:1", "x"), "task job:1 has a failure but no record"),
    "a counter": (lambda raw: raw.hset(KEYS.counters, "scheduled", "many"), "counter scheduled is not a number"),
    "an index": (_put_index, f"key {KEYS.type_index('mail')} holds what this service did not write"),
    "a type": (lambda raw: raw.sadd(KEYS.types, "mail"), "type mail is named but has no task"),
}


@pytest.mark.parametrize("what", FOREIGN)
async def test_what_other_hands_put_into_our_places_is_told_at_the_start_in_one_line(
    what: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    put, said = FOREIGN[what]
    assert await neighbours(client, OURS) == []
    await put(raw)
    before = await raw.dbsize(), await raw.hlen(KEYS.tasks), await raw.xlen(KEYS.queue)
    [warning] = await neighbours(client, OURS)
    assert said in warning
    assert "doctor" in warning
    assert (await raw.dbsize(), await raw.hlen(KEYS.tasks), await raw.xlen(KEYS.queue)) == before
    await raw.flushall()


async def test_of_many_the_line_tells_the_first_and_how_many_more(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await raw.hset(KEYS.tasks, mapping={f"job:{number}" + 10_000 * "x": "x" for number in range(500)})
    [warning] = await neighbours(client, OURS)
    assert "and 9 more in a sample" in warning
    assert len(warning) < 1_000
    await raw.flushall()


@pytest.mark.parametrize("state", states.MAKERS)
async def test_our_own_tasks_are_nothing_to_tell_of(state: str, client: RedisClient, store: Store) -> None:
    for _ in range(3):
        await states.MAKERS[state][0](store)
    assert await neighbours(client, OURS) == []


async def test_a_start_tells_of_a_foreign_record(redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path) -> None:
    await raw.hset(KEYS.tasks, "job:1", "x")
    for role in ("api", "worker"):
        arguments = {"REDIS_URL": redis_url, "API_AUTH": OURS, "HOST": "127.0.0.1", "DELIVERY_AUTH": "derived"}
        async with serving(tmp_path, role, **arguments) as process:
            await wait_until(lambda: process.events("hazard"), "it tells of it")
            assert ["task job:1 has a record that" in event["warning"] for event in process.events("hazard")] == [True]
    await raw.flushall()
