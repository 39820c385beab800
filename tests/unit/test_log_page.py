"""docs/howto/logs.md has every event of the log, with its fields."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import redis_scheduler
from redis_scheduler.engine.breaker_lines import _EVENTS
from redis_scheduler.store.journal import Note
from redis_scheduler.task.retry import Transition

HOUSE = Path(redis_scheduler.__file__).parent
PAGE = Path(__file__).parents[2] / "docs/howto/logs.md"
LEVELS = ("debug", "info", "warning", "error", "exception", "fault", "critical")
DECIDED = {one.value for one in (Transition.RETRY, Transition.DEFER, Transition.BURY, Transition.EXPIRE)}
FIELDS_OF_ERRORS = {"error", "traceback"}


def events_in_code() -> dict[str, set[str]]:
    """The fields of each event that a call spells out."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in HOUSE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            is_logged = node.func.attr in LEVELS and ast.unparse(node.func.value) == "logger"
            if is_logged and isinstance(node.args[0], ast.Constant):
                event = str(node.args[0].value)
                found[event] |= {word.arg for word in node.keywords if word.arg}
                found[event] |= FIELDS_OF_ERRORS if node.func.attr in LEVELS[-3:] else set()
    return found


def events_on_the_page() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*?) \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len({event for event, _ in rows})
    return {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}


def test_the_page_has_every_event() -> None:
    breakers = {event for _, event in _EVENTS.values()}
    assert events_on_the_page().keys() == events_in_code().keys() | DECIDED | breakers


def test_the_page_has_every_field_that_a_call_names() -> None:
    page = events_on_the_page()
    missing = {event: fields - page[event] for event, fields in events_in_code().items() if fields - page[event]}
    assert missing == {}
    assert page["change"] == set(Note.__struct_fields__)
