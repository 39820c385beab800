"""join: all processes on one Redis agree on one id, whatever stands in its place."""

import asyncio
import re
import socket
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import MINUTES_MOST, Deployment
from redis_scheduler.store.ledger import read_ledger, total
from redis_scheduler.store.listeners import LISTENED_MOST, LISTENERS_MOST, Listeners, machine
from redis_scheduler.store.processes import (
    HOSTS_TOLD,
    PIECE,
    PROCESSES_MOST,
    SAID_MS,
    HostTold,
    ProcessSeen,
    Said,
    encode_said,
    processes_of,
)
from redis_scheduler.store.seen_hosts import KEPT_MOST, HostSeen, SeenHosts, add
from redis_scheduler.store.series import are_series_listed
from redis_scheduler.task.tally import bound_at
from tests.scripts import states
from tests.scripts.conftest import Full
from tests.scripts.states import ask, new_task
from tests.scripts.test_join_shards import told
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until

ID = "0123456789abcdef" * 2


async def test_the_first_process_makes_the_id_and_all_others_take_it(client: RedisClient) -> None:
    deployments = [Deployment() for _ in range(3)]
    for deployment in deployments:
        await deployment.join(client)
    [made] = {deployment.id for deployment in deployments}
    assert len(made) == 32
    assert await client.command("GET", KEYS.instance) == made.encode()


