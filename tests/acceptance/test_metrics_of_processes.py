"""/metrics of several processes: any of them answers for all, also after one was killed; and of a worker."""

import asyncio
import contextlib
import itertools
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import redis.asyncio

from redis_scheduler.metrics.family import LATENESS, STANDING
from tests.acceptance.test_metrics import TOTALS, Samples, metrics, samples
from tests.support.names import SHARDS
from tests.support.pages import Browser
from tests.support.receiver import Receiver
from tests.support.redis_process import free_port
from tests.support.service import TOKEN, Client, Process, client_of, run, serving
from tests.support.waiting import wait_until

PROCESSES = {"PROCESSES": "2", "METRICS_PORT": "0", "RETRIES": "0"}
COUNT = f"{LATENESS.name}_count"


async def children(supervisor: Process) -> list[int]:
    """The ids of the two processes that run now, once both are there."""

    def running() -> list[int]:
        dead = {event["pid"] for event in supervisor.events("process-died")}
        started = [event["pid"] for event in supervisor.events("process-started") if event["pid"] not in dead]
        return started if len(started) == 2 else []

    return await wait_until(running, "both processes run")


async def all_answers(url: str, is_wanted: Callable[[Samples], bool]) -> Samples:
    """Ask by connections of their own, which either process takes, until ten answers in a row are as wanted."""
    last: Samples = {}

    async def are_wanted() -> bool:
        nonlocal last
        for _ in range(10):
            async with aiohttp.ClientSession() as session:
                last = await samples(Client(session, url))
            if not is_wanted(last):
                return False
        return True

    await wait_until(are_wanted, "all answers are as wanted", timeout_s=40, every_s=0.1)
    return last


def attempts(found: Samples) -> float:
    return sum(number for key, number in found.items() if key[0] == "redis_scheduler_attempts_total")


def standing(found: Samples, state: str) -> float:
    """How many tasks of all shards are told to stand there."""
    of_shards = (("redis_scheduler_tasks", ("shard", str(shard)), ("state", state)) for shard in range(SHARDS))
    return sum(found.get(one, 0) for one in of_shards)  # at the start it may know of fewer shards


async def test_whichever_process_is_asked_answers_for_all_and_goes_on_after_one_was_killed(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.delay_s = 0.02
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url) as api,
        serving(tmp_path, "worker", REDIS_URL=redis_url, CONCURRENCY="3", **PROCESSES) as supervisor,
        client_of(api) as client,
    ):
        both = await children(supervisor)
        url = f"http://127.0.0.1:{(await supervisor.started())['metrics_port']}"

        async def deliver(count: int) -> None:
            webhooks = [receiver.url] * (count - 1) + ["http://127.0.0.1:1/"]
            await asyncio.gather(*(client.schedule(webhook) for webhook in webhooks))
            await client.drained()

        await deliver(60)
        found = await all_answers(url, lambda found: found[COUNT,] == 60)
        assert attempts(found) == 60
        assert found["redis_scheduler_attempts_total", ("outcome", "connect")] == 1
        await all_answers(url, lambda found: found["redis_scheduler_slots", ("state", "free")] == 6)
        assert await counts_until_replaced(supervisor, both[0], url) == {60}
        await all_answers(url, lambda found: found["redis_scheduler_slots", ("state", "free")] == 6)
        await deliver(40)
        # The same as /stats, and as the ledger of doctor.
        stats = (await client.call("GET", "/stats"))[1]["data"]
        assert stats["ledger_balanced"]
        wanted: Samples = {(f"redis_scheduler_{name}_total",): stats["counters"][name] for name in TOTALS}

        def is_wanted(found: Samples) -> bool:
            states = {name: standing(found, name) for name in stats["states"]}
            return wanted.items() <= found.items() and states == stats["states"]

        found = await all_answers(url, lambda found: found[COUNT,] == 100 and is_wanted(found))
        died = sum(number for key, number in found.items() if key[0] == "redis_scheduler_died_total")
        assert died == stats["counters"]["died"] == 2
        # The API is a process of its own, and says the same of Redis.
        await all_answers(client.url, is_wanted)
        doctor = await asyncio.to_thread(run, "doctor", REDIS_URL=redis_url)
        assert doctor.returncode == 0, doctor.stdout
        assert_the_ledger_says(stats, doctor.stdout)
        browser = Browser(client.session, client.url)
        await browser.sign_in(TOKEN)
        system, first = [(await browser.get(path)).text for path in ("/ui/system", "/ui/")]
        states = {"scheduled" if name == "due" else spoken(name): count for name, count in stats["states"].items()}
        assert [name for name, count in states.items() if f"{name} {count} " not in system] == []
        assert [
            name for name, count in stats["counters"].items() if count and f"{count} {spoken(name)}" not in first
        ] == []


