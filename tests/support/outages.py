"""Outages that are staged on this machine, for who wants to see what the dashboard says of them.

`python -m tests.support.outages NAME` stages one with a Redis, a service and receivers of its own, on the loopback
alone, and tells where the dashboard is and which token opens it; Ctrl-C ends all of it. Nothing says what is wrong but
the dashboard. `python -m tests.support.outages NAME --tell` also says what it is, and what would mend it.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import redis.asyncio

from tests.support.receiver import receiving
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import TOKEN, Client, Process, client_of, serving

SILENT = "127.0.0.99"
"""Where the name server is that never answers."""

WELL = 200
"""Tasks a minute that are delivered beside all of it."""

BURST = 200_000
BATCH = 1_000


@dataclass(frozen=True)
class Outage:
    """What is staged. `says`: what the dashboard must say of it; `cause`, `remedy`: what an operator should find."""

    stage: "Callable[[Stage], Awaitable[None]]"
    says: str
    cause: str
    remedy: str


class Stage:
    """A service with its Redis and one receiver that is well."""

    def __init__(self, stack: AsyncExitStack, folder: Path, database: RedisProcess, well: str) -> None:
        self.stack = stack
        self.folder = folder
        self.database = database
        self.well = well
        self.tasks = BURST
        self.variables = {"REDIS_URL": database.url, "HOST": "127.0.0.1", "RETRY_TIME": "5", "TIMEOUT": "2"}
        self.api: Client
        self.workers: list[Process] = []

    async def start(self, *prefix: str, workers: int = 2) -> None:
        """Start the API and workers."""
        api = await self._serving("api", "api", PORT=os.environ.get("PORT", "0"))
        self.api = await self.stack.enter_async_context(client_of(api))
        for number in range(workers):
            self.workers.append(await self._serving(f"worker{number}", "worker", prefix=prefix))

    async def _serving(self, name: str, role: str, prefix: tuple[str, ...] = (), **variables: str) -> Process:
        folder = self.folder / name
        folder.mkdir()
        return await self.stack.enter_async_context(
            serving(folder, role, prefix=prefix, **(self.variables | variables))
        )

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
    file = stage.folder / "resolv.conf"
    file.write_text(f"nameserver {SILENT}\n")
    mount = f'mount --bind {file} /etc/resolv.conf && exec "$0" "$@"'
    await stage.start("unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "sh", "-c", mount)
    await stage.schedule("http://shop.example/orders", 400, 0, 60)


async def burst(stage: Stage) -> None:
    """Far more comes due at once than the workers deliver."""
    stage.variables |= {"CONCURRENCY": "20"}
    await stage.start()
    await stage.schedule(stage.well, stage.tasks, 3 + stage.tasks / 8_000)


OUTAGES = {
    "receiver-down": Outage(
        receiver_down,
        "receivers take no connection",
        "a receiver refuses connections",
        "start it again: its tasks are retried, and what died is replayed as a group (Dead letters)",
    ),
    "workers-dead": Outage(
        workers_dead, "No worker runs", "all workers are dead", "start workers: all tasks are kept, and go out then"
    ),
    "redis-nearly-full": Outage(
        redis_nearly_full,
        "of the memory",
        "Redis uses over 90 % of its memory",
        "raise maxmemory, or delete dead letters and tasks that nobody needs",
    ),
    "name-servers-silent": Outage(
        name_servers_silent,
        "names of receivers cannot be looked up",
        "no name server answers the workers",
        "mend /etc/resolv.conf or the name server: tasks are retried meanwhile",
    ),
    "burst": Outage(
        burst,
        "Late:",
        "200,000 tasks came due at once",
        "nothing is lost, it takes its time: more workers, or more CONCURRENCY",
    ),
}


@asynccontextmanager
async def staged(name: str, folder: Path, tasks: int = BURST) -> AsyncIterator[Stage]:
    """Stage an outage until the end of the block."""
    async with AsyncExitStack() as stack:
        well = await stack.enter_async_context(receiving())
        well.delay_s = 0.02
        database = await stack.enter_async_context(redis_process(folder / "redis"))
        stage = Stage(stack, folder, database, f"{well.url}orders")
        stage.tasks = tasks
        await OUTAGES[name].stage(stage)
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
        async with staged(given.name, Path(folder)) as stage:
            print(f"dashboard  {stage.api.url}/ui/\ntoken      {TOKEN}", flush=True)
            if given.tell:
                outage = OUTAGES[given.name]
                print(f"cause      {outage.cause}\nremedy     {outage.remedy}", flush=True)
            await stop.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
    sys.exit(0)
