"""Lua scripts of the package, as they are sent to Redis, and how a call's values get to the names in a script's header.

A header declares each name once: `-- KEYS`, `-- ARGV`, and `-- each` for the values of every task of the call.

    -- KEYS   writer tasks due type_index...
    -- ARGV   batch# expiry_s types...
    -- each   key delay_ms (from now on) type_number#
    -- then   item# key

Parentheses explain. `#` makes a number. A name of Keys is that key; the caller gives any other key. `types...` and
`type_index...` are the types of the call and their indexes, which a row names by `type_number` (0: the default). Any
other `...` is a list up to the end of ARGV. The line `--- names` becomes the locals of these names, with `first`, where
rows or lists begin, and `width`, that of a row; `--- row` becomes the locals of the row that begins `at`, or of the
columns it names.

`then` are `then_count` rows of another kind behind those of `each`: `last` is where the first kind ends, `then_width`
the width of the second, and `--- then` becomes its locals. A type stands last in them.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from itertools import chain
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any, cast

from redis_scheduler.store.keys import Keys

Argument = str | bytes | int | float
Column = Sequence[Argument | None]

_LUA = resources.files("redis_scheduler.store") / "lua"
_INCLUDE = re.compile(r"^--- include (.*)$", re.MULTILINE)
_NAMES = re.compile(r"^--- names$", re.MULTILINE)
_ROW = re.compile(r"^( *)--- (row|then)\b(.*)$", re.MULTILINE)


class Script:
    """A Lua script of the package. Its `---` lines are replaced by what they stand for."""

    def __init__(self, name: str) -> None:
        self.name = name
        source = _read(f"{name}.lua")
        self.header = header = Header(source)
        text = _INCLUDE.sub(lambda match: "\n".join(_read(f"include/{part}.lua") for part in match[1].split()), source)
        text = _NAMES.sub(lambda _: header.locals(), text)
        self.text = _ROW.sub(lambda match: match[1] + header.row(match[2], match[3].split()), text)
        # SHA-1 is what EVALSHA names scripts by.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        given = [key for key in header.keys if key not in Keys.__slots__]
        own = header.keys[len(given) :]
        if given + own != header.keys:
            raise ValueError(f"{name}: keys that the caller gives must come first")
        columns, following = (
            ["type" if column == "type_number" else column for column in found] for found in header.rows.values()
        )
        types = ["types"] if header.is_typed and "type" not in columns else []
        self._lists, self._types = header.lists, types
        self._own_keys, self._given = _getter(attrgetter, own), _getter(itemgetter, given)
        self._keys: dict[str, Sequence[str]] = {}
        """By hash tag, of which a process has one in practice: the keys that are not the caller's."""
        self._arguments = _getter(itemgetter, header.arguments)
        self._columns, self._following = _getter(itemgetter, columns), _getter(itemgetter, following)
        self._type_at = columns.index("type") if "type" in columns else None
        self._sizes = len(given + header.arguments + header.lists + types), len(columns)
        self._following_size = len(following)
        self._expected = f"{name}: expected {given + header.arguments + header.lists + types}, rows of {columns}, then of {following}"

    def bind(
        self,
        keys: Keys,
        each: Mapping[str, Column],
        named: Mapping[str, Any],
        then: Mapping[str, Column] = MappingProxyType({}),
    ) -> tuple[list[str], list[Argument]]:
        """Return a call's KEYS and ARGV. `each` has a column for each name of a row, and the types' names as `type`; so
        has `then`, empty where no row of its kind follows.

        Raises TypeError for a name that is missing or that the header does not have, ValueError for columns of
        different lengths.
        """
        if (len(named), len(each)) != self._sizes or (then and len(then) != self._following_size):
            raise TypeError(self._expected)
        try:
            own_keys = self._keys.get(keys.tag)
            if own_keys is None:
                own_keys = self._keys[keys.tag] = tuple(self._own_keys(keys))
            redis_keys = [*self._given(named), *own_keys]
            arguments = [*self._arguments(named)]
            for name in self._types:
                _add_types(keys, named[name], redis_keys, arguments)
            if each:
                columns = [*self._columns(each)]
                following = [*self._following(then)] if then else []
                if self._type_at is not None:
                    names = columns[self._type_at]
                    if not following and names.count(None) == len(names):  # the simple case, and the fast way
                        columns[self._type_at] = (0,) * len(names)
                        arguments.append(0)
                    else:
                        types, numbers = _numbered([*names, *following[-1]] if following else names)
                        columns[self._type_at] = numbers[: len(names)]
                        if following:
                            following[-1] = numbers[len(names) :]
                        _add_types(keys, types, redis_keys, arguments)
                if len(columns[0]) == 1:  # as of most calls of one client
                    arguments += [value for [value] in columns]
                else:
                    arguments += chain.from_iterable(zip(*columns, strict=True))
                if following:
                    arguments += chain.from_iterable(zip(*following, strict=True))
            for name in self._lists:
                arguments += named[name]
        except KeyError as missing:
            raise TypeError(self._expected) from missing
        return redis_keys, arguments


def _add_types(keys: Keys, types: Any, redis_keys: list[Any], arguments: list[Any]) -> None:
    redis_keys += map(keys.type_index, types)
    arguments += (len(types), *types)


def _read(path: str) -> str:
    return (_LUA / path).read_text()


def _getter(kind: Any, names: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    """Return a getter of the values of these names, however many there are."""
    if not names:
        return lambda _: ()
    get = kind(*names)
    return cast(Callable[[Any], Sequence[Any]], get) if len(names) > 1 else lambda source: (get(source),)


def _numbered(names: Column) -> tuple[list[Any], list[int]]:
    """Return the types that are named, and for each name the number of its type: 0 for None, the default."""
    numbers: dict[Any, int] = {None: 0}
    for name in names:
        numbers.setdefault(name, len(numbers))
    return list(numbers)[1:], [numbers[name] for name in names]


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
        self.keys = [name for name in self.keys if name != "type_index..."]
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
        names, values = (
            list(self.arguments),
            [self._value("", name, str(at)) for at, name in enumerate(self.arguments, 1)],
        )
        first = str(len(names) + 1)
        if self.is_typed:
            names.append("type_count")
            values.append(f"tonumber(ARGV[{first}])")
            before = len(self.keys), len(names)
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
