"""The deployment: all processes on one Redis. It has an id, which Redis keeps.

Each delivery carries the id, and the API refuses a request that carries its own: so no task can drive the scheduler
that delivers it, such as with the webhook `…/purge`. The id is no secret, since every receiver is told it.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.stopping import finished, stop_or_interval
from redis_scheduler.store.answer_shape import TEXTS, all_paused_since_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.generations import ANNOUNCED_MS, COMING_MS, Coming, Generations, read_generations
from redis_scheduler.store.history import MINUTE_MS
from redis_scheduler.store.joint import Joint
from redis_scheduler.store.keys import GROUP
from redis_scheduler.store.listeners import LISTENER_TTL_MS, LISTENERS_MOST, Listeners
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.processes import PROCESSES_MOST
from redis_scheduler.store.script import Script
from redis_scheduler.store.workers import SERVED_MS, WORKERS_MOST
from redis_scheduler.task.timing import DEFAULT, Timing

MINUTES_MOST = DEFAULT.minute_ttl_ms // MINUTE_MS
"""For how long the oldest task was due is kept of so many minutes: as what happened in each."""

FRESH_S = 0.2
"""An answer of Redis holds so long: however often it is needed, Redis is asked five times a second at the most."""

_JOIN = Script("join")


_ID = re.compile(rb"[0-9a-f]{32}")


def _read_joined(answer: Any) -> tuple[str, bytes, list[bytes]]:
    found, numbers, *listeners = TEXTS(answer)
    # Anything else must not come into a header.
    if _ID.fullmatch(found) is None:
        raise ValueError("Expected an id")
    if numbers:
        read_generations(numbers)
    return found.decode(), numbers, listeners


class Deployment:
    """What this process knows of its deployment by one of its shards. `shards`: how many it is to have; 0: this is not
    the first shard, whose word on how many there are counts. `generations`: those that all shards tell of."""

    def __init__(
        self, shards: int = 1, listeners: Listeners | None = None, generations: Generations | None = None
    ) -> None:
        self.id = ""
        """Empty until Redis has told it."""
        self.joined = asyncio.Event()
        self.listeners = listeners or Listeners()
        self.generations = generations or Generations()
        self.announced: Coming | None = None
        """The number of shards to announce with the next join, which all other shards keep by then."""
        self._shards = shards
        self.consumer = ""
        """The worker's name as a consumer: with each join it says that it lives. Empty: this process is no worker."""
        self.process = ""
        """The name under which this process says what it is."""
        self.said: Callable[[], bytes] = bytes
        """Returns what it says then, every few seconds; nothing: it says nothing."""
        self.all_paused_since_ms: int | None = None
        """Since when nothing is promoted, as `refresh` has found it; None: it is."""
        self.on_join: Callable[[], Awaitable[None]] | None = None
        """Awaited after each join of `run`."""
        self._on_change: Callable[[str], None] = lambda _: None
        self._asking = Joint[None]("deployment-refresh")
        self._fresh_until = 0.0
        self._kept_ms = LISTENER_TTL_MS

    def tell(self, on_change: Callable[[str], None]) -> None:
        """Call `on_change` with the id: now if it is known, and whenever it changes."""
        self._on_change = on_change
        if self.id:
            on_change(self.id)

    async def join(self, client: RedisClient, says: bool = False, coming: Coming | None = None) -> None:
        """Take the id that Redis keeps; where it keeps none, as after FLUSHALL, it is given ours. With `says` also say
        what this process is. `coming`: another shard than the first is to keep that this number may be announced.
        Raises StoreUnavailable."""
        sent, announced = time.monotonic(), self.announced or coming
        kept, numbers, listeners = await client.run(
            _JOIN.bind(
                client.keys,
                number=self._shards,
                copied=b"" if self._shards else self.generations.told,
                announced=announced.number if announced else "",
                since_ms=announced.since_ms if announced else 0,
                announced_ms=ANNOUNCED_MS,
                coming_ms=COMING_MS,
                offered=self.id or secrets.token_hex(16),
                knew=int(bool(self.id)),
                consumer=self.consumer,
                kept_ms=SERVED_MS,
                workers_most=WORKERS_MOST,
                process=self.process,
                said=self.said() if says else b"",
                processes_most=PROCESSES_MOST,
                ttl_ms=self._kept_ms,
                most=LISTENERS_MOST,
                group=GROUP,
                minutes_most=MINUTES_MOST,
                address=self.listeners.told(),
            ),
            _read_joined,
        )
        self.listeners.hear(listeners)
        if self._shards:
            self.generations.hear(sent, numbers)
        else:
            self.generations.hear_copy(numbers, sent, client.keys.shard)
        if announced and announced == self.announced != self.generations.coming(announced.number):
            self.announced = None  # it was announced, or another first; else the newest does not hold yet
        if kept != self.id:
            self.id = kept
            self._on_change(kept)
        self.joined.set()

    async def refresh(self, client: RedisClient) -> None:
        """Join again, unless that was just done; concurrent callers share one answer. Raises StoreUnavailable.

        So it also tells whether Redis answers, within two time-outs of the client.
        """
        if time.monotonic() >= self._fresh_until:
            await self._asking.answer(lambda: self._ask(client))

    async def _ask(self, client: RedisClient) -> None:
        self._fresh_until = 0.0
        await self.join(client)
        self.all_paused_since_ms = await client.command("GET", client.keys.pause_all, read=all_paused_since_ms)
        self._fresh_until = time.monotonic() + FRESH_S

    async def run(self, client: RedisClient, outage: Outage, stop: asyncio.Event, timing: Timing) -> None:
        """Join at the start, at once whenever another Redis may answer than before, or the same one with less in it,
        and every few seconds: where the id alone was deleted, a process that starts would make another."""

        async def join() -> None:
            interval_s = timing.rejoin_s(self._shards > 0)
            # Two joins may fail.
            self._kept_ms = max(LISTENER_TTL_MS, round(3_000 * interval_s))
            await stop_or_interval(outage.changed, interval_s)
            outage.changed.clear()
            try:
                await self.join(client, says=True)
                if self.on_join is not None:
                    await self.on_join()
            except BaseException:
                outage.changed.set()
                raise

        await finished(outage.loop(stop, join), stop)


async def refresh_first(deployments: Sequence[Deployment], clients: Sequence[RedisClient]) -> None:
    """Have the first shard tell again how many there are; while it is away, the next one whether that may have changed.
    Raises StoreUnavailable, or StoreFull."""
    error: StoreUnavailable | None = None
    for deployment, client in sorted(zip(deployments, clients, strict=False), key=lambda one: one[1].outage.is_away):
        try:
            return await deployment.refresh(client)
        except StoreUnavailable as found:
            error = error or found
    raise error or StoreUnavailable("Redis is not available")
