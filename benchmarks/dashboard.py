"""Dashboard: how long does each page take with a million tasks, and what does it cost to leave it open?

The tasks are due tomorrow, each hundredth has a type. Each page is asked for a few times by one person. Then ten people
leave the first page open, each with a connection and a cookie of their own: what it shows of the present is asked for
every two seconds, its charts every ten. The same process without anybody looking stands beside it.
"""

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from benchmarks.idle import DAY_MS, SEED_A_SECOND, commands
from benchmarks.meter import Meter
from redis_scheduler.settings import API
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.support.pages import Browser
from tests.support.service import TOKEN

PAGES = ("/ui/", "/ui/tasks", "/ui/tasks?type=mail", "/ui/dead", "/ui/repeating", "/ui/hosts", "/ui/system", "/ui/try")
PARTS = (("/ui/part/overview", 2.0), ("/ui/part/charts", 10.0))
"""What the first page asks for again, and how often in seconds."""

PEOPLE = 10
TYPED = 100
"""One task in so many has a type."""

PAGE_MARK_MS = 200
CPU_MARK = 2.0
"""Percent of a core, more than without people."""
COMMANDS_MARK = 10.0
"""A second, more than without people."""


def task(number: int) -> NewTask:
    """Return one of many tasks that are due in the course of tomorrow."""
    delay_ms = DAY_MS + number * 7_919 % DAY_MS
    kind = "mail" if number % TYPED == 0 else None
    record = record_tail(f"http://host{number % 50}.example/orders", delay_ms / 1000, kind, b'{"order":%d}' % number)
    return NewTask(new_task_key(), delay_ms, record, kind)


async def page_ms(browser: Browser, path: str, times: int) -> list[float]:
    """Ask for a page; return the ms that it took, each time."""
    taken_ms = []
    for _ in range(times):
        began = time.perf_counter()
        page = await browser.get(path)
        taken_ms.append(1000 * (time.perf_counter() - began))
        assert page.status == 200, (path, page.status)
        await asyncio.sleep(1.1)  # what was read for others does not count
    return taken_ms


async def look(browser: Browser, path: str, every_s: float, delay_s: float) -> None:
    """Ask for a part of a page for ever."""
    await asyncio.sleep(delay_s)
    while True:
        assert (await browser.get(path)).status == 200
        await asyncio.sleep(every_s)


async def watched(service: harness.Service, server: harness.Redis, seconds: float) -> dict[str, float]:
    """Return what the API costs for so long."""
    meter = await Meter.start(redis=server, api=service.pids(API))
    heard = await commands(server.url, seconds)
    used = await meter.used()
    return {"commands_a_second": round(heard.total() / used.seconds, 2), **used.percent(2)}


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure pages, then people; return what was found."""
    async with harness.redis_at(options.redis_url, folder) as server:
        await harness.seed(server.url, options.tasks, task)
        await server.settled()
        async with harness.service(server.url, folder, [API]) as service, AsyncExitStack() as stack:
            browsers = []
            for _ in range(PEOPLE):
                session = await stack.enter_async_context(aiohttp.ClientSession())
                browsers.append(Browser(session, service.client.url))
                await browsers[-1].sign_in(TOKEN)
            await page_ms(browsers[0], "/ui/", 1)  # it is imported by the first
            pages = {path: report.spread(await page_ms(browsers[0], path, options.times)) for path in PAGES}
            alone = await watched(service, server, options.seconds)
            async with asyncio.TaskGroup() as people:
                looks = [
                    people.create_task(look(browser, path, every_s, every_s * number / PEOPLE))
                    for number, browser in enumerate(browsers)
                    for path, every_s in PARTS
                ]
                await asyncio.sleep(max(every_s for _, every_s in PARTS))
                looked_at = await watched(service, server, options.seconds)
                for one in looks:
                    one.cancel()
    found = {"pages": pages, "alone": alone, "looked_at": looked_at}
    return {**found, "marks": marks(found), "versions": report.versions(server.server)}


def marks(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the marks: of the slowest page, and of what people cost."""
    slowest_ms = max(one["p50"] for one in found["pages"].values())
    more = {name: round(found["looked_at"][name] - found["alone"][name], 2) for name in found["alone"]}
    cpu, sent = more["api"], more["commands_a_second"]
    return [
        report.mark(f"each page <= {PAGE_MARK_MS} ms, median", slowest_ms, slowest_ms <= PAGE_MARK_MS),
        report.mark(f"{PEOPLE} people: API <= {CPU_MARK:g} % of a core more", cpu, cpu <= CPU_MARK),
        report.mark(f"{PEOPLE} people: <= {COMMANDS_MARK:g} commands a second more", sent, sent <= COMMANDS_MARK),
    ]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"dashboard: {found['settings']['tasks']:,} tasks\n")
    rows = [(path, *(f"{one[name]:.1f}" for name in ("p50", "p99", "max"))) for path, one in found["pages"].items()]
    print(report.table(("page", "ms, p50", "p99", "max"), rows), end="\n\n")
    costs = [
        (label, *(f"{found[name][part]:.2f}" for part in ("commands_a_second", "api", "redis")))
        for label, name in (("nobody looks", "alone"), (f"{PEOPLE} people", "looked_at"))
    ]
    print(report.table(("", "commands a second", "API, % of a core", "Redis"), costs))


def main() -> None:
    parser = harness.parser(__doc__, "dashboard")
    parser.add_argument("--tasks", type=harness.positive, default=1_000_000, help="tasks for tomorrow")
    parser.add_argument("--times", type=harness.positive, default=10, help="that each page is asked for")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which people look")
    options = parser.parse_args()
    limit_s = 120 + 3 * options.seconds + 2 * len(PAGES) * options.times + options.tasks / SEED_A_SECOND
    harness.run(options, measure, show, limit_s)


if __name__ == "__main__":
    main()
