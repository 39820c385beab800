"""The machine that figures are taken on: what it is, how busy others keep it, and which commit runs there."""

import os
import platform
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[1]
CODE = ("src", "benchmarks", ":!benchmarks/results")
"""What a benchmark runs: the results are tracked too, and each run writes its own anew."""


def describe() -> dict[str, Any]:
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


@dataclass(frozen=True)
class Usage:
    """Seconds of CPU up to a moment: those of all cores, and those that this process and its descendants took.

    A descendant counts once it was waited for, so take this when all have ended. One that its own parent did not wait
    for (a killed server's child that writes its file, say) is not in it, nor is a Redis that was not started here.
    """

    all_s: float
    busy_s: float
    steal_s: float
    own_s: float

    @classmethod
    def now(cls) -> Self:
        """Return what was used until now."""
        times = psutil.cpu_times()._asdict()
        # A guest's time is also its host's.
        all_s = sum(seconds for name, seconds in times.items() if not name.startswith("guest"))
        steal_s = times.get("steal", 0.0)
        busy_s = all_s - times["idle"] - times.get("iowait", 0.0) - steal_s
        own_s = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return cls(all_s, busy_s, steal_s, own_s)

    def since(self, before: Self) -> dict[str, float]:
        """Return what others took meanwhile, and what the hypervisor did not give, in percent of all cores."""
        all_s = self.all_s - before.all_s
        # The two are counted in different ways: with nobody else, the rest may come out below zero.
        others_s = max(0.0, self.busy_s - before.busy_s - (self.own_s - before.own_s))
        return {
            "busy_by_others_percent": round(100 * others_s / all_s, 1),
            "steal_percent": round(100 * (self.steal_s - before.steal_s) / all_s, 1),
        }


def commit() -> str | None:
    """Return the commit that is checked out, with `-dirty` if the code differs from it; None without git or
    repository."""
    if not (ROOT / ".git").exists():
        return None
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("diff", "--name-only", "HEAD", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
