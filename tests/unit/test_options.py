"""Options of a task: one more goes its whole way by itself. Another process has one."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.task import options
from redis_scheduler.task.options import FORMATS, NAMES, NONE, RECORD_FORMAT, RULES, Options
from redis_scheduler.task.record import read_record

MODULE = Path(options.__file__)
OPTION = """
    dummy: Annotated[int, Meta(ge=0, le=9, extra={"rule": "must be a whole number from 0 to 9"})] = 0
"""
WORD = """
    word: Annotated[str, Meta(min_length=1, extra={"rule": "must be a text"})] = "none"
"""
WORLD = """
import json, sys, types
from pathlib import Path

import msgspec

source, option = Path(sys.argv[1]).read_text(), sys.argv[2]
behind = "\\n\\n\\nNONE = "  # the class
assert source.count(behind) == 1
source = source.replace(behind, option + behind)
module = types.ModuleType("redis_scheduler.task.options")
sys.modules[module.__name__] = module
exec(compile(source, sys.argv[1], "exec"), vars(module))

from redis_scheduler.api import requests
from tests.support.changes import change_by
from redis_scheduler.api.shown import view_of
from redis_scheduler.api.requests import schedule_request, update_request
from redis_scheduler.errors import InvalidRequest
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.options import format_of, options_of
from redis_scheduler.task.record import read_record, record_tail

def record(text):
    wanted = schedule_request(text.encode())
    return b'{"due":7' + record_tail(wanted.webhook, wanted.ttl, None, bytes(wanted.data), options_of(wanted))

def stored(raw):
    return Stored("key", raw, read_record(raw), 0, None, "scheduled", 7)

def shown(raw):
    return json.loads(msgspec.json.encode(view_of(stored(raw)).info))

def patched(raw, text):
    return b'{"due":7' + change_by(stored(raw), text.encode()).tail

def examined_schedule(text, check=schedule_request):
    examined, bodies = requests.examined, []
    requests.examined = lambda body, shape: bodies.append(body) or examined(body, shape)
    try:
        check(text.encode())
    except InvalidRequest:
        pass
    finally:
        requests.examined = examined
    return bool(bodies)

def examined_update(text):
    return examined_schedule(text, update_request)

def dummy(raw):
    return read_record(raw).options.dummy

def needed(text):
    return format_of(options_of(schedule_request(text.encode())))

def parts(raw):
    record = read_record(raw)
    found = msgspec.structs.asdict(record.options)
    return {name: found[name] for name in ("dummy", "word")}, record.data

def refused_schedule(text, check=schedule_request):
    try:
        check(text.encode())
    except InvalidRequest as error:
        return str(error)

def refused_update(text):
    return refused_schedule(text, update_request)

for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""
BODY = '{"webhook":"http://h/","ttl":5,"dummy":%s,"data":{"dummy":1}}'
PLAIN = BODY.replace('"dummy":%s,', "")

Evaluate = Callable[..., Any]
"""Call one of WORLD's functions with a body or record, and give what it returns."""


@contextmanager
def options_with(option: str) -> Iterator[Evaluate]:
    """Calls in a process where Options has this field."""
    command = [sys.executable, "-W", "error", "-c", WORLD, str(MODULE), option]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, answers = process.stdin, process.stdout

        def evaluate(function: str, *arguments: str | bytes) -> Any:
            to.write(f"{function}(*{arguments!r})\n")
            return ast.literal_eval(answers.readline())

        yield evaluate
        to.close()


@pytest.fixture(scope="module")
def with_dummy() -> Iterator[Evaluate]:
    with options_with(OPTION) as evaluate:
        yield evaluate


@pytest.fixture(scope="module")
def with_two() -> Iterator[Evaluate]:
    with options_with(OPTION + WORD) as evaluate:
        yield evaluate


def test_an_option_goes_from_the_body_to_the_record_and_to_the_view(with_dummy: Evaluate) -> None:
    record = with_dummy("record", BODY % 3)
    assert record == b'{"due":7,"head":40,"webhook":"http://h/","ttl":5,"dummy":3,"data":{"dummy":1}}'
    assert with_dummy("dummy", record) == 3
    assert with_dummy("shown", record)["dummy"] == 3


