"""ARCHITECTURE.md and docs/redis.md are maps of what there is: each name, file, script, key and state there exists."""

import ast
import re
from functools import cache
from pathlib import Path

import redis_scheduler
from redis_scheduler.store.keys import Keys
from redis_scheduler.task.record import record_tail
from tests.scripts import states
from tests.unit.test_documents import section, text_of

HOUSE = Path(redis_scheduler.__file__).parent
LUA = HOUSE / "store/lua"
MAP, REDIS = "ARCHITECTURE.md", "docs/redis.md"
TEXT = text_of(MAP) + text_of(REDIS)
LINES_MOST = 200
TAG = "{rs:0}"


@cache
def names_in(file: str) -> set[str]:
    """The classes, functions, constants, methods and attributes of a module, as `name` and `Class.name`."""
    found: set[str] = set()

    def add(owner: str, body: list[ast.stmt]) -> None:
        for node in body:
            match node:
                case ast.ClassDef(name=name):
                    found.add(owner + name)
                    add(f"{owner}{name}.", node.body)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found.add(owner + name)
                case ast.Assign(targets=targets):
                    found.update(owner + target.id for target in targets if isinstance(target, ast.Name))
                case ast.AnnAssign(target=ast.Name(id=name)):
                    found.add(owner + name)

    add("", ast.parse((HOUSE / file).read_text()).body)
    return found


