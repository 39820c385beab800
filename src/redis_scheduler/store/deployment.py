"""The deployment: all processes on one Redis. It has an id, which Redis keeps.

Each delivery carries the id, and the API refuses a request that carries its own: so no task can drive the scheduler
that delivers it, such as with the webhook `…/purge`. The id is no secret, since every receiver is told it.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from redis_scheduler.stopping import finished, stop_or_interval
from redis_scheduler.store.answer_shape import TEXTS, all_paused_since_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.listeners import LISTENER_TTL_MS, LISTENERS_MOST, Listeners
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.script import Script
from redis_scheduler.store.workers import SERVED_MS, WORKERS_MOST
from redis_scheduler.task.timing import Timing

FRESH_S = 0.2
"""An answer of Redis holds so long: however often it is needed, Redis is asked five times a second at the most."""

_JOIN = Script("join")


_ID = re.compile(rb"[0-9a-f]{32}")


def _read_joined(answer: Any) -> tuple[str, list[bytes]]:
    found, *listeners = TEXTS(answer) or [b""]
    # Anything else must not come into a header.
    if _ID.fullmatch(found) is None:
        raise ValueError("Expected an id")
    return found.decode(), listeners


class Deployment:
    """What this process knows of its deployment."""

    def __init__(self) -> None:
        self.id = ""
        """Empty until Redis has told it."""
        self.joined = asyncio.Event()
        self.listeners = Listeners()
        self.consumer = ""
        """The worker's name as a consumer: with each join it says that it lives. Empty: this process is no worker."""
        self.all_paused_since_ms: int | None = None
        """Since when nothing is promoted, as `refresh` has found it; None: it is."""
        self._on_change: Callable[[str], None] = lambda _: None
        self._asking: asyncio.Task[None] | None = None
        self._fresh_until = 0.0

    def tell(self, on_change: Callable[[str], None]) -> None:
        """Call `on_change` with the id: now if it is known, and whenever it changes."""
        self._on_change = on_change
        if self.id:
            on_change(self.id)

    async def join(self, client: RedisClient) -> None:
        """Take the id that Redis keeps; where it keeps none, as after FLUSHALL, it is given ours. Raises
        StoreUnavailable."""
        kept, listeners = await client.run(
            _JOIN.bind(
                client.keys,
                offered=self.id or secrets.token_hex(16),
                consumer=self.consumer,
                kept_ms=SERVED_MS,
                workers_most=WORKERS_MOST,
                ttl_ms=LISTENER_TTL_MS,
                most=LISTENERS_MOST,
                address=self.listeners.told(),
            ),
            _read_joined,
        )
        self.listeners.hear(listeners)
        if kept != self.id:
            self.id = kept
            self._on_change(kept)
        self.joined.set()

    async def refresh(self, client: RedisClient) -> None:
        """Join again, unless that was just done; concurrent callers share one answer. Raises StoreUnavailable.

        So it also tells whether Redis answers, within two time-outs of the client.
        """
        if self._asking is None or self._asking.done():
            if time.monotonic() < self._fresh_until:
                return
            self._asking = asyncio.create_task(self._ask(client), name="deployment-refresh")
            # Its error goes to those who wait for it; there may be none.
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        # A request that is cancelled while it waits must not cancel it.
        await asyncio.shield(self._asking)

    async def _ask(self, client: RedisClient) -> None:
        self._fresh_until = 0.0
        await self.join(client)
        self.all_paused_since_ms = await client.command("GET", client.keys.pause_all, read=all_paused_since_ms)
        self._fresh_until = time.monotonic() + FRESH_S

    async def run(self, client: RedisClient, outage: Outage, stop: asyncio.Event, timing: Timing) -> None:
        """Join at the start, at once whenever another Redis may answer than before, or the same one with less in it,
        and every few seconds: where the id alone was deleted, a process that starts would make another."""

        async def join() -> None:
            await stop_or_interval(outage.changed, timing.rejoin_interval_s)
            outage.changed.clear()
            try:
                await self.join(client)
            except BaseException:
                outage.changed.set()
                raise

        await finished(outage.loop(stop, join), stop)
