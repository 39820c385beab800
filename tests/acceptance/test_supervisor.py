"""Several processes under one supervisor: each works, what dies is replaced, and a stop leaves none behind."""

import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
import redis.asyncio

from redis_scheduler.process.health import BEAT_INTERVAL_S
from redis_scheduler.process.supervisor import RESTART_S
from tests.support.engine import MODULE
from tests.support.receiver import Receiver
from tests.support.service import Client, Process, client_of, run, serving
from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

VARIABLES = {"PROCESSES": "2", "LOG_LEVEL": "debug", "PYTHONWARNINGS": "error"}


async def children(process: Process) -> list[psutil.Process]:
    """The two processes that the supervisor runs now, once both are there."""

    def running() -> list[psutil.Process]:
        dead = {event["pid"] for event in process.events("process-died")}
        started = [event["pid"] for event in process.events("process-started") if event["pid"] not in dead]
        with contextlib.suppress(psutil.NoSuchProcess):  # it has died, and the line that says so is on its way
            return [psutil.Process(pid) for pid in started] if len(started) == 2 else []
        return []

    return await wait_until(running, f"both processes run:\n{process.log}")


async def all_ended(processes: list[psutil.Process]) -> None:
    """Wait until none is left; one that nobody reaps has ended too."""

    def running() -> list[psutil.Process]:
        return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    await wait_until(lambda: not running(), "all processes have ended")


@asynccontextmanager
async def workers(folder: Path, url: str, **variables: str) -> AsyncIterator[tuple[Process, Client]]:
    """Run an API, and workers under a supervisor; yield the supervisor and a client."""
    async with (
        serving(folder, "api", REDIS_URL=url) as api,
        serving(folder, "worker", REDIS_URL=url, **VARIABLES, **variables) as supervisor,
        client_of(api) as client,
    ):
        yield supervisor, client


async def deliver_with_both(supervisor: Process, client: Client, receiver: Receiver) -> None:
    """Schedule until each of the two processes has delivered; what arrives, arrives once."""
    pids = {child.pid for child in await children(supervisor)}
    before = len(receiver.arrivals)
    scheduled: set[str] = set()

    async def have_both() -> bool:
        scheduled.update(await asyncio.gather(*(client.schedule(receiver.url) for _ in range(10))))
        return pids <= {event["process"] for event in supervisor.events("delivered")}

    await wait_until(have_both, f"both have delivered:\n{supervisor.log}", every_s=0.1)
    await client.drained()
    arrivals = receiver.arrivals[before:]
    assert len(arrivals) == len(scheduled)
    assert {arrival.key for arrival in arrivals} == scheduled


@pytest.mark.whole_start
async def test_a_process_gets_no_ctrl_c_of_a_terminal_and_imports_nothing_from_the_working_folder(
    redis_url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, "worker", REDIS_URL=redis_url, **VARIABLES) as supervisor:
        for child in await children(supervisor):
            assert os.getsid(child.pid) == child.pid
            assert "-P" in child.cmdline()


