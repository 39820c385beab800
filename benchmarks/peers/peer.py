"""The peers: how each is run, and with which settings. Ends what it started, children included, and nothing else."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from tempfile import NamedTemporaryFile

from benchmarks.harness import LOG_SHOWN
from benchmarks.peers.load import Load, arguments
from benchmarks.webhooks import Webhooks

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
ENVIRONMENTS = FOLDER / ".venv"
"""Celery and arq need different releases of redis-py, so each has an environment of its own."""

NODE = "node"
NODE_MODULES = FOLDER / "node_modules"

READY_S = 60.0
"""For a worker to start."""

EXIT_S = 10.0
"""For a process to leave by itself when it is asked to."""


def _python(name: str) -> str:
    return str(ENVIRONMENTS / name / "bin" / "python")


@dataclass(frozen=True)
class Peer:
    """One peer. `worker` may name settings in braces; all of them stand in its environment too."""

    label: str
    worker: Sequence[str]
    enqueuer: Sequence[str]
    settings: Mapping[str, str]
    packages: Sequence[str]
    """Whose versions are reported, besides that of what runs them."""

    task_keys: Sequence[str]
    """Of Redis; none of them exists when no task is left."""

    enqueued_a_second: int
    """What the first try of a burst counts on; each further try allows twice the time."""

    inbox: str = ""
    """The key of the list that its worker takes tasks from to hold them in memory until they are due; without it, the
    tasks wait in Redis."""


_CELERY = Peer(
    label="Celery, processes",
    worker=(
        *(_python("celery"), "-m", "celery", "--quiet", "--app", "benchmarks.peers.celery_app", "worker"),
        *("--pool", "{POOL}", "--concurrency", "{CONCURRENCY}", "--loglevel", "WARNING"),
        # One worker alone has nobody to talk to.
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ),
    enqueuer=(_python("celery"), "-m", "benchmarks.peers.celery_app"),
    # The fastest drain on two cores, 1,600 to 1,800 a second; 2 or 8 children have 1,100 to 1,500, threads (10 to 50)
    # at most 1,300, gevent (50 or 200) half of that.
    settings={"POOL": "prefork", "CONCURRENCY": "4"},
    packages=("celery", "kombu", "redis", "hiredis", "gevent", "urllib3"),
    task_keys=("celery", "unacked"),
    enqueued_a_second=700,
    inbox="celery",
)

PEERS = {
    "bullmq": Peer(
        label="BullMQ",
        worker=(NODE, str(FOLDER / "bullmq_worker.mjs")),
        enqueuer=(NODE, str(FOLDER / "bullmq_enqueuer.mjs")),
        # 50 and 100 drained no faster, 500 slower.
        settings={"CONCURRENCY": "200"},
        packages=("bullmq", "ioredis", "undici"),
        task_keys=tuple(f"bull:deliveries:{name}" for name in ("delayed", "wait", "active")),
        enqueued_a_second=3_000,
    ),
    "celery": _CELERY,
    "celery_threads": replace(
        _CELERY,
        label="Celery, threads",
        # At times more punctual than processes. 20 to 100 drained alike; with 10 or 200, p99 was later.
        settings={"POOL": "threads", "CONCURRENCY": "50"},
    ),
    "arq": Peer(
        label="arq",
        worker=(_python("arq"), "-m", "benchmarks.peers.arq_app", "worker"),
        enqueuer=(_python("arq"), "-m", "benchmarks.peers.arq_app", "enqueue"),
        # A job waits for the next poll. At 1 ms an idle worker polls 900 times a second, for 13 % of a core (2 ms: 470,
        # 7 %); at 0.5 ms it never sleeps, and at the default of 0.5 s, p99 is half a second. 20 to 500 jobs drained no
        # faster.
        settings={"MAX_JOBS": "200", "POLL_DELAY_S": "0.001"},
        packages=("arq", "redis", "hiredis", "aiohttp", "uvloop"),
        task_keys=("arq:queue",),
        enqueued_a_second=1_000,
    ),
}


def installed(name: str) -> dict[str, str]:
    """Return the versions of this peer's packages, as they are installed; nothing where it is not."""
    runner = PEERS[name].worker[0]
    if runner == NODE:
        manifests = [json.loads(manifest.read_bytes()) for manifest in NODE_MODULES.glob("*/package.json")]
        found = {about["name"]: about["version"] for about in manifests}
    else:
        site = Path(runner).parents[1].glob("lib/python*/site-packages")
        found = {one.name: one.version for one in distributions(path=list(map(str, site)))}
    return {package: found[package] for package in PEERS[name].packages if package in found}


def versions(name: str) -> dict[str, str]:
    """Return the versions of what this peer is made of, with Node's or Python's own."""
    runner = PEERS[name].worker[0]
    said = subprocess.run([runner, "--version"], capture_output=True, text=True, check=True).stdout
    return {Path(runner).name: said.removeprefix("Python").strip().removeprefix("v"), **installed(name)}


def check_installed(name: str) -> None:
    """Say what to do when this peer is missing."""
    if missing := set(PEERS[name].packages) - installed(name).keys():
        raise SystemExit(f"{', '.join(sorted(missing))}: not installed; run `make bench-peers`, which does it")


@asynccontextmanager
async def process(
    command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process in a session of its own, with its output to be read, until the end of the block."""
    with NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as log:
        started = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=os.environ | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield started
    except Exception:  # shown with the log, and raised again
        said = Path(log.name).read_text()  # noqa: ASYNC240  # a file of this machine, and nothing else is left to do
        print(f"the end of the log of {' '.join(command)}:\n{said[-LOG_SHOWN:]}", file=sys.stderr)
        raise
    finally:
        await _end(started)


async def _end(started: asyncio.subprocess.Process) -> None:
    """Ask the process to leave; kill it if it does not, and its children that it left behind. The session is its own,
    so the group holds nobody else's processes."""
    if started.returncode is None:
        started.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_S):
                await started.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    await started.wait()


@asynccontextmanager
async def worker(peer: Peer, environment: Mapping[str, str], folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the worker of a peer until the end of the block; it takes tasks when this yields."""
    command = [part.format(**peer.settings) for part in peer.worker]
    async with process(command, environment, folder) as started:
        assert started.stdout is not None
        async with asyncio.timeout(READY_S):
            while (line := await started.stdout.readline()) != b"ready\n":
                if not line:
                    raise RuntimeError(f"the worker of {peer.label} ended before it was ready")
        yield started


async def enqueue(
    peer: Peer, environment: Mapping[str, str], folder: Path, webhooks: Webhooks, load: Load
) -> dict[str, float]:
    """Enqueue the load with the peer's own library; return the due times (time.time()) by key."""
    async with process([*peer.enqueuer, *arguments(webhooks, load)], environment, folder) as started:
        assert started.stdout is not None
        said = await started.stdout.read()
        if await started.wait() != 0:
            raise RuntimeError(f"the enqueuer of {peer.label} ended with {started.returncode}")
    due_times: dict[str, float] = json.loads(said)
    if len(due_times) != load.tasks:
        raise RuntimeError(f"{len(due_times)} of {load.tasks} were enqueued")
    return due_times
