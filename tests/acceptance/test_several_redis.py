"""Sentinels and clusters as others set them up: what REDIS_URL leads to, and what is said where it leads elsewhere."""

import asyncio
import contextlib
import re
from contextlib import aclosing
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from redis_scheduler.errors import StoreRefused, StoreUnavailable
from redis_scheduler.store import way
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.writes import Writes
from tests.acceptance.test_refusals import CERTIFICATES, PASSWORD, SMALLEST_ACL, Case, pair, refuses, serves
from tests.scripts.states import new_task
from tests.support.audit import assert_whole
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, free_port, redis_process, server_version, speaks_tls
from tests.support.service import run
from tests.support.several_redis import NAME, asked, behind_sentinels, cluster_of
from tests.support.waiting import wait_until


async def test_a_cluster_serves_by_any_of_its_nodes(tmp_path: Path, receiver: Receiver) -> None:
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        master = await cluster.master()
        others = [node for node in cluster.servers if node is not master]
        for node in cluster.servers:
            await asked(node, "CONFIG", "RESETSTAT")
        url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{others[0].port}"
        async with pair(tmp_path, url) as (running, client):
            await serves(client, receiver)
            key = await client.schedule(receiver.url, 100)
            assert (await client.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["key"] == key
            for process in running.processes:
                assert not process.events("redis-away")
        for other in others:
            assert await asked(other, "DBSIZE") == 0
            assert b"MOVED" not in await asked(other, "INFO", "errorstats")
        assert b"CROSSSLOT" not in await asked(master, "INFO", "errorstats")


@pytest.mark.skipif(server_version() < (7, 0), reason="sharded channels are of 7.0")
async def test_the_bell_of_a_cluster_rings_in_its_shard_alone(tmp_path: Path) -> None:
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        client = RedisClient(cluster.url, 3, KEYS)
        rung = 0

        def ring() -> None:
            nonlocal rung
            rung += 1

        listening = asyncio.create_task(Bell(client).listen(ring))
        try:
            await wait_until(lambda: rung == 1, "it listens")
            await client.create_group()
            await Writes(client, "writer").schedule([new_task(60_000)])
            await wait_until(lambda: rung == 2, "it rings")
            assert await asked(await cluster.master(), "PUBSUB", "SHARDCHANNELS") == [KEYS.bell.encode()]
        finally:
            listening.cancel()
            await client.aclose()


async def test_sentinels_lead_to_the_master_though_one_is_dead_and_one_names_another(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with behind_sentinels(tmp_path / "watched", replicas=0) as watched:
        await watched.sentinels[0].kill()
        liar = watched.sentinels[1]
        await asked(liar, "SENTINEL", "REMOVE", NAME)
        await asked(liar, "SENTINEL", "MONITOR", NAME, "127.0.0.1", free_port(), 2)
        async with pair(tmp_path, watched.url) as (running, client):
            await serves(client, receiver)
            for process in running.processes:
                assert process.events("sentinels-disagree")


CASES = {
    "a single server by a cluster's URL": ("redis+cluster", "is a single server, no node of a cluster"),
    "a single server by the URL of Sentinels": ("redis+sentinel", "is no Sentinel; for a single server"),
}


@pytest.mark.parametrize("name", CASES)
async def test_another_kind_of_server_is_one_line_that_says_which(
    name: str, tmp_path: Path, receiver: Receiver
) -> None:
    scheme, said = CASES[name]
    async with redis_process(tmp_path / "redis") as server:
        url = f"{scheme}://127.0.0.1:{server.port}{f'/{NAME}' if 'sentinel' in scheme else ''}"
        async with pair(tmp_path, url) as (running, client):
            await refuses(running, client, receiver, Case(_nothing, _nothing, said), at_start=True)
        assert await asked(server, "DBSIZE") == 0


async def _nothing(_: object) -> None:
    pass


async def test_a_name_that_no_sentinel_knows_is_one_line(tmp_path: Path, receiver: Receiver) -> None:
    async with behind_sentinels(tmp_path / "watched", replicas=0, sentinels=1) as watched:
        url = watched.url.replace(f"/{NAME}", "/other")
        async with pair(tmp_path, url) as (running, client):
            said = "knows no master of the name other"
            await refuses(running, client, receiver, Case(_nothing, _nothing, said), at_start=True)


async def test_a_sentinel_by_a_clusters_url_is_one_line(tmp_path: Path, receiver: Receiver) -> None:
    async with behind_sentinels(tmp_path / "watched", replicas=0, sentinels=1) as watched:
        url = f"redis+cluster://127.0.0.1:{watched.sentinels[0].port}"
        async with pair(tmp_path, url) as (running, client):
            said = "is no node of a cluster; for a Sentinel REDIS_URL is redis+sentinel://host:port/name"
            await refuses(running, client, receiver, Case(_nothing, _nothing, said), at_start=True)


async def test_all_connections_go_to_one_master_though_sentinels_of_two_deployments_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They use the same name, and no answer is newer than the other."""
    monkeypatch.setattr(way, "OTHERS_S", 3)  # on a busy machine either may be late
    async with (
        behind_sentinels(tmp_path / "one", replicas=0, sentinels=1) as one,
        behind_sentinels(tmp_path / "other", replicas=0, sentinels=1) as other,
    ):
        for first, second in ((one, other), (other, one)):
            url = f"redis+sentinel://127.0.0.1:{first.sentinels[0].port},127.0.0.1:{second.sentinels[0].port}/{NAME}"
            names = [KEYS.writer(str(number), first.url) for number in range(10)]
            for name in names:
                async with aclosing(RedisClient(url, 3, KEYS)) as client:
                    await client.command("SET", name, "1")
            assert await asked(first.servers[0], "EXISTS", *names) == 10
            assert await asked(second.servers[0], "EXISTS", *names) == 0


async def test_a_password_that_sentinels_want_is_asked_for_by_its_option(tmp_path: Path) -> None:
    async with behind_sentinels(tmp_path / "watched", replicas=0, sentinels=1) as watched:
        await asked(watched.sentinels[0], "ACL", "SETUSER", "default", "resetpass", ">hidden")
        for url, is_right in ((watched.url, False), (f"{watched.url}?sentinel_password=hidden", True)):
            client = RedisClient(url, 3, KEYS)
            try:
                if is_right:
                    await client.ensure_checked()
                else:
                    with pytest.raises(StoreRefused, match="sentinel_username and sentinel_password"):
                        await client.ensure_checked()
            finally:
                await client.aclose()


async def test_a_master_that_cannot_be_reached_is_told_as_one_that_sentinels_name(tmp_path: Path) -> None:
    async with behind_sentinels(tmp_path / "watched", replicas=0, sentinels=1) as watched:
        port = free_port()
        await asked(watched.sentinels[0], "SENTINEL", "REMOVE", NAME)
        await asked(watched.sentinels[0], "SENTINEL", "MONITOR", NAME, "127.0.0.1", port, 1)
        done = await asyncio.to_thread(run, "doctor", REDIS_URL=watched.url)
        assert (done.returncode, done.stdout, done.stderr) == (
            1,
            "",
            f"redis-scheduler: Redis is not available: Error 111 connecting to 127.0.0.1:{port} (named by the Sentinels). "
            "Connection refused.\n",
        )


async def test_a_slot_that_no_node_has_is_one_line_and_served_once_one_has(tmp_path: Path) -> None:
    options = ("--cluster-require-full-coverage", "no")
    async with cluster_of(tmp_path / "cluster", *options, replicas=0) as cluster:
        master = await cluster.master()
        client = RedisClient(cluster.url, 3, KEYS)
        try:
            await client.ensure_checked()
            await asked(master, "CLUSTER", "DELSLOTS", 12_872)
            with pytest.raises(StoreUnavailable, match="no node of the cluster has the slot of the keys"):
                await client.create_group()
            for url, said in (
                (cluster.url, "Redis is not available: "),
                (master.url, "REDIS_URL must be redis+cluster:"),
            ):
                done = await asyncio.to_thread(run, "doctor", REDIS_URL=url)
                assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
                assert said in done.stderr
                assert "no node has the slot" in done.stderr or "no node of the cluster has the slot" in done.stderr
            await asked(master, "CLUSTER", "ADDSLOTS", 12_872)

            async def is_served() -> bool:
                try:
                    await client.ensure_checked()
                    await client.create_group()
                except StoreUnavailable:
                    return False
                return True

            await wait_until(is_served, "it is served again", 30)
            await assert_whole(client)
        finally:
            await client.aclose()


async def test_a_plain_url_of_a_node_says_the_url_of_the_cluster(tmp_path: Path) -> None:
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        master = await cluster.master()
        other = next(node for node in cluster.servers if node is not master)
        client = RedisClient(other.url, 3, KEYS)
        try:
            with pytest.raises(StoreRefused, match=f"REDIS_URL must be redis\\+cluster://127.0.0.1:{master.port}"):
                await client.ensure_checked()
        finally:
            await client.aclose()


async def test_a_plain_url_of_the_node_that_has_all_keys_is_refused_whatever_its_user_may(
    tmp_path: Path, receiver: Receiver
) -> None:
    """It would serve until another node has the slot, or takes its place."""
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        master = await cluster.master()
        await asked(master, "ACL", "SETUSER", "app", *SMALLEST_ACL, "+info", ">word")
        for number, user in enumerate(("", "app:word@")):
            folder = tmp_path / str(number)
            folder.mkdir()
            async with pair(folder, f"redis://{user}127.0.0.1:{master.port}") as (running, client):
                said = "names it as a single server: it must be redis+cluster://host:port"
                await refuses(running, client, receiver, Case(_nothing, _nothing, said), at_start=True)
        assert [await asked(server, "DBSIZE") for server in cluster.servers] == [0] * 3
        async with pair(tmp_path, cluster.url) as (_, client):
            await serves(client, receiver)


async def test_a_proxy_that_hides_a_cluster_is_served_as_one_server(tmp_path: Path, receiver: Receiver) -> None:
    """It knows no CLUSTER, whatever it says in INFO."""
    server = RedisProcess(tmp_path / "redis", "--cluster-enabled", "yes")
    try:
        await server.start()
        await asked(server, "CLUSTER", "ADDSLOTS", *range(16_384))
        await server.stop()
        server.options = (*server.options, "--rename-command", "CLUSTER", "")
        await server.start()
        await wait_until(lambda: takes(server), "all slots are there")
        async with pair(tmp_path, server.url) as (_, client):
            await serves(client, receiver)
    finally:
        await server.kill()


async def takes(server: RedisProcess) -> bool:
    """Whether the server takes keys."""
    with contextlib.suppress(RedisError):
        return bool(await asked(server, "SET", "a", 1, "EX", 1))
    return False


_PAGE = (Path(__file__).parents[2] / "docs/howto/servers.md").read_text()


def _row(place: str) -> str:
    """What docs/howto/servers.md says that is needed there."""
    [row] = [line for line in _PAGE.splitlines() if line.startswith(f"| {place}")]
    return row.replace("\\|", "|")


SEVERAL_ACL = [rule for rule in SMALLEST_ACL if not rule.startswith(("~", "&"))] + ["~{rs:*}:*", "&{rs:*}:bell"]


def test_the_page_names_the_rights_that_are_tried() -> None:
    assert set(SEVERAL_ACL[-2:]) <= set(re.findall(r"[~&][^ `]+", _PAGE))


@pytest.mark.skipif(server_version() < (7, 0), reason="sharded channels are of 7.0")
@pytest.mark.parametrize("lacks", [[], ["resetchannels"], ["-spublish", "-ssubscribe", "-publish", "-subscribe"]])
async def test_the_smallest_acl_of_a_cluster_serves(lacks: list[str], tmp_path: Path, receiver: Receiver) -> None:
    rules = [*SEVERAL_ACL, *re.findall(r"\+[a-z|]+", _row("a cluster, each node")), *lacks]
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        for node in cluster.servers:
            await asked(node, "ACL", "SETUSER", "app", *rules)
        url = cluster.url.replace("://", f"://app:{PASSWORD}@")
        async with pair(tmp_path, url, SHARDS="3") as (running, client):
            await serves(client, receiver)
            head = await client.schedule(receiver.url, 100)
            assert (await client.call("DELETE", f"/schedule/{head}"))[1]["data"] == "cancelled"
            await serves(client, receiver)
            said = [event["warning"] for event in running.api.events("redis-configuration")]
            assert any("may not PUBLISH" in one for one in said) == bool(lacks)
            for process in running.processes:
                assert not process.events("redis-away")


async def test_the_smallest_acls_of_sentinels_and_of_what_they_watch_serve(tmp_path: Path, receiver: Receiver) -> None:
    async with behind_sentinels(tmp_path / "watched", replicas=0, sentinels=1) as watched:
        await asked(watched.servers[0], "ACL", "SETUSER", "app", *SMALLEST_ACL)
        own = [
            "on",
            ">other",
            "resetkeys",
            "resetchannels",
            "nocommands",
            *re.findall(r"\+[a-z|]+", _row("each Sentinel")),
        ]
        await asked(watched.sentinels[0], "ACL", "SETUSER", "asker", *own)
        url = watched.url.replace("://", f"://app:{PASSWORD}@") + "?sentinel_username=asker&sentinel_password=other"
        async with pair(tmp_path, url) as (running, client):
            await serves(client, receiver)
            for process in running.processes:
                assert not process.events("redis-away")


TLS = (
    *("--tls-cert-file", f"{CERTIFICATES}/test-localhost.pem", "--tls-key-file", f"{CERTIFICATES}/test-key.pem"),
    *("--tls-ca-cert-file", f"{CERTIFICATES}/test-authority.pem", "--tls-auth-clients", "no"),
)
CHECKED = f"ssl_ca_certs={CERTIFICATES}/test-authority.pem"


async def is_served(url: str) -> bool:
    """Whether a client by this URL is; else fail with what it says."""
    client = RedisClient(url, 3, KEYS)
    try:
        await client.ensure_checked()
        await client.create_group()
    finally:
        await client.aclose()
    return True


@pytest.mark.skipif(not speaks_tls(), reason="the server was built without TLS")
async def test_a_cluster_is_spoken_to_by_tls(tmp_path: Path) -> None:
    port = free_port()
    own = ("--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-port", str(port), *TLS)
    async with redis_process(tmp_path / "node", *own) as node:
        await asked(node, "CLUSTER", "ADDSLOTS", *range(16_384))

        async def is_whole() -> bool:
            return b"cluster_state:ok" in await asked(node, "CLUSTER", "INFO")

        await wait_until(is_whole, "the cluster is whole", 30)
        assert await is_served(f"rediss+cluster://localhost:{port}?{CHECKED}")
        for url in (f"rediss+cluster://localhost:{port}", f"redis+cluster://localhost:{port}"):
            with pytest.raises(StoreUnavailable):
                await is_served(url)


@pytest.mark.skipif(not speaks_tls(), reason="the server was built without TLS")
async def test_sentinels_and_what_they_watch_are_spoken_to_by_tls(tmp_path: Path) -> None:
    port, sentinel = free_port(), RedisProcess(tmp_path / "sentinel")
    async with redis_process(tmp_path / "server", "--tls-port", str(port), *TLS):
        of_tls = "\n".join(f"{name[2:]} {value}" for name, value in zip(TLS[::2], TLS[1::2], strict=True))
        tls_port = free_port()
        configuration = sentinel.folder / "sentinel.conf"
        configuration.write_text(
            f"port {sentinel.port}\ntls-port {tls_port}\nbind 127.0.0.1\ntls-replication yes\n{of_tls}\n"
            f"sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel monitor {NAME} localhost {port} 1\n"
        )
        sentinel.command = (str(configuration), "--sentinel")
        try:
            await sentinel.start()
            assert await is_served(f"rediss+sentinel://localhost:{tls_port}/{NAME}?{CHECKED}")
            with pytest.raises(StoreUnavailable):
                await is_served(f"rediss+sentinel://localhost:{tls_port}/{NAME}")
        finally:
            await sentinel.kill()