def rows(document: str, title: str) -> list[list[str]]:
    """The cells of a section's table, less its head."""
    lines = [line for line in section(document, title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_it_is_a_map_and_no_book() -> None:
    assert len(text_of(MAP).splitlines()) <= LINES_MOST


def test_each_name_that_it_tells_of_stands_in_its_file() -> None:
    named = re.findall(r"`([\w/]+\.py): ([\w.]+)`", TEXT)
    assert len(named) > 30
    assert [f"{file}: {name}" for file, name in named if name not in names_in(file)] == []


def test_each_method_that_it_tells_of_without_a_file_is_one_of_a_file_told_of_before() -> None:
    for line in TEXT.splitlines():
        files = re.findall(r"`([\w/]+\.py): ", line)
        for name in re.findall(r"`([A-Z]\w+\.\w+)`", line):
            assert any(name in names_in(file) for file in files), name


def test_each_file_and_script_that_it_tells_of_is_there() -> None:
    for name in re.findall(r"`([\w/]+\.py)", TEXT):
        assert (HOUSE / name).is_file(), name
    for name in re.findall(r"`(\w+\.lua)`", TEXT):
        assert (LUA / name).is_file(), name
    for name in re.findall(r"\b(tests/[\w/]+\.py)", TEXT):
        assert (HOUSE.parents[1] / name).is_file(), name


def test_its_rooms_are_the_rooms() -> None:
    assert {row[0].strip("`") for row in rows(MAP, "Rooms")} == {
        path.parent.name for path in HOUSE.glob("*/__init__.py")
    }


def test_its_table_of_scripts_has_each_script() -> None:
    named = [name for row in rows(REDIS, "Scripts") for name in row[0].split(", ")]
    assert sorted(named) == sorted(path.stem for path in LUA.glob("*.lua"))


def attribute_of_keys() -> dict[str, str]:
    """The attribute of Keys, which headers of scripts name too, by the name in the table."""
    keys = Keys(TAG)
    attributes = {name: getattr(keys, name) for name in Keys.__slots__ if name not in ("tag", "shard")}
    attributes |= {"type_index": keys.type_index("<name>"), "writer": keys.writer("<id>", "<verb>")}
    attributes["operation"] = keys.operation("<id>")
    attributes |= {"token_rate": keys.token_rate("<id>"), "token_coming": keys.token_coming("<id>")}
    attributes["segment"] = f"{TAG}:results:<n>"
    attributes |= {kind: f"{TAG}:history:{kind}:<n>" for kind in ("minute", "hour")}
    return {name.removeprefix(f"{TAG}:"): attribute for attribute, name in attributes.items()}


def scripts_of_keys() -> dict[str, set[str]]:
    """The scripts that the table names for each key, by its attribute."""
    cells = {row[0].strip("`"): row[3] for row in rows(REDIS, "Keys")}
    stems, attribute_of = {path.stem for path in LUA.glob("*.lua")}, attribute_of_keys()
    assert cells.keys() == attribute_of.keys()
    words = {
        key: re.findall(r"\w+", cells.get(cell.removeprefix("as ").strip("`"), cell)) for key, cell in cells.items()
    }
    return {attribute_of[key]: stems & set(named) for key, named in words.items()}


def keys_of(script: str) -> set[str]:
    """The names in the script's header of KEYS."""
    header = (LUA / f"{script}.lua").read_text().partition("\n-- ARGV")[0].partition("\n-- KEYS")[2]
    return set(re.findall(r"\w+", header))


def test_its_table_of_keys_has_each_key_and_scripts_that_are_given_it() -> None:
    for key, scripts in scripts_of_keys().items():
        assert [script for script in scripts if key not in keys_of(script)] == [], key


READ_ONLY = {
    "acknowledge": {"pause_all", "sweep", "tasks"},
    "audit": {"tasks"},
    "admit": {"limits", "pause_all"},
    "balance": {"awaiting", "due", "held", "paused", "queue"},
    "claim": {"entries", "failures", "tasks"},
    "clean": {"tasks"},
    "entry": {"queue"},
    "fire": {"dead"},
    "heads": {"tasks"},
    "hold": {"failures"},
    "join": {"due", "failures", "held", "queue", "tasks"},
    "hosts": {"breakers", "held", "limits", "lines", "permits", "sweep"},
    "judge": {"held", "lines"},
    "ledger": {
        "awaiting",
        "breakers",
        "counters",
        "dead",
        "due",
        "failures",
        "held",
        "pause_all",
        "paused",
        "queue",
        "tasks",
    },
    "live": {"workers"},
    "load": {"tasks"},
    "look": {"due", "pause_all"},
    "pause": {"awaiting", "dead", "failures", "tasks"},
    "permit": {"held", "limits", "queue"},
    "promote": {"failures", "pause_all", "tasks"},
    "promote_in_turn": {"failures", "pause_all", "tasks"},
    "recall": {"results", "segment"},
    "read": {"awaiting", "dead", "due", "entries", "failures", "held", "pause_all", "paused", "queue", "tasks"},
    "release": {"entries", "failures"},
    "resume": {"awaiting", "dead", "entries", "failures", "held", "queue", "tasks"},
    "retry": {"entries"},
    "rewind": {"tasks"},
    "run": {"awaiting", "dead", "held", "tasks"},
    "schedule": {"held"},
    "schedule_once": {"held"},
    "shift": {"failures"},
    "token_find": {"tokens"},
    "trim": {"remains"},
    "update": {"dead"},
}
"""The keys that a script is given and does not write. `check` writes none."""


def test_its_table_of_keys_names_each_script_that_writes_a_key() -> None:
    named = scripts_of_keys()
    unnamed: dict[str, set[str]] = {}
    for script in {path.stem for path in LUA.glob("*.lua")} - {"check"}:
        missing = {key for key in named.keys() & keys_of(script) if script not in named[key]}
        if missing:
            unnamed[script] = missing
    assert unnamed == READ_ONLY


def test_its_states_are_those_that_the_scripts_are_tried_in() -> None:
    tried = {state.place for state in vars(states).values() if isinstance(state, states.State)}
    tried -= {"missing", states.IN_TURN.place}  # held, in another line
    named = {"due" if row[0] == "scheduled" else row[0] for row in rows(REDIS, "States")}
    assert named == tried | {"lost"}  # which no script brings about


def test_a_record_looks_as_it_says() -> None:
    tail = record_tail("http://localhost/", 1, "mail", b"1").decode()
    (shown,) = re.findall(r"`(\{\"due\".*?\})`", TEXT)
    assert re.findall(r'"(\w+)":', shown) == ["due", *re.findall(r'"(\w+)":', tail)]


def test_its_glossary_explains_each_word_once() -> None:
    words = [word for row in rows(MAP, "Glossary") for word in row[0].split(", ")]
    assert len(words) == len(set(words)) > 20
