"""What happened in a few seconds, as numbers: plain counting, for the history.

Each number has a name: `delivered`, `died`, `expired`, `failed:<kind>` (of attempts; see Outcome.kind), `came_back` (of
tasks that lost workers had), `left:<why>` (of tasks that a worker left to others: `key`, `newer`, `zone`), and those of
two histograms, `late:<bound>` and `took:<bound>`: how many first attempts began so late, and how many attempts lasted
so long, in ms: at most the bound, and more than the bound before; `more` is beyond all.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000)
"""The upper bounds of the histograms' buckets."""

BUCKETS = len(BOUNDS_MS) + 1
"""With the one that is beyond all bounds."""

EXACT_MS = 1_000
"""Up to here each ms is counted for itself: a look for the bucket would take as long as all else."""


_EXACT = range(EXACT_MS + 1)


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
            for ms in compress(_EXACT, exact):
                found[_bucket(kind, ms)] += exact[ms]
        return +found


def bucket_of(ms: int) -> int:
    """Return the number of the bucket in which so many ms are counted."""
    return bisect_left(BOUNDS_MS, ms)


def bound_at(counts: Sequence[int], share: float) -> int | None:
    """Return a bound in ms that this share of a histogram does not pass: of what is beyond all bounds twice the last;
    None where nothing was counted."""
    total, met = sum(counts), 0
    for bound, number in zip((*BOUNDS_MS, 2 * BOUNDS_MS[-1]), counts, strict=False):
        met += number
        if number and met >= total * share:
            return bound
    return None


@lru_cache(4 * EXACT_MS)
def _bucket(kind: str, ms: int) -> str:
    at = bucket_of(ms)
    return f"{kind}:{BOUNDS_MS[at]}" if at < len(BOUNDS_MS) else f"{kind}:more"
