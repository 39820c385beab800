"""Peers: how does the service stand beside what a user would otherwise pick?

The service, BullMQ, Celery (with two of its pools) and arq deliver the same two loads to the same receiver in the same
run, one after the other, each with one worker and a Redis of its own: a burst, as in burst.py, and a constant rate, as
in lateness.py. The service comes first and last, and the worse of its two runs is what the marks ask for.
"""

import argparse
import asyncio
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that it also runs as a folder

from benchmarks import burst, harness, instant, lateness, report
from benchmarks.meter import Meter
from benchmarks.peers import contestant, peer
from benchmarks.peers.contestant import Contestant
from benchmarks.peers.load import Load
from benchmarks.webhooks import ONE, URLS
from redis_scheduler.settings import API, WORKER

SERVICE = "service"
RUNS = ("service_first", *peer.PEERS, "service_last")
CONCURRENCY = 200

WARM_UP_TASKS = 1_000
"""Delivered before anything is measured, so that connections are open and code is compiled."""

PATIENCE = (1, 2, 4)
"""How many times as long as expected a peer may take to enqueue a burst, in one try after the other."""

DRAIN_MARK = 1.5
IN_MEMORY_MARK = 2


async def drain(one: Contestant, tasks: int, redis: harness.Redis, receiver: harness.Receiver) -> dict[str, Any]:
    """Measure a burst."""
    due_times = await one.burst(tasks)
    first_due = min(due_times.values())
    await asyncio.sleep(first_due - instant.METERED_S - time.time())
    await one.ready()
    meter = await meter_of(one, redis, receiver)
    await receiver.wait_for(tasks, instant.WAIT_S)
    used = await meter.used()
    await one.drained()
    arrivals = await receiver.take()
    return {
        **dataclasses.asdict(instant.figure(arrivals, used.cpu_s)),
        **harness.checks(due_times, arrivals),
        "first_arrival_after_first_due_ms": round(1000 * (min(arrivals).at - first_due), 1),
    }


async def keep_up(one: Contestant, asked: Load, redis: harness.Redis, receiver: harness.Receiver) -> dict[str, Any]:
    """Measure a constant rate."""
    meter = await meter_of(one, redis, receiver)
    due_times = await one.steady(asked)
    await receiver.wait_for(asked.tasks, asked.ttl_s + lateness.WAIT_S)
    used = await meter.used()
    await one.drained()
    arrivals = await receiver.take()
    return {
        **lateness.figures(due_times, arrivals),
        "late_ms_while_enqueuing": late_while_enqueuing(due_times, arrivals, asked.ttl_s),
        "cpu_percent": used.percent(),
    }


def late_while_enqueuing(
    due_times: Mapping[str, float], arrivals: Sequence[harness.Arrival], ttl_s: float
) -> dict[str, float] | None:
    """Return the lateness of what was due before the last was enqueued: an enqueuer that talks to Redis also wakes
    it."""
    ended = max(due_times.values()) - ttl_s
    busy = {key: due for key, due in due_times.items() if due <= ended}
    if not busy:
        return None
    late_ms: dict[str, float] = lateness.figures(busy, [one for one in arrivals if one.key in busy])["late_ms"]
    return late_ms


async def meter_of(one: Contestant, redis: harness.Redis, receiver: harness.Receiver) -> Meter:
    """Count the CPU of each part from now on."""
    return await Meter.start(workers=one.worker_pids(), redis=redis, receiver=[receiver.pid])


async def measure_one(
    name: str, options: argparse.Namespace, receiver: harness.Receiver, folder: Path, patience: int
) -> dict[str, Any]:
    """Measure the service or a peer from its start to its stop."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(contestant.redis_of_its_own(options.redis_url, folder))
        one: Contestant
        webhooks = receiver.webhooks(options.urls)
        if name in peer.PEERS:
            picked = with_settings(peer.PEERS[name], options.settings)
            label, settings = picked.label, dict(picked.settings)
            running = contestant.running(picked, redis, webhooks, folder, patience)
            one = await stack.enter_async_context(running)
        else:
            label, settings = name.replace("_", ", "), {"CONCURRENCY": str(CONCURRENCY)}
            service = harness.service(redis.url, folder, [API, WORKER], **settings)
            one = contestant.TheService(await stack.enter_async_context(service), receiver, webhooks)
        await drain(one, min(options.tasks, WARM_UP_TASKS), redis, receiver)
        steady = await keep_up(one, Load(options.rate * options.seconds, options.rate, options.ttl), redis, receiver)
        drained = await drain(one, options.tasks, redis, receiver)
        return {"label": label, "settings": settings, "burst": drained, "steady": steady, "server": redis.server}


def with_settings(picked: peer.Peer, settings: Mapping[str, str]) -> peer.Peer:
    """Return the peer with those of the settings that it has."""
    own = {name: settings.get(name, value) for name, value in picked.settings.items()}
    return dataclasses.replace(picked, settings=own)


async def measure_patiently(
    name: str, options: argparse.Namespace, receiver: harness.Receiver, folder: Path
) -> dict[str, Any]:
    """Measure with more time to enqueue when there was too little: afresh, since a worker may hold tasks in memory."""
    for patience in PATIENCE:
        try:
            return await measure_one(name, options, receiver, Path(mkdtemp(dir=folder)), patience)
        except contestant.NotInTimeError as error:
            print(f"{name}: {error}", file=sys.stderr)
            await receiver.take()
    raise SystemExit(f"{name} was not ready in time, even with {PATIENCE[-1]} times the time")


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure all that is asked for; return what was found."""
    names = [name for name in RUNS if (name if name in peer.PEERS else SERVICE) in options.only]
    peers = [name for name in names if name in peer.PEERS]
    for name in peers:
        peer.check_installed(name)
    results = {}
    async with harness.receiving() as receiver:
        for name in names:
            print(f"measuring {name}", file=sys.stderr)
            results[name] = await measure_patiently(name, options, receiver, folder)
    server = {one.pop("server") for one in results.values()}.pop()
    return {
        "results": results,
        "marks": marks(results),
        "versions": report.versions(server) | {name: peer.versions(name) for name in peers},
    }


