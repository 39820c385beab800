"""Alerts: a Watch that looks when a test wants it to, and what its receiver got."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis_scheduler.process.alerting import Watch
from redis_scheduler.process.process import Process
from redis_scheduler.settings import ALL, Settings
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.generations import Generations
from tests.support.audit import plain
from tests.support.engine import MODULE
from tests.support.names import KEYS_OF_SHARDS, SHARDS
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, serving
from tests.support.service import Process as Service
from tests.support.waiting import wait_until

LOOK_S = 1.0
"""Of a Watch here. A turn lasts for nearly as long: longer than a busy machine keeps this process waiting."""


def told(alerted: Receiver) -> list[tuple[str, str]]:
    """The kinds and states of the alerts that have come."""
    return [(arrival.json()["alert"], arrival.json()["state"]) for arrival in alerted.arrivals]


async def texts(alerted: Receiver, count: int, timeout_s: float = 30) -> list[tuple[str, str]]:
    """The kinds and states of all alerts, once so many have come."""
    await wait_until(lambda: len(alerted.arrivals) >= count, f"{count} alerts", timeout_s)
    return told(alerted)


@asynccontextmanager
async def working(folder: Path, redis_url: str, alerted: Receiver, **variables: str) -> AsyncIterator[Service]:
    """A service that brings what a Watch here tells, once Redis knows that it delivers."""
    given = {"REDIS_URL": redis_url, "ALERT_WEBHOOK": alerted.url, "UNWATCHED": "1"} | variables
    async with serving(folder, "service", module=MODULE, **given) as process:
        await worker_known(redis_url)
        yield process


async def worker_known(redis_url: str) -> None:
    """Wait until Redis knows of a worker in each shard: before, a Watch sends itself what it tells."""
    async with plain(redis_url) as raw:

        async def is_known() -> bool:
            return all([await raw.zcard(keys.workers) for keys in KEYS_OF_SHARDS])

        await wait_until(is_known, "a worker lives", 30)


async def look_anew(watch: Watch, look_s: float = LOOK_S) -> None:
    """Have a Watch look once the turn of whoever looked before has ended."""
    await asyncio.sleep(look_s)  # to ask whether it has ended is to take the next one
    await watch.look()


class Watched:
    """A Watch in this process, which looks whenever it is asked to."""

    def __init__(self, redis_url: str, alerted: Receiver, **settings: Any) -> None:
        values: dict[str, Any] = {
            "alert_webhook": alerted.url,
            "alert_every": 1.0,
            "alert_late": 1.0,
            "api_auth": TOKEN,
        } | settings
        self.process = Process(ALL, Settings(redis_url=redis_url, **values))
        self.process.deployment.generations = Generations.of(SHARDS)
        self.clients = [RedisClient(redis_url, 3, keys) for keys in KEYS_OF_SHARDS]
        self.watch = Watch(self.process, self.clients, f"watch-{id(self)}", look_s=LOOK_S)

    async def look(self) -> None:
        """Look at once: the turn of whoever looked before ends now."""
        for client in self.clients:
            await client.command("HDEL", client.keys.alerts, "turn")
        await self.watch.look()

    async def __aenter__(self) -> "Watched":
        await self.look()  # from now on deaths are new
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.aclose()
