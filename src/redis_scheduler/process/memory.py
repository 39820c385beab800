"""How much memory the private Redis may use where MAX_MEMORY is not set."""

import contextlib
from pathlib import Path

import psutil

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says how much a container may have: control groups of version 2, and of version 1."""


def half_of_memory() -> int:
    """Return half of the bytes of memory that this process can have: its container's, or the machine's. The other half
    is for the service, and for what a rewrite of Redis' file copies."""
    most = psutil.virtual_memory().total
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it says `max`
            most = min(most, int(path.read_text()))
    return most // 2
