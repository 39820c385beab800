"""What lets several pytest processes run the suite side by side: `pytest --numprocesses=auto`.

Each has its own servers and folders. A test with the marker `alone` measures what others would disturb:
it runs when no other does, before all the rest.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

MOST_PROCESSES = 10


def process_count() -> int:
    """Return how many processes `auto` is: five for two cores, since most tests wait more than half of their time."""
    return min(MOST_PROCESSES, (os.cpu_count() or 1) * 5 // 2)


def is_one_of_many(config: pytest.Config) -> bool:
    """Whether this process runs a share of the tests."""
    return hasattr(config, "workerinput")


@contextmanager
def room(config: pytest.Config, alone: bool) -> Generator[None]:
    """Run a test in this block beside those of the other processes, or alone."""
    with ExitStack() as held:
        if is_one_of_many(config):
            folder = Path(config.option.basetemp).parent
            # Who wants to be alone keeps the door, so that no more come in while those inside finish.
            door = held.enter_context((folder / "door").open("a"))
            fcntl.flock(door, fcntl.LOCK_EX)
            inside = held.enter_context((folder / "room").open("a"))
            fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            if not alone:
                fcntl.flock(door, fcntl.LOCK_UN)
        yield