async def test_a_redis_that_was_emptied_gets_the_same_id_again(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    deployment = Deployment()
    await deployment.join(client)
    before = deployment.id
    assert (await read_ledger(client)).emptied_ms == 0
    await ask(raw, "FLUSHALL")
    await deployment.join(client)
    assert (deployment.id, await client.command("GET", KEYS.instance)) == (before, before.encode())
    ledger = await read_ledger(client)
    assert 0 <= ledger.now_ms - ledger.emptied_ms < 10_000
    assert (ledger.counters, total([ledger, ledger]).emptied_ms) == ({}, ledger.emptied_ms)


async def test_an_id_that_alone_was_deleted_is_no_loss_of_data(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    deployment = Deployment()
    deployment.consumer = "a"
    await deployment.join(client)
    await ask(raw, "DEL", KEYS.instance)
    await deployment.join(client)
    assert (await read_ledger(client)).emptied_ms == 0


async def test_another_id_is_taken_and_told(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    deployment, told = Deployment(), list[str]()
    deployment.tell(told.append)
    await deployment.join(client)
    await deployment.join(client)
    await ask(raw, "SET", KEYS.instance, ID)
    await deployment.join(client)
    assert told == [told[0], ID]
    deployment.tell(told.append)
    assert told[2:] == [ID]


async def test_what_foreign_hands_put_there_is_told_of_and_neither_taken_nor_deleted(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    for command in (
        ("SET", KEYS.instance, "x\r\nAuthorization: other"),
        ("SET", KEYS.instance, ""),
        ("SET", KEYS.instance, ID.upper()),
        ("SET", KEYS.instance, ID[1:]),
        ("SET", KEYS.instance, f"{ID}0"),
        ("HSET", KEYS.instance, "field", "value"),
        ("RPUSH", KEYS.instance, ID),
    ):
        deployment = Deployment()
        await deployment.join(client)
        before = deployment.id
        await ask(raw, "DEL", KEYS.instance)
        await ask(raw, *command)
        held = await ask(raw, "DUMP", KEYS.instance)
        for _ in range(2):
            with pytest.raises(StoreRefused, match=f"{re.escape(KEYS.instance)}: WRONGTYPE .* foreign program"):
                await deployment.join(client)
        assert (deployment.id, await ask(raw, "DUMP", KEYS.instance)) == (before, held)
        await ask(raw, "DEL", KEYS.instance)
        await deployment.join(client)
        assert await client.command("GET", KEYS.instance) == before.encode()


async def test_in_a_new_deployment_all_series_are_listed_whichever_comes_first(
    redis_url: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    deployment = Deployment()
    for is_lost in (False, True):  # whether this process joined before
        await raw.flushall()
        starts = RedisClient(redis_url, 3, KEYS) if not is_lost else client
        await Store(starts, "worker-a").schedule([new_task()])
        await deployment.join(starts)
        assert await are_series_listed(client)
        if starts is not client:
            await starts.aclose()


async def test_in_an_older_one_some_may_be_missing(
    redis_url: str, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    deployment = Deployment()
    deployment.process, deployment.said = "a", lambda: b"{}"
    await store.schedule([new_task()])
    for gone in ((KEYS.instance, KEYS.series_listed), (KEYS.series_listed,), (KEYS.instance,)):
        await raw.delete(*gone)
        starts = RedisClient(redis_url, 3, KEYS)
        await deployment.join(client, says=True)
        await Deployment().join(starts)
        assert not await are_series_listed(client), gone
        await starts.aclose()
    # A deployment of before, which has no task just now: its processes may run on beside.
    await store.purge()
    await deployment.join(client)
    assert not await are_series_listed(client)


async def test_all_learn_on_what_each_listens(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    api, worker = Deployment(), Deployment()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api.listeners.listen([listener])
        port = listener.getsockname()[1]
    assert api.listeners.ports == {port}
    await worker.join(client)
    assert not worker.listeners.ports
    known = worker.listeners.ports  # whoever holds it sees what comes
    await api.join(client)
    await worker.join(client)
    assert known == {port}
    elsewhere = f"{'0' * 16} 8080 192.0.2.7"
    for text in (elsewhere, "nonsense", f"{'0' * 16} 8081 127.0.0.1"):
        await ask(raw, "ZADD", KEYS.listeners, 10**15, text)
    await worker.join(client)
    assert (known, worker.listeners.addresses) == ({port}, {("192.0.2.7", 8080)})
    # What is told no more is forgotten.
    await ask(raw, "ZADD", KEYS.listeners, 1, elsewhere)
    await ask(raw, "ZADD", KEYS.listeners, 1, api.listeners.told()[0])
    for deployment in (worker, api):
        await deployment.join(client)
    assert (known, worker.listeners.addresses, api.listeners.ports) == (set(), set(), {port})
    assert await ask(raw, "ZSCORE", KEYS.listeners, elsewhere) is None


async def test_as_many_addresses_are_kept_as_may_be(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    for number in range(LISTENERS_MOST + 5):
        await ask(raw, "ZADD", KEYS.listeners, 10**15 + number, f"{'0' * 16} {number} 192.0.2.7")
    deployment = Deployment()
    deployment.listeners.own = [("0.0.0.0", port) for port in range(1, 40)]
    assert len(deployment.listeners.told()) == LISTENED_MOST
    await deployment.join(client)
    assert await ask(raw, "ZCARD", KEYS.listeners) == LISTENERS_MOST
    assert len(deployment.listeners.addresses) == LISTENERS_MOST


def test_a_socket_on_all_addresses_tells_those_towards_redis() -> None:
    listeners = Listeners()
    listeners.own = [("::", 8080)]
    listeners.redis_peers = {("127.0.0.1", 6379)}
    assert listeners.told() == [f"{machine()} 8080 ::", f"{machine()} 8080 127.0.0.1"]


async def test_a_full_redis_takes_an_id(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await ask(raw, "CONFIG", "SET", "maxmemory", 1)
    try:
        deployment = Deployment()
        await deployment.join(client)
        assert await client.command("GET", KEYS.instance) == deployment.id.encode()
    finally:
        await ask(raw, "CONFIG", "SET", "maxmemory", 0)


async def test_a_purge_keeps_the_id(client: RedisClient, store: Store) -> None:
    deployment = Deployment()
    await deployment.join(client)
    await store.purge()
    assert await client.command("GET", KEYS.instance) == deployment.id.encode()


async def test_it_notes_for_how_long_the_oldest_task_was_due_in_each_minute(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    deployment = Deployment()

    async def noted() -> dict[int, int]:
        await deployment.join(client)
        found = await ask(raw, "HGETALL", KEYS.oldest)
        return {int(minute): int(late_ms) for minute, late_ms in zip(found[::2], found[1::2], strict=True)}

    await states.in_due(store)
    assert await noted() == {}
    task, now_ms = await states.in_due(store), redis_ms(await ask(raw, "TIME"))
    await ask(raw, "ZADD", KEYS.due, now_ms - 5_000, task.key)
    [late_ms] = (await noted()).values()
    assert 5_000 <= late_ms < 60_000
    # The greatest of a minute stays, and what is older than 8 hours goes.
    minute = redis_ms(await ask(raw, "TIME")) // 60_000
    await ask(raw, "HSET", KEYS.oldest, minute, 900_000, minute + 1, 900_000)
    assert (await noted())[minute] == 900_000
    old = [field for number in range(MINUTES_MOST + 100) for field in (minute - 10 - number, 1)]
    await ask(raw, "DEL", KEYS.oldest)
    await ask(raw, "HSET", KEYS.oldest, *old)
    found = await noted()
    assert minute - MINUTES_MOST < min(found)
    assert max(found) >= minute
    assert await ask(raw, "PTTL", KEYS.oldest) > 0
    await ask(raw, "ZADD", KEYS.due, now_ms + 600_000, task.key)


@pytest.mark.parametrize("place", ["due", "queue", "oldest"])
async def test_a_foreign_key_where_it_looks_for_what_is_due_keeps_nobody_from_joining(
    place: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await Deployment().join(client)
    await ask(raw, "DEL", getattr(KEYS, place))
    await ask(raw, "SET", getattr(KEYS, place), "foreign")
    await Deployment().join(client)
    assert await ask(raw, "GET", getattr(KEYS, place)) == b"foreign"
    await ask(raw, "DEL", getattr(KEYS, place))


def saying(name: str, **said: Any) -> Deployment:
    """A process that says what it is."""
    deployment = Deployment()
    text = encode_said(Said(role="worker", version="1", since_ms=1, **said))
    deployment.process, deployment.said = name, lambda: text
    return deployment


async def test_processes_say_what_they_are(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await saying("b", slots=5, busy=2).join(client, says=True)
    await saying("a").join(client, says=True)
    await saying("silent").join(client)
    first, second = await processes_of(client)
    assert (first.name, second.name, second.said.slots, second.said.busy) == ("a", "b", 5, 2)
    # What is gone, or foreign, is forgotten.
    now_ms = second.at_ms
    foreign = {"gone": f"{now_ms - SAID_MS - 5_000} {{}}", "ahead": f"{now_ms + 90_000} {{}}", "x": "<b>", "y": "1 ["}
    for name, text in foreign.items():
        await ask(raw, "HSET", KEYS.processes, name, text)
    await ask(raw, "HSET", KEYS.processes, "z", f"{now_ms} [[[")
    assert [one.name for one in await processes_of(client)] == ["a", "b"]

    async def are_forgotten() -> bool:
        await saying("a").join(client, says=True)
        return set(await ask(raw, "HKEYS", KEYS.processes)) <= {b"a", b"b", b"z"}

    await wait_until(are_forgotten, "they are forgotten")


async def test_as_many_processes_are_remembered_as_may_be(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await saying("known").join(client, says=True)
    [known] = await processes_of(client)
    for number in range(PROCESSES_MOST - 1):
        await ask(raw, "HSET", KEYS.processes, number, f"{known.at_ms} {{}}")
    await saying("one more").join(client, says=True)
    await saying("known", slots=7).join(client, says=True)
    assert await ask(raw, "HGET", KEYS.processes, "one more") is None
    assert b'"slots":7' in await ask(raw, "HGET", KEYS.processes, "known")


async def test_a_foreign_key_in_the_place_of_processes_is_left_alone(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await ask(raw, "SET", KEYS.processes, "foreign")
    with pytest.raises(StoreRefused):
        await saying("a").join(client, says=True)
    assert await ask(raw, "GET", KEYS.processes) == b"foreign"
    assert not await ask(raw, "EXISTS", KEYS.instance)


async def test_a_full_redis_hears_what_processes_say_and_takes_a_copy(
    client: RedisClient, raw: redis.asyncio.Redis, full: Full
) -> None:
    async with full():
        await Deployment(0, generations=told(b"1,4 0")).join(client)
        assert await ask(raw, "ZRANGE", KEYS.shards, "0", "-1") == [b"4"]
        await saying("a").join(client, says=True)
        assert [one.name for one in await processes_of(client)] == ["a"]


def test_what_workers_saw_of_a_host_adds_up() -> None:
    took = [0] * 3 + [18]
    told = HostTold("h:80", 2, False, 1, took, "answered 503", 7), HostTold("h:80", 1, True, 1, [0] * 16, "timeout", 9)
    said = [Said(role="worker", version="1", since_ms=1, span_ms=9_000, hosts=[one]) for one in told]
    seen: dict[str, HostSeen] = {}
    for at, one in enumerate(said):
        add(seen, ProcessSeen(f"{at}", 1, one))
    found = seen["h:80"]
    assert (found.running, found.is_slow, found.failed, found.attempts) == (3, True, 2, 18)
    assert (found.error, found.per_s, bound_at(found.took, 0.95)) == ("timeout", 2.0, 10)


async def test_what_very_many_workers_saw_is_read_in_pieces_and_seldom(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """The busiest hosts stay, however many others there are."""
    await saying("known").join(client, says=True)
    [known] = await processes_of(client)
    pipe = raw.pipeline()
    for number in range(1, PROCESSES_MOST):
        others = [HostTold(f"{number}-{at}.example:443", 1, False, 0, [1]) for at in range(HOSTS_TOLD - 1)]
        said = Said(role="worker", version="1", since_ms=1, hosts=[HostTold("busy:443", 3, False, 1, [0, 2]), *others])
        pipe.hset(KEYS.processes, f"worker-{number}", f"{known.at_ms} {encode_said(said).decode()}")
    await pipe.execute()
    await raw.config_resetstat()
    seen = SeenHosts(client)
    found, again = await asyncio.gather(seen.all(), seen.all())
    busy = found["busy:443"]
    assert (busy.running, busy.attempts, busy.failed) == tuple(many * (PROCESSES_MOST - 1) for many in (3, 2, 1))
    assert len(found) <= KEPT_MOST
    assert again is found
    assert await seen.all() is found, "it counts for a while"
    counted = await ask(raw, "INFO", "commandstats")
    assert b"cmdstat_hgetall" not in counted
    pieces = int(re.search(rb"cmdstat_hscan:calls=(\d+)", counted)[1])  # type: ignore[index]
    assert PROCESSES_MOST / PIECE / 2 < pieces <= 2 * PROCESSES_MOST / PIECE
    assert len(await processes_of(client)) == PROCESSES_MOST
