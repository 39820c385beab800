"""The trimmer: drops what is not to be kept any longer of tasks that have ended.

Every worker runs one; each step is a script's, so that any number may run at once.
"""

import asyncio

from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.errors import StoreRefused
from redis_scheduler.stopping import setting_on, stop_or_interval
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.retention import Retention
from redis_scheduler.task.timing import DEFAULT, Timing

CLEAN_S = 0.4
"""A step cleans for so long behind a purge."""


class Trimmer:
    """Trims the dead letters of one shard. A task that outcomes have buried wakes it: there may be too much now."""

    def __init__(
        self,
        retention: Retention,
        outcomes: Outcomes,
        outage: Outage,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
    ) -> None:
        self._retention = retention
        self._has_buried = outcomes.has_buried
        self._outage = outage
        self._timing = timing
        self._observer = observer

    async def run_once(self) -> float:
        """Make one trim, and clean behind a purge; return the seconds until the next."""
        trim, most_s = await self._retention.trim(), self._timing.trim_s
        try:
            is_clean = not trim.has_remains or await self._retention.clean(CLEAN_S)
        except StoreRefused:  # the log has it; what remains is cleaned once the user in REDIS_URL may
            is_clean = True
        if trim.dropped:
            self._observer.letters_dropped(trim.dropped)
        wait_s = 0 if not is_clean else most_s if trim.wait_s is None else min(trim.wait_s, most_s)
        return max(wait_s, self._timing.trim_pause_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Trim until `stop` is set."""

        async def step() -> None:
            self._has_buried.clear()
            wait_s = await self.run_once()
            if not stop.is_set():
                await asyncio.sleep(self._timing.trim_pause_s)
                await stop_or_interval(self._has_buried, wait_s)

        async with setting_on(stop, self._has_buried):
            await self._outage.loop(stop, step)
