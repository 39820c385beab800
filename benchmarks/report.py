"""What a benchmark says in the end: its figures, where they were taken, as a table and as JSON."""

import json
import math
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redis_scheduler import __version__

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("aiohttp", "hiredis", "httptools", "msgspec", "redis", "starlette", "uvicorn", "uvloop")

OTHERS_PERCENT = 5
"""Of all cores: if others took more, the figures are worth little."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Return the least, the median, p99 and the most."""
    found = {
        "min": min(values),
        **{f"p{percent}": percentile(values, percent) for percent in (50, 99)},
        "max": max(values),
    }
    return {name: round(value, digits) for name, value in found.items()}


def quartiles(values: Sequence[float], digits: int = 3) -> list[float]:
    """Return the lower quartile, the median and the upper one."""
    found = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * list(values)
    return [round(value, digits) for value in found]


def versions(server: str) -> dict[str, str]:
    """Return the version of all that takes part; `server` is the Redis."""
    found = {"redis-scheduler": __version__, "python": platform.python_version(), "server": server}
    return found | {package: version(package) for package in PACKAGES}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned table, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (header, *rows)
    )


def listing(values: Mapping[str, Any], form: str = "") -> str:
    """Return names with their values, as one text."""
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def mark(wanted: str, found: float, is_met: bool) -> dict[str, Any]:
    """Return a mark and whether it is met: one of the list `marks` of what is published."""
    return {"wanted": wanted, "found": found, "met": is_met}


def whole(checks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checks. Raises SystemExit unless every task arrived, and once: no figure of anything else is kept."""
    wrong = {name: count for name, count in checks.items() if name in ("missing", "duplicates", "unknown") and count}
    if wrong:
        raise SystemExit(f"not every task arrived once: {wrong}")
    return dict(checks)


def publish(document: Mapping[str, Any], output: Path) -> None:
    """Print the marks and where the figures were taken, and write all of it as JSON."""
    machine, versions = document["machine"], document["versions"]
    print()
    for one in document.get("marks", ()):
        print(f"mark      {one['wanted']}: {one['found']:g}, {'met' if one['met'] else 'missed'}")
    print(f"machine   {machine['processor']}, {machine['cores']} cores, {machine['system']}")
    print(f"          {machine['busy_before_percent']:.0f} % busy before the start, load {machine['load_before']}")
    others = machine["busy_by_others_percent"]
    print(
        f"          {others:.1f} % busy by others during the run, {machine['steal_percent']:.1f} % stolen; "
        f"commit {document['commit'] or 'unknown'}"
    )
    if others > OTHERS_PERCENT:
        print(f"warning   others took more than {OTHERS_PERCENT} % of all cores: run it again when the machine is idle")
    print(f"versions  {listing({name: one for name, one in versions.items() if isinstance(one, str)})}")
    for name, own in versions.items():
        if not isinstance(own, str):
            print(f"          {name}: {listing(own)}")
    if document["note"]:
        print(f"note      {document['note']}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written   {output}", file=sys.stderr)
