"""Scripts and their headers: a call gives values by name, and a name that is wrong is refused before anything is
sent."""

import re
from importlib import resources
from types import SimpleNamespace

import pytest

from redis_scheduler.store.keys import SEGMENTS, Keys
from redis_scheduler.store.script import Script
from redis_scheduler.task.label import index_of

LUA = resources.files("redis_scheduler.store") / "lua"
NAMES = sorted(file.name.removesuffix(".lua") for file in LUA.iterdir() if file.name.endswith(".lua"))
KEYS = Keys("{x}")

LISTS = {
    "load": "{unpack(ARGV, first, first + count - 1)}, {unpack(ARGV, first + count)}",
    **dict.fromkeys(("renew", "recall"), "{unpack(ARGV, first)}"),
    **dict.fromkeys(("heads", "read", "entry", "admit", "join"), "ARGV[at]"),
}
"""How the scripts that are given a list get at it: all else has a name."""


def body(name: str) -> str:
    """A script without its header and comments, and with what it includes behind its names."""
    text = (LUA / f"{name}.lua").read_text()
    for part in ("settled", "forget", "follow_ups"):
        included = (LUA / f"include/{part}.lua").read_text()
        text = re.sub(rf"--- include .*\b{part}\n", included.replace("\\", r"\\"), text)
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("-- "))


LOOPS = (
    "#ARGV - first",
    "for at = first, #ARGV do",
    "for at = first, #ARGV, width do",
    "for at = last + 1, #ARGV, then_width do",
)


def _attribute(column: str) -> str:
    return column.replace("type_number", "listed")


def rows(script: Script) -> list[list[SimpleNamespace]]:
    """One row of each kind that the header has."""
    return [
        [SimpleNamespace(**{_attribute(name): "1" for name in columns})]
        for columns in script.header.rows.values()
        if columns
    ]


