"""A Redis Cluster, a master with replicas behind Sentinels, and servers of their own: processes on the loopback, killed
as a test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from tests.support.audit import plain
from tests.support.names import KEYS
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.waiting import wait_until

SLOTS = 16_384
NODE_TIMEOUT_MS = 1_000
"""A node that is silent for so long is taken for dead: soon, and yet no slow machine's."""

NAME = "main"
"""What Sentinels call the master."""


async def asked(server: RedisProcess, *command: Any) -> Any:
    """What a server answers to a command, over a connection of its own."""
    async with plain(server.url) as client:
        client.response_callbacks.clear()
        return await client.execute_command(*command)


async def role_of(server: RedisProcess) -> str:
    """`master`, `slave`, or nothing where nobody answers."""
    try:
        return str((await asked(server, "ROLE"))[0].decode())
    except (RedisError, OSError):
        return ""


class Servers:
    """All servers of one kind, and who holds the keys of the service."""

    def __init__(self, servers: list[RedisProcess], url: str) -> None:
        self.servers = servers
        self.url = url
        self.sentinels: list[RedisProcess] = []

    async def master(self) -> RedisProcess:
        """The server whose word counts for the keys of the service."""

        async def found() -> list[RedisProcess]:
            return [one for one in self.servers if await role_of(one) == "master" and await self.holds(one)]

        return (await wait_until(found, "there is a master", 30))[0]

    async def holds(self, server: RedisProcess) -> bool:
        return True

    async def replica(self) -> RedisProcess:
        """A replica of that master that has all that it has."""
        port = (await self.master()).port

        async def follows(server: RedisProcess) -> bool:
            try:
                role, *link = await asked(server, "ROLE")
            except (RedisError, OSError):
                return False
            return bool(role == b"slave" and link[1] == port and link[2] == b"connected")

        async def found() -> list[RedisProcess]:
            return [one for one in self.servers if await follows(one)]

        return (await wait_until(found, "it has a replica", 30))[0]


class Cluster(Servers):
    """Three masters with a replica each."""

    async def holds(self, server: RedisProcess, key: str = KEYS.tasks) -> bool:
        try:
            await asked(server, "EXISTS", key)
        except (RedisError, OSError):
            return False
        return True

    async def node_of(self, key: str) -> RedisProcess:
        """The node that has the slot of a key."""

        async def found() -> list[RedisProcess]:
            return [one for one in self.servers if await self.holds(one, key)]

        return (await wait_until(found, f"a node has {key}", 30))[0]

    async def is_well(self) -> bool:
        return all([b"cluster_state:ok" in await asked(server, "CLUSTER", "INFO") for server in self.servers])


async def _started(stack: AsyncExitStack, folder: Path, count: int, *options: str) -> list[RedisProcess]:
    folders = [Path(f"{folder}-{number}") for number in range(count)]
    return list(await asyncio.gather(*(stack.enter_async_context(redis_process(one, *options)) for one in folders)))


@asynccontextmanager
async def apart(folder: Path, count: int, *options: str) -> AsyncIterator[Servers]:
    """Run servers of their own, a shard each, until the end of the block."""
    async with AsyncExitStack() as stack:
        servers = await _started(stack, folder, count, *options)
        yield Servers(servers, ",".join(server.url for server in servers))


