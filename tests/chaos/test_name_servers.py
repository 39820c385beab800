"""Names whose server is silent hold up neither the deliveries to other names nor the way back to Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis.asyncio

from tests.chaos.checker import Checker
from tests.chaos.figures import SLOWNESS, Figures, Spread, scaled
from tests.support.name_server import NameServer, has_namespaces, naming_for_processes
from tests.support.names import KEYS
from tests.support.redis_process import RedisProcess
from tests.support.service import client_of
from tests.support.waiting import wait_until

BACK_S = 5.0
"""Promise 7."""


pytestmark = pytest.mark.skipif(not has_namespaces(), reason="a name server of one's own needs root and unshare")


@dataclass
class Names:
    """Which names are silent: those that begin so, and Redis' own at times."""

    is_redis_silent: bool = False

    def answer(self, name: str, kind: str) -> list[str] | None:
        if name.startswith("silent") or (name.startswith("redis") and self.is_redis_silent):
            return None
        return ["127.0.0.1"] if kind == "A" else []


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
async def name_server(names: Names, checker: Checker, tmp_path: Path) -> AsyncIterator[NameServer]:
    """The name server of the processes that the checker starts."""
    async with naming_for_processes(names.answer, tmp_path) as (server, checker.prefix):
        yield server


@pytest.mark.case("20", "names that hang: of receivers, and of Redis")
@pytest.mark.long
async def test_names_that_hang_hold_up_no_other(
    checker: Checker,
    server: RedisProcess,
    raw: redis.asyncio.Redis,
    names: Names,
    name_server: NameServer,
    figures: Figures,
) -> None:
    silent, good, rate = scaled(40, 8), scaled(500, 60), scaled(50, 20)
    checker.redis_url = f"redis://redis.example:{server.port}/0"
    service = await checker.start(RETRIES="0")
    port = checker.receiver.port
    hanging = await checker.load(service, silent, webhook=lambda n: f"http://silent{n}.example:{port}/")
    others = await checker.load(service, good, ttl=0.5, rate=rate, webhook=lambda n: f"http://good{n}.example:{port}/")
    await checker.drained()
    arrivals = checker.arrivals()
    dead: list[bytes] = await raw.execute_command("ZRANGE", KEYS.dead, 0, -1)
    assert {task.key for task in hanging} == {key.decode() for key in dead}
    lateness = Spread.of(arrivals[task.number][0].at - task.due_at for task in others)
    figures.note(names_that_hang=silent, other_names=good, other_lateness_s=lateness)
    assert lateness.p99 < SLOWNESS

    async def answers(status: int) -> None:
        async with client_of(service) as client:

            async def is_so() -> bool:
                return (await client.call("GET", "/stats"))[0] == status

            await wait_until(is_so, f"the API answers {status}", 30)

    async def back_s() -> float:
        started = time.monotonic()
        await answers(200)
        return time.monotonic() - started

    async def cut() -> None:
        await raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    hanging += await checker.load(service, silent, webhook=lambda n: f"http://silent-too{n}.example:{port}/")
    await wait_until(lambda: name_server.times_asked("silent-too0.example"), "they are looked up")
    await cut()
    figures.note(back_s_while_names_hang=(back := await back_s()))
    assert back < BACK_S

    names.is_redis_silent = True
    await cut()
    await answers(503)
    await asyncio.sleep(scaled(15, 8))
    names.is_redis_silent = False
    figures.note(back_s_when_its_name_is=(back := await back_s()))
    assert back < BACK_S
    await checker.load(service, 10)
    await checker.drained()
    await checker.verdict()
