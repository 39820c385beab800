"""The ledger: every task that ever was, at one moment: where it stands now, or how it ended."""

from dataclasses import dataclass

ENTERED = ("scheduled", "replayed")
ENDED = ("delivered", "died", "cancelled", "purged", "lost")
"""The counters of the ledger: how tasks come in, and how they end."""


@dataclass(slots=True)
class Ledger:
    """Every task that ever was, at one moment: where it stands now, or how it ended.

    scheduled + replayed = due + queued + in delivery + waiting + delivered + died + cancelled + purged + lost, at any
    moment. An audit counts what was lost; below zero are tasks that turned up though they were counted as ended.
    """

    due: int
    queued: int
    in_delivery: int
    waiting: int
    dead: int
    counters: dict[str, int]
    redis_keys: int | None
    """Keys in the whole database; None where the user may not ask."""

    @property
    def running(self) -> int:
        """Tasks still to be delivered."""
        return self.due + self.queued + self.in_delivery + self.waiting

    @property
    def missing(self) -> int:
        """How many tasks entered and are nowhere to be found; below zero: so many too many are there."""
        entered, ended = (sum(self.counters.get(name, 0) for name in names) for names in (ENTERED, ENDED))
        return entered - self.running - ended

    @property
    def is_balanced(self) -> bool:
        """Whether every task is accounted for."""
        return self.missing == 0