@pytest.mark.parametrize("body", [PLAIN, BODY % 0], ids=["absent", "its default"])
def test_a_task_without_the_option_is_as_before(with_dummy: Evaluate, body: str) -> None:
    record = with_dummy("record", body)
    assert record == b'{"due":7,"webhook":"http://h/","ttl":5,"data":{"dummy":1}}'
    assert with_dummy("dummy", record) == 0
    assert " ".join(with_dummy("shown", record)) == "key ttl retry webhook expires state due type has_data"


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ('{"dummy":4}', 4),
        ('{"ttl":5}', 3),
        ('{"dummy":null}', None),
        ('{"dummy":0}', None),
        ('{"dummy":4,"data":{"dummy":1}}', 4),
    ],
)
def test_a_change_sets_an_option_keeps_it_or_gives_it_its_default_again(
    with_dummy: Evaluate, change: str, left: int | None
) -> None:
    changed = with_dummy("patched", with_dummy("record", BODY % 3), change)
    assert changed == with_dummy("record", PLAIN if left is None else BODY % left)


@pytest.mark.parametrize("refusal", ["refused_schedule", "refused_update"])
@pytest.mark.parametrize("value", ["10", "-1", '"3"', "1.5", "[3]", "{}"])
def test_a_value_that_breaks_the_rule_is_named_with_the_rule(with_dummy: Evaluate, refusal: str, value: str) -> None:
    assert with_dummy(refusal, BODY % value) == f"dummy: must be a whole number from 0 to 9, got {value}"


def test_a_schedule_takes_no_null_for_an_option_and_nothing_takes_it_twice(with_dummy: Evaluate) -> None:
    assert with_dummy("refused_schedule", BODY % "null") == "dummy: must be a whole number from 0 to 9, got null"
    for refusal in ("refused_schedule", "refused_update"):
        assert with_dummy(refusal, BODY % '3,"dummy":3') == "dummy: is given twice, got 3 and 3"


def test_a_body_that_changes_nothing_is_told_the_option_too(with_dummy: Evaluate) -> None:
    assert (
        with_dummy("refused_update", "{}")
        == "The body names nothing to change: give webhook, ttl, at, data, body, body_base64, "
        + ", ".join(NAMES)
        + " or dummy"
    )


@pytest.mark.parametrize("member", ['"dummy":3,', '"word":"a",', '"dummy":3,"word":"a",', ""])
@pytest.mark.parametrize("examined", ["examined_schedule", "examined_update"])
def test_a_body_with_options_needs_no_diagnosis(with_two: Evaluate, examined: str, member: str) -> None:
    body = PLAIN.replace('"data"', f'{member}"data"')
    assert not with_two(examined, body)
    for option in filter(None, member.split(",")):
        assert with_two(examined, body.replace('"data"', f'{option},"data"'))


@pytest.mark.parametrize("text", [',"data":', '","data":1', '"}', '\\\\",\\"data\\":{', "ü" * 50])
@pytest.mark.parametrize("data", ["null", '{"data":1,"x":",\\"data\\":"}', '"}"'])
def test_nothing_in_an_option_is_taken_for_the_data(with_two: Evaluate, text: str, data: str) -> None:
    word = json.dumps(text, ensure_ascii=False)
    record = with_two("record", f'{{"webhook":"http://h/","ttl":5,"word":{word},"data":{data}}}')
    assert with_two("parts", record) == ({"dummy": 0, "word": text}, data.encode())


def test_who_does_not_know_the_option_leaves_its_task_to_who_does(with_dummy: Evaluate) -> None:
    assert read_record(with_dummy("record", BODY % 3)).unknown == "dummy"


def test_a_hint_for_a_name_that_is_an_option_is_given_no_more(with_dummy: Evaluate) -> None:
    body = PLAIN.replace("data", "CONCURRENCY")
    assert "setting of the service" in with_dummy("refused_schedule", body)
    with options_with(OPTION.replace("dummy", "concurrency")) as evaluate:
        refused = evaluate("refused_schedule", body)
    assert refused.startswith(
        "CONCURRENCY: is an unknown field; it is written `concurrency`; known: webhook, ttl, at, data, "
    )


def test_each_option_has_a_default_a_rule_and_a_record_format() -> None:
    assert Options() == NONE
    assert tuple(RULES) == tuple(FORMATS) == NAMES
    assert set(FORMATS.values()) <= set(range(2, RECORD_FORMAT + 1))


def test_a_worker_must_know_the_newest_option_that_a_task_has() -> None:
    newest = WORD.replace('"must be a text"', '"must be a text", "format": 3')
    with options_with(OPTION + newest) as evaluate:
        for member, needed in (("", 1), ('"dummy":0,', 1), ('"dummy":3,', 2), ('"dummy":3,"word":"a",', 3)):
            assert evaluate("needed", PLAIN.replace('"data"', f'{member}"data"')) == needed
