"""Limits and breakers that three worker processes keep together, against a real receiver."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.receiver import Receiver, receiving
from tests.support.service import TOKEN, Client, Process, client_of
from tests.support.waiting import wait_until

WORKERS = 3

CAUGHT_UP_S = 0.3
"""So much of a rate may be caught up with: include/limits.lua."""

ABANDONED_S = 75
"""Once a worker was killed, the task that came to it as it waited goes to another after 60 s (RELIABILITY.md)."""


@dataclass
class Fleet:
    """An API, and three workers."""

    client: Client
    workers: list[Process]


@pytest.fixture
async def fleet(redis_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    """With the variables that the test is marked with."""
    variables = {"REDIS_URL": redis_url, "API_AUTH": TOKEN, **getattr(request, "param", {})}
    async with AsyncExitStack() as stack:
        processes = [Process(tmp_path, role, **variables) for role in ("api", *["worker"] * WORKERS)]
        for process in processes:
            stack.push_async_callback(process.stop)
        for process in processes:
            await process.started()
        yield Fleet(await stack.enter_async_context(client_of(processes[0])), processes[1:])


@dataclass
class Limited:
    """A receiver, with the URLs and options of tasks that are under one limit, and the name of that."""

    receiver: Receiver
    urls: list[str]
    options: dict[str, str]
    name: str


def name_of(receiver: Receiver) -> str:
    return f"127.0.0.1:{receiver.port}"


async def host(client: Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.call("GET", f"/hosts/{name}"))[1]["data"]
    return found


@pytest.fixture(params=["a host", "a limit_key"])
async def limited(request: pytest.FixtureRequest) -> AsyncIterator[Limited]:
    """A receiver under the limit of its host, or of what tasks of many hosts name, which have a limit each, too."""
    is_host = request.param == "a host"
    async with receiving(everywhere=True) as receiver:
        urls = [f"http://127.0.0.{number}:{receiver.port}/" for number in range(1, 2 if is_host else 41)]
        if is_host:
            yield Limited(receiver, urls, {}, name_of(receiver))
        else:
            yield Limited(receiver, urls, {"limit_key": "tenant"}, "@tenant")


async def schedule(client: Client, url: str | Sequence[str], count: int, **fields: Any) -> list[str]:
    urls = [url] if isinstance(url, str) else url
    tasks = [{"webhook": urls[number % len(urls)], "ttl": 0, "data": number, **fields} for number in range(count)]
    status, content = await client.call("POST", "/schedules", json={"tasks": tasks})
    assert status == 200, content
    keys: list[str] = content["data"]
    return keys


async def assert_rate(receiver: Receiver, before: int, counted: int, rate: float) -> None:
    """So many arrive at the rate, behind those that came before. No more may, but for what may be caught up with; a
    busy machine may be slower. (benchmarks/limits.py measures it over a minute.)"""
    await wait_until(lambda: len(receiver.arrivals) > before + counted, "enough arrived", timeout_s=60)
    took_s = receiver.arrivals[before + counted].at - receiver.arrivals[before].at
    assert counted <= 1.02 * rate * took_s + CAUGHT_UP_S * rate
    assert counted >= 0.9 * rate * took_s


@pytest.mark.long
@pytest.mark.parametrize("fleet", [{"HOST_RATE": "100"}], indirect=True)
async def test_a_rate_is_kept_by_all_workers_together(fleet: Fleet, limited: Limited) -> None:
    counted, receiver = 1_000, limited.receiver
    keys = await schedule(fleet.client, limited.urls, 1_000, **limited.options)
    keys += await schedule(fleet.client, limited.urls, 200, **limited.options)
    await wait_until(lambda: len(receiver.arrivals) > 50, "deliveries go on")
    before = len(receiver.arrivals)
    assert (await host(fleet.client, limited.name))["held"] > 0
    await assert_rate(receiver, before, counted, 100)
    await wait_until(lambda: len(receiver.arrivals) == len(keys), "all arrived", timeout_s=30)
    assert sorted(receiver.times_by_key) == sorted(keys)


@pytest.mark.parametrize("fleet", [{"HOST_CONCURRENCY": "7"}], indirect=True)
async def test_a_concurrency_is_kept_and_used_by_all_workers_together(fleet: Fleet, limited: Limited) -> None:
    receiver = limited.receiver
    receiver.delay_s = 0.05
    keys = await schedule(fleet.client, limited.urls, 300, **limited.options)
    await wait_until(lambda: len(receiver.arrivals) == 300, "all arrived", timeout_s=30)
    assert receiver.most_in_flight == 7
    assert sorted(receiver.times_by_key) == sorted(keys)
    span_s = receiver.arrivals[-1].at - receiver.arrivals[0].at
    assert span_s < 2 * 300 * 0.05 / 7, "the slots stand empty"


@pytest.mark.long
@pytest.mark.parametrize("fleet", [{"HOST_CONCURRENCY": "4"}], indirect=True)
async def test_permits_of_a_worker_that_is_killed_come_back(fleet: Fleet, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    keys = await schedule(fleet.client, receiver.url, 20)
    await wait_until(lambda: receiver.in_flight == 4, "as many as may be are under way")
    fleet.workers[0].process.kill()
    receiver.may_answer.set()
    await wait_until(lambda: set(receiver.times_by_key) == set(keys), "all arrived", timeout_s=ABANDONED_S)
    await fleet.client.drained(60)
    assert receiver.most_in_flight <= 4


BREAKING = {"BREAKER_FAILURES": "20", "RETRIES": "-1", "RETRY_TIME": "0.3"}


@pytest.mark.long
@pytest.mark.parametrize("fleet", [BREAKING], indirect=True)
async def test_a_receiver_that_is_down_is_probed_and_comes_back(fleet: Fleet, receiver: Receiver) -> None:
    receiver.status = 503
    keys = await schedule(fleet.client, receiver.url, 100)
    name = name_of(receiver)

    async def is_open() -> bool:
        return "breaker" in await host(fleet.client, name)

    await wait_until(is_open, "the breaker opens", timeout_s=30)

    async def are_held() -> bool:
        return bool((await host(fleet.client, name))["held"] >= 99)

    await wait_until(are_held, "the tasks are held")
    before = len(receiver.arrivals)
    # Only time shows that few come: in 5 s there are probes after 1, 2 and 4 s, and one that was under way.
    await asyncio.sleep(5)
    assert len(receiver.arrivals) - before <= 4
    receiver.status = 200
    await fleet.client.drained(60)
    assert set(receiver.times_by_key) == set(keys)

    async def is_closed() -> bool:
        key = await fleet.client.schedule(receiver.url)
        await wait_until(lambda: receiver.times_by_key[key], "it arrived")
        return "breaker" not in await host(fleet.client, name)

    await wait_until(is_closed, "the breaker closes", timeout_s=30)

    def said(event: str) -> list[dict[str, Any]]:
        return [line for worker in fleet.workers for line in worker.events(event) if line["host"] == name]

    # Whichever worker brought it about says so, and no other.
    await wait_until(lambda: said("breaker-closed"), "the log says so")
    assert [len(said(event)) for event in ("breaker-opened", "breaker-closing", "breaker-closed")] == [1, 1, 1]
    assert said("breaker-opened")[0]["failures"] >= 20
    assert 1 <= len(said("breaker-probed")) <= 5
