"""Redis as others set it up: the fewest rights, renamed commands, a cluster's node, a sentinel, options of the URL."""

from pathlib import Path

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from tests.acceptance.test_refusals import (
    CERTIFICATES,
    DOCTORS,
    PASSWORD,
    SMALLEST_ACL,
    Case,
    pair,
    refuses,
    serves,
    surroundings,
)
from tests.support.audit import audited
from tests.support.names import KEYS
from tests.support.pages import Browser
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, free_port, redis_process, speaks_tls
from tests.support.service import TOKEN
from tests.support.waiting import wait_until

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
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
                browser = Browser(session, client.url)
                await browser.sign_in(TOKEN)
                for page in ("/ui/", "/ui/tasks", "/ui/hosts", "/ui/system"):
                    assert (await browser.get(page)).status == 200, page
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
        # One slot at least stays with each: a master that loses its last becomes a replica.
        await first.execute_command("CLUSTER", "ADDSLOTS", 0)
        await second.execute_command("CLUSTER", "ADDSLOTS", *range(1, 16_384))
        await first.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port)

        async def is_well() -> bool:
            return all(
                [b"cluster_state:ok" in bytes(await node.execute_command("CLUSTER", "INFO")) for node in nodes.values()]
            )

        await wait_until(is_well, "the cluster is whole", 30)
        case = Case(
            lambda at: at.acl(),
            lambda at: at.acl(),
            f"slot 12872, where the service has its keys, is kept by 127.0.0.1:{two.port}; REDIS_URL must be redis+cluster",
        )
        async with pair(tmp_path, one.url) as (running, client):
            await refuses(running, client, receiver, case, at_start=True)
        # One that has the slot would serve until another has it.
        (tmp_path / "other").mkdir()
        async with pair(tmp_path / "other", two.url) as (running, client):
            case = Case(case.do, case.undo, "names it as a single server: it must be redis+cluster://host:port")
            await refuses(running, client, receiver, case, at_start=True)
        for node in nodes.values():
            assert await node.dbsize() == 0


async def test_a_sentinel_is_named(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "sentinel.conf").write_text("")
    server = RedisProcess(tmp_path / "redis")
    server.command = (str(tmp_path / "sentinel.conf"), "--sentinel", "--port", str(server.port), "--bind", "127.0.0.1")
    try:
        await server.start()
        async with pair(tmp_path, server.url) as (running, client):
            case = Case(
                lambda at: at.acl(), lambda at: at.acl(), "this is a Sentinel: REDIS_URL must be redis+sentinel://"
            )
            await refuses(running, client, receiver, case, at_start=True)
    finally:
        await server.kill()


async def test_a_database_that_is_not_there_is_one_line(tmp_path: Path, receiver: Receiver) -> None:
    async with surroundings(tmp_path) as at, pair(tmp_path, f"{at.server.url}99") as (running, client):
        case = Case(
            lambda at: at.acl(), lambda at: at.acl(), "DB index is out of range; REDIS_URL names a database that is not"
        )
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
