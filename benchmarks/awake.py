"""Keeps the cores of this machine awake. On a virtual machine an idle core halts, and who wakes it pays for an exit to
the hypervisor: that is a cost of the machine, and not of what is measured.

A process for each core turns at the lowest priority (SCHED_IDLE): it takes only what nobody else wants, and gives way
at once.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TURNS = 100_000
"""Between two looks whether the starter still lives: some milliseconds."""


@contextmanager
def cores() -> Iterator[None]:
    """Keep each core that this process may use awake within the block."""
    turning = [
        subprocess.Popen([sys.executable, __file__, str(core), str(os.getpid())]) for core in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for process in turning:
            process.kill()
        for process in turning:
            process.wait()


def main() -> None:
    """Keep a core awake for as long as the starter lives."""
    core, starter = map(int, sys.argv[1:])
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while os.getppid() == starter:
        for _ in range(TURNS):
            pass


if __name__ == "__main__":
    main()
