"""Other people's Redis: whatever it refuses, the service says so in one line, answers 503, ends nothing, and comes
back."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.support.audit import audited
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, free_port, redis_process, server_version
from tests.support.service import TOKEN, Client, Process, client_of
from tests.support.waiting import wait_until

CERTIFICATES = Path(__file__).parents[1] / "support/certificates"
PASSWORD = "hidden-one"
_GUIDE = (Path(__file__).parents[2] / "RELIABILITY.md").read_text()
_ACL = _GUIDE.partition("ACL SETUSER scheduler ")[2].partition("```")[0].replace("\\\n", "").split()
SMALLEST_ACL = tuple(rule.replace(">password", f">{PASSWORD}") for rule in _ACL)
"""What RELIABILITY.md says that the service needs."""

DOCTORS = tuple(re.findall(r"`((?:\+\w+ ?)+)` \| `redis-scheduler doctor`", _GUIDE)[0].split())
"""And what it says that the doctor needs besides."""

Break = Callable[["Surroundings"], Awaitable[object]]


class Surroundings:
    """A server, its administrator, and a user of it who may do what the service needs."""

    def __init__(self, server: RedisProcess, admin: redis.asyncio.Redis) -> None:
        self.server = server
        self.admin = admin
        self.url = f"redis://app:{PASSWORD}@127.0.0.1:{server.port}/0"

    async def call(self, *arguments: str | int) -> object:
        return await self.admin.execute_command(*arguments)

    async def acl(self, *rules: str) -> None:
        await self.call("ACL", "SETUSER", "app", *rules)

    async def kill_connections(self) -> None:
        await self.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@dataclass(frozen=True)
class Case:
    """What somebody does to Redis, how it is put right, and what the log says of it."""

    do: Break
    undo: Break
    said: str
    is_workers: bool = False
    """Whether only workers meet it as they run."""


def acl(rules: str, undone: str, said: str, is_workers: bool = True) -> Case:
    return Case(lambda at: at.acl(*rules.split()), lambda at: at.acl(*undone.split()), said, is_workers)


async def _change_password(at: Surroundings) -> None:
    await at.acl("resetpass", ">another")
    await at.kill_connections()


async def _take_all_connections(at: Surroundings) -> None:
    await at.call("CONFIG", "SET", "maxclients", 1)
    await at.kill_connections()


async def _fail_to_save(at: Surroundings) -> None:
    folder = at.server.folder / "gone"
    folder.mkdir()
    await at.call("CONFIG", "SET", "dir", str(folder))
    folder.rmdir()
    await at.call("CONFIG", "SET", "save", "3600 1")
    await at.call("CONFIG", "SET", "appendonly", "no")
    with contextlib.suppress(redis.exceptions.ResponseError):
        await at.call("SAVE")
    await at.call("BGSAVE")

    async def has_failed() -> bool:
        status: str = (await at.admin.info("persistence"))["rdb_last_bgsave_status"]
        return status == "err"

    await wait_until(has_failed, "a snapshot has failed")


async def _save(at: Surroundings) -> None:
    await at.call("CONFIG", "SET", "dir", str(at.server.folder))
    await at.call("SAVE")
    await at.call("CONFIG", "SET", "appendonly", "yes")
    await at.call("CONFIG", "SET", "save", "")


CASES = {
    "-xautoclaim": acl("-xautoclaim", "+xautoclaim", "NOPERM for XAUTOCLAIM; the user in REDIS_URL needs it"),
    "-xreadgroup": acl("-xreadgroup", "+xreadgroup", "NOPERM for XREADGROUP; "),
    "-zrem -unlink": acl("-zrem -unlink", "+zrem +unlink", "NOPERM for UNLINK, ZREM; "),
    "-evalsha": acl("-evalsha", "+evalsha", "NOPERM ", False),
    "-@write": acl("-@write", " ".join(SMALLEST_ACL), "NOPERM for SET, UNLINK, HSET, HDEL, ", False),
    "no keys": acl("resetkeys", "~{rs:0}:*", "NOPERM ", False),
    "another password": Case(
        _change_password,
        lambda at: at.acl("resetpass", f">{PASSWORD}"),
        "WRONGPASS invalid username-password pair or user ",
    ),
    "no connection left": Case(
        _take_all_connections,
        lambda at: at.call("CONFIG", "SET", "maxclients", 1000),
        "max number of clients reached",
    ),
    "replica": Case(
        lambda at: at.call("REPLICAOF", "127.0.0.1", free_port()),
        lambda at: at.call("REPLICAOF", "NO", "ONE"),
        "READONLY You can't write against a read only replica.; REDIS_URL must name the master",
    ),
    "full disk": Case(_fail_to_save, _save, "MISCONF "),
    "foreign key": Case(
        lambda at: at.call("SET", KEYS.sweep, "foreign"),
        lambda at: at.call("DEL", KEYS.sweep),
        f"{KEYS.sweep}: WRONGTYPE Operation against a key holding the wrong kind of value; a key of a foreign program",
        is_workers=True,
    ),
}


@contextlib.asynccontextmanager
async def surroundings(folder: Path, *options: str) -> AsyncIterator[Surroundings]:
    # Since 7.0 a server's folder cannot be changed without it.
    has_protected = ("--enable-protected-configs", "yes") if server_version() >= (7, 0) else ()
    async with redis_process(folder / "redis", *has_protected, *options) as server, audited(server.url) as admin:
        at = Surroundings(server, admin)
        await at.acl(*SMALLEST_ACL)
        yield at


class Pair:
    """An API and a worker, each a process of its own; what they have said since `forget`."""

    def __init__(self, folder: Path, url: str, **variables: str) -> None:
        settings = {"REDIS_URL": url, "API_AUTH": TOKEN} | variables
        self.processes = [Process(folder, role, **settings) for role in ("api", "worker")]
        self.api, self.worker = self.processes
        self._forgotten: dict[tuple[Process, str], int] = {}

    def forget(self) -> None:
        for process in self.processes:
            for name in ("redis-away", "redis-back"):
                self._forgotten[process, name] = len(process.events(name))

    def events(self, name: str) -> list[list[dict[str, Any]]]:
        """The events of a name, of each."""
        return [process.events(name)[self._forgotten.get((process, name), 0) :] for process in self.processes]

    def said(self, text: str) -> list[int]:
        """How often each has said this of Redis."""
        return [sum(text in event["error"] for event in events) for events in self.events("redis-away")]

    def back(self) -> list[int]:
        return [len(events) for events in self.events("redis-back")]

    @property
    def live(self) -> bool:
        return all(process.process.poll() is None for process in self.processes)


@contextlib.asynccontextmanager
async def pair(folder: Path, url: str, **variables: str) -> AsyncIterator[tuple[Pair, Client]]:
    running = Pair(folder, url, **variables)
    try:
        async with client_of(running.api) as client:
            await running.worker.started()
            yield running, client
    finally:
        await asyncio.gather(*(process.stop() for process in running.processes))


BACK_S = 5 + 5
"""What is promised, and what a machine that does other things may add."""


async def serves(client: Client, receiver: Receiver, timeout_s: float = 20) -> None:
    """See, within the time, a schedule accepted and delivered, and the books balanced."""
    before = len(receiver.arrivals)
    async with asyncio.timeout(timeout_s):
        await wait_until(lambda: client.accepts(receiver.url), "a schedule is accepted", timeout_s)
        await wait_until(lambda: len(receiver.arrivals) > before, "it is delivered", timeout_s)
    assert (await client.drained())["ledger_balanced"]


async def refuses(running: Pair, client: Client, receiver: Receiver, case: Case, at_start: bool) -> None:
    """See each that meets it say it once, and the API answer 503 to all, time after time."""
    expected = [0 if case.is_workers and not at_start else 1, 1]
    status = 503 if expected[0] else 200

    async def ask() -> None:
        answered, content = await client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0.01})
        assert answered == status, content
        if status == 503:
            told = content["error"]
            assert told.startswith(("Redis refuses what the service asks", "Redis takes no more connections")), told
            assert told.endswith("; try again")
            assert not any(secret in told for secret in (PASSWORD, "scheduler", "127.0.0.1", "{rs:0}"))
        assert (await client.call("GET", "/stats"))[0] == status

    await ask()
    await wait_until(lambda: running.said(case.said) == expected, f"it is said: {case.said}")
    for _ in range(10):
        await ask()
        await asyncio.sleep(0.05)  # it could say it again meanwhile
    assert running.said(case.said) == expected
    assert running.live
    for process in running.processes:
        assert PASSWORD not in process.log
        assert not process.events("fault")
    assert running.back() == [0, 0]
    assert max(map(len, running.events("redis-away"))) <= 2  # one more where connections were cut


@pytest.mark.parametrize("share", range(3))
async def test_what_redis_refuses_while_the_service_runs_is_one_line_and_503_until_it_is_right(
    share: int, tmp_path: Path, receiver: Receiver
) -> None:
    async with surroundings(tmp_path) as at, pair(tmp_path, at.url) as (running, client):
        await serves(client, receiver)
        for case in [*CASES.values()][share::3]:
            running.forget()
            await case.do(at)
            await refuses(running, client, receiver, case, at_start=False)
            await case.undo(at)
            await serves(client, receiver, BACK_S)
            expected = [0 if case.is_workers else 1, 1]
            await wait_until(lambda: running.back() == expected, f"they say that it is back: {case.said}")  # noqa: B023


@pytest.mark.parametrize("name", ["-@write", "another password", "no connection left", "replica", "foreign key"])
async def test_what_redis_refuses_at_the_start_is_one_line_and_503_until_it_is_right(
    name: str, tmp_path: Path, receiver: Receiver
) -> None:
    case = CASES[name]
    async with surroundings(tmp_path) as at:
        await case.do(at)
        async with pair(tmp_path, at.url) as (running, client):
            await refuses(running, client, receiver, case, at_start=True)
            assert set(await at.admin.keys()) <= {KEYS.sweep.encode()}
            await case.undo(at)
            await serves(client, receiver, BACK_S)
            await wait_until(lambda: running.back() == [1, 1], "both say that it is back")
