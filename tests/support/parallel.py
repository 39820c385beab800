"""What lets several pytest processes run the suite side by side: `pytest --numprocesses=auto`.

Each has its own servers and folders. A test with the marker `alone` measures what others would disturb: it runs when no
other does, before all the rest. Beside those with the marker `quiet`, which wait most of the time, run only others with
it, and units, which one process takes then (both_ends.py).
"""

import fcntl
import importlib
import os
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

MOST_PROCESSES = 10

FIRST_S = 120
"""How long the others let those first that want to be alone: one may have died on its way."""

alone_count = quiet_count = 0
"""How many tests have these markers, in all processes. Quiet tests wait for those that are alone, all others for
both."""


def process_count() -> int:
    """Return how many processes `auto` is: seven for two cores, since most tests wait most of their time."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(MOST_PROCESSES, 7 * cores // 2)


def is_one_of_many(config: pytest.Config) -> bool:
    """Whether this process runs a share of the tests."""
    return hasattr(config, "workerinput")


def import_share(config: pytest.Config) -> None:
    """Import this process's share of the test files before they are collected: in a first run most are compiled
    once."""
    if not is_one_of_many(config):
        return
    own: dict[str, Any] = config.workerinput  # type: ignore[attr-defined]  # xdist's
    tests = config.rootpath / "tests"
    given = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    files = {file for path in given for file in (path.rglob("test_*.py") if path.is_dir() else [path])}
    ours = sorted(file for file in files if file.is_relative_to(tests))
    for file in ours[int(own["workerid"].removeprefix("gw")) :: own["workercount"]]:
        # A file is compiled even if its import fails, as it does where the markers of its folder are not known yet. Any
        # other error comes again when the file is collected, and pytest shows it.
        with suppress(Exception, SystemExit, pytest.fail.Exception, pytest.skip.Exception):
            importlib.import_module(".".join(file.relative_to(config.rootpath).with_suffix("").parts))


@contextmanager
def rooms(config: pytest.Config, *names: str, alone: bool = False, quiet: bool = False) -> Generator[None]:
    """Run a test in this block, in rooms beside the tests of other processes, or alone there."""
    if not is_one_of_many(config):
        names = ()
    folder = Path(config.option.basetemp or "").parent
    with ExitStack() as held:
        if names == ("others",) and not alone:
            _let_first(folder / "first", alone_count if quiet else alone_count + quiet_count)
        for name in names:
            # Who wants to be alone keeps the door, so that no more come in while those inside finish.
            door = held.enter_context((folder / f"door of {name}").open("a"))
            fcntl.flock(door, fcntl.LOCK_EX)
            if alone and name == "others":
                _count(folder / "first")
            inside = held.enter_context((folder / name).open("a"))
            fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            if not alone:
                fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            if names and quiet:
                _count(folder / "first")


def _count(first: Path) -> None:
    with first.open("a") as marks:
        marks.write(".")


def _let_first(first: Path, count: int) -> None:
    """Wait until all that want to be alone have come to the door, and the quiet ones have ended: who was let in before
    would disturb these, or keep those and all others waiting."""
    until = time.monotonic() + FIRST_S
    while count and time.monotonic() < until:
        if first.exists() and first.stat().st_size >= count:
            break
        time.sleep(0.05)