@asynccontextmanager
async def cluster_of(folder: Path, *options: str, replicas: int = 1) -> AsyncIterator[Cluster]:
    """Run a cluster of three masters, with so many replicas each, until the end of the block."""
    async with AsyncExitStack() as stack:
        own = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS), *options)
        nodes = await _started(stack, folder, 3 + 3 * replicas, *own)
        masters = nodes[:3]
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        cluster = Cluster(nodes, f"redis+cluster://{hosts}")
        for number, master in enumerate(masters):
            share = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
            await asked(master, "CLUSTER", "ADDSLOTS", *share)
            await asked(master, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            await asked(masters[0], "CLUSTER", "MEET", "127.0.0.1", node.port)
        await wait_until(cluster.is_well, "the cluster is whole", 30)
        for number, node in enumerate(nodes[3:]):
            name = await asked(masters[number % 3], "CLUSTER", "MYID")

            async def follows(node: RedisProcess = node, name: bytes = name) -> bool:
                try:
                    await asked(node, "CLUSTER", "REPLICATE", name)
                except RedisError:  # it does not know that master yet
                    return False
                return True

            await wait_until(follows, "a node is a replica", 30)

        async def are_linked() -> bool:
            return all([(await asked(node, "ROLE"))[3] == b"connected" for node in nodes[3:]])

        await wait_until(are_linked, "all replicas are linked", 30)
        yield cluster


@asynccontextmanager
async def behind_sentinels(folder: Path, replicas: int = 1, sentinels: int = 3) -> AsyncIterator[Servers]:
    """Run a master with replicas and Sentinels until the end of the block."""
    async with AsyncExitStack() as stack:
        servers = await _started(stack, folder, 1 + replicas)
        for replica in servers[1:]:
            await asked(replica, "REPLICAOF", "127.0.0.1", servers[0].port)
        watchers = []
        for number in range(sentinels):
            sentinel = RedisProcess(Path(f"{folder}-sentinel{number}"))
            configuration = sentinel.folder / "sentinel.conf"
            configuration.write_text(
                f"port {sentinel.port}\nbind 127.0.0.1\ndir {sentinel.folder}\n"
                f"sentinel monitor {NAME} 127.0.0.1 {servers[0].port} {sentinels // 2 + 1}\n"
                f"sentinel down-after-milliseconds {NAME} {NODE_TIMEOUT_MS}\nsentinel failover-timeout {NAME} 5000\n"
            )
            sentinel.command = (str(configuration), "--sentinel")
            stack.push_async_callback(sentinel.kill)
            await sentinel.start()
            watchers.append(sentinel)
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in watchers)
        found = Servers(servers, f"redis+sentinel://{hosts}/{NAME}")
        found.sentinels = watchers

        async def is_well() -> bool:
            rows = [await asked(sentinel, "SENTINEL", "MASTER", NAME) for sentinel in watchers]
            known = [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
            return all(
                int(row[b"num-slaves"]) == replicas and int(row[b"num-other-sentinels"]) == sentinels - 1
                for row in known
            )

        await wait_until(is_well, "the Sentinels know all", 30)
        yield found


@asynccontextmanager
async def moved_key_by_key(cluster: Cluster, key: str) -> AsyncIterator[RedisProcess]:
    """Move the slot of a key to another master: it is in both places for the block, which is given the other one."""
    source = await cluster.node_of(key)
    target = next(one for one in cluster.servers[:3] if one is not source)
    slot = await asked(source, "CLUSTER", "KEYSLOT", key)
    ids = {server: await asked(server, "CLUSTER", "MYID") for server in (source, target)}
    await asked(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    await asked(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    yield target
    while names := await asked(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
        await asked(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *names)
    for server in (target, source):
        await asked(server, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])


class Link:
    """A replica's connection to its master, which can be stalled: what the master sends then stays on its way."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.port = 0

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self.flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def replicated(folder: Path, *options: str) -> AsyncIterator[tuple[RedisProcess, RedisProcess, Link]]:
    """Run a master and a replica, with a link between, until the end of the block."""
    async with AsyncExitStack() as stack:
        master, replica = await _started(stack, folder, 2, "--repl-diskless-sync-delay", "0", *options)
        link = Link()

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from_master, to_master = await asyncio.open_connection("127.0.0.1", master.port)
            try:
                await asyncio.gather(link.forward(reader, to_master), link.forward(from_master, writer))
            finally:
                to_master.close()
                writer.close()

        listener = await stack.enter_async_context(await asyncio.start_server(connect, "127.0.0.1", 0))
        stack.callback(link.flowing.set)
        link.port = listener.sockets[0].getsockname()[1]
        await asked(replica, "REPLICAOF", "127.0.0.1", link.port)

        async def is_linked() -> bool:
            return b"master_link_status:up" in await asked(replica, "INFO", "replication")

        await wait_until(is_linked, "the replica is linked", 30)
        yield master, replica, link
