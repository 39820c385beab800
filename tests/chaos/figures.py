"""What runs of the fault suite measured: one row a case. Each run prints its rows as a table.

A run with the full numbers also keeps its rows in results.json, in the place of older rows of the same cases.
`python -m tests.chaos.figures RELIABILITY.md` writes the kept rows into that document.
"""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

FULL = os.environ.get("CHAOS") == "full"
"""Whether the cases run with their full numbers: `make chaos`. Else a selection does, scaled down."""

SLOWNESS = 1 if FULL else 2
"""So much longer may anything take where the cases run beside other tests, which the full numbers do not."""

RESULTS = Path(__file__).with_name("results.json")

BEGIN, END = "<!-- cases: written by python -m tests.chaos.figures RELIABILITY.md -->\n", "<!-- end of cases -->\n"
"""The lines of a document between which the table stands."""


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
    return [
        "| case | what | verdict | s | figures |",
        "|---|---|---|---|---|",
        *(
            f"| {row.case} | {row.title} | {row.verdict} | {row.seconds:.0f} | {'; '.join(row.notes)} |"
            for row in _ordered(rows)
        ),
    ]


def _ordered(rows: Iterable[Figures]) -> list[Figures]:
    return sorted(rows, key=lambda row: (int("".join(filter(str.isdigit, row.case)) or 0), row.case))


def kept(path: Path = RESULTS) -> list[Figures]:
    """Return the rows of each case's last full run."""
    return [Figures(**row) for row in json.loads(path.read_text())]


def keep(rows: Iterable[Figures], path: Path = RESULTS) -> None:
    """Keep the rows of a run in the place of those that older runs gave for the same cases. A line of the file is a
    row."""
    by_case = {row.case: row for row in (*kept(path), *rows)}
    lines = [json.dumps(asdict(row), ensure_ascii=False) for row in _ordered(by_case.values())]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def with_table(text: str, rows: Iterable[Figures]) -> str:
    """Return the document with these rows as its table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join(table(rows)) + "\n" + END + after


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


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_table(document.read_text(), kept()))
