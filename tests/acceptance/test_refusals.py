"""Other people's Redis: whatever it refuses, the service says so in one line, answers 503, ends nothing, and comes
back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from tests.support.audit import audited
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, free_port, redis_process, server_version, speaks_tls
from tests.support.service import TOKEN, Client, Process, client_of
from tests.support.waiting import wait_until

CERTIFICATES = Path(__file__).parents[1] / "support/certificates"
PASSWORD = "hidden-one"
_GUIDE = (Path(__file__).parents[2] / "RELIABILITY.md").read_text()
_ACL = _GUIDE.partition("ACL SETUSER scheduler ")[2].partition("```")[0].replace("\\\n", "").split()
SMALLEST_ACL = tuple(rule.replace(">password", f">{PASSWORD}") for rule in _ACL)
"""What RELIABILITY.md says that the service needs."""

DOCTORS = tuple(_GUIDE.partition("` | `redis-scheduler doctor` |")[0].rpartition("`")[2].split())
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

    def __init__(self, folder: Path, url: str) -> None:
        self.processes = [Process(folder, role, REDIS_URL=url, API_AUTH=TOKEN) for role in ("api", "worker")]
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
async def pair(folder: Path, url: str) -> AsyncIterator[tuple[Pair, Client]]:
    running = Pair(folder, url)
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

    async def is_accepted() -> bool:
        return (await client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0}))[0] == 200

    async with asyncio.timeout(timeout_s):
        await wait_until(is_accepted, "a schedule is accepted", timeout_s)
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
        await asyncio.sleep(0.05)
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


OPTIONAL = (
    "info",
    "config",
    "hrandfield",
    "dbsize",
    "client",
    "subscribe",
    "publish",
    "ping",
    "role",
    "select",
    "hscan",
)


@pytest.mark.parametrize("rules", [[f"-{command}" for command in OPTIONAL], ["resetchannels"]])
async def test_what_is_optional_is_done_without(rules: list[str], tmp_path: Path, receiver: Receiver) -> None:
    async with surroundings(tmp_path) as at:
        await at.acl("+@all", *rules)
        async with pair(tmp_path, at.url) as (running, client):
            await serves(client, receiver)
            # It becomes the head of `due`, and would ring the bell.
            head = await client.schedule(receiver.url, 100)
            assert (await client.stats())["ledger_balanced"]
            assert (await client.call("DELETE", f"/schedule/{head}"))[1]["data"] == "cancelled"
            receiver.status = 500
            key = await client.schedule(receiver.url)

            async def is_deferred() -> bool:
                return (await client.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["state"] in (
                    "deferred",
                    "waiting",
                )

            await wait_until(is_deferred, "a failed attempt is recorded")
            keys_counted = (await client.stats())["total_redis_keys"]
            assert (keys_counted is None) == ("-dbsize" in rules)
            assert await client.call("DELETE", f"/schedule/{key}") == (
                200,
                {"status": 200, "data": "cancelled", "key": key},
            )
            receiver.status = 200
            await serves(client, receiver)
            for process in running.processes:
                assert not process.events("redis-away")
                [said] = [event["warning"] for event in process.events("redis-configuration")]
                assert "may not PUBLISH to {rs:0}:bell" in said
            [refused] = running.worker.events("redis-refused")
            assert "NOPERM" in refused["error"]
            assert running.live


async def test_the_doctor_needs_no_more_rights_than_the_guide_says(tmp_path: Path, receiver: Receiver) -> None:
    async with surroundings(tmp_path) as at, pair(tmp_path, at.url) as (running, client):
        await serves(client, receiver)
        task = {"webhook": receiver.url, "ttl": 100}
        assert (await client.call("POST", "/schedule?type=mail", json=task))[0] == 200
        await at.acl(*DOCTORS)
        doctor = RedisClient(at.url, 5.0, KEYS)
        try:
            for repairs in (False, True):
                assert [finding.text async for finding in audit(doctor, repairs)] == []
        finally:
            await doctor.aclose()
        assert running.live


@pytest.mark.parametrize("missing", DOCTORS)
async def test_the_doctor_names_the_command_that_it_may_not_call(missing: str, tmp_path: Path) -> None:
    async with surroundings(tmp_path) as at:
        doctor = RedisClient(at.url, 5.0, KEYS)
        try:
            await doctor.create_group()
            # Listed, so that all is looked at.
            await at.call("HSET", KEYS.tasks, "task", '{"due":1,"webhook":"http://a/","ttl":1,"type":"mail"}')
            await at.call("ZADD", KEYS.due, 1, "task")
            await at.call("ZADD", KEYS.type_index("mail"), 1, "task")
            await at.call("SADD", KEYS.types, "mail")
            await at.acl(*DOCTORS, missing.replace("+", "-"))
            with pytest.raises(StoreUnavailable) as raised:
                async for _ in audit(doctor):
                    pass
        finally:
            await doctor.aclose()
        await at.call("FLUSHALL")
    line = str(raised.value)
    assert missing[1:] in line.lower()
    assert "the user in REDIS_URL needs it: see the smallest ACL in RELIABILITY.md" in line


@pytest.mark.parametrize("command", ["XAUTOCLAIM", "EVALSHA", "HSTRLEN", "AUTH"])
async def test_a_renamed_command_is_named(command: str, tmp_path: Path, receiver: Receiver) -> None:
    renamed = ("--rename-command", command, "")
    async with surroundings(tmp_path, *renamed) as at, pair(tmp_path, at.url) as (running, client):
        case = Case(lambda at: at.acl(), lambda at: at.acl(), f"unknown command {command}")
        if command in ("EVALSHA", "AUTH"):
            case = Case(case.do, case.undo, "unknown command")
        await refuses(running, client, receiver, case, at_start=True)
        await at.server.stop()
        at.server.options = ()
        await at.server.start()
        await at.acl(*SMALLEST_ACL)
        await serves(client, receiver)


async def test_a_password_that_is_missing_is_asked_for(tmp_path: Path, receiver: Receiver) -> None:
    async with surroundings(tmp_path) as at, pair(tmp_path, at.server.url) as (running, client):
        await serves(client, receiver)
        await at.call("CONFIG", "SET", "requirepass", PASSWORD)
        await at.kill_connections()
        case = Case(lambda at: at.acl(), lambda at: at.acl(), "REDIS_URL lacks the password")
        await refuses(running, client, receiver, case, at_start=False)
        # More than Redis reads of those it does not know.
        status, _ = await client.call(
            "POST", "/schedule", json={"webhook": receiver.url, "ttl": 0, "data": "x" * 200_000}
        )
        assert status == 503
        await at.call("CONFIG", "SET", "requirepass", "")
        await serves(client, receiver)


async def test_a_node_of_a_cluster_without_the_slot_names_the_node_that_has_it(
    tmp_path: Path, receiver: Receiver
) -> None:
    cluster = ("--cluster-enabled", "yes")
    async with (
        redis_process(tmp_path / "one", *cluster) as one,
        redis_process(tmp_path / "two", *cluster) as two,
        redis.asyncio.Redis.from_url(one.url, protocol=2) as first,
        audited(two.url) as second,
    ):
        nodes = {one.port: first, two.port: second}
        ids = {port: await node.execute_command("CLUSTER", "MYID") for port, node in nodes.items()}
        # One slot at least stays with each: a master that loses its last becomes a replica.
        await first.execute_command("CLUSTER", "ADDSLOTS", 0)
        await second.execute_command("CLUSTER", "ADDSLOTS", *range(1, 16_384))
        await first.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port)

        async def is_well() -> bool:
            return all(
                [b"cluster_state:ok" in bytes(await node.execute_command("CLUSTER", "INFO")) for node in nodes.values()]
            )

        async def move(source: RedisProcess, target: RedisProcess) -> None:
            slot = 12_872
            at, to = nodes[source.port], nodes[target.port]
            await to.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
            await at.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
            names = await at.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
            await at.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *names)
            for node in (to, at):
                await node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])

        await wait_until(is_well, "the cluster is whole", 30)
        case = Case(
            lambda at: at.acl(),
            lambda at: at.acl(),
            f"slot 12872, where the service has its keys, is kept by 127.0.0.1:{two.port}; REDIS_URL must name that node",
        )
        async with pair(tmp_path, one.url) as (running, client):
            await refuses(running, client, receiver, case, at_start=True)
        (tmp_path / "moving").mkdir()
        async with pair(tmp_path / "moving", two.url) as (running, client):
            await serves(client, receiver)
            await move(two, one)
            said = case.said.replace(str(two.port), str(one.port))
            await refuses(running, client, receiver, Case(case.do, case.undo, said), at_start=False)
            await move(one, two)
            await serves(client, receiver)


async def test_a_sentinel_is_named(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "sentinel.conf").write_text("")
    server = RedisProcess(tmp_path / "redis")
    server.command = (str(tmp_path / "sentinel.conf"), "--sentinel", "--port", str(server.port), "--bind", "127.0.0.1")
    try:
        await server.start()
        async with pair(tmp_path, server.url) as (running, client):
            case = Case(lambda at: at.acl(), lambda at: at.acl(), "this is a Sentinel: REDIS_URL must name the Redis")
            await refuses(running, client, receiver, case, at_start=True)
    finally:
        await server.kill()


async def test_a_database_that_is_not_there_is_one_line(tmp_path: Path, receiver: Receiver) -> None:
    async with surroundings(tmp_path) as at, pair(tmp_path, f"{at.server.url}99") as (running, client):
        case = Case(lambda at: at.acl(), lambda at: at.acl(), "DB index is out of range")
        await refuses(running, client, receiver, case, at_start=True)


async def test_an_emptied_redis_is_no_outage(tmp_path: Path, receiver: Receiver) -> None:
    async with surroundings(tmp_path) as at, pair(tmp_path, at.url) as (running, client):
        await serves(client, receiver)
        await at.call("FLUSHALL")
        await wait_until(
            lambda: running.worker.events("group-lost") or running.api.events("group-lost"), "it is noticed"
        )
        await serves(client, receiver)
        for process in running.processes:
            assert not process.events("redis-away")
            assert not process.events("redis-back")


async def test_a_foreign_key_in_the_place_of_a_type_costs_only_its_list(tmp_path: Path, receiver: Receiver) -> None:
    async with surroundings(tmp_path) as at, pair(tmp_path, at.url) as (running, client):
        await serves(client, receiver)
        await at.call("SET", KEYS.type_index("mail"), "foreign")
        for ttl in (0, 0.01):
            await client.schedule(receiver.url, ttl, "/schedule?type=mail")
        await serves(client, receiver)
        assert (await client.call("GET", "/schedules?type=mail"))[0] == 503
        await serves(client, receiver)
        assert len(running.api.events("redis-refused")) == 1
        assert not running.api.events("redis-away")
        assert not running.worker.events("redis-away")
        await at.call("DEL", KEYS.type_index("mail"))
        await at.call("SREM", KEYS.types, "mail")


async def test_options_of_other_programs_in_the_url_do_no_harm(tmp_path: Path, receiver: Receiver) -> None:
    others = (
        "decode_responses=True&protocol=3&socket_timeout=0.5&max_connections=1&encoding=latin-1&health_check_interval=1"
    )
    async with surroundings(tmp_path) as at:
        await at.call("ACL", "SETUSER", "a@b", *SMALLEST_ACL, "+select", "+client|setname", ">p/w:?#")
        url = f"redis://a%40b:p%2Fw%3A%3F%23@127.0.0.1:{at.server.port}/2?client_name=shop&{others}"
        async with pair(tmp_path, url) as (running, client):
            await serves(client, receiver)
            clients = await at.admin.client_list()
            assert {(row["db"], row["user"]) for row in clients if row["name"] == "shop"} == {("2", "a@b")}
            for process in running.processes:
                hazards = [event["warning"] for event in process.events("hazard")]
                assert any(
                    "decode_responses, encoding, health_check_interval, max_connections" in text for text in hazards
                )
                assert not process.events("redis-away")
        await at.call("ACL", "DELUSER", "a@b")


@pytest.mark.parametrize("options", [f"ssl_ca_certs={CERTIFICATES}/test-authority.pem", "ssl_cert_reqs=CERT_NONE"])
async def test_tls_is_checked_as_the_url_says(options: str, tmp_path: Path, receiver: Receiver) -> None:
    port = free_port()
    tls = ("--tls-cert-file", f"{CERTIFICATES}/test-localhost.pem", "--tls-key-file", f"{CERTIFICATES}/test-key.pem")
    if not speaks_tls():
        pytest.skip("the server was built without TLS")
    async with surroundings(tmp_path, "--tls-port", str(port), *tls, "--tls-auth-clients", "no") as at:
        async with pair(tmp_path, f"rediss://app:{PASSWORD}@localhost:{port}/0?{options}") as (_, client):
            await serves(client, receiver)
        for url, said in (
            (f"rediss://localhost:{port}/0", "see ssl_ca_certs, ssl_check_hostname"),
            (f"redis://localhost:{port}/0", "Redis is not available: "),
            (f"rediss://localhost:{at.server.port}/0?{options}", "Redis is not available: "),
        ):
            refused = RedisClient(url, 1, KEYS)
            with pytest.raises(StoreUnavailable, match=said):
                await refused.command("PING")
            await refused.aclose()