def named(script: Script) -> dict[str, str | list[str]]:
    header = script.header
    found: dict[str, str | list[str]] = dict.fromkeys([key for key in header.keys if not hasattr(KEYS, key)], "own")
    found |= {
        key: f"{key}-key"
        for key in header.keys
        if key in ("writer", "operation", "type_index", "minute", "hour", "token_rate", "token_coming", "owned")
    }
    found |= dict.fromkeys([name for name in header.arguments if name != "then_count"], "1") | {
        name: ["1", "2"] for name in header.lists
    }
    if header.is_typed and "type_number" not in header.columns:
        found["types"] = ["mail"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_name_of_a_header_is_used_and_nothing_is_read_by_its_place(name: str) -> None:
    header, text = Script(name).header, body(name)
    assert header.keys
    for declared in (*header.keys, *header.arguments, *header.columns, *header.rows["then"]):
        assert re.search(rf"\b{declared}\b", text), declared
    for line in re.findall(r".*\b(?:KEYS|ARGV)\b.*", text):
        assert any(known in line for known in (*LOOPS, LISTS.get(name, LOOPS[0])))
    assert "---" not in re.sub(r"^-- .*", "", Script(name).text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_gives_each_name_once(name: str) -> None:
    script = Script(name)
    given, each = named(script), rows(script)
    called, keys, arguments = script.bind(KEYS, *each, **given)
    assert called is script
    types = 1 if script.header.is_typed else 0
    assert len(keys) == len(script.header.keys) + types + SEGMENTS * script.header.has_segments
    lists = 2 * len(script.header.lists)
    columns = sum(map(len, script.header.rows.values()))
    assert len(arguments) == len(script.header.arguments) + 2 * types + lists + columns
    wrong = [given | {"other": "1"}]
    for missing in given:
        others = {key: value for key, value in given.items() if key != missing}
        wrong += [others, others | {"other": "1"}]
    for values in wrong:
        with pytest.raises(TypeError, match=name):
            script.bind(KEYS, *each, **values)
    for wrong_rows in [[*each, []], each[1:]] if each else [[[]]]:
        with pytest.raises(TypeError, match=name):
            script.bind(KEYS, *wrong_rows, **given)
    for [row] in each:
        for missing in vars(row):
            others = {key: value for key, value in vars(row).items() if key != missing}
            less = [[SimpleNamespace(**others)] if found == [row] else found for found in each]
            with pytest.raises(AttributeError, match=missing):
                script.bind(KEYS, *less, **given)


@pytest.mark.parametrize("path", [*(f"{name}.lua" for name in NAMES), "include/follow_ups.lua"])
def test_numbers_of_types_and_flags_are_texts_in_all_scripts(path: str) -> None:
    text = (LUA / path).read_text()
    assert not re.search(r"\b(type_number|newly_failed)(#| *[=~<>]=? *[0-9])", text)


def test_a_column_that_the_header_does_not_have_is_refused() -> None:
    for kinds in ({"each": {"other": "1"}}, {"then": {"id": "1"}}, {"each": {"type": "row.kind"}}):
        with pytest.raises(ValueError, match="settle: expected columns"):
            Script("settle", **kinds)


def test_no_name_of_a_header_hides_one_that_the_binder_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    header = "-- KEYS   tasks\n-- ARGV   rows\n"
    monkeypatch.setattr("redis_scheduler.store.script._read", lambda _: header)
    with pytest.raises(ValueError, match="rows"):
        Script("other")


def test_types_are_numbered_once_and_their_indexes_stand_behind_the_other_keys() -> None:
    script = Script(
        "settle",
        {"id": "row[0]", "key": "row[1]", "type_number": "row[2]"},
        {"item": "row[0]", "key": "row[1]", "delay_ms": "row[2]", "tail": "row[3]", "type_number": "row[4]"},
    )
    each = [("1-1", "a", "mail"), ("1-2", "b", None), ("1-3", "c", "bill"), ("1-4", "d", "mail")]
    _, keys, arguments = script.bind(KEYS, each, (), group="g")
    own = ("{x}:queue", "{x}:entries", "{x}:tasks", "{x}:failures", "{x}:counters", "{x}:types", "{x}:due", "{x}:bell")
    assert keys == [*own, "{x}:type:mail", "{x}:type:bill"]
    rows = ["1-1", "a", 1, "1-2", "b", 0, "1-3", "c", 2, "1-4", "d", 1]
    assert arguments == ["g", 0, 2, "mail", "bill", *rows]

    then = [(1, "e", 0, "x", "sms"), (3, "f", 1, "y", "mail")]
    _, keys, arguments = script.bind(KEYS, each, then, group="g")
    assert keys == [*own, "{x}:type:mail", "{x}:type:bill", "{x}:type:sms"]
    assert arguments == ["g", 2, 3, "mail", "bill", "sms", *rows, 1, "e", 0, "x", 3, 3, "f", 1, "y", 1]


def test_names_become_locals() -> None:
    text = Script("settle").text
    assert (
        "local queue, entries, tasks, failures, counters, types, due, bell = unpack(KEYS, 1, 8)\n"
        "local group, then_count, type_count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])\n"
        "local function type_of(number) return KEYS[8 + number], ARGV[3 + number] end\n"
        "local first, width, last, then_width = 4 + type_count, 3, #ARGV - 5 * then_count, 5\n"
    ) in text
    assert "  local id, key, type_number = ARGV[at], ARGV[at + 1], ARGV[at + 2]\n" in text
    assert "  local key, type_number = ARGV[at + 1], ARGV[at + 2]\n" in text
    assert (
        "local tasks, due, queue, entries, failures, dead, dead_bytes, paused, idempotency, idempotency_ends, awaiting, "
        "held, types, bell, counters = unpack(KEYS, 1, 15)\n" in Script("audit").text
    )


def test_a_row_names_each_of_several_indexes() -> None:
    script = Script("settle", {"id": "row[0]", "key": "row[1]", "type_number": "row[2]"})
    order, user = index_of("order=17"), index_of("user=a")
    each = [("1-1", "a", ("mail", order)), ("1-2", "b", order), ("1-3", "c", (user, order)), ("1-4", "d", None)]
    _, keys, arguments = script.bind(KEYS, each, (), group="g")
    assert keys[-3:] == ["{x}:type:mail", "{x}:label:order=17", "{x}:label:user=a"]
    assert arguments[2:] == [3, "mail", order, user, "1-1", "a", "1,2", "1-2", "b", 2, "1-3", "c", "3,2", "1-4", "d", 0]
