"""A task cannot drive the scheduler that delivers it; another scheduler's can."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from tests.support.engine import MODULE
from tests.support.names import KEYS, KEYS_OF_SHARDS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, free_port, redis_process
from tests.support.service import TOKEN, Client, Process, client_of, serving
from tests.support.waiting import wait_until

OWN = "Schedule-Instance: is this scheduler's own; a task cannot drive the scheduler that delivers it"
OTHER = "f" * 32


@pytest.fixture
async def own(client: RedisClient, api: Client) -> str:
    """The id of the deployment that the API belongs to."""

    async def kept() -> bytes | None:
        # The Redis was emptied for the test: whoever carries an id lets the API join it anew.
        assert (await api.call("GET", "/stats", headers={"Schedule-Instance": OTHER}))[0] == 200
        return await client.command("GET", KEYS.instance)  # type: ignore[no-any-return]  # an answer of Redis

    return (await wait_until(kept, "the API has joined") or b"").decode()


async def is_dead(raw: redis.asyncio.Redis, key: str) -> bool:
    return any([await raw.zscore(keys.dead, key) is not None for keys in KEYS_OF_SHARDS])


@pytest.mark.parametrize(("path", "processes"), [("/purge", "2"), ("/schedule", "1")])
async def test_a_task_cannot_drive_its_own_scheduler(
    path: str, processes: str, tmp_path: Path, redis_url: str, raw: redis.asyncio.Redis
) -> None:
    """Not even where EGRESS_ALLOW lets through what workers know to be the API."""
    variables = {"REDIS_URL": redis_url, "RETRIES": "0", "HOST": "127.0.0.1"}
    async with (
        serving(tmp_path, "api", **variables) as process,
        client_of(process) as client,
        serving(tmp_path, "worker", **variables, PROCESSES=processes, EGRESS_ALLOW=client.url.removeprefix("http://")),
    ):
        stays = await client.schedule("http://127.0.0.1:9/", 3600)
        data = {"webhook": "http://127.0.0.1:9/", "ttl": 3600}
        key = await client.schedule(client.url + path, 0, data=data)
        await wait_until(lambda: is_dead(raw, key), "it is a dead letter")
        _, shown = await client.call("GET", f"/schedule/{key}")
        assert shown["data"]["info"]["last_failure"]["status"] == 403
        assert (await client.call("GET", f"/schedule/{stays}"))[0] == 200
        assert (await client.stats())["running_schedules"] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_a_worker_apart_does_not_dial_the_api(
    host: str, tmp_path: Path, redis_url: str, raw: redis.asyncio.Redis
) -> None:
    variables = {"REDIS_URL": redis_url, "RETRIES": "5"}
    async with serving(tmp_path, "api", **variables, HOST=host) as process, client_of(process) as client:

        async def is_told() -> bool:
            return bool(await raw.zcard(KEYS.listeners))

        await wait_until(is_told, "the API has told on what it listens")
        async with serving(tmp_path, "worker", **variables):
            key = await client.schedule(f"{client.url}/purge")
            await wait_until(lambda: is_dead(raw, key), "it is a dead letter")
            _, shown = await client.call("GET", f"/schedule/{key}")
    info = shown["data"]["info"]
    assert info["last_failure"]["error"] == "egress: the address is refused: the scheduler's own port"
    assert info["retry"] == 1


async def test_a_worker_learns_of_an_api_that_starts_later(
    tmp_path: Path, redis_url: str, raw: redis.asyncio.Redis
) -> None:
    variables = {"REDIS_URL": redis_url, "RETRIES": "0", "HOST": "0.0.0.0", "REJOIN_INTERVAL_S": "0.2"}
    addresses = (f"127.0.0.{number}" for number in range(1, 255))
    async with (
        serving(tmp_path, "worker", module=MODULE, **variables),
        serving(tmp_path, "api", **variables) as process,
        client_of(process) as client,
    ):

        async def is_refused() -> bool:
            # Another address each time: a connection that is kept is not judged again.
            key = await client.schedule(client.url.replace("127.0.0.1", next(addresses)))
            await wait_until(lambda: is_dead(raw, key), "it is a dead letter")
            _, shown = await client.call("GET", f"/schedule/{key}")
            return str(shown["data"]["info"]["last_failure"]["error"]).startswith("egress")

        await wait_until(is_refused, "the worker knows the API's port")


async def test_all_processes_of_a_deployment_carry_one_id_and_another_has_its_own(
    tmp_path: Path, redis_url: str, receiver: Receiver
) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url) as api,
        serving(tmp_path, "worker", REDIS_URL=redis_url, PROCESSES="2"),
        client_of(api) as client,
    ):
        await asyncio.gather(*(client.schedule(receiver.url) for _ in range(5)))
        await client.drained()
    [own] = {arrival.headers["Schedule-Instance"] for arrival in receiver.arrivals}
    assert len(own) == 32
    # Another deployment, with the same token, may drive this one.
    async with (
        serving(tmp_path, REDIS_URL=redis_url, HOST="127.0.0.1") as driven,
        serving(tmp_path, DATA_DIR=str(tmp_path / "other")) as other,
        client_of(driven) as client,
        client_of(other) as driving,
    ):
        await driving.schedule(f"{client.url}/schedule", data={"webhook": receiver.url, "ttl": 0})
        await wait_until(lambda: len(receiver.arrivals) == 6, "it arrived by both")
        await driving.drained()
    assert receiver.arrivals[-1].headers["Schedule-Instance"] == own


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[
            ("POST", "/purge"),
            ("POST", "/schedule"),
            ("DELETE", "/schedules"),
            ("GET", "/schedules"),
            ("GET", "/stats"),
        ],
        *[("PATCH", "/schedule/x"), ("GET", "/"), ("GET", "/nothing"), ("GET", "/healthz"), ("POST", "/")],
    ],
)
async def test_a_request_with_ones_own_is_refused_unread(method: str, path: str, api: Client, own: str) -> None:
    key = await api.schedule("http://127.0.0.1:9/", 60)
    for value in (own, f" {own} ", f"{OTHER},{own}", f"{OTHER} , {own} ,"):
        for name in ("Schedule-Instance", "schedule-instance", "SCHEDULE-INSTANCE"):
            status, content = await api.call(method, path, headers={name: value}, data=b"not read")
            assert (status, content["error"]) == (403, OWN)
    both = [("Authorization", TOKEN), ("Schedule-Instance", OTHER), ("Schedule-Instance", own)]
    async with api.session.request(method, api.url + path, headers=both) as response:
        assert response.status == 403
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 200


async def test_a_head_request_with_ones_own_is_refused_too(api: Client, own: str) -> None:
    headers = api.headers | {"Schedule-Instance": own}
    async with api.session.head(api.url + "/stats", headers=headers) as response:
        assert (response.status, await response.read()) == (403, b"")


async def test_another_schedulers_id_is_let_through_and_the_token_still_asked_for(api: Client, own: str) -> None:
    for value in (OTHER, "", ",", own[1:], f"{own}0", own.upper() + "x", f'"{own}"', "x" * 5_000):
        assert (await api.call("GET", "/stats", headers={"Schedule-Instance": value}))[0] == 200
    api.headers = {"Authorization": "wrong"}
    assert (await api.call("POST", "/purge", headers={"Schedule-Instance": own}))[0] == 401


async def test_while_the_own_id_is_not_known_a_request_with_one_waits(tmp_path: Path, receiver: Receiver) -> None:
    async with (
        serving(tmp_path, REDIS_URL=f"redis://127.0.0.1:{free_port()}", HOST="127.0.0.1") as process,
        client_of(process) as client,
    ):
        for value in (OTHER, ""):
            async with client.session.post(
                client.url + "/purge", headers=client.headers | {"Schedule-Instance": value}
            ) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await client.call("GET", "/"))[0] == 200


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    """A Redis of the test's own."""
    async with redis_process(tmp_path / "redis") as server:
        yield server


