"""How each outage is staged: a service with its Redis and receivers, and what goes wrong there."""

import asyncio
import os
import secrets
import signal
import socket
import ssl
import time
from base64 import b64encode
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import redis.asyncio
from aiohttp import web

from tests.support.hostile import CERTIFICATES
from tests.support.name_server import NO_SUCH_NAME, command_asking, naming_for_processes
from tests.support.receiver import receiving
from tests.support.redis_process import RedisProcess, free_port, redis_process
from tests.support.service import Client, Process, client_of, serving
from tests.support.shards import scheduled_to_the_last
from tests.support.waiting import wait_until

SILENT = "127.0.0.99"
"""Where the name server is that never answers."""

WELL = 200
"""Tasks a minute that are delivered beside all of it."""

FEW = ("127.0.1.17", "127.0.1.42", "127.0.1.88")
"""The receivers that fail among a hundred."""

BURST = 200_000
BATCH = 1_000


class Stage:
    """A service with its Redis and one receiver that is well."""

    def __init__(self, stack: AsyncExitStack, folder: Path, database: RedisProcess, well: str) -> None:
        self.stack = stack
        self.folder = folder
        self.database = database
        self.well = well
        self.tasks = BURST
        self.port = int(os.environ.get("PORT", "0")) or free_port()
        self.variables = {"REDIS_URL": database.url, "HOST": "127.0.0.1", "RETRY_TIME": "5", "TIMEOUT": "2"}
        # So that the page Try it can be tried, too.
        self.variables["EGRESS_ALLOW"] = f"127.0.0.1:{self.port}"
        self.api: Client
        self.workers: list[Process] = []

    async def start(self, *prefix: str, workers: int = 2, **of_api: str) -> None:
        """Start the API and workers. `of_api`: variables of the API alone."""
        api = await self._serving("api", "api", PORT=str(self.port), **of_api)
        self.api = await self.stack.enter_async_context(client_of(api))
        for number in range(workers):
            self.workers.append(await self._serving(f"worker{number}", "worker", prefix=prefix))

    async def _serving(self, name: str, role: str, **given: Any) -> Process:
        folder = self.folder / name
        folder.mkdir()
        return await self.stack.enter_async_context(serving(folder, role, **(self.variables | given)))

    async def start_worker(self, name: str, **given: Any) -> Process:
        """Start one more. `given`: its module, and variables of its own."""
        return await self._serving(name, "worker", **given)

    async def schedule(self, webhook: str, count: int, ttl_s: float, over_s: float = 0.0) -> None:
        """Schedule tasks that are due from `ttl_s` from now on, spread over so many seconds."""
        from_s = time.time() + ttl_s
        for first in range(0, count, BATCH):
            numbers = range(first, min(count, first + BATCH))
            tasks = [
                {"webhook": webhook, "at": _time(from_s + over_s * number / count), "data": {"order": number}}
                for number in numbers
            ]
            status, answer = await self.api.call("POST", "/schedules", json={"tasks": tasks})
            assert status == 200, answer

    async def schedule_beside_well(self, webhook: str) -> None:
        """Schedule tasks of a webhook, and of the receiver that is well, all due within a minute."""
        await self.schedule(self.well, WELL, 0, 60)
        await self.schedule(webhook, 400, 0, 60)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def receiver_down(stage: Stage) -> None:
    """One of two receivers answers no more."""
    await stage.start()
    with socket.socket() as probe:  # nothing listens there
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await stage.schedule_beside_well(f"http://127.0.0.1:{port}/orders")


async def few_fail(stage: Stage) -> None:
    """Three of a hundred receivers fail, to which little is sent; all else is well."""
    many = await stage.stack.enter_async_context(receiving(everywhere=True))

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=503 if request.host.startswith(FEW) else 200)

    many.behaviour = answer
    await stage.start()
    for number in range(1, 101):
        host = f"127.0.1.{number}"
        count = 12 if host.startswith(FEW) else 60
        await stage.schedule(f"http://{host}:{many.port}/orders", count, 0, count)


async def name_unknown(stage: Stage) -> None:
    """Most webhooks name a host that does not exist."""
    _, prefix = await stage.stack.enter_async_context(naming_for_processes(lambda *_: NO_SUCH_NAME, stage.folder))
    await stage.start(*prefix)
    await stage.schedule_beside_well("http://shpo.example/orders")


