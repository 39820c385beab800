"""Outages that are staged on this machine, for who wants to see what the dashboard says of them.

`python -m tests.support.outages NAME` stages one with a Redis, a service and receivers of its own, on the loopback
alone, and tells where the dashboard is and which token opens it; Ctrl-C ends all of it. Nothing says what is wrong but
the dashboard. `python -m tests.support.outages NAME --tell` also says what it is, and what would mend it.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import stages
from tests.support.receiver import receiving
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN
from tests.support.stages import BURST, Stage


@dataclass(frozen=True)
class Outage:
    """What is staged. `says`, `mends`: the first line of the dashboard must name the cause and the remedy so; `cause`,
    `remedy`: what an operator should find; `needs_root`: for a name server of the workers' own."""

    stage: Callable[[Stage], Awaitable[None]]
    says: str
    mends: str
    cause: str
    remedy: str
    needs_root: bool = False


OUTAGES = {
    "receiver-down": Outage(
        stages.receiver_down,
        "receivers take no connection",
        "See whether they run",
        "a receiver refuses connections",
        "start it again: its tasks are retried, and what died is replayed as a group (Dead letters)",
    ),
    "few-fail": Outage(
        stages.few_fail,
        "fail: most of their attempts in the last minutes, last by: answered 503",
        "See what answers so there",
        "three of a hundred receivers answer 503: 127.0.1.17, 127.0.1.42 and 127.0.1.88",
        "mend them: their tasks are retried meanwhile, the others go on, and what died is replayed as a group",
    ),
    "workers-dead": Outage(
        stages.workers_dead,
        "No worker runs",
        "Start one",
        "all workers are dead",
        "start workers: all tasks are kept, and go out then",
    ),
    "redis-nearly-full": Outage(
        stages.redis_nearly_full,
        "of the memory",
        "Give it more (maxmemory",
        "Redis uses over 90 % of its memory",
        "raise maxmemory, or delete dead letters and tasks that nobody needs",
    ),
    "name-servers-silent": Outage(
        stages.name_servers_silent,
        "names of receivers cannot be looked up",
        "/etc/resolv.conf",
        "no name server answers the workers",
        "mend /etc/resolv.conf or the name server: tasks are retried meanwhile",
        needs_root=True,
    ),
    "burst": Outage(
        stages.burst,
        "more than 2 workers deliver",
        "More workers, or more CONCURRENCY",
        "200,000 tasks came due at once",
        "nothing is lost, it takes its time: more workers, or more CONCURRENCY",
    ),
    "redis-emptied": Outage(
        stages.redis_emptied,
        "Redis has lost all its data",
        "Schedule them anew, or import a backup",
        "Redis was flushed",
        "import a backup (redis-scheduler import), or schedule anew; and see who flushed it",
    ),
    "key-missing": Outage(
        stages.key_missing,
        "Workers lack the DATA_KEY",
        "Give all workers the DATA_KEY of the API",
        "the API seals tasks with a DATA_KEY that the workers were not given",
        "start the workers with the API's DATA_KEY: the tasks wait, and go out then",
    ),
    "limit-forgotten": Outage(
        stages.limit_forgotten,
        "holds back",
        "Raise the limit in Hosts, or forget it",
        "the receiver has a limit of one task a minute",
        "raise the limit, or forget it, in Hosts: what it holds goes out then",
    ),
    "rate-of-all": Outage(
        stages.rate_of_all,
        "HOST_RATE, which limits",
        "Raise it, or set a limit for",
        "HOST_RATE is one attempt in ten seconds to each host",
        "raise HOST_RATE, or set a limit for the host in Hosts: what is held goes out then",
    ),
    "one-at-once": Outage(
        stages.one_at_once,
        "holds back",
        "Raise the limit in Hosts, or forget it",
        "the receiver takes 1.5 s for each task, and may have one at once",
        "raise its concurrency, or forget the limit, in Hosts: what it holds goes out then",
    ),
    "shard-away": Outage(
        stages.shard_away,
        "Shard 1 of 2 has not answered since",
        "Start that Redis again",
        "the Redis of one of two shards is down",
        "start it again: its tasks wait, and go out then; the other shard goes on",
    ),
    "name-unknown": Outage(
        stages.name_unknown,
        "cannot look up shpo.example: Domain name not found",
        "See whether the name is right",
        "a webhook's host, shpo.example, does not exist",
        "give its tasks another webhook (Tasks, or PATCH), or have the name made",
        needs_root=True,
    ),
    "certificate-expired": Outage(
        stages.certificate_expired,
        "certificate has expired",
        ", and EGRESS_CA_FILE",
        "the certificate of a receiver has expired",
        "renew it there: its tasks are retried meanwhile",
    ),
    "receiver-refuses": Outage(
        stages.receiver_refuses,
        "answered 401",
        "See whether what deliveries show is still taken there",
        "a receiver answers 401: it takes what deliveries show no more",
        "see DELIVERY_AUTH, or the headers of its tasks; what died is replayed as a group",
    ),
    "receiver-slow": Outage(
        stages.receiver_slow,
        "receivers do not answer in time",
        "See what holds them up",
        "a receiver takes longer than the time-out",
        "see what holds it up, or give its tasks a longer timeout",
    ),
    "disk-full": Outage(
        stages.disk_full,
        "it cannot save to its disk",
        "make room there",
        "Redis cannot save to its disk, so it takes no writes (MISCONF)",
        "make room on its disk: it goes on with the next save; no task is lost",
    ),
    "poison": Outage(
        stages.poison,
        "Workers were lost",
        "See why",
        "the answer to one task kills whichever worker reads it",
        "none is needed for the others: that task dies after five workers; see what it is before it is replayed",
    ),
    "worker-older": Outage(
        stages.worker_older,
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
