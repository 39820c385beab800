"""Dashboard: how long does each page take with a million tasks, and what does it cost to leave it open?

The tasks are due tomorrow, each hundredth has a type, each thousandth is a series. Each page is asked for a few times
by one person: again and again, and each time after nobody has asked for anything for longer than any part of a page is
kept, so that all of it is read anew. With --browser a real one asks then (Chromium, and Playwright of the extra
`browser`), and it counts until what was rendered is painted and its scripts have run.

Then ten people leave the first page open, each with a connection and a cookie of their own: what it shows of the
present is asked for every two seconds, its charts every ten. The same process without anybody looking stands beside it.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from benchmarks.idle import DAY_MS, SEED_A_SECOND, commands
from benchmarks.meter import Meter
from redis_scheduler.settings import API
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.repeat import Repeat
from tests.support.chromium import chromium
from tests.support.names import KEYS
from tests.support.pages import Browser
from tests.support.service import TOKEN
from tests.support.waiting import wait_until

ONE, WEBHOOK = "order:17", "http://host7.example/orders"
PAGES = (
    *("/ui/", "/ui/tasks", "/ui/tasks?type=mail", "/ui/tasks?host=host7.example", "/ui/tasks?host=none.example"),
    *(f"/ui/task/{ONE}", "/ui/dead", "/ui/repeating", "/ui/hosts", "/ui/system", "/ui/try", "/ui/reference"),
)
PARTS = (("/ui/part/overview", 2.0), ("/ui/part/charts", 10.0))
"""What the first page asks for again, and how often in seconds."""

AGAIN_S = 1.1
"""Between two questions for the same page: longer than a process keeps what pages show of the present."""

SILENCE_S = 11.0
"""Longer than a process keeps any part of a page, charts too."""

IS_PAINTED = 'performance.getEntriesByName("first-contentful-paint").length'
RENDERED_MS = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [painted] = performance.getEntriesByName("first-contentful-paint");
  return [page.responseEnd - page.requestStart, Math.max(page.loadEventEnd, painted.startTime)];
}"""
"""Of the page that is shown: for how long its answer was waited for, and when it was there. All that it shows is in the
answer, so the first paint is of all."""

RENDERED_MOST_S = 30.0

PEOPLE = 10
TYPED, REPEATING = 100, 1_000
"""One task in so many has a type, and is a series."""

EACH_DAY = Options(repeat=Repeat(cron="0 9 * * *", tz="Europe/Berlin"))

PAGE_MARK_MS = 200
CPU_MARK = 2.0
"""Percent of a core, more than without people."""
COMMANDS_MARK = 10.0
"""A second, more than without people."""


def task(number: int) -> NewTask:
    """Return one of many tasks that are due in the course of tomorrow."""
    delay_ms = DAY_MS + number * 7_919 % DAY_MS
    kind = "mail" if number % TYPED == 0 else None
    options = EACH_DAY if number % REPEATING == 0 else NONE
    record = record_tail(
        f"http://host{number % 50}.example/orders", delay_ms / 1000, kind, b'{"order":%d}' % number, options
    )
    return NewTask(new_task_key(), delay_ms, record, listing_of(kind, options))


async def page_ms(browser: Browser, path: str, times: int, silence_s: float) -> list[float]:
    """Ask for a page, each time after a silence; return the ms that it took."""
    taken_ms = []
    for _ in range(times):
        await asyncio.sleep(silence_s)
        began = time.perf_counter()
        page = await browser.get(path)
        taken_ms.append(1000 * (time.perf_counter() - began))
        assert page.status == 200, (path, page.status)
    return taken_ms


async def rendered_ms(page: Any, url: str, times: int, silence_s: float) -> list[tuple[float, float]]:
    """Go to a page, each time after a silence; return for how many ms its answer was waited for, and after how many it
    was rendered."""
    taken_ms = []
    for _ in range(times):
        await asyncio.sleep(silence_s)
        await page.goto(url, wait_until="load")
        # Asked again and again: what waits within the page would need `unsafe-eval`.
        await wait_until(lambda: page.evaluate(IS_PAINTED), "it is painted", RENDERED_MOST_S)
        answered_ms, shown_ms = await page.evaluate(RENDERED_MS)
        taken_ms.append((answered_ms, shown_ms))
        await page.goto("about:blank")  # a page that is left open asks again and again
    return taken_ms


@asynccontextmanager
async def chromium_at(url: str) -> AsyncIterator[Any]:
    """Open a page of a real browser that is signed in."""
    from playwright.async_api import async_playwright  # of an extra

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            page = await browser.new_page(viewport={"width": 1280, "height": 800})
            await page.goto(f"{url}/ui/login")
            await page.fill("#token", TOKEN)
            await page.press("#token", "Enter")
            await page.wait_for_url("**/ui/")
            await page.goto("about:blank")
            yield page
        finally:
            await browser.close()


async def look(browser: Browser, path: str, every_s: float, delay_s: float) -> None:
    """Ask for a part of a page for ever."""
    await asyncio.sleep(delay_s)
    while True:
        assert (await browser.get(path)).status == 200
        await asyncio.sleep(every_s)