async def certificate_expired(stage: Stage) -> None:
    """The certificate of one of two receivers was good until 2020."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "test-expired.pem", CERTIFICATES / "test-key.pem")
    expired = await stage.stack.enter_async_context(receiving(context=context))
    stage.variables["EGRESS_CA_FILE"] = str(CERTIFICATES / "test-authority.pem")
    await stage.start()
    await stage.schedule_beside_well(f"https://127.0.0.1:{expired.port}/orders")


async def receiver_refuses(stage: Stage) -> None:
    """One of two receivers no longer accepts what deliveries show."""
    refusing = await stage.stack.enter_async_context(receiving())
    refusing.status = 401
    await stage.start()
    await stage.schedule_beside_well(f"{refusing.url}orders")


async def receiver_slow(stage: Stage) -> None:
    """One of two receivers takes longer than tasks wait for it."""
    slow = await stage.stack.enter_async_context(receiving())
    slow.delay_s = 30
    await stage.start()
    await stage.schedule_beside_well(f"{slow.url}orders")


async def disk_full(stage: Stage) -> None:
    """Redis cannot save what it has, and takes no more writes."""
    await stage.start()
    await stage.schedule(stage.well, 5 * WELL, 2, 300)
    (stage.database.folder / "dump.rdb").mkdir()  # so no snapshot can be put there
    async with redis.asyncio.Redis(port=stage.database.port, protocol=2) as client:
        await client.config_set("save", "3600 1")
        await client.bgsave()

        async def has_failed() -> bool:
            return bool((await client.info("persistence"))["rdb_last_bgsave_status"] == "err")

        await wait_until(has_failed, "Redis takes no more writes")


async def poison(stage: Stage) -> None:
    """What one webhook answers kills the worker that reads it, which its supervisor starts again."""
    deadly = await stage.stack.enter_async_context(receiving())

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        port = request.transport.get_extra_info("peername")[1]
        for worker in psutil.Process(supervisor.process.pid).children():
            if any(one.laddr.port == port for one in worker.net_connections("tcp")):
                worker.kill()
        return web.Response()

    deadly.behaviour = answer
    await stage.start(workers=0)
    supervisor = await stage.start_worker("supervisor", PROCESSES="2")
    await stage.schedule(stage.well, 5 * WELL, 0, 300)
    await stage.schedule(f"{deadly.url}report", 1, 0)


async def worker_older(stage: Stage) -> None:
    """A worker of an older version was left running."""
    await stage.start()
    # With `env` before it the module is imported anew, as the older version.
    await stage.start_worker("older", module="tests.support.older", prefix=["env"])
    await stage.schedule(stage.well, 5 * WELL, 0, 300)


async def workers_dead(stage: Stage) -> None:
    """All workers are killed."""
    await stage.start()
    await stage.schedule(stage.well, 5 * WELL, 2, 300)
    await asyncio.sleep(3)
    for worker in stage.workers:
        worker.signal(signal.SIGKILL)


async def redis_nearly_full(stage: Stage) -> None:
    """Redis has little memory left."""
    await stage.start()
    await stage.schedule(stage.well, 20_000, 3_600, 3_600)
    async with redis.asyncio.Redis(port=stage.database.port, protocol=2) as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", int(used / 0.93))


async def name_servers_silent(stage: Stage) -> None:
    """No name server answers the workers."""
    silent = stage.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind((SILENT, 53))
    await stage.start(*command_asking(SILENT, stage.folder))
    await stage.schedule("http://shop.example/orders", 400, 0, 60)


async def burst(stage: Stage) -> None:
    """Far more comes due at once than the workers deliver."""
    stage.variables |= {"CONCURRENCY": "20"}
    await stage.start()
    await stage.schedule(stage.well, stage.tasks, 3 + stage.tasks / 8_000)


async def redis_emptied(stage: Stage) -> None:
    """Somebody flushes Redis."""
    await stage.start()
    await stage.schedule(stage.well, 20_000, 3_600, 3_600)
    async with redis.asyncio.Redis(port=stage.database.port, protocol=2) as client:
        await client.flushall()
    await stage.schedule(stage.well, 5 * WELL, 0, 300)


async def key_missing(stage: Stage) -> None:
    """The API seals tasks with a key that the workers do not have."""
    await stage.start(DATA_KEY=b64encode(secrets.token_bytes(32)).decode())
    await stage.schedule(stage.well, 5 * WELL, 0, 300)


async def limit_forgotten(stage: Stage) -> None:
    """A receiver has a limit of one task a minute."""
    await stage.start()
    status, answer = await stage.api.call("PUT", f"/hosts/{urlsplit(stage.well).netloc}", json={"rate": 1, "per": 60})
    assert status == 200, answer
    await stage.schedule(stage.well, 400, 0, 60)


async def rate_of_all(stage: Stage) -> None:
    """HOST_RATE lets each host have an attempt in ten seconds."""
    stage.variables["HOST_RATE"] = "0.1"
    await stage.start()
    await stage.schedule(stage.well, 400, 0, 60)


async def one_at_once(stage: Stage) -> None:
    """A receiver that takes its time may have one attempt at once."""
    slow = await stage.stack.enter_async_context(receiving())
    slow.delay_s = 1.5
    await stage.start()
    status, answer = await stage.api.call("PUT", f"/hosts/127.0.0.1:{slow.port}", json={"concurrency": 1})
    assert status == 200, answer
    await stage.schedule(f"{slow.url}orders", 5_000, 2, 5)


async def shard_away(stage: Stage) -> None:
    """One of two servers, a shard each, is gone."""
    other = await stage.stack.enter_async_context(redis_process(stage.folder / "other"))
    stage.variables["REDIS_URL"] = f"{stage.database.url},{other.url}"
    await stage.start()
    await scheduled_to_the_last(stage.api, stage.well, 2)
    await stage.schedule(stage.well, 5 * WELL, 2, 300)
    await asyncio.sleep(3)
    await other.kill()