async def test_a_process_that_stands_still_is_killed_after_its_time(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.delay_s = 0.05
    variables = {"module": MODULE, "CHILD_END_S": "2", "SHUTDOWN_GRACE": "0", "CONCURRENCY": "5"}
    async with workers(tmp_path, redis_url, **variables) as (supervisor, client):
        # Both handle SIGTERM by then; before, Linux ends even a stopped process by it.
        await deliver_with_both(supervisor, client, receiver)
        both = await children(supervisor)
        async with standing_still(both[0].pid):
            supervisor.signal(signal.SIGTERM)
            assert await supervisor.ended() == 0
        assert [event["pid"] for event in supervisor.events("process-killed")] == [both[0].pid]
        await all_ended(both)


async def test_each_process_delivers_and_what_concerns_all_is_said_once(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    receiver.delay_s = 0.05
    await raw.config_set("appendonly", "no")
    try:
        async with workers(tmp_path, redis_url, CONCURRENCY="5", SHUTDOWN_GRACE="9", DELIVERY_AUTH="derived") as (
            supervisor,
            client,
        ):
            await deliver_with_both(supervisor, client, receiver)
            await supervisor.stop()
    finally:
        await raw.config_set("appendonly", "yes")
    for name in ("started", "hazard", "redis-configuration", "stopping", "stopped"):
        assert len(supervisor.events(name)) == 1, name
    assert supervisor.events("process-died") == []


async def test_a_killed_process_is_replaced(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    receiver.delay_s = 0.05
    async with workers(tmp_path, redis_url, CONCURRENCY="5") as (supervisor, client):
        victims = await children(supervisor)
        for victim in victims:
            victim.kill()
        await wait_until(lambda: len(supervisor.events("process-died")) == 2, "it says that they died")
        assert {(event["pid"], event["signal"]) for event in supervisor.events("process-died")} == {
            (victim.pid, "SIGKILL") for victim in victims
        }
        await deliver_with_both(supervisor, client, receiver)
        assert len(supervisor.events("process-started")) == 4


async def in_delivery(client: Client, receiver: Receiver, count: int) -> None:
    """Schedule so many, and wait until the receiver has them all."""
    await asyncio.gather(*(client.schedule(receiver.url) for _ in range(count)))
    await wait_until(lambda: receiver.in_flight == count, "all are in delivery")


@pytest.mark.parametrize("reaches", ["the supervisor", "every process"])
async def test_a_stop_finishes_what_is_in_flight_whomever_its_signal_reaches(
    reaches: str, redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    # A host that hangs may have ten of fourteen slots: both processes are full.
    async with workers(tmp_path, redis_url, CONCURRENCY="14") as (supervisor, client):
        processes = await children(supervisor)
        await in_delivery(client, receiver, 20)
        if reaches == "every process":  # as a service manager may do
            for process in processes:
                process.terminate()
        supervisor.signal(signal.SIGTERM)
        await wait_until(lambda: len(supervisor.events("draining")) == 2, "both drain")
        receiver.may_answer.set()
        assert await supervisor.ended() == 0
        assert not any(process.is_running() for process in processes)
        stats = await client.stats()
    assert (stats["counters"]["delivered"], stats["counters"]["failed"], len(receiver.arrivals)) == (20, 0, 20)
    assert supervisor.events("released") == []


async def test_a_second_signal_is_passed_on(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    async with workers(tmp_path, redis_url) as (supervisor, client):
        await in_delivery(client, receiver, 1)
        supervisor.signal(signal.SIGTERM)
        await wait_until(lambda: supervisor.events("draining"), "it drains")
        signalled_at = time.monotonic()
        supervisor.signal(signal.SIGTERM)
        assert await supervisor.ended() == 0
        assert time.monotonic() - signalled_at < 10, "the grace is 15 s"
        assert supervisor.events("released")


@pytest.mark.whole_start
async def test_the_processes_of_a_killed_supervisor_end_by_themselves(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    async with workers(tmp_path, redis_url) as (supervisor, client):
        processes = await children(supervisor)
        await in_delivery(client, receiver, 10)
        supervisor.signal(signal.SIGKILL)
        await wait_until(lambda: len(supervisor.events("supervisor-gone")) == 2, "they see that it is gone")
        receiver.may_answer.set()
        await all_ended(processes)
        assert {event["process"] for event in supervisor.events("supervisor-gone")} == {
            child.pid for child in processes
        }
        stats = await client.stats()
    assert (stats["counters"]["delivered"], len(receiver.arrivals)) == (10, 10)


async def answers(url: str) -> None:
    """See ten requests answered, each on a connection of its own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        for _ in range(10):
            await Client(session, url).stats()


async def is_refused(url: str) -> bool:
    """Whether a connection is refused."""
    try:
        await asyncio.wait_for(answers(url), 1)
    except aiohttp.ClientConnectorError:
        return True
    except (aiohttp.ClientError, TimeoutError):  # accepted by nobody, or in the last moment
        pass
    return False


@pytest.mark.whole_start
async def test_all_in_one_each_process_serves_the_port(tmp_path: Path, receiver: Receiver) -> None:
    receiver.delay_s = 0.05
    async with serving(tmp_path, **VARIABLES, CONCURRENCY="5") as process, client_of(process) as client:
        await deliver_with_both(process, client, receiver)
        processes = await children(process)
        for asleep in processes:
            async with standing_still(asleep.pid):
                await answers(client.url)
        processes[0].kill()
        await answers(client.url)
        await wait_until(lambda: len(process.events("process-started")) == 3, "it is replaced")
        left = psutil.Process(process.process.pid).children(recursive=True)
        assert "redis" in " ".join(child.name() for child in left)
        receiver.may_answer.clear()
        await in_delivery(client, receiver, 1)
        process.signal(signal.SIGTERM)
        await wait_until(lambda: is_refused(client.url), "no more is accepted")
        assert receiver.in_flight == 1
        receiver.may_answer.set()
        assert await process.ended() == 0
        await all_ended(left)


def beat_files(folder: Path) -> list[Path]:
    """What the processes have touched, by which the health check judges."""
    return list(folder.rglob("*.beat"))


async def die_young(process: Process) -> None:
    """Kill every process of a supervisor as soon as both run."""
    while True:
        for child in await children(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        await asyncio.sleep(0.01)


async def test_a_supervisor_whose_processes_die_young_is_not_healthy(redis_url: str, tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path)}

    def is_healthy() -> bool:
        return run("health", **environment).returncode == 0

    async with serving(tmp_path, REDIS_URL=redis_url, **VARIABLES, **environment) as process:
        await wait_until(lambda: asyncio.to_thread(is_healthy), "it is healthy")
        dying = asyncio.create_task(die_young(process))
        await wait_until(lambda: process.events("process-died"), "they die", timeout_s=20)
        assert process.events("process-died")[0]["signal"] == "SIGKILL"
        # The file is not touched any more: a time later, it is too old.
        os.utime(next(path for path in beat_files(tmp_path) if path.name.startswith(f"{process.process.pid}-")), (0, 0))
        enough = 2 * (math.ceil(BEAT_INTERVAL_S / RESTART_S) + 1)
        await wait_until(
            lambda: len(process.events("process-died")) > enough, "it might have been touched", timeout_s=30
        )
        assert {event.get("signal") for event in process.events("process-died")} == {"SIGKILL"}
        assert not await asyncio.to_thread(is_healthy)
        dying.cancel()
        await children(process)
    assert beat_files(tmp_path) == []
