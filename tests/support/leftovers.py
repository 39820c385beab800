"""Ends what a run of the tests leaves behind: servers and services that work in its folder, or keep temporary files
there.

A run that is killed cannot do it by itself. So a process of its own waits for the end of the run, however it comes.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROUNDS = 20
"""Looks at most: what is ended may have been starting another process."""


@contextlib.contextmanager
def ended_with_this_process(folder: Path) -> Iterator[None]:
    """End what is left in the folder at the end of the block, or when this process has ended."""
    # Its standard input is a pipe from this process alone, which the system closes with it.
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield


def _is_left(process: psutil.Process, folder: str) -> bool:
    with contextlib.suppress(psutil.Error):
        # Redis writes its title over its variables, but works in its folder.
        places = (process.cwd(), process.environ().get("TMPDIR", ""))
        return process.pid != os.getpid() and any(f"{place}/".startswith(f"{folder}/") for place in places)
    return False


if __name__ == "__main__":
    sys.stdin.read()
    for _ in range(ROUNDS):
        left = [process for process in psutil.process_iter() if _is_left(process, sys.argv[1])]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not left:
            break
        time.sleep(0.1)
