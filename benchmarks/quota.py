"""A small share of a core for a process: by a cgroup of its own, of version 1 or 2, which root may make."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTROLLED = ROOT / "cgroup.controllers"
"""Version 2 has it; what it names may be handed on to the cgroups below."""

PARENTS_OF_1 = [ROOT / "cpu", ROOT / "cpu,cpuacct"]


class NoQuota(Exception):
    """No cgroup with a quota can be made here."""


@contextmanager
def held(pid: int, quota_us: int, period_us: int) -> Iterator[None]:
    """Let a process have so many microseconds of CPU in each period, until the end of the block. Raises NoQuota."""
    try:
        parent, limits = _parent(quota_us, period_us)
        folder = parent / f"redis-scheduler-bench-{os.getpid()}-{pid}"
        folder.mkdir()
    except OSError as error:
        raise NoQuota(str(error)) from None
    try:
        try:
            for name, value in limits.items():
                (folder / name).write_text(value)
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise NoQuota(str(error)) from None
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            (parent / "cgroup.procs").write_text(str(pid))
        folder.rmdir()


def _parent(quota_us: int, period_us: int) -> tuple[Path, dict[str, str]]:
    """Return the cgroup in which one is made, and what is written into that."""
    for parent in PARENTS_OF_1:
        if (parent / "cgroup.procs").exists():
            return parent, {
                "cpu.cfs_period_us": str(period_us),
                "cpu.cfs_quota_us": str(quota_us),
                "cpu.shares": "262144",  # the most: what it may have it gets, whatever else runs
            }
    if not CONTROLLED.exists() or "cpu" not in CONTROLLED.read_text().split():
        raise NoQuota("no cgroup here has CPU")
    (ROOT / "cgroup.subtree_control").write_text("+cpu")
    return ROOT, {"cpu.max": f"{quota_us} {period_us}", "cpu.weight": "10000"}
