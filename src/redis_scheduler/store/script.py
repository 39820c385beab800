"""Lua scripts of the package, as they are sent to Redis, and how a call's values get to the names in a script's header.

A header declares each name once: `-- KEYS`, `-- ARGV`, and `-- each` for the values of every task of the call.

    -- KEYS   writer tasks due type_index...
    -- ARGV   batch# expiry_s types...
    -- each   key delay_ms (from now on) type_number
    -- then   item# key

Parentheses explain. `#` makes a number, as a comparison needs; arithmetic and commands take a text. A name of Keys is
that key; the caller gives any other key. `types...` and `type_index...` are types, labels and tokens of the call, and
their indexes, which a row names by `type_number`: '0' none, '3' one, '3,5' several. `segment...` are the segments of
summaries, and `segment_of(number)` is one. Any other `...` is a list up to the end of ARGV. The line `--- names`
becomes the locals of these names, with `first`, where rows or lists begin, and `width`, that of a row; `--- row`
becomes the locals of the row that begins `at`, or of the columns it names.

`then` are rows of another kind behind those of `each`. The binder counts them for the argument `then_count`. `last` is
where the first kind ends, `then_width` the width of the second, and `--- then` becomes its locals. A type stands last
in them.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from redis_scheduler.store.keys import SEGMENTS, Keys
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import NONE

Argument = str | bytes | int | float
Call = tuple["Script", list[str], list[Argument]]
"""A script with KEYS and ARGV, as they are sent."""

NO_EXPRESSIONS: Mapping[str, str] = MappingProxyType({})

_OWN_NAMES = frozenset(
    (
        "keys",
        "row",
        "rows",
        "thens",
        "script",
        "redis_keys",
        "arguments",
        "len",
        "map",
        "names",
        "numbers_of",
        "listing_of",
        "NONE",
    )
)
"""What the function that binds uses itself: no name of a header."""

_LUA = resources.files("redis_scheduler.store") / "lua"
_INCLUDE = re.compile(r"^--- include (.*)$", re.MULTILINE)
_NAMES = re.compile(r"^--- names$", re.MULTILINE)
_ROW = re.compile(r"^( *)--- (row|then)\b(.*)$", re.MULTILINE)


_RING = re.compile(r"redis\.pcall\('PUBLISH', bell, '(\w*)'\)")
_RING_IN_CLUSTER = r"if type(redis.pcall('SPUBLISH', bell, '\1')) == 'table' then redis.pcall('PUBLISH', bell, '\1') end  -- before 7.0"
"""In a cluster PUBLISH goes to every node, and SPUBLISH only to those that have the slot."""


def _sha(text: str) -> str:
    # SHA-1 is what EVALSHA names scripts by.
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class InCluster(NamedTuple):
    """A script that rings the bell, as it is sent to a cluster."""

    text: str
    sha: str


class Script:
    """A Lua script of the package. Its `---` lines are replaced by what they stand for.

    `each` and `then` give, for a column that is not simply `row.<name>`, the expression of `row` that it is.
    For `type_number`, and what ends so, it is the expression of the names that the task is listed under (listing.py),
    `row.listed` if none is given (or `row.old_listed`, of those that it was listed under).
    """

    def __init__(
        self, name: str, each: Mapping[str, str] = NO_EXPRESSIONS, then: Mapping[str, str] = NO_EXPRESSIONS
    ) -> None:
        self.name = name
        source = _read(f"{name}.lua")
        self.header = header = Header(source)
        text = source
        while _INCLUDE.search(text):  # what is included may include more
            text = _INCLUDE.sub(_included, text)
        text = _NAMES.sub(lambda _: header.locals(), text)
        self.text = _ROW.sub(lambda match: match[1] + header.row(match[2], match[3].split()), text)
        self.sha = _sha(self.text)
        ringing = _RING.sub(_RING_IN_CLUSTER, self.text)
        self.in_cluster: Script | InCluster = self if ringing == self.text else InCluster(ringing, _sha(ringing))
        """The same, as it is sent to a cluster."""
        self.bind = _binder(self, {"row": each, "then": then})
        """Takes Keys, the rows of `each` and of `then` if the header has them, and all else by its name; returns a
        call. Raises TypeError for a name that is missing, or that the header does not have, and AttributeError for a
        row without a column."""


def _binder(script: Script, expressions: Mapping[str, Mapping[str, str]]) -> Callable[..., Call]:
    """Return a script's `bind`: a function that is compiled from the header, as the Lua side is.

    Every request waits for one. So it must be as fast as lists that are written by hand: 0.7 us for a task, 0.06 us
    for each further one.
    """
    name, header = script.name, script.header
    keys = [key if key in header.given else f"keys.{key}" for key in header.keys]
    kinds = [kind for kind, columns in header.rows.items() if columns]
    rows = {f"{kind}s": _values(script, kind, expressions[kind]) for kind in kinds}
    sealed = {f"{kind}s": _values(script, kind, _sealed(script, kind, expressions[kind])) for kind in kinds}
    counted = {"then_count": "len(thens)"}
    named = [*header.given, *(name for name in header.arguments if name not in counted), *header.lists]
    has_types = header.is_typed and "type_number" not in header.columns
    if has_types:
        named.append("types")
    if not _OWN_NAMES.isdisjoint(named):
        raise ValueError(f"{name}: the header has a name of the binder's own: {_OWN_NAMES.intersection(named)}")
    lines = [
        f"def {name}({', '.join(['keys', *rows, *(['*'] if named else []), *named])}):",
        f"    redis_keys = [{', '.join(keys)}]",
        f"    arguments = [{', '.join(counted.get(name, name) for name in header.arguments)}]",
    ]
    if header.is_typed and not has_types:
        lines.append("    types = {}")
    for kind, values in rows.items():
        loops = [f"    for row in {kind}: arguments += ({each},)" for each in (values, sealed[kind])]
        is_sealed = values != sealed[kind]
        lines += (
            ["    if keys.vault is None:", f"    {loops[0]}", "    else:", f"    {loops[1]}"]
            if is_sealed
            else loops[:1]
        )
    if header.has_segments:
        lines.insert(2, "    redis_keys += keys.segments")
    if header.is_typed:
        at = len(header.arguments)
        lines.append(f"    arguments[{at}:{at}] = (len(types), *types)")
        lines.append("    if types: redis_keys += map(keys.type_index, types)")
    lines += [f"    arguments += {listed}" for listed in header.lists]
    lines.append("    return script, redis_keys, arguments")
    scope: dict[str, Any] = {"script": script, "numbers_of": _numbers_of, "NONE": NONE, "listing_of": listing_of}
    exec("\n".join(lines), scope)  # noqa: S102 - only texts of this package
    return cast(Callable[..., Call], scope[name])


def _sealed(script: Script, kind: str, expressions: Mapping[str, str]) -> dict[str, str]:
    """Return the expressions of a row whose content is sealed (vault.py): its records and failures."""
    found = dict(expressions)
    key, listed = (
        expressions.get(column, f"row.{name}") for column, name in (("key", "key"), ("type_number", "listed"))
    )
    for column in script.header.rows[kind]:
        value = expressions.get(column, f"row.{column}")
        if column in ("tail", "other_tail"):
            found[column] = f"keys.vault.seal_tail({key}, {value}, {listed})"
        elif column == "failure":
            found[column] = f"keys.vault.seal_failure({key}, {value})"
    return found


def _values(script: Script, kind: str, expressions: Mapping[str, str]) -> str:
    """Return the expressions of a row's values, in the order of its columns."""
    found = {column: f"row.{column}" for column in script.header.rows[kind]}
    if not found.keys() >= expressions.keys():
        raise ValueError(f"{script.name}: expected columns of {list(found)}")
    found.update(expressions)
    for column in (name for name in found if name.endswith("type_number")):
        names = expressions.get(column, f"row.{column.replace('type_number', 'listed')}")
        one = "types.setdefault(names, len(types) + 1) if names.__class__ is str else numbers_of(types, names)"
        found[column] = f"0 if (names := {names}) is None else {one}"
    return ", ".join(found.values())


