"""Outages that are staged on this machine, for who wants to see what the dashboard says of them.

`python -m tests.support.outages NAME` stages one with a Redis, a service and receivers of its own, on the loopback
alone, and tells where the dashboard is and which token opens it; Ctrl-C ends all of it. Nothing says what is wrong but
the dashboard. `python -m tests.support.outages NAME --tell` also says what it is, and what would mend it.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import socket
import ssl
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
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
from tests.support.service import TOKEN, Client, Process, client_of, serving
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


@dataclass(frozen=True)
class Outage:
    """What is staged. `says`, `mends`: the first line of the dashboard must name the cause and the remedy so; `cause`,
    `remedy`: what an operator should find; `needs_root`: for a name server of the workers' own."""

    stage: "Callable[[Stage], Awaitable[None]]"
    says: str
    mends: str
    cause: str
    remedy: str
    needs_root: bool = False


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


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def receiver_down(stage: Stage) -> None:
    """One of two receivers answers no more."""
    await stage.start()
    with socket.socket() as probe:  # nothing listens there
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await stage.schedule(stage.well, WELL, 0, 60)
    await stage.schedule(f"http://127.0.0.1:{port}/orders", 400, 0, 60)


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
    await stage.schedule(stage.well, WELL, 0, 60)
    await stage.schedule("http://shpo.example/orders", 400, 0, 60)


