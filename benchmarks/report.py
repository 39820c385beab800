"""What a benchmark says in the end: its figures, where they were taken, as a table and as JSON."""

import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from redis_scheduler import __version__

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("aiohttp", "hiredis", "httptools", "msgspec", "redis", "starlette", "uvicorn", "uvloop")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def machine() -> dict[str, Any]:
    """Describe the machine, and how busy others keep it: call this before anything is started."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "busy_before_percent": psutil.cpu_percent(interval=0.5),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


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


def mark(wanted: str, found: float, is_met: bool) -> dict[str, Any]:
    """Return a mark and whether it is met: one of the list `marks` of what is published."""
    return {"wanted": wanted, "found": found, "met": is_met}


def whole(checks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checks. Raises SystemExit unless every task arrived, and once: no figure of anything else is kept."""
    wrong = {name: count for name, count in checks.items() if name in ("missing", "duplicates", "unknown") and count}
    if wrong:
        raise SystemExit(f"not every task arrived once: {wrong}")
    return dict(checks)


def publish(name: str, content: Mapping[str, Any], note: str, output: Path) -> None:
    """Print where the figures were taken, and write all of it as JSON."""
    machine, versions = content["machine"], content["versions"]
    print()
    for one in content.get("marks", ()):
        print(f"mark      {one['wanted']}: {one['found']:g}, {'met' if one['met'] else 'missed'}")
    print(f"machine   {machine['processor']}, {machine['cores']} cores, {machine['system']}")
    print(f"          {machine['busy_before_percent']:.0f} % busy before the start, load {machine['load_before']}")
    print(f"versions  {', '.join(f'{package} {number}' for package, number in versions.items())}")
    if note:
        print(f"note      {note}")
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"benchmark": name, "taken": taken, "note": note, **content}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written   {output}", file=sys.stderr)
