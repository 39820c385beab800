"""The rooms of the house: what each says of itself, and what it does without. Who imports whom is `make imports`."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import redis_scheduler

HOUSE = Path(redis_scheduler.__file__).parent
ROOMS = ["api", "delivery", "engine", "metrics", "process", "store", "task", "ui"]
LINES_MOST = 15
"""Of what a room says of itself: one look."""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_who_may_import_it(room: str) -> None:
    path = HOUSE / room / "__init__.py"
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert 0 < len(path.read_text().splitlines()) <= LINES_MOST
    assert "\nIn: " in text
    assert " Out: " in text
    assert " import it" in text or " imports this room" in text or " import this one" in text


def test_each_file_says_in_its_first_line_what_it_is_for() -> None:
    first_lines = {path: path.read_text().partition("\n")[0] for path in HOUSE.rglob("*.py")}
    assert [path for path, line in first_lines.items() if not re.match(r'"""[A-Z`/]\S* .{12,}', line)] == []


def test_the_house_has_no_other_rooms() -> None:
    assert sorted(path.parent.name for path in HOUSE.glob("*/__init__.py")) == ROOMS


@pytest.mark.parametrize(
    "module", ["task.retry", "task.record", "delivery.attempt", "settings", "cli", "process.health"]
)
def test_what_knows_no_redis_does_not_load_its_client(module: str) -> None:
    script = (
        f"import sys, redis_scheduler.{module}; print([name for name in ('redis', 'hiredis') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("module", ["task.retry", "task.record", "task.claim", "task.key", "task.timing"])
def test_what_a_task_is_loads_nothing_that_waits_or_is_connected(module: str) -> None:
    names = "('asyncio', 'socket', 'aiohttp', 'starlette')"
    script = f"import sys, redis_scheduler.{module}; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