async def counts_until_replaced(supervisor: Process, child: int, url: str) -> set[float]:
    """Kill one of the two processes, and wait until another took its place; return all counts of deliveries that were
    told meanwhile."""
    psutil.Process(child).kill()
    seen = set[float]()

    async def is_replaced() -> bool:
        with contextlib.suppress(aiohttp.ClientError):  # it was the one that is killed
            async with aiohttp.ClientSession() as session:
                seen.add((await samples(Client(session, url)))[COUNT,])
        return child not in await children(supervisor)

    await wait_until(is_replaced, "another took its place", every_s=0.02)
    return seen


def assert_the_ledger_says(stats: dict[str, Any], doctor: str) -> None:
    """See that the doctor's ledger says the same as /stats."""
    # What died has ended, for its equation.
    numbers = {name: count for name, count in (stats["states"] | stats["counters"]).items() if name != "dead"}
    told = Counter[str]()
    for name, count in re.findall(r"^[ =+] ([a-z ]+?) +(\d+)$", doctor, re.MULTILINE):
        told[name] += int(count)
    assert len(told) > 10
    assert told == {name: numbers[name.replace(" ", "_")] for name in told}


def spoken(name: str) -> str:
    return name.replace("_", " ")


async def test_while_tasks_come_and_a_process_is_killed_no_number_goes_back(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, **PROCESSES) as supervisor, client_of(supervisor) as client:
        both = await children(supervisor)
        seen: list[Samples] = []

        async def schedule_and_look(until: Callable[[], Awaitable[bool]]) -> None:
            async def step() -> bool:
                with contextlib.suppress(aiohttp.ClientError):  # it was the one that is killed
                    async with aiohttp.ClientSession() as session:
                        asked = Client(session, client.url)
                        await asked.schedule(receiver.url)
                        seen.append(await samples(asked))
                return await until()

            await wait_until(step, "it is so", timeout_s=40, every_s=0.02)

        async def has_counted() -> bool:
            return bool(seen) and seen[-1][COUNT,] > 10

        async def is_replaced() -> bool:
            return both[0] not in await children(supervisor)

        await schedule_and_look(has_counted)
        psutil.Process(both[0]).kill()
        await schedule_and_look(is_replaced)
        # Those of Redis are of the same second for one process, and so may be a second older for the other.
        standing = tuple(family.name for family in STANDING)
        counters = [
            key for key in seen[0] if key[0].endswith(("_total", "_count", "_bucket")) and key[0] not in standing
        ]
        assert len(counters) > 100
        for before, after in itertools.pairwise(seen):
            assert [key for key in counters if after[key] < before[key]] == []


async def test_a_worker_answers_at_its_own_port_as_the_api_does(
    redis_url: str, tmp_path: Path, raw: redis.asyncio.Redis
) -> None:
    async with serving(tmp_path, "worker", REDIS_URL=redis_url, METRICS_PORT="0", HOST="127.0.0.1") as worker:
        url = f"http://127.0.0.1:{(await worker.started())['metrics_port']}"
        async with aiohttp.ClientSession() as session:
            client = Client(session, url)
            status, _, text = await metrics(client)
            assert (status, text[:7]) == (200, "# HELP ")
            for path in ("/", "/stats", "/schedules", "/healthz"):
                async with session.get(url + path, headers=client.headers) as response:
                    assert response.status == 404
            client.headers = {}
            assert (await metrics(client))[0] == 401
        hazards = [event["warning"] for event in worker.events("hazard")]
        assert not [warning for warning in hazards if "API_AUTH is shorter" in warning]
    async with serving(tmp_path, "worker", REDIS_URL=redis_url, METRICS_PORT="0", API_METRICS="open") as worker:
        url = f"http://127.0.0.1:{(await worker.started())['metrics_port']}"
        async with aiohttp.ClientSession() as session:
            client = Client(session, url)
            client.headers = {}
            assert (await metrics(client))[0] == 200
        hazards = [event["warning"] for event in worker.events("hazard")]
        assert [warning for warning in hazards if "API_AUTH is shorter" in warning]  # it listens for all
        assert [event for event in worker.events("open-door") if "API_METRICS" in event["door"]]


async def test_a_port_that_is_taken_is_told_by_its_own_name(redis_url: str) -> None:
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        variables = {"REDIS_URL": redis_url, "API_AUTH": TOKEN, "HOST": "127.0.0.1", "METRICS_PORT": f"{port}"}
        done = await asyncio.to_thread(run, "worker", **variables)
    assert done.returncode == 1
    assert f"METRICS_PORT={port}: in use" in done.stderr