async def certificate_expired(stage: Stage) -> None:
    """The certificate of one of two receivers was good until 2020."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "test-expired.pem", CERTIFICATES / "test-key.pem")
    expired = await stage.stack.enter_async_context(receiving(context=context))
    stage.variables["EGRESS_CA_FILE"] = str(CERTIFICATES / "test-authority.pem")
    await stage.start()
    await stage.schedule(stage.well, WELL, 0, 60)
    await stage.schedule(f"https://127.0.0.1:{expired.port}/orders", 400, 0, 60)


async def receiver_refuses(stage: Stage) -> None:
    """One of two receivers takes what deliveries show no more."""
    refusing = await stage.stack.enter_async_context(receiving())
    refusing.status = 401
    await stage.start()
    await stage.schedule(stage.well, WELL, 0, 60)
    await stage.schedule(f"{refusing.url}orders", 400, 0, 60)


async def receiver_slow(stage: Stage) -> None:
    """One of two receivers takes longer than tasks wait for it."""
    slow = await stage.stack.enter_async_context(receiving())
    slow.delay_s = 30
    await stage.start()
    await stage.schedule(stage.well, WELL, 0, 60)
    await stage.schedule(f"{slow.url}orders", 400, 0, 60)


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


OUTAGES = {
    "receiver-down": Outage(
        receiver_down,
        "receivers take no connection",
        "See whether they run",
        "a receiver refuses connections",
        "start it again: its tasks are retried, and what died is replayed as a group (Dead letters)",
    ),
    "few-fail": Outage(
        few_fail,
        "fail: most of their attempts in the last minutes, last by: answered 503",
        "See what answers so there",
        "three of a hundred receivers answer 503: 127.0.1.17, 127.0.1.42 and 127.0.1.88",
        "mend them: their tasks are retried meanwhile, the others go on, and what died is replayed as a group",
    ),
    "workers-dead": Outage(
        workers_dead,
        "No worker runs",
        "Start one",
        "all workers are dead",
        "start workers: all tasks are kept, and go out then",
    ),
    "redis-nearly-full": Outage(
        redis_nearly_full,
        "of the memory",
        "Give it more (maxmemory",
        "Redis uses over 90 % of its memory",
        "raise maxmemory, or delete dead letters and tasks that nobody needs",
    ),
    "name-servers-silent": Outage(
        name_servers_silent,
        "names of receivers cannot be looked up",
        "/etc/resolv.conf",
        "no name server answers the workers",
        "mend /etc/resolv.conf or the name server: tasks are retried meanwhile",
        needs_root=True,
    ),
    "burst": Outage(
        burst,
        "more than 2 workers deliver",
        "More workers, or more CONCURRENCY",
        "200,000 tasks came due at once",
        "nothing is lost, it takes its time: more workers, or more CONCURRENCY",
    ),
    "redis-emptied": Outage(
        redis_emptied,
        "Redis has lost all its data",
        "Schedule them anew, or import a backup",
        "Redis was flushed",
        "import a backup (redis-scheduler import), or schedule anew; and see who flushed it",
    ),
    "key-missing": Outage(
        key_missing,
        "Workers lack the DATA_KEY",
        "Give all workers the DATA_KEY of the API",
        "the API seals tasks with a DATA_KEY that the workers were not given",
        "start the workers with the API's DATA_KEY: the tasks wait, and go out then",
    ),
    "limit-forgotten": Outage(
        limit_forgotten,
        "holds back",
        "Raise the limit in Hosts, or forget it",
        "the receiver has a limit of one task a minute",
        "raise the limit, or forget it, in Hosts: what it holds goes out then",
    ),
    "rate-of-all": Outage(
        rate_of_all,
        "HOST_RATE, which limits",
        "Raise it, or set a limit for",
        "HOST_RATE is one attempt in ten seconds to each host",
        "raise HOST_RATE, or set a limit for the host in Hosts: what is held goes out then",
    ),
    "one-at-once": Outage(
        one_at_once,
        "holds back",
        "Raise the limit in Hosts, or forget it",
        "the receiver takes 1.5 s for each task, and may have one at once",
        "raise its concurrency, or forget the limit, in Hosts: what it holds goes out then",
    ),
    "shard-away": Outage(
        shard_away,
        "Shard 1 of 2 has not answered since",
        "Start that Redis again",
        "the Redis of one of two shards is down",
        "start it again: its tasks wait, and go out then; the other shard goes on",
    ),
    "name-unknown": Outage(
        name_unknown,
        "cannot look up shpo.example: Domain name not found",
        "See whether the name is right",
        "a webhook's host, shpo.example, does not exist",
        "give its tasks another webhook (Tasks, or PATCH), or have the name made",
        needs_root=True,
    ),
    "certificate-expired": Outage(
        certificate_expired,
        "certificate has expired",
        ", and EGRESS_CA_FILE",
        "the certificate of a receiver has expired",
        "renew it there: its tasks are retried meanwhile",
    ),
    "receiver-refuses": Outage(
        receiver_refuses,
        "answered 401",
        "See whether what deliveries show is still taken there",
        "a receiver answers 401: it takes what deliveries show no more",
        "see DELIVERY_AUTH, or the headers of its tasks; what died is replayed as a group",
    ),
    "receiver-slow": Outage(
        receiver_slow,
        "receivers do not answer in time",
        "See what holds them up",
        "a receiver takes longer than the time-out",
        "see what holds it up, or give its tasks a longer timeout",
    ),
    "disk-full": Outage(
        disk_full,
        "it cannot save to its disk",
        "make room there",
        "Redis cannot save to its disk, so it takes no writes (MISCONF)",
        "make room on its disk: it goes on with the next save; no task is lost",
    ),
    "poison": Outage(
        poison,
        "Workers were lost",
        "See why",
        "the answer to one task kills whichever worker reads it",
        "none is needed for the others: that task dies after five workers; see what it is before it is replayed",
    ),
    "worker-older": Outage(
        worker_older,
        "is of an older version",
        "Upgrade it, or stop it",
        "a worker of an older version runs beside new ones",
        "upgrade it, or stop it: tasks with newer options are refused meanwhile",
    ),
}


@asynccontextmanager
async def staged(outage: Callable[[Stage], Awaitable[None]], folder: Path, tasks: int = BURST) -> AsyncIterator[Stage]:
    """Stage an outage until the end of the block."""
    async with AsyncExitStack() as stack:
        well = await stack.enter_async_context(receiving())
        well.delay_s = 0.02
        database = await stack.enter_async_context(redis_process(folder / "redis"))
        stage = Stage(stack, folder, database, f"{well.url}orders")
        stage.tasks = tasks
        await outage(stage)
        yield stage


async def main() -> None:
    """Stage the outage that the command line names, until a signal."""
    parser = argparse.ArgumentParser(prog="make outage", description=__doc__)
    parser.add_argument("name", choices=OUTAGES, metavar="NAME", help=", ".join(OUTAGES))
    parser.add_argument("--tell", action="store_true", help="say what is wrong, and what mends it")
    given = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="rs-outage-") as folder:
        async with staged(OUTAGES[given.name].stage, Path(folder)) as stage:
            print(f"dashboard  {stage.api.url}/ui/\ntoken      {TOKEN}", flush=True)
            if given.tell:
                outage = OUTAGES[given.name]
                print(f"cause      {outage.cause}\nremedy     {outage.remedy}", flush=True)
            await stop.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
    sys.exit(0)
