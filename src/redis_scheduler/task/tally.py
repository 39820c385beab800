"""What happened in a few seconds, as numbers: plain counting, for the history.

Each number has a name: `delivered`, `died`, `expired`, `failed:<kind>` (of attempts; see Outcome.kind), and those of
two histograms, `late:<bound>` and `took:<bound>`: how many first attempts began so late, and how many attempts lasted
so long, in ms: at most the bound, and more than the bound before; `more` is beyond all.
"""

from bisect import bisect_left
from collections import Counter

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000)
"""The upper bounds of the histograms' buckets."""

EXACT_MS = 1_000
"""Up to here each ms is counted for itself: a look for the bucket would take as long as all else."""


class Tally:
    """Counts. `delivered`: the attempts that were a success, by their ms; `late`: the first attempts, by how late they
    began; each up to EXACT_MS. `others`: all else, by its name; of these `took_ms` and `late_ms` in all."""

    __slots__ = ("delivered", "late", "late_ms", "others", "took_ms")

    def __init__(self) -> None:
        self.delivered = [0] * (EXACT_MS + 1)
        self.late = [0] * (EXACT_MS + 1)
        self.others: Counter[str] = Counter()
        self.took_ms = self.late_ms = 0

    def count_late(self, late_ms: int) -> None:
        """Count how late a first attempt began, whatever that is."""
        self.others[_bucket("late", late_ms)] += 1
        self.late_ms += max(0, late_ms)

    def count_took(self, elapsed_ms: int) -> None:
        """Count how long an attempt took, whatever that is."""
        self.others[_bucket("took", elapsed_ms)] += 1
        self.took_ms += elapsed_ms

    def numbers(self) -> Counter[str]:
        """Return all that is not 0, by its name."""
        found = Counter(self.others)
        found["delivered"] += sum(self.delivered)
        for kind, exact in (("took", self.delivered), ("late", self.late)):
            for ms, count in enumerate(exact):
                if count:
                    found[_bucket(kind, ms)] += count
        return +found


def _bucket(kind: str, ms: int) -> str:
    at = bisect_left(BOUNDS_MS, ms)
    return f"{kind}:{BOUNDS_MS[at]}" if at < len(BOUNDS_MS) else f"{kind}:more"
