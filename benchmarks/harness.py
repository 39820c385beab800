"""Runs what a benchmark needs: a Redis, the real service, the receiver. Ends what it started, and nothing else.

Everything listens on the loopback. A benchmark runs inside `run`, which bounds its time; a Ctrl-C, an error or the end
of the time leaves the `async with` blocks, and these stop the processes by their own ids.
"""

import argparse
import asyncio
import gc
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import redis.asyncio
import uvloop

from benchmarks import machine, report
from benchmarks.machine import ROOT
from benchmarks.receiver import KEY
from benchmarks.webhooks import ONE, Webhooks
from redis_scheduler.process.embedded import EmbeddedServer
from redis_scheduler.process.process import process_name
from redis_scheduler.process.service import GC_THRESHOLD
from redis_scheduler.settings import ALL, API
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.writes import Writes
from redis_scheduler.task.timing import DEFAULT
from tests.support.names import KEYS
from tests.support.service import Client, Process, client_of, serving
from tests.support.waiting import wait_until

OWN_KEYS = (
    *(KEYS.tasks, KEYS.due, KEYS.queue, KEYS.entries, KEYS.failures),
    *(KEYS.dead, KEYS.dead_bytes, KEYS.paused, KEYS.counters, KEYS.types, KEYS.sweep),
)
POLL_S = 0.05
"""Between two questions to the receiver: rare enough to cost it nothing that shows."""

SCRIPT_EXIT_S = 5.0

REWRITE_S = 120.0
"""For Redis to write its file anew, with a million tasks in it."""

SEEDERS = 3
"""Writers that seed at once: a store takes one call at a time, and one waits while Redis works for another."""

SEED_TIMEOUT_S = 10.0
"""One batch of a seeder."""

LOG_SHOWN = 2_000
"""Characters of each process's log that are shown when a benchmark fails."""

Measure = Callable[[argparse.Namespace, Path], Coroutine[None, None, dict[str, Any]]]
"""Measures with these options and this folder; returns what was found, with `versions`, and `marks` where there are
any."""


class Arrival(NamedTuple):
    """One POST at the receiver; `at` is time.time() there, `key` is that of the task, empty where none was sent."""

    at: float
    key: str


@dataclass
class Receiver:
    """The receiver's process, seen from here. `bases`: its URLs, one for each port."""

    bases: Sequence[str]
    pid: int
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """The first of its URLs."""
        return self.bases[0]

    def webhooks(self, urls: str) -> Webhooks:
        """Return the webhooks of a load with such URLs, of benchmarks.webhooks.URLS."""
        return Webhooks(self.bases[:1] if urls == ONE else self.bases)

    async def count(self) -> int:
        return int(await self._get("count"))

    async def wait_for(self, count: int, timeout_s: float) -> None:
        """Wait until so many have arrived."""

        async def has_come() -> bool:
            return await self.count() >= count

        await wait_until(has_come, f"{count} arrivals", timeout_s, POLL_S)

    async def take(self) -> list[Arrival]:
        """Return what has arrived since the last time."""
        return [Arrival(*arrival) for arrival in await self._get("results")]

    async def answer(self, status: int) -> list[Arrival]:
        """Answer every POST with this status from now on; return what had arrived until then, since the last time."""
        return [Arrival(*arrival) for arrival in await self._get(f"answer/{status}")]

    async def delay(self, seconds: float) -> None:
        """Let each answer to a POST take so long from now on."""
        await self._get(f"delay/{round(seconds * 1000)}")

    async def flights(self) -> tuple[int, float]:
        """Return how many POSTs were being answered at once, at most, and the sum of their seconds; since the last
        time. Only of those whose answers are delayed."""
        most, busy_s = await self._get("flights")
        return most, busy_s

    async def _get(self, path: str) -> Any:
        async with self.session.get(f"{self.url}{path}") as response:
            return await response.json()


