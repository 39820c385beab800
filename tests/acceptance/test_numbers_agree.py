"""The dashboard with its charts, /stats, /metrics, the history and doctor say the same of the same moment: whichever of
several processes is asked, over several shards, and also when a worker was killed."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.history import HOUR_MINUTES, MINUTE_MS, History
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.views import Views
from tests.acceptance.test_metrics import samples
from tests.support.pages import Browser
from tests.support.receiver import receiving
from tests.support.redis_process import free_port
from tests.support.service import TOKEN, Client, Process, client_of, run, serving
from tests.support.waiting import wait_until

HELD, RUNNING, WAITING = 2, 6, 3
"""So many tasks are held by a limit, are with a receiver that does not answer, and wait for a retry."""

HAPPENED = ("delivered", "failed", "died", "expired")
"""What the history counts, and the ledger, too; and a chart shows, in this order."""

Stats = dict[str, Any]


def words(name: str) -> str:
    return name.replace("_", " ")


class Deployment:
    """Two APIs, one of them of two processes, and what else says how many tasks stand where."""

    def __init__(self, redis_url: str, shards: int, apis: list[Client], *, has_charts: bool = True) -> None:
        """`has_charts`: whether they are compared, too. What they show of a later time may be five minutes old."""
        self.redis_url = redis_url
        self.has_charts = has_charts
        self.shards = shards
        self.apis = apis
        self.metrics: list[str] = []
        """Where workers tell theirs."""
        self.wrong: list[str] = []

    async def agree(self, is_wanted: Callable[[Stats], bool]) -> Stats:
        """Wait until all say the same, of a moment in which the numbers are as wanted and do not change."""
        found: list[Stats] = []

        async def do_agree() -> bool:
            before = await self.apis[0].stats()
            self.wrong = [one async for one in self._differences(before)]
            after = await self.apis[0].stats()
            found[:] = [after]
            if before["states"] != after["states"] or not is_wanted(after):
                self.wrong = [f"the numbers change, or are {after['states']}"]
            return not self.wrong

        try:
            await wait_until(do_agree, "all agree", 30, 0.5)
        except AssertionError:
            pytest.fail("\n".join(self.wrong))
        return found[0]

    async def _differences(self, stats: Stats) -> Any:
        """What says something else than this."""
        states, counters = stats["states"], {name: number for name, number in stats["counters"].items() if number}
        for api in self.apis:
            for _ in range(4):  # on connections of their own, which either process takes
                async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
                    own = await Client(session, api.url).stats()
                    if (own["states"], own["counters"]) != (states, stats["counters"]):
                        yield f"/stats of {api.url}: {own['states']}, not {states}"
                    browser = Browser(session, api.url)
                    await browser.sign_in(TOKEN)
                    overview = (await browser.get("/ui/part/overview")).text
                    system = (await browser.get("/ui/part/system")).text
                    charts = (await browser.get("/ui/part/charts")).html
                for one in differences_of_charts(charts, stats) if self.has_charts else []:
                    yield f"a chart of {api.url}: {one}"
                for name, number in states.items():
                    shown = "scheduled" if name == "due" else words(name)
                    if not re.search(rf"(?<![\d,]){number:,} {shown}\b", overview):
                        yield f"the overview of {api.url}: not {number} {name}"
                    if not re.search(rf"\b{shown} {number:,}(?![\d,])", system):
                        yield f"the system of {api.url}: not {number} {name}"
                for name, number in counters.items():
                    if f" {number:,} {words(name)}" not in overview:
                        yield f"the overview of {api.url}: not {number} {name} since ever"
                    if f"{words(name)}, since ever {number:,}" not in system:
                        yield f"the system of {api.url}: not {number} {name} since ever"
        for url in [*self.metrics, *(api.url for api in self.apis)]:
            async with aiohttp.ClientSession() as session:
                told = await samples(Client(session, url))
            for name, number in states.items():
                of_shards = [row for row in told if row[0] == "redis_scheduler_tasks" and ("state", name) in row]
                if len(of_shards) != self.shards or sum(told[row] for row in of_shards) != number:
                    yield f"/metrics of {url}: not {number} {name}"
            for name, number in counters.items():
                if told["redis_scheduler_ledger_total", ("counter", name)] != number:
                    yield f"/metrics of {url}: not {number} {name} since ever"
        for one in [*await self._differences_of_history(stats), *await self._differences_of_doctor(stats)]:
            yield one

    async def _differences_of_history(self, stats: Stats) -> list[str]:
        keys = Keys(tag_of("", 0), 0)  # the first shard has that of all
        async with aclosing(RedisClient(self.redis_url, 5, keys)) as client:
            history = History(client, "test")
            minute = await Views(client).now_ms() // MINUTE_MS
            hour = minute // HOUR_MINUTES
            kept = {
                "minutes": await history.minutes(range(minute - HOUR_MINUTES, minute + 1)),
                "hours": await history.hours(range(hour - 1, hour + 1)),
            }
        wrong = []
        for name, numbers in kept.items():
            counted = Counter[str]()
            for one, number in ((one, number) for row in numbers for one, number in row.items()):
                counted[one.partition(":")[0]] += number
            wrong += [
                f"the {name} of the history: {counted[one]} {one}, not {stats['counters'][one]}"
                for one in HAPPENED
                if counted[one] != stats["counters"][one]
            ]
        return wrong

    async def _differences_of_doctor(self, stats: Stats) -> list[str]:
        printed = (await asyncio.to_thread(run, "doctor", REDIS_URL=self.redis_url)).stdout
        shown = Counter[str]()  # of all shards
        for name, number in re.findall(r"^[ =+] ([a-z -]+?) +(\d+)$", printed, re.MULTILINE):
            shown[name] += int(number)
        numbers = {name: number for name, number in stats["states"].items() if name != "dead"}
        numbers |= {name: stats["counters"][name] for name in ("scheduled", "delivered", "died")}
        wrong = [
            f"doctor: not {number} {name}: {printed}"
            for name, number in numbers.items()
            if shown[words(name)] != number
        ]
        total = sum(stats["states"].values())
        if sum(map(int, re.findall(r"each of (\d+) tasks is in its place", printed))) != total:
            wrong.append(f"doctor: not {total} tasks: {printed}")
        return wrong


def differences_of_charts(html: str, stats: Stats) -> list[str]:
    """What the charts say that is not as the statistics have it: of what comes due within a day, and of what was."""
    states, counters = stats["states"], stats["counters"]
    wanted = f"by the quarter of an hour: {states['due']:,} tasks, {states['queued']:,} overdue"
    wrong = [] if wanted in html else [f"not {wanted}"]
    table = html.partition('id="table-outcomes"')[2].partition("</details>")[0]
    rows = [re.findall(r"<td>(\d+)</td>", row) for row in table.split("<tr>")]
    for name, *numbers in zip(HAPPENED, *filter(None, rows), strict=True):
        if (counted := sum(map(int, numbers))) != counters[name]:
            wrong.append(f"{counted} {name}, not {counters[name]}")
    return wrong


async def answer_by_path(request: web.Request) -> web.Response:
    return web.Response(status=int(request.path[1:]))


async def schedule_all_others(api: Client, silent: str, other: str, limited: str) -> dict[str, int]:
    """Beside what is under way, schedule tasks for all other places; return how many are then to stand in each."""
    for number in range(5):
        await api.schedule(silent, 900 + number)
        await api.schedule(f"{other}200")
    tasks = [{"webhook": silent, "ttl": 3_600} for _ in range(1_200)]
    assert (await api.call("POST", "/schedules", json={"tasks": tasks[:1_000]}))[0] == 200
    assert (await api.call("POST", "/schedules", json={"tasks": tasks[1_000:]}))[0] == 200
    for _ in range(HELD):
        await api.schedule(limited)
    for _ in range(WAITING):
        await api.schedule(f"{other}500")
    await api.schedule(f"{other}500", retries=0)
    await api.schedule(f"{other}202", ack=True)
    paused = await api.schedule(silent, 900)
    assert (await api.call("POST", f"/schedule/{paused}/pause"))[0] == 200
    return {
        **{"due": 1_205, "queued": 0, "in_delivery": RUNNING, "waiting": WAITING, "paused": 1, "awaiting": 1},
        **{"held": HELD, "dead": 1},
    }


@pytest.mark.long
@pytest.mark.parametrize("shards", [1, 4])
async def test_all_that_tells_numbers_agrees(shards: int, redis_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        silent = await stack.enter_async_context(receiving())
        silent.may_answer.clear()
        other = await stack.enter_async_context(receiving())
        other.behaviour = answer_by_path

        async def start(name: str, role: str, **variables: str) -> Process:
            (tmp_path / name).mkdir()
            settings = {"REDIS_URL": redis_url, "SHARDS": str(shards), "RESULT_TTL": "600"}
            timing = {"RETRY_TIME": "50", "TIMEOUT": "300"}
            return await stack.enter_async_context(serving(tmp_path / name, role, **settings, **timing, **variables))

        apis = [
            await stack.enter_async_context(client_of(await start("pair", "api", PROCESSES="2"))),
            await stack.enter_async_context(client_of(await start("single", "api"))),
        ]
        api, deployment = apis[0], Deployment(redis_url, shards, apis)

        async def start_worker(name: str) -> Process:
            worker = await start(name, "worker", METRICS_PORT="0")
            deployment.metrics.append(f"http://127.0.0.1:{(await worker.started())['metrics_port']}")
            return worker

        limited = f"127.0.0.1:{free_port()}"
        assert (await api.call("PUT", f"/hosts/{limited}", json={"paused": True}))[0] == 200
        doomed = await start_worker("doomed")
        for _ in range(RUNNING):
            await api.schedule(silent.url)
        await wait_until(lambda: len(silent.arrivals) == RUNNING, "the one that will be killed has them")
        await start_worker("survivor")

        wanted = await schedule_all_others(api, silent.url, other.url, f"http://{limited}/")
        assert (await deployment.agree(lambda stats: stats["states"] == wanted))["counters"]["delivered"] == 5

        doomed.process.kill()
        del deployment.metrics[0]
        await deployment.agree(lambda stats: stats["states"] == wanted)
        await wait_until(lambda: len(silent.arrivals) == 2 * RUNNING, "the other one has taken them over", 40)
        await deployment.agree(lambda stats: stats["states"] == wanted)

        silent.may_answer.set()
        wanted |= {"in_delivery": 0}
        stats = await deployment.agree(lambda stats: stats["states"] == wanted)
        assert (stats["counters"]["delivered"], stats["ledger_balanced"]) == (5 + RUNNING, True)


@pytest.mark.long
async def test_all_agrees_in_the_midst_of_changes(redis_url: str, tmp_path: Path) -> None:
    """While what is done to many is half done, all is paused, dead letters come back, a series has fired."""
    many, letters, shards = 30_000, 200, 4
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        receiver.behaviour = answer_by_path
        settings = {"REDIS_URL": redis_url, "SHARDS": str(shards), "RETRIES": "0", "RESULT_TTL": "600"}
        apis = []
        for name, role in (("pair", "api"), ("single", "api"), ("worker", "worker")):
            (tmp_path / name).mkdir()
            own = {"PROCESSES": "2"} if name == "pair" else {"METRICS_PORT": "0"} if role == "worker" else {}
            process = await stack.enter_async_context(serving(tmp_path / name, role, **settings, **own))
            if role == "api":
                apis.append(await stack.enter_async_context(client_of(process)))
        api, deployment = apis[0], Deployment(redis_url, shards, apis, has_charts=False)
        deployment.metrics.append(f"http://127.0.0.1:{(await process.started())['metrics_port']}")

        async def call(method: str, path: str, **given: Any) -> dict[str, Any]:
            status, content = await api.call(method, path, **given)
            assert status == 200, content
            found: dict[str, Any] = content
            return found

        # Half of many are paused.
        tasks = [{"webhook": receiver.url, "ttl": 7_200, "type": "many"}] * 1_000
        for _ in range(many // 1_000):
            await call("POST", "/schedules", json={"tasks": tasks})
        begun = await call("POST", "/schedules/pause?type=many&operation=half")
        assert begun["next"] is not None, "all were paused at once"
        await deployment.agree(
            lambda stats: stats["states"]["paused"] == begun["touched"] == many - stats["states"]["due"]
        )
        while (await call("POST", "/schedules/pause?type=many&operation=half"))["next"] is not None:
            pass
        await deployment.agree(lambda stats: (stats["states"]["paused"], stats["states"]["due"]) == (many, 0))

        # All is paused, and some are overdue.
        assert (await asyncio.to_thread(run, "pause-all", REDIS_URL=redis_url)).returncode == 0
        for _ in range(letters):
            await api.schedule(f"{receiver.url}500")
        stats = await deployment.agree(lambda stats: stats["states"]["queued"] == letters)
        assert stats["all_paused_since"] is not None
        assert (await asyncio.to_thread(run, "resume-all", REDIS_URL=redis_url)).returncode == 0
        await deployment.agree(lambda stats: stats["states"]["dead"] == letters)

        # Some are brought back by and by, one by one, and the first is delivered.
        receiver.behaviour = None
        replayed = await call("POST", "/dead/replay?rate=0.01&operation=back")
        assert (replayed["touched"], replayed["next"]) == (letters, None)
        await deployment.agree(
            lambda stats: (stats["states"]["due"], stats["counters"]["delivered"]) == (letters - 1, 1)
        )
        await call("PUT", "/schedule/series", json={"webhook": receiver.url, "repeat": {"every": 900}})
        await call("POST", "/schedule/series/run")
        stats = await deployment.agree(lambda stats: stats["counters"]["delivered"] == 2)
        assert (stats["states"]["due"], stats["ledger_balanced"]) == (letters, True)
