"""`redis-scheduler doctor` as an operator runs it: what it prints, its exit codes, where it finds Redis; and beside
load."""

import asyncio
import contextlib
import io
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.loading import load
from redis_scheduler.process.doctor import examine
from redis_scheduler.process.embedded import EmbeddedServer
from redis_scheduler.settings import ALL
from redis_scheduler.store import keys
from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.views import Views
from redis_scheduler.store.writes import Writes
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, run, serving
from tests.support.shards import put_in_the_first
from tests.support.store import Store

FAR_S = 600


async def doctor(code: int, *arguments: str, **variables: str) -> list[str]:
    """Run the command; return the lines it printed: of several shards those of the first, since nothing is wrong in the
    others. It must end so, and say nothing else."""
    result = await asyncio.to_thread(run, "doctor", *arguments, **variables)
    assert (result.returncode, result.stderr) == (code, ""), result
    first, *others = re.split(r"^Shard \d+:\n", result.stdout, flags=re.MULTILINE)
    if others:
        assert first == ""
        first, *rest = others
        assert all(other.splitlines()[-1].startswith("Nothing is wrong: ") for other in rest), result
    return first.splitlines()


async def examined(code: int, url: str, repairs: bool = False) -> list[str]:
    """Examine this Redis as the command does, without a process of its own; return the lines it printed."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            is_sound = await examine(load(ALL, {"redis_url": url}, {}), repairs)
    finally:
        logging.disable(logging.NOTSET)
    assert is_sound == (code == 0), said.getvalue()
    return said.getvalue().splitlines()


async def refused(code: int, *arguments: str, **variables: str) -> str:
    """Run the command; return the one line on stderr that says why it cannot be done."""
    result = await asyncio.to_thread(run, "doctor", *arguments, **variables)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (code, "", 1), result
    assert result.stderr.startswith("redis-scheduler: ")
    return result.stderr


def ledger_of(lines: list[str]) -> dict[str, int]:
    """The ledger as it is printed: each term and its count."""
    terms = (re.fullmatch(r"[ =+] ([a-z ]+?) +(-?[0-9]+)", line) for line in lines)
    return {term[1]: int(term[2]) for term in terms if term}


SOUND = {
    "scheduled": 0,
    "replayed": 0,
    "due": 0,
    "queued": 0,
    "paused": 0,
    "awaiting": 0,
    "held": 0,
    "in delivery": 0,
    "waiting": 0,
    "delivered": 0,
    "died": 0,
    "expired": 0,
    "cancelled": 0,
    "purged": 0,
    "ended": 0,
    "lost": 0,
}


@pytest.mark.whole_start
async def test_the_ledger_is_printed_and_what_is_sound_exits_0(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as client:
        await put_in_the_first(client, receiver.url, 0)
        await client.drained()
        await put_in_the_first(client, receiver.url, FAR_S)
        for arguments in ([], ["--repair"]):
            lines = await doctor(0, *arguments, REDIS_URL=redis_url)
            assert ledger_of(lines) == SOUND | {"scheduled": 2, "due": 1, "delivered": 1}
            assert [line[0] for line in lines[:-1]] == [" ", "+", "=", *"+" * 13]
            assert lines[-1] == "Nothing is wrong: each of 1 task is in its place."


@pytest.mark.parametrize("given", [{"NAMESPACE": "a"}, {}], ids=["variable", "option"])
async def test_it_examines_the_deployment_that_its_namespace_names(redis_url: str, given: dict[str, str]) -> None:
    client = RedisClient(redis_url, 3, keys.Keys(tag_of("a")))
    task = NewTask(new_task_key(), FAR_S * 1000, record_tail("http://localhost/", FAR_S, None, None), None)
    await Writes(client, "writer").schedule([task])
    await client.aclose()
    option = [] if given else ["--namespace", "a"]
    assert ledger_of(await doctor(0, *option, REDIS_URL=redis_url, **given)) == SOUND | {"scheduled": 1, "due": 1}
    assert ledger_of(await doctor(0, REDIS_URL=redis_url)) == SOUND


async def test_faults_are_told_then_repaired_and_the_task_is_delivered(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as client:
        lost, hidden, late = await put_in_the_first(client, receiver.url, FAR_S, FAR_S, 1)
        await raw.hdel(KEYS.tasks, lost)
        await raw.zrem(KEYS.due, hidden, late)
        nowhere = (
            "has a record but stands nowhere: it would never be delivered; {}: put back into `due` at its due time"
        )
        unknown = "stands in due without a record: nobody knows its webhook any more; {}: removed"

        lines = await doctor(1, "--redis-url", redis_url)
        expected = {f"task {key} {nowhere}" for key in (hidden, late)} | {f"task {lost} {unknown}"}
        assert set(lines[:3]) == {line.format("with --repair") for line in expected}
        assert lines[3].startswith("the ledger is off by 2; ")
        assert ledger_of(lines) == SOUND | {"scheduled": 3, "due": 1, "off by": 2}
        assert lines[-1] == "3 faults. Nothing was changed; `redis-scheduler doctor --repair` repairs."
        assert receiver.arrivals == []

        lines = await doctor(0, "--repair", REDIS_URL=redis_url)
        assert set(lines[:3]) == {line.format("repaired") for line in expected}
        assert lines[3] == "1 task was scheduled of which nothing is left; counted as lost"
        assert ledger_of(lines)["lost"] == 1
        assert lines[-1] == "3 faults repaired; a second look found nothing."

        status, content = await client.call("DELETE", f"/schedule/{hidden}")
        assert (status, content["data"]) == (200, "cancelled")
        stats = await client.drained()
        assert receiver.times_by_key == {late: 1}
        assert (stats["counters"]["lost"], stats["ledger_balanced"]) == (1, True)
        assert (await doctor(0, REDIS_URL=redis_url))[-1] == "Nothing is wrong: each of 0 tasks is in its place."


async def test_a_ledger_that_is_off_is_a_fault_of_its_own(
    redis_url: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await raw.hset(KEYS.counters, "scheduled", "3")
    lines = await examined(1, redis_url)
    assert lines[0] == "3 tasks were scheduled of which nothing is left; with --repair counted as lost"
    lines = await examined(0, redis_url, repairs=True)
    assert lines[0] == "3 tasks were scheduled of which nothing is left; counted as lost"
    assert lines[-1] == "1 fault repaired; a second look found nothing."
    await raw.hset(KEYS.counters, "scheduled", "2")
    lines = await examined(0, redis_url, repairs=True)
    assert lines[0] == "1 task is there that had ended, or was never scheduled; counted off those lost"
    assert ledger_of(lines)["lost"] == 2
    await raw.hset(KEYS.counters, "scheduled", "0")
    lines = await examined(1, redis_url)
    assert lines[0] == "2 tasks are there that had ended, or were never scheduled; with --repair counted off those lost"
    await examined(0, redis_url, repairs=True)


async def test_forgotten_tasks_and_counters_that_are_no_numbers_are_told_and_repaired(
    redis_url: str, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = NewTask(new_task_key(), 0, record_tail("http://localhost/", 0, None, None), None)
    await store.schedule([task])
    await raw.xgroup_setid(KEYS.queue, keys.GROUP, "$")
    await raw.hset(KEYS.counters, "scheduled", "one")
    for repairs, code in ((False, 1), (True, 0)):
        lines = await examined(code, redis_url, repairs)
        assert lines[0].startswith("counter scheduled ")
        assert f" of task {task.key}, but " in lines[1]
    assert ledger_of(lines) == SOUND | {"queued": 1, "lost": -1}
    assert lines[-1] == "2 faults repaired; a second look found nothing."


async def test_of_many_faults_of_a_kind_only_the_first_are_printed(redis_url: str, raw: redis.asyncio.Redis) -> None:
    strays = {new_task_key(): "1 {}" for _ in range(130)}
    await raw.hset(KEYS.failures, mapping=dict.fromkeys(strays, "1 {}"))
    lines = await examined(1, redis_url)
    assert [line.split()[0] for line in lines[:101]] == ["task"] * 100 + ["and"]
    assert lines[100] == "and 30 more: stray failure"
    assert lines[-1].startswith("130 faults. ")
    assert (await examined(0, redis_url, repairs=True))[-1].startswith("130 faults repaired")


async def test_what_cannot_be_repaired_is_left_and_exits_1(redis_url: str, raw: redis.asyncio.Redis) -> None:
    await raw.hset(KEYS.tasks, "unreadable", "{")
    await raw.hset(KEYS.counters, "scheduled", "1")
    lines = await examined(1, redis_url, repairs=True)
    assert [line.split(":")[0] for line in lines[:2]] == [
        "task unreadable has a record that cannot be read",
        "the ledger is off by 1; what is still so when no other fault is left is lost, or found again",
    ]
    assert lines[-1] == "1 fault; 1 could not be repaired."
    await raw.hdel(KEYS.tasks, "unreadable")
    await examined(0, redis_url, repairs=True)


# Where Redis is


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[redis.asyncio.Redis]:
    """The private Redis of a data folder whose service does not run."""
    server = EmbeddedServer(folder)
    await server.start()
    try:
        async with redis.asyncio.Redis.from_url(server.url) as raw:
            yield raw
    finally:
        await server.stop()


async def test_the_private_redis_is_examined_whether_its_service_runs_or_not(
    tmp_path: Path, receiver: Receiver
) -> None:
    folder = tmp_path / "data"
    async with serving(tmp_path) as process, client_of(process) as client:
        [key] = await put_in_the_first(client, receiver.url, FAR_S)
        async with redis.asyncio.Redis.from_url(EmbeddedServer(folder).url) as raw:
            await raw.hset(KEYS.failures, "stray", "1 {}")
        assert "task stray has a failure" in (await doctor(1, DATA_DIR=str(folder)))[0]
        assert (await doctor(0, "--repair", "--data-dir", str(folder)))[-1].startswith("1 fault repaired")
        assert (await client.call("GET", f"/schedule/{key}"))[0] == 200
    async with embedded(folder) as raw:
        await raw.zrem(KEYS.due, key)
    assert (await doctor(1, DATA_DIR=str(folder)))[0].startswith(f"task {key} has a record but stands nowhere")
    assert (await doctor(0, "--repair", DATA_DIR=str(folder)))[-1].startswith("1 fault repaired")
    async with embedded(folder) as raw:  # it has left neither a server nor a lock
        assert await raw.zscore(KEYS.due, key) is not None


async def test_a_data_folder_that_holds_nothing_is_refused_and_not_made(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        line = await refused(2, DATA_DIR=str(folder))
        assert line == f"redis-scheduler: DATA_DIR={folder}: holds no data of a service; set DATA_DIR, or REDIS_URL\n"
    assert not (tmp_path / "missing").exists()
    assert not (tmp_path / "lock").exists()


async def test_a_redis_that_cannot_be_reached_is_one_line(tmp_path: Path, receiver: Receiver) -> None:
    line = await refused(1, REDIS_URL=f"unix://{tmp_path}/redis.sock")
    assert line.startswith("redis-scheduler: Redis is not available: ")
    assert "protocol" in await refused(1, REDIS_URL=receiver.url.replace("http", "redis"))


async def test_a_key_that_is_not_the_services_is_one_line(redis_url: str, raw: redis.asyncio.Redis) -> None:
    await raw.set(KEYS.due, "no set")
    assert "WRONGTYPE" in await refused(1, REDIS_URL=redis_url)
    await raw.delete(KEYS.due)


async def test_a_full_redis_that_refuses_a_repair_is_one_line(redis_url: str, raw: redis.asyncio.Redis) -> None:
    await raw.hset(KEYS.counters, "scheduled", "1")
    await raw.xgroup_create(KEYS.queue, keys.GROUP, "0", mkstream=True)
    await raw.config_set("maxmemory", 1)
    try:
        assert "out of memory" in await refused(1, "--repair", REDIS_URL=redis_url)
    finally:
        await raw.config_set("maxmemory", 0)
    await examined(0, redis_url, repairs=True)


async def test_a_bad_setting_is_one_line(tmp_path: Path) -> None:
    assert "REDIS_URL: must look like" in await refused(2, REDIS_URL="localhost:6379")
    for arguments in (["--mend"], ["--port", "1"], ["--rep"]):
        assert "see redis-scheduler --help" in await refused(2, *arguments)


def test_the_help_tells_the_exit_codes() -> None:
    text = " ".join(run("doctor", "--help").stdout.split())
    assert "Exit code: 0 nothing is wrong" in text
    assert "--repair" in text
    assert "DATA_DIR" in text
    assert "PORT" not in text


# Beside load


@pytest.mark.parametrize("repairs", [False, True])
async def test_beside_a_busy_service_nothing_is_found(
    repairs: bool, redis_url: str, client: RedisClient, tmp_path: Path, receiver: Receiver
) -> None:
    """Tasks are scheduled, delivered, retried, deferred, updated, cancelled and buried all the while."""
    receiver.statuses = [500, 204, 204] * 10_000
    variables = {"REDIS_URL": redis_url, "RETRIES": "1", "RETRY_TIME": "0.05"}
    async with serving(tmp_path, **variables) as process, client_of(process) as user:
        ended = asyncio.Event()
        load = asyncio.gather(*(act(user, receiver.url, ended, number) for number in range(20)))
        looks = 0
        while receiver.times_by_key.total() < 500 or looks < 20:
            assert [finding async for finding in audit(client, repairs)] == []
            assert (await Views(client).ledger()).missing == 0
            looks += 1
        ended.set()
        await load
        await user.drained()


async def act(user: Client, webhook: str, ended: asyncio.Event, number: int) -> None:
    """Schedule, change and cancel tasks until the end."""
    path = f"/schedule?type={('mail', 'bill', 'default')[number % 3]}"
    while not ended.is_set():
        kept, changed, cancelled = [await user.schedule(webhook, ttl, path) for ttl in (0, 0.2, 0.01 * number)]
        await user.call("PATCH", f"/schedule/{changed}", json={"ttl": 0.01 * number})
        await user.call("PATCH", f"/schedule/{kept}", json={"data": number})
        await user.call("DELETE", f"/schedule/{cancelled}")
