"""What this consumer holds of the queue, from its claim until its outcome is written; and whether its leases run.

Plain state that worker, intake and outcomes share; nothing here waits.
"""

import asyncio
from collections.abc import Iterable

from redis_scheduler.task.claim import Claim, Entry
from redis_scheduler.task.timing import DEFAULT, Timing


class Holdings:
    """The entries and claims of one consumer. Make it in the event loop that it is used in."""

    def __init__(self, timing: Timing = DEFAULT) -> None:
        self._lease_s = timing.lease_ms / 1000
        self._time = asyncio.get_running_loop().time
        self.claims: dict[str, Claim] = {}
        """What is in flight, by entry: in line, or being attempted, or its outcome is not written yet."""
        self.running: dict[str, asyncio.Task[None]] = {}
        """What is being attempted, by entry, with the task that does so."""
        self.loading: set[str] = set()
        """Entries whose records are being read."""
        self.early: list[Entry] = []
        """Retries that came before the answer to the record of their failed attempt: taken once that is written."""
        self.early_written = asyncio.Event()
        """Set when outcomes were written while retries have come early: they must be looked at."""
        self.has_room = asyncio.Event()
        """Set when the claim loop must look again: an attempt, a load or a period ended, or outcomes were written."""
        self.is_stopping = False
        """Nothing begins any more."""
        self.renewed_at = self._time()
        """When the lease of all that is here began last."""

    @property
    def is_leased(self) -> bool:
        """Whether what is here is surely this consumer's. After a stall longer than the lease it is not, until it is
        renewed: another may have it, or it was cancelled. So nothing in line begins, and nothing is swept."""
        return self.is_leased_since(self.renewed_at)

    def is_leased_since(self, moment: float) -> bool:
        """Whether a lease that began then, or later, surely still runs."""
        return self._time() - moment < self._lease_s

    def unknown(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries that are not here yet."""
        return [entry for entry in entries if entry.id not in self.claims and entry.id not in self.loading]

    def written(self, claims: Iterable[Claim]) -> None:
        """Forget claims whose outcome Redis has, and say that there may be room."""
        self.forget(claims)
        self.has_room.set()
        if self.early:
            self.early_written.set()

    def forget(self, claims: Iterable[Claim]) -> None:
        """Forget claims, but for entries that were claimed anew."""
        for claim in claims:
            if self.claims.get(claim.id) is claim:
                del self.claims[claim.id]