async def test_after_a_flush_all_processes_agree_again(tmp_path: Path, database: RedisProcess) -> None:
    """The API alone is there at the flush, after which another process comes first, with another id."""
    variables = {"REDIS_URL": database.url, "RETRIES": "0", "HOST": "127.0.0.1"}
    async with (
        redis.asyncio.Redis.from_url(database.url, protocol=2) as raw,
        serving(tmp_path, "api", **variables) as api,
        client_of(api) as client,
    ):
        await wait_until(lambda: raw.exists(KEYS.instance), "there is an id")
        async with raw.pipeline(transaction=True) as at_once:
            at_once.flushall()
            at_once.set(KEYS.instance, OTHER)
            await at_once.execute()
        async with serving(tmp_path, "worker", **variables):
            stays = await client.schedule("http://127.0.0.1:9/", 3600)
            key = await client.schedule(f"{client.url}/purge")
            await wait_until(lambda: is_dead(raw, key), "it is a dead letter")
            assert (await client.call("GET", f"/schedule/{stays}"))[0] == 200
            # The worker is there at this one, and puts its id back.
            await raw.flushall()
            assert await wait_until(lambda: raw.get(KEYS.instance), "it is put back") == OTHER.encode()


async def test_an_id_that_was_deleted_is_put_back_and_all_agree_again(
    tmp_path: Path, database: RedisProcess, receiver: Receiver
) -> None:
    variables = {"REDIS_URL": database.url, "RETRIES": "0", "HOST": "127.0.0.1"}
    variables |= {"module": MODULE, "REJOIN_INTERVAL_S": "0.5"}
    async with redis.asyncio.Redis.from_url(database.url, protocol=2) as raw:
        for role in ("api", "worker"):
            async with serving(tmp_path, role, **variables):
                own = await wait_until(lambda: raw.get(KEYS.instance), "there is an id")
                await raw.delete(KEYS.instance)
                assert await wait_until(lambda: raw.get(KEYS.instance), "it is put back") == own
                await raw.delete(KEYS.instance)
        # A worker runs, and an API that starts after the deletion comes first with another id.
        async with serving(tmp_path, "worker", **variables):
            await wait_until(lambda: raw.get(KEYS.instance), "there is an id")
            await raw.set(KEYS.instance, OTHER)
            async with serving(tmp_path, "api", **variables) as api, client_of(api) as client:

                async def carries_other() -> bool:
                    await client.schedule(receiver.url)
                    await client.drained()
                    return receiver.arrivals[-1].headers["Schedule-Instance"] == OTHER

                await wait_until(carries_other, "the worker carries the id that the API knows", every_s=0.2)
                key = await client.schedule(f"{client.url}/purge")
                await wait_until(lambda: is_dead(raw, key), "it is a dead letter")


