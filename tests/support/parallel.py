"""What lets several pytest processes run the suite side by side: `pytest --numprocesses=auto`.

Each has its own servers and folders. A test with the marker `alone` measures what others would disturb:
it runs when no other does, before all the rest. Only units, which one process takes (both_ends.py), run beside one with the
marker `quiet`.
"""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

MOST_PROCESSES = 10

FIRST_S = 120
"""How long the others let those first that want to be alone: one may have died on its way."""

first_count = 0
"""How many tests want to be alone, in all processes: the others wait until these have begun."""


def process_count() -> int:
    """Return how many processes `auto` is: six for two cores, since most tests wait more than half of their time."""
    return min(MOST_PROCESSES, (os.cpu_count() or 1) * 3)


def is_one_of_many(config: pytest.Config) -> bool:
    """Whether this process runs a share of the tests."""
    return hasattr(config, "workerinput")


@contextmanager
def rooms(config: pytest.Config, *names: str, alone: bool) -> Generator[None]:
    """Run a test in this block, in rooms beside the tests of other processes, or alone there."""
    if not is_one_of_many(config):
        names = ()
    folder = Path(config.option.basetemp or "").parent
    with ExitStack() as held:
        if names == ("others",) and not alone:
            _let_first(folder / "first")
        for name in names:
            # Who wants to be alone keeps the door, so that no more come in while those inside finish.
            door = held.enter_context((folder / f"door of {name}").open("a"))
            fcntl.flock(door, fcntl.LOCK_EX)
            if alone and name == "others":
                with (folder / "first").open("a") as at_the_door:
                    at_the_door.write(".")
            inside = held.enter_context((folder / name).open("a"))
            fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            if not alone:
                fcntl.flock(door, fcntl.LOCK_UN)
        yield


def _let_first(at_the_door: Path) -> None:
    """Wait until all that want to be alone have come to the door: who was let in before would keep them and all others waiting."""
    global first_count
    until = time.monotonic() + FIRST_S
    while first_count and time.monotonic() < until:
        if at_the_door.exists() and at_the_door.stat().st_size >= first_count:
            break
        time.sleep(0.05)
    first_count = 0