def marks(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Hold the worse of the service's runs against the best of the peers."""
    own = [one for name, one in results.items() if name not in peer.PEERS]
    peers = {name: one for name, one in results.items() if name in peer.PEERS}
    if not own or not peers:
        return []
    best = max(peers.values(), key=drain_rate)
    ratio = round(min(map(drain_rate, own)) / drain_rate(best), 2)
    wanted = f"drain >= {DRAIN_MARK} x the best peer's ({best['label']})"
    found = [report.mark(wanted, ratio, ratio >= DRAIN_MARK)]
    for name, one in peers.items():
        for percentile in ("p50", "p99"):
            late_ms = max(run["steady"]["late_ms"][percentile] for run in own)
            its_ms = least_late_ms(one["steady"], percentile)
            if peer.PEERS[name].inbox:
                wanted, is_met = f"{percentile} <= {IN_MEMORY_MARK} x", late_ms <= IN_MEMORY_MARK * its_ms
            else:
                wanted, is_met = f"{percentile} <", late_ms < its_ms
            found.append(report.mark(f"{wanted} {its_ms:g} ms ({one['label']})", late_ms, is_met))
    return found


def least_late_ms(steady: Mapping[str, Any], percentile: str) -> float:
    """Return a peer's lateness where it was at its best: of p99, in all of the run or while tasks were still
    enqueued."""
    spreads = [steady["late_ms"]]
    if percentile == "p99" and steady["late_ms_while_enqueuing"]:
        spreads.append(steady["late_ms_while_enqueuing"])
    return float(min(one[percentile] for one in spreads))


def drain_rate(result: Mapping[str, Any]) -> float:
    """Return the deliveries a second of the burst."""
    return float(result["burst"]["a_second"])


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings, results = found["settings"], found["results"]
    loads = f"a burst of {settings['tasks']:,}; then {settings['rate']} a second for {settings['seconds']} s, in ms"
    print(f"peers, {burst.LABELS[settings['urls']]}: {loads}\n")
    best = max((drain_rate(one) for name, one in results.items() if name in peer.PEERS), default=None)
    header = (
        "",
        "settings",
        "a second",
        "ratio",
        "p50",
        "p99",
        "p99*",
        "max",
        "CPU worker",
        "Redis",
        "missing",
        "duplicates",
    )
    print(report.table(header, [row(one, best) for one in results.values()]))
    print("\nratio: to the best peer; CPU, % of a core, in the burst; missing and duplicates of both loads")
    print("p99*: of what was due while tasks were still enqueued, which wakes a Redis that a peer leaves asleep")


def row(one: Mapping[str, Any], best: float | None) -> Sequence[str]:
    """Return a line of the table."""
    drained, steady = one["burst"], one["steady"]
    late, busy = steady["late_ms"], steady["late_ms_while_enqueuing"]
    return (
        one["label"],
        " ".join(one["settings"].values()),
        f"{drain_rate(one):,.0f}",
        f"{drain_rate(one) / best:.2f}" if best else "",
        *(
            f"{ms:.2f}" if ms is not None else ""
            for ms in (late["p50"], late["p99"], busy and busy["p99"], late["max"])
        ),
        *(str(drained["cpu_percent"][part]) for part in ("workers", "redis")),
        *(str(drained[column] + steady[column]) for column in ("missing", "duplicates")),
    )


def setting(text: str) -> tuple[str, str]:
    """Read NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not any(name in one.settings for one in peer.PEERS.values()):
        known = sorted({name for one in peer.PEERS.values() for name in one.settings})
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE with a name of {', '.join(known)}")
    return name, value


def main() -> None:
    parser = harness.parser(__doc__, "peers")
    parser.add_argument("--tasks", type=harness.positive, default=20_000, help="tasks that are due at one instant")
    parser.add_argument("--rate", type=harness.positive, default=300, help="tasks a second of the constant rate")
    parser.add_argument("--seconds", type=harness.positive, default=20, help="of the constant rate")
    parser.add_argument("--ttl", type=float, default=2.0, help="seconds until due, at the constant rate")
    parser.add_argument("--urls", choices=URLS, default=ONE, help="one URL for all tasks, or one each")
    everyone = (SERVICE, *peer.PEERS)
    parser.add_argument("--only", choices=everyone, nargs="+", default=everyone, help="measure these alone")
    parser.add_argument("--set", dest="settings", type=setting, action="append", default=[], help="a setting of peers")
    options = parser.parse_args()
    options.settings = dict(options.settings)
    run_s = options.seconds + options.ttl + 2 * instant.WAIT_S + sum(PATIENCE) * options.tasks / 500
    harness.run(options, measure, show, limit_s=len(RUNS) * run_s)


if __name__ == "__main__":
    main()
