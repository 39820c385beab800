"""What a run of the fault suite measured: one row a case, printed as one table at the end."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

FULL = os.environ.get("CHAOS") == "full"
"""Whether the cases run with their full numbers: `make chaos`. Else a selection does, scaled down."""


def scaled(full: int, small: int) -> int:
    """Return the number that this run works with."""
    return full if FULL else small


@dataclass
class Figures:
    """What one case measured, in the order in which it was noted."""

    case: str = ""
    title: str = ""
    verdict: str = ""
    seconds: float = 0
    notes: list[str] = field(default_factory=list)

    def note(self, **values: object) -> None:
        """Keep figures for the table: `lost=0` is shown as `lost 0`, and `p50_ms=3.2` as `p50 ms 3.2`."""
        self.notes += [f"{name.replace('_', ' ')} {_shown(value)}" for name, value in values.items()]


def _shown(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:,.0f}"
        if isinstance(value, float | int)
        else f"{value}"
    )


def table(rows: Iterable[Figures]) -> list[str]:
    """Return the rows as lines of a Markdown table, in the cases' order."""
    ordered = sorted(rows, key=lambda row: (int("".join(filter(str.isdigit, row.case)) or 0), row.case))
    return [
        "| case | what | verdict | s | figures |",
        "|---|---|---|---|---|",
        *(
            f"| {row.case} | {row.title} | {row.verdict} | {row.seconds:.0f} | {'; '.join(row.notes)} |"
            for row in ordered
        ),
    ]


@dataclass(frozen=True)
class Spread:
    """The middle, the 99th percentile and the most of some measurements; all 0 where there are none."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values) or [0.0]
        return cls(ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], ordered[-1])

    def __str__(self) -> str:
        return f"{self.p50:.3f} / {self.p99:.3f} / {self.most:.3f}"