async def watched(service: harness.Service, server: harness.Redis, seconds: float) -> dict[str, float]:
    """Return what the API costs for so long."""
    meter = await Meter.start(redis=server, api=service.pids(API))
    before = await calls(server)
    heard = await commands(server.url, seconds)
    called = await calls(server) - before
    used = await meter.used()
    sent = {"commands_a_second": round(heard.total() / used.seconds, 2), "calls_a_second": round(called / seconds, 2)}
    return {**sent, **used.percent(2)}


async def calls(server: harness.Redis) -> int:
    """Return how many commands Redis has run since ever, those that scripts called, too."""
    stats = await server.raw.info("commandstats")
    return sum(one["calls"] for name, one in stats.items() if name not in ("cmdstat_info", "cmdstat_monitor"))


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure pages, then people; return what was found."""
    async with harness.redis_at(options.redis_url, folder) as server:
        async with aclosing(RedisClient(server.url, 3, KEYS)) as client:
            await Deployment().join(client)  # as the first process does, which finds no tasks
        await harness.seed(server.url, options.tasks, task)
        await server.settled()
        async with harness.service(server.url, folder, [API]) as service, AsyncExitStack() as stack:
            browsers = []
            for _ in range(PEOPLE):
                session = await stack.enter_async_context(aiohttp.ClientSession())
                browsers.append(Browser(session, service.client.url))
                await browsers[-1].sign_in(TOKEN)
            status, _ = await service.client.call("PUT", f"/schedule/{ONE}", json={"webhook": WEBHOOK, "ttl": 90_000})
            assert status == 200
            await page_ms(browsers[0], "/ui/", 1, 0)  # the first question imports what pages need
            again = {path: await page_ms(browsers[0], path, options.times, AGAIN_S) for path in PAGES}
            if options.browser:
                async with chromium_at(service.client.url) as page:
                    seen = {
                        path: await rendered_ms(page, service.client.url + path, options.first_times, options.silence)
                        for path in PAGES
                    }
                first = {path: [answered_ms for answered_ms, _ in taken] for path, taken in seen.items()}
                rendered = {path: [shown_ms for _, shown_ms in taken] for path, taken in seen.items()}
            else:
                rendered = {}
                first = {path: await page_ms(browsers[0], path, options.first_times, options.silence) for path in PAGES}
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
    found = {
        **{name: spreads(taken) for name, taken in (("pages", again), ("first", first), ("rendered", rendered))},
        **{"alone": alone, "looked_at": looked_at},
    }
    return {**found, "marks": marks(found), "versions": report.versions(server.server)}


def spreads(taken_ms: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return how long each page took."""
    return {path: report.spread(taken) for path, taken in taken_ms.items()}


def marks(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the marks: of the slowest page asked for again, first and rendered, and of what people cost."""
    slowest_ms = {
        f"each page <= {PAGE_MARK_MS} ms{what}": max(one[of] for one in found[name].values())
        for name, of, what in (
            ("pages", "p50", ", median"),
            ("first", "max", " when nobody has looked before, the slowest"),
            ("rendered", "max", " until it is rendered, the slowest"),
        )
        if found[name]
    }
    more = {name: round(found["looked_at"][name] - found["alone"][name], 2) for name in found["alone"]}
    cpu, sent = more["api"], more["commands_a_second"]
    return [
        *(report.mark(wanted, ms, ms <= PAGE_MARK_MS) for wanted, ms in slowest_ms.items()),
        report.mark(f"{PEOPLE} people: API <= {CPU_MARK:g} % of a core more", cpu, cpu <= CPU_MARK),
        report.mark(f"{PEOPLE} people: <= {COMMANDS_MARK:g} commands a second more", sent, sent <= COMMANDS_MARK),
    ]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"dashboard: {found['settings']['tasks']:,} tasks\n")
    columns = [("pages", "p50"), ("pages", "max"), ("first", "max"), *([("rendered", "max")] * bool(found["rendered"]))]
    rows = [(path, *(f"{found[name][path][of]:.1f}" for name, of in columns)) for path in PAGES]
    names = ("page", "ms again, p50", "max", "first, max", "rendered, max")[: len(columns) + 1]
    print(report.table(names, rows), end="\n\n")
    costs = [
        (label, *(f"{found[name][part]:.2f}" for part in ("commands_a_second", "calls_a_second", "api", "redis")))
        for label, name in (("nobody looks", "alone"), (f"{PEOPLE} people", "looked_at"))
    ]
    print(report.table(("", "commands a second", "with those of scripts", "API, % of a core", "Redis"), costs))


def main() -> None:
    parser = harness.parser(__doc__, "dashboard")
    parser.add_argument("--tasks", type=harness.positive, default=1_000_000, help="tasks for tomorrow")
    parser.add_argument("--times", type=harness.positive, default=10, help="that each page is asked for")
    parser.add_argument(
        "--first-times", type=harness.positive, default=2, help="that each is asked for after a silence"
    )
    parser.add_argument("--silence", type=float, default=SILENCE_S, help="seconds in which nobody asks, before each")
    parser.add_argument("--browser", action="store_true", help="ask then by a real browser (Chromium)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which people look")
    options = parser.parse_args()
    asking_s = len(PAGES) * (2 * options.times + options.first_times * (options.silence + 2))
    limit_s = 120 + 3 * options.seconds + asking_s + options.tasks / SEED_A_SECOND
    harness.run(options, measure, show, limit_s)


if __name__ == "__main__":
    main()