async def test_after_an_outage_a_worker_carries_the_id_that_redis_has_then(
    tmp_path: Path, database: RedisProcess, receiver: Receiver
) -> None:
    """As after a failover to another server: tasks and group are there, the id is another."""
    variables = {"REDIS_URL": database.url, "HOST": "127.0.0.1"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        await client.schedule(receiver.url)
        await client.drained()
        await database.stop()
        await wait_until(lambda: process.events("redis-away"), "it knows that Redis is away")
        # Where the service does not look for it, so that it is sure to find the other id.
        port, database.port = database.port, free_port()
        await database.start()
        elsewhere = redis.asyncio.Redis.from_url(database.url, protocol=2)
        await elsewhere.set(KEYS.instance, OTHER)
        await elsewhere.aclose()
        await database.stop()
        database.port = port
        await database.start()
        await wait_until(lambda: process.events("redis-back"), "it is back")

        async def carries_other() -> bool:
            await client.schedule(receiver.url)
            await client.drained()
            return receiver.arrivals[-1].headers["Schedule-Instance"] == OTHER

        await wait_until(carries_other, "its deliveries carry the id that Redis has now", every_s=0.1)


async def test_a_process_that_stops_before_redis_came_ends(tmp_path: Path) -> None:
    process = Process(tmp_path, "worker", REDIS_URL=f"redis://127.0.0.1:{free_port()}", API_AUTH=TOKEN)
    await wait_until(lambda: process.events("redis-away"), "it waits for Redis", timeout_s=20)
    process.signal(15)
    assert await process.ended(5) == 0