@asynccontextmanager
async def script(name: str, *arguments: str) -> AsyncIterator[tuple[str, int]]:
    """Run a script of this folder until the end of the block; yield what it says once it is ready, and its process
    id."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", f"benchmarks.{name}", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = (await process.stdout.readline()).decode().strip()
        assert said, f"{name} ended before it was ready"
        yield said, process.pid
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(SCRIPT_EXIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def listening(name: str, *arguments: str) -> AsyncIterator[tuple[list[str], int]]:
    """Run a script that says its ports, until the end of the block; yield its URLs and process id."""
    async with script(name, *arguments) as (ports, pid):
        yield [f"http://127.0.0.1:{port}/" for port in ports.split()], pid


@asynccontextmanager
async def receiving(key: str = KEY) -> AsyncIterator[Receiver]:
    """Run the receiver until the end of the block. The key of an arrival is what this header has."""
    async with listening("receiver", key) as (urls, pid), aiohttp.ClientSession() as session:
        yield Receiver(urls, pid, session)


@dataclass
class Redis:
    """The Redis of a benchmark; `server` is its name and version."""

    url: str
    server: str
    raw: redis.asyncio.Redis

    async def cpu_s(self) -> float:
        """Return the seconds of CPU that it has had so far."""
        used = await self.raw.info("cpu")
        return float(used["used_cpu_sys"]) + float(used["used_cpu_user"])

    async def used_bytes(self) -> int:
        """Return the memory that it has taken."""
        return int((await self.raw.info("memory"))["used_memory"])

    async def settled(self) -> None:
        """Wait until it writes none of its files anew: that costs memory, and a core."""

        async def is_settled() -> bool:
            state = await self.raw.info("persistence")
            names = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
            return not any(int(state[name]) for name in names)

        await wait_until(is_settled, "no file is written anew", REWRITE_S, POLL_S)


@asynccontextmanager
async def redis_at(url: str | None, folder: Path) -> AsyncIterator[Redis]:
    """Use the Redis at `url`, or run an embedded one. It must hold no tasks, and is left without any.

    Tasks of others would be delivered, and counted; so a Redis in use is refused.
    """
    async with AsyncExitStack() as stack:
        if url is None:
            embedded = EmbeddedServer(folder / "redis")
            await embedded.start()
            stack.push_async_callback(embedded.stop)
            url = embedded.url
        raw = redis.asyncio.Redis.from_url(url, decode_responses=True)
        stack.push_async_callback(raw.aclose)
        if await raw.exists(*OWN_KEYS):
            raise SystemExit("the Redis is in use by a redis-scheduler: name one that is not")
        stack.push_async_callback(raw.unlink, *OWN_KEYS)
        about = await raw.info("server")
        valkey = about.get("valkey_version")
        yield Redis(url, f"valkey {valkey}" if valkey else f"redis {about['redis_version']}", raw)


async def seed(url: str, count: int, task: Callable[[int], NewTask]) -> None:
    """Schedule `task(0)` to `task(count - 1)` as the API does, in full batches, without its HTTP."""
    numbers = iter(range(count))

    async def schedule() -> None:
        client = RedisClient(url, SEED_TIMEOUT_S, KEYS)
        try:
            # A new name each time: batches of a name that Redis knows would be taken for a resend.
            store = Writes(client, process_name())
            while batch := [task(number) for number in islice(numbers, DEFAULT.batch_limit)]:
                await store.schedule(batch)
        finally:
            await client.aclose()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(SEEDERS):
            tasks.create_task(schedule())


@dataclass
class Service:
    """The running service: its processes by role, and a client of its API."""

    processes: list[tuple[str, Process]]
    client: Client

    def pids(self, *roles: str) -> list[int]:
        """The ids of the processes in these roles; of all of them without."""
        return [process.process.pid for role, process in self.processes if not roles or role in roles]


@asynccontextmanager
async def running(folder: Path, roles: Iterable[str], **variables: str) -> AsyncIterator[list[tuple[str, Process]]]:
    """Run one process for each role, which may have options after it, until the end of the block."""
    async with AsyncExitStack() as stack:
        processes = []
        for role in roles:
            arguments = () if role == ALL else role.split()
            process = await stack.enter_async_context(serving(folder, *arguments, HOST="127.0.0.1", **variables))
            processes.append((role, process))
        try:
            yield processes
        except BaseException:  # the end of the time, too
            # The folder with the logs goes with the benchmark.
            for role, process in processes:
                print(f"the end of the log of {role}:\n{process.log[-LOG_SHOWN:]}", file=sys.stderr)
            raise


@asynccontextmanager
async def service(redis_url: str, folder: Path, roles: Iterable[str], **variables: str) -> AsyncIterator[Service]:
    """Run one process for each role until the end of the block; one of them must have the API."""
    async with running(folder, roles, REDIS_URL=redis_url, **variables) as processes:
        api = next(process for role, process in processes if role in (API, ALL))
        async with client_of(api) as client:
            yield Service(processes, client)


def checks(expected: Collection[str], arrivals: Iterable[Arrival]) -> dict[str, int]:
    """Return what must be 0, when each key is expected once."""
    times = Counter(arrival.key for arrival in arrivals)
    return {
        "missing": len(set(expected) - times.keys()),
        "duplicates": times.total() - len(times),
        "unknown": len(times.keys() - set(expected)),
    }


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    options = argparse.ArgumentParser(
        description=(description or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument("--redis-url", help="a Redis of this machine, without tasks; else an embedded one is run")
    options.add_argument("--note", default="", help="kept with the figures: what else the machine was doing, say")
    options.add_argument(
        "--output", type=Path, default=report.RESULTS / f"{name}.json", help="where the JSON is written"
    )
    options.set_defaults(benchmark=name)
    return options


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are the benchmark's own."""
    others = ("benchmark", "note", "output", "redis_url", "few_redis_url")
    return {name: value for name, value in vars(options).items() if name not in others}


def run(options: argparse.Namespace, measure: Measure, show: Callable[[dict[str, Any]], None], limit_s: float) -> None:
    """Measure with a folder for files, for at most `limit_s`; then, or on a signal, end what was started. If all went
    well, show what was found, and write it with what it was found on."""

    async def bounded() -> dict[str, Any]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with asyncio.timeout(limit_s):
            return await measure(options, Path(folder))

    # As an API does: the reference clients run here.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    # Short, because a unix socket goes in there.
    with tempfile.TemporaryDirectory(prefix="rs-bench-") as folder:
        try:
            commit, described, before = machine.commit(), machine.describe(), machine.Usage.now()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = {"settings": settings(options), **runner.run(bounded())}
            # By now all that was started has ended.
            described |= machine.Usage.now().since(before)
        except TimeoutError:
            raise SystemExit(f"not done within {limit_s:.0f} s") from None
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise SystemExit("interrupted") from None
    show(found)
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"benchmark": options.benchmark, "taken": taken, "note": options.note, "commit": commit}
    report.publish({**about, **found, "machine": described}, options.output)