def _numbers_of(types: dict[str, int], names: Sequence[str]) -> str:
    return ",".join(str(types.setdefault(name, len(types) + 1)) for name in names)


def listed_as(record: str) -> str:
    """Return the expression of the names under which the task of a record is listed, which is an expression itself."""
    names = f"listing_of({record}.type, {record}.options, {record}.token)"
    return f"{record}.type if {record}.options is NONE and {record}.token is None else {names}"


def _read(path: str) -> str:
    return (_LUA / path).read_text()


def _included(line: re.Match[str]) -> str:
    return "\n".join(_read(f"include/{part}.lua") for part in line[1].split())


class Header:
    """What the header of a script declares: keys, arguments, lists behind them, and the columns of a row."""

    def __init__(self, source: str) -> None:
        self.keys = self._declared(source, "KEYS")
        arguments = self._declared(source, "ARGV")
        rows = {"row": self._declared(source, "each"), "then": self._declared(source, "then")}
        self.is_typed = "types..." in arguments
        self._numbers = {
            kind: {name[:-1] for name in names if name.endswith("#")} for kind, names in {"": arguments, **rows}.items()
        }
        self.has_segments = "segment..." in self.keys
        self.keys = [name for name in self.keys if not name.endswith("...")]
        self.given = [key for key in self.keys if key not in Keys.__slots__]
        """The keys that the caller gives."""
        self.arguments = [name.rstrip("#") for name in arguments if not name.endswith("...")]
        self.lists = [name[:-3] for name in arguments if name.endswith("...") and name != "types..."]
        self.rows = {kind: [name.rstrip("#") for name in names] for kind, names in rows.items()}

    @staticmethod
    def _declared(source: str, word: str) -> list[str]:
        declared = re.search(rf"^-- {word}   (.*(?:\n--        .*)*)", source, re.MULTILINE)
        return re.sub(r"\([^()]*\)|\n-- ", " ", declared[1]).split() if declared else []

    @property
    def columns(self) -> list[str]:
        """The names in a row of `each`."""
        return self.rows["row"]

    def _value(self, kind: str, name: str, at: str) -> str:
        return f"tonumber(ARGV[{at}])" if name in self._numbers[kind] else f"ARGV[{at}]"

    def locals(self) -> str:
        """Return the Lua that binds the names of KEYS and ARGV."""
        lines = [f"local {', '.join(self.keys)} = unpack(KEYS, 1, {len(self.keys)})"]
        key_count = len(self.keys)
        if self.has_segments:
            lines.append(f"local function segment_of(number) return KEYS[{key_count + 1} + number] end")
            key_count += SEGMENTS
        names, values = (
            list(self.arguments),
            [self._value("", name, str(at)) for at, name in enumerate(self.arguments, 1)],
        )
        first = str(len(names) + 1)
        if self.is_typed:
            names.append("type_count")
            values.append(f"tonumber(ARGV[{first}])")
            before = key_count, len(names)
            lines.append(
                f"local function type_of(number) return KEYS[{before[0]} + number], ARGV[{before[1]} + number] end"
            )
            first = f"{len(names) + 1} + type_count"
        if names:
            lines.insert(1, f"local {', '.join(names)} = {', '.join(values)}")
        if self.rows["then"]:
            width, then_width = len(self.columns), len(self.rows["then"])
            bounds = f"{first}, {width}, #ARGV - {then_width} * then_count, {then_width}"
            lines.append(f"local first, width, last, then_width = {bounds}")
        elif self.columns:
            lines.append(f"local first, width = {first}, {len(self.columns)}")
        elif self.lists:
            lines.append(f"local first = {first}")
        return "\n".join(lines)

    def row(self, kind: str, wanted: Sequence[str]) -> str:
        """Return the Lua that binds the columns of the row that begins `at`, all of them if none is named."""
        places = {name: f"at + {place}" if place else "at" for place, name in enumerate(self.rows[kind])}
        names = list(wanted) or self.rows[kind]
        return f"local {', '.join(names)} = {', '.join(self._value(kind, name, places[name]) for name in names)}"
