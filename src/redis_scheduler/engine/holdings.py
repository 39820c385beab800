"""The entries and claims that this consumer holds, until their outcomes are written; and whether its leases run.

Plain state of one shard that worker, intake and outcomes share. Nothing here waits.
"""

import asyncio
from collections.abc import Iterable

from redis_scheduler.task.claim import Claim, Entry
from redis_scheduler.task.timing import DEFAULT, Timing


class Holdings:
    """The entries and claims of one consumer, all of one shard. Make it in the event loop that it is used in.

    `has_room` is set when claim loops must look again: an attempt, a load or a period ended, or outcomes were written.
    All shards have the same: they share the slots.
    """

    def __init__(self, has_room: asyncio.Event, timing: Timing = DEFAULT) -> None:
        self.has_room = has_room
        self._lease_s = timing.lease_ms / 1000
        self._time = asyncio.get_running_loop().time
        self.claims: dict[str, Claim] = {}
        """Claims in flight, by entry: in line, being attempted, or with an outcome that is not written yet."""
        self.loading: set[str] = set()
        """Entries whose records are being read."""
        self.claim_limit = 0
        """Entries that the claim under way may bring."""
        self.sweep_limit = 0
        """Entries that the step of the sweep under way may bring."""
        self.early: list[Entry] = []
        """Retries that came before the answer to the call that parked them: they are taken after that answer."""
        self.early_written = asyncio.Event()
        """Set when outcomes were written while `early` holds any: some may be taken now."""
        self.renewed_at = self._time()
        """When the leases of all claims here began last."""

    @property
    def is_leased(self) -> bool:
        """Whether the claims here are surely this consumer's. After a stall longer than the lease they are not, until
        they are renewed: others may have them, or they were cancelled. So nothing in line begins, and nothing is
        swept."""
        return self._time() - self.renewed_at < self._lease_s

    def is_leased_since(self, moment: float) -> bool:
        """Whether a lease that began then, or later, surely still runs."""
        return self._time() - moment < self._lease_s

    def unknown(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries that are not here yet."""
        return [entry for entry in entries if entry.id not in self.claims and entry.id not in self.loading]

    def written(self, claims: Iterable[Claim]) -> None:
        """Forget claims whose outcome Redis has, and note that there may be room."""
        self.forget(claims)
        self.has_room.set()
        if self.early:
            self.early_written.set()

    def forget(self, claims: Iterable[Claim]) -> None:
        """Forget claims, but for entries that were claimed anew."""
        for claim in claims:
            if self.claims.get(claim.id) is claim:
                del self.claims[claim.id]
