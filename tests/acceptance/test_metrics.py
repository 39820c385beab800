"""GET /metrics: who may ask, what it says, and that it says the same as /stats."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.parser import text_string_to_metric_families

from redis_scheduler.metrics.family import FAMILIES, LATENESS, REQUESTS
from redis_scheduler.metrics.text import OPEN, PLAIN
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Judged, Limiting
from redis_scheduler.task.limit import Breaking
from redis_scheduler.task.timing import DEFAULT
from tests.scripts import states
from tests.support.api import api_here
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.shards import scheduled_in_the_first
from tests.support.store import Store
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

TOTALS = ("scheduled", "delivered", "expired")

Samples = dict[tuple[Any, ...], float]


async def metrics(client: Client, **headers: str) -> tuple[int, str, str]:
    """Status, type and text of the answer."""
    async with client.session.get(f"{client.url}/metrics", headers=client.headers | headers) as response:
        return response.status, response.headers["content-type"], await response.text()


async def samples(client: Client) -> Samples:
    """Each sample by its name and its labels."""
    status, _, text = await metrics(client)
    assert status == 200
    found = text_string_to_metric_families(text)
    return {(one.name, *sorted(one.labels.items())): one.value for family in found for one in family.samples}


async def test_both_formats_are_what_their_types_say(api: Client) -> None:
    status, kind, text = await metrics(api)
    assert (status, kind) == (200, PLAIN)
    names = {family.name for family in text_string_to_metric_families(text)}
    assert names <= {family.name.removesuffix("_total") for family in FAMILIES}
    status, kind, text = await metrics(api, Accept="application/openmetrics-text; version=1.0.0")
    assert (status, kind) == (200, OPEN)
    assert names <= {family.name for family in open_parser.text_string_to_metric_families(text)}


async def test_it_says_the_same_as_stats_of_tasks_in_every_state(api: Client, store: Store) -> None:
    for state in (states.in_due, states.dead, states.waiting, states.paused, states.awaiting, states.in_delivery):
        await state(store)
    counts = (await api.call("GET", "/stats"))[1]["data"]
    assert sum(counts["states"].values()) >= 6
    wanted: Samples = {
        ("redis_scheduler_tasks", ("shard", "0"), ("state", name)): n for name, n in counts["states"].items()
    }
    wanted |= {("redis_scheduler_ledger_total", ("counter", name)): n for name, n in counts["counters"].items()}
    wanted |= {(f"redis_scheduler_{name}_total",): counts["counters"][name] for name in TOTALS}
    wanted |= {("redis_scheduler_ledger_missing",): 0, ("redis_scheduler_redis_up", ("shard", "0")): 1}

    async def says_the_same() -> bool:
        return wanted.items() <= (await samples(api)).items()

    await wait_until(says_the_same, "the second is over in which others looked")


async def test_breakers_that_are_not_closed_are_told_by_their_state(api: Client, client: RedisClient) -> None:
    limiting = Limiting(client, replace(DEFAULT, breaker_well_ms=0), breaking=Breaking(failures=2))
    await limiting.judge([Judged(f"host-{number}:80", 2 if number else 1, 0) for number in range(4)])
    await limiting.judge([Judged("host-3:80", 0, 1)])
    await client.command("HSET", client.keys.breakers, "foreign:80", "o something else")
    wanted = {
        ("redis_scheduler_breakers", ("shard", "0"), ("state", state)): count
        for state, count in (("open", 2), ("closing", 1))
    }

    async def are_told() -> bool:
        return wanted.items() <= (await samples(api)).items()

    await wait_until(are_told, "the second is over in which others looked")


async def test_the_oldest_task_that_nobody_claims_is_told(api: Client, store: Store) -> None:
    async def age() -> float:
        return (await samples(api))["redis_scheduler_oldest_due_seconds", ("shard", "0")]

    next_due = "redis_scheduler_next_due_timestamp_seconds", ("shard", "0")

    async def is_told() -> bool:
        return next_due in await samples(api)

    async def is_not_told() -> bool:
        return not await is_told()

    await wait_until(is_not_told, "what was due before is forgotten")
    await scheduled_in_the_first(api, "http://127.0.0.1:9/", 60)
    await wait_until(is_told, "the second is over in which nothing was due")
    assert await age() == 0
    assert abs((await samples(api))[next_due] - time.time() - 60) < 5
    began = time.monotonic()
    await scheduled_in_the_first(api, "http://127.0.0.1:9/", 0.01)
    await wait_until(age, "the second is over")
    before = await age()
    assert 0 < before <= time.monotonic() - began
    await states.queued(store)  # both are promoted, and nobody claims them

    async def is_older() -> bool:
        return await age() > before

    await wait_until(is_older, "it goes on")


async def test_a_delivery_is_counted_once_and_so_is_its_failure(tmp_path: Path, receiver: Receiver) -> None:
    async with serving(tmp_path, RETRIES="0", METRICS_HOSTS="1") as process, client_of(process) as client:
        await client.schedule(receiver.url)
        await client.schedule("http://127.0.0.1:1/")

        async def have_ended() -> bool:
            counters = (await client.call("GET", "/stats"))[1]["data"]["counters"]
            return bool(counters["delivered"] == counters["died"] == 1)

        await wait_until(have_ended, "both have ended")
        found = await samples(client)
        assert found["redis_scheduler_attempts_total", ("outcome", "2xx")] == 1
        assert found["redis_scheduler_attempts_total", ("outcome", "connect")] == 1
        assert found["redis_scheduler_died_total", ("reason", "connect")] == 1
        assert found[f"{LATENESS.name}_count",] == found["redis_scheduler_attempt_duration_seconds_count",] == 2
        by_host = {key[1:]: number for key, number in found.items() if key[0] == "redis_scheduler_host_attempts_total"}
        assert sorted(by_host.values()) == [1, 1]
        assert {host for (_, host), _ in by_host} & {"other"}
        assert found["redis_scheduler_slots", ("state", "free")] == 200
        assert found["redis_scheduler_slots", ("state", "busy")] == 0
        assert found["redis_scheduler_redis_call_seconds_count", ("script", "schedule")] >= 1
        labels = (("code", "200"), ("method", "POST"), ("route", "/schedule"))
        assert found[f"{REQUESTS.name}_count", *labels] == 2

        async def worker_is_seen() -> bool:
            return (await samples(client))["redis_scheduler_workers",] == 1

        await wait_until(worker_is_seen, "the worker is seen")


async def test_words_of_strangers_are_no_labels(api: Client) -> None:
    for method, path in (("LOCK", "/stats"), ("GET", '/no"thing'), ("LOCK", "/nothing")):
        async with api.session.request(method, api.url + path, headers=api.headers) as response:
            assert response.status in (404, 405)
    found = {key for key in await samples(api) if key[0] == f"{REQUESTS.name}_count"}
    assert (f"{REQUESTS.name}_count", ("code", "405"), ("method", "other"), ("route", "/stats")) in found
    assert (f"{REQUESTS.name}_count", ("code", "404"), ("method", "other"), ("route", "")) in found
    assert (f"{REQUESTS.name}_count", ("code", "404"), ("method", "GET"), ("route", "")) in found
    async with api.session.get(f"{api.url}/stats") as response:
        assert response.status == 401
    refused = (f"{REQUESTS.name}_count", ("code", "401"), ("method", "GET"), ("route", ""))
    assert (await samples(api))[refused] >= 1
    assert not [key for key in found if "LOCK" in str(key) or "thing" in str(key)]


async def test_who_may_ask(api: Client, client: RedisClient) -> None:
    for token, status in (
        (await make_token(client, "metrics"), 200),
        (await make_token(client, "read"), 403),
        (await make_token(client, "metrics", types=("mail",)), 403),
        ("wrong", 401),
    ):
        assert (await metrics(api.with_token(token)))[0] == status, token
    api.headers = {}
    assert (await metrics(api))[0] == 401


async def test_it_may_be_open_to_all(tmp_path: Path) -> None:
    async with serving(tmp_path, API_METRICS="open") as process, client_of(process) as client:
        client.headers = {}
        assert (await metrics(client))[0] == 200
        assert (await metrics(client, Authorization="wrong"))[0] == 200
        async with client.session.get(f"{client.url}/stats") as response:
            assert response.status == 401


async def test_without_redis_it_tells_what_it_counted_and_not_half_of_the_rest(tmp_path: Path) -> None:
    async with redis_process(tmp_path) as database:
        settings = {"REDIS_URL": database.url, "API_AUTH": TOKEN}
        async with serving(tmp_path, "api", **settings) as process, client_of(process) as client:

            async def is_up() -> bool:
                return (await samples(client))["redis_scheduler_redis_up", ("shard", "0")] == 1

            await wait_until(is_up, "Redis is there")
            await database.kill()

            async def is_down() -> bool:
                return (await samples(client))["redis_scheduler_redis_up", ("shard", "0")] == 0

            await wait_until(is_down, "Redis is away")
            found = await samples(client)
            assert not [key for key in found if key[0] in ("redis_scheduler_tasks", "redis_scheduler_scheduled_total")]
            assert found["redis_scheduler_redis_errors_total", ("kind", "away")] > 0


async def test_without_one_shard_it_tells_of_the_others_and_no_sum(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "one") as one,
        redis_process(tmp_path / "other") as other,
        serving(tmp_path, "api", REDIS_URL=f"{one.url},{other.url}") as process,
        client_of(process) as client,
    ):

        async def up() -> dict[str, float]:
            name = "redis_scheduler_redis_up"
            return {key[1][1]: value for key, value in (await samples(client)).items() if key[0] == name}

        async def has_two() -> bool:
            return await up() == {"0": 1, "1": 1}

        await wait_until(has_two, "both are there")
        assert ("redis_scheduler_scheduled_total",) in await samples(client)
        await one.kill()

        async def has_one() -> bool:
            return await up() == {"0": 0, "1": 1}

        await wait_until(has_one, "one is away")
        found = await samples(client)
        shards = {dict(key[1:])["shard"] for key in found if key[0] == "redis_scheduler_tasks"}
        assert shards == {"1"}
        assert not [key for key in found if key[0] in ("redis_scheduler_scheduled_total", "redis_scheduler_workers")]


async def test_an_answer_takes_less_than_20_ms_and_redis_is_asked_once_a_second(client: RedisClient, raw: Any) -> None:
    async with api_here(client) as port, aiohttp.ClientSession() as session:
        api = Client(session, f"http://127.0.0.1:{port}")
        await metrics(api)
        await raw.config_resetstat()
        began = time.monotonic()
        took = []
        for _ in range(50):
            before = time.process_time()
            await metrics(api)
            took.append(time.process_time() - before)
        seconds = time.monotonic() - began
        assert min(took) < 0.020  # client and server together
        calls = (await raw.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
        assert calls <= seconds + 1


@pytest.mark.parametrize("path", ["/metrics?x=1"])
async def test_it_has_no_parameters(api: Client, path: str) -> None:
    status, content = await api.call("GET", path)
    assert (status, content["code"]) == (400, "unknown-parameter")
