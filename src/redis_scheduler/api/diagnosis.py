"""Says what is wrong with a body, in the API's own words. Used only if the decoder failed, or may have missed a fault.

Each member is read by itself. Half a surrogate pair, which the decoder refuses, is taken: JSON's grammar allows it (RFC
8259, section 8.2). A body with nothing wrong is returned as the decoder would have returned it.
"""

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Raw

from redis_scheduler.api.bodies import PREVIEW_MOST
from redis_scheduler.api.hints import hint_of
from redis_scheduler.api.host_bodies import LIMIT_RULES
from redis_scheduler.errors import Code, InvalidField, InvalidRequest
from redis_scheduler.task import options, repeat
from redis_scheduler.task.due import TIME_LENGTH, TIME_RULE, is_time
from redis_scheduler.task.given import LOOKED_AT, NO_CHARACTER, bounded, quoted, shown
from redis_scheduler.task.json_text import without_halves
from redis_scheduler.task.key import OWN_KEY_LENGTH
from redis_scheduler.task.options import CALLBACKS_DEEP, Callback
from redis_scheduler.task.repeat import Repeat
from redis_scheduler.task.timing import TEN_YEARS_S

Body = TypeVar("Body")

TIME_TEXT_LENGTH = 6 * TIME_LENGTH + 2
"""The text of the longest time whose every character is an escape, with its quotes, has no more characters."""
TYPE_LENGTH = 100

OBJECT_LENGTH = 65_536
"""More characters than an object has that is the value of an option."""

RULES = {
    "webhook": "must be an absolute http or https URL",
    "ttl": f"must be a number of seconds from 0 to {TEN_YEARS_S} (ten years)",
    "at": TIME_RULE,
    "type": f"must be 1 to {TYPE_LENGTH} printable characters",
    "key": f"must be 1 to {OWN_KEY_LENGTH} letters, digits, _, - or :",
    "n": f"must be a whole number from 1 to {PREVIEW_MOST}",
    "include_data": "must be true or false",
    "event": "must be true or false",
    "body": "must be a text, without half a surrogate pair (half an emoji)",
    "body_base64": "must be a text in base64 (RFC 4648, section 4)",
    **LIMIT_RULES,
    **options.RULES,
    **repeat.RULES,
}
"""What each field must be that has a rule."""

_MAIN = ("webhook", "ttl", "data")
"""The fields of every task; each is read in a way of its own."""

_MAY_BE_SECRET = ("webhook", "headers", "on_success", "on_failure")
"""Of texts, lists and objects that these are given, errors say only what they are."""


class MemberName(str):
    """The name of a member. Two with the same text are not equal: what is given twice keeps both values."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


decode_members = msgspec.json.Decoder(dict[MemberName, Raw], dec_hook=lambda _, name: MemberName(name)).decode
"""Reads all members of an object."""


def examined(body: bytes, shape: type[Body], depth: int = 0) -> Body:
    """Return the body as an object of `shape`; `depth`: in how many callbacks it stands.

    Raises InvalidRequest with the first fault, RecursionError if it is too deep.
    """
    known = _fields_of(shape)  # type: ignore[arg-type]  # mypy doubts that a class can be hashed
    found = {name: _value(name, text.decode(), known[name].type, depth) for name, text in _members(body, known).items()}
    for name, field in known.items():
        if field.required and name not in found:
            raise InvalidField(name, f"is missing; it {RULES[name]}", Code.MISSING_FIELD)
    return shape(**found)


@cache
def _fields_of(shape: type) -> dict[str, msgspec.structs.FieldInfo]:
    """Return the fields of a kind of body by name. To look them up takes a tenth of a millisecond."""
    return {field.name: field for field in msgspec.structs.fields(shape)}


def list_text(body: bytes, name: str, rule: str) -> bytes:
    """Return the text of the list that is the only member of a body. Raises InvalidRequest, or RecursionError if it is
    too deep."""
    text = _members(body, (name,)).get(name)
    if text is None:
        raise InvalidField(name, f"is missing; it {rule}", Code.MISSING_FIELD)
    if not text.startswith(b"["):
        raise InvalidField(name, f"{rule}, got {_kind_of(text) or shown(Raw(text))}")
    return text


def _unknown(name: str, known: Collection[str]) -> InvalidRequest:
    hint = hint_of(name, known)
    instead = f"{hint}; " if hint else ""
    name = _STAND_INS.sub(NO_CHARACTER, name)
    error = f"{quoted(name)[1:-1] or quoted(name)}: is an unknown field; {instead}known: {', '.join(known)}"
    return InvalidRequest(Code.UNKNOWN_FIELD, error, bounded(name))


def _value(name: str, text: str, kind: Any, depth: int) -> Any:
    match name:
        case "webhook" if text.startswith('"'):
            return json.loads(text)
        case "ttl" if text[0] in "-0123456789":
            seconds = float(text)
            if 0 <= seconds <= TEN_YEARS_S:
                return int(text) if text.isdigit() else seconds
        case "at" if text.startswith('"') and len(text) <= TIME_TEXT_LENGTH and is_time(time := json.loads(text)):
            return time
        case "data":
            return Raw(text.encode())
        case "repeat" if text.startswith("{"):
            return _part(name, text, Repeat)
        case "on_success" | "on_failure" if text.startswith("{"):
            check_depth(name, depth)
            return _part(name, text, Callback, depth + 1)
        case _ if name not in _MAIN:
            _check_object(name, text)
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(text, type=kind)
            if name in ("headers", "labels") and text.startswith("{"):
                _check_texts(name, text)
            if name == "retry_times" and text.startswith("[") and len(text) <= OBJECT_LENGTH:
                raise InvalidField(name, f"{RULES[name]}, got {_given_list(text, kind)}")
    raise InvalidField(name, f"{RULES[name]}, got {told(name, text[:LOOKED_AT].encode())}")


def check_depth(name: str, depth: int) -> None:
    """Raise InvalidField for a callback that stands in too many others."""
    if depth >= CALLBACKS_DEEP:
        problem = f"must not be given here: callbacks are nested at most {CALLBACKS_DEEP} deep, got {depth + 1}"
        raise InvalidField(name, problem, Code.TOO_DEEP)


def _part(name: str, text: str, shape: type[Body], depth: int = 0) -> Body:
    """Return an object within the body."""
    with within(name):
        return examined(text.encode(), shape, depth)


@contextlib.contextmanager
def within(name: str) -> Iterator[None]:
    """Say of errors which member of the body they are about."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(error.code, f"{name}.{error}", f"{name}.{error.field}") from error


def told(name: str, value: bytes) -> str:
    """Return a member's value, valid JSON, as an error shows it: of one that may be secret, what it is."""
    kind = _kind_of(value) or ("a text" if value.startswith(b'"') else None)
    return kind if kind and name in _MAY_BE_SECRET else shown(Raw(value))


def _kind_of(text: bytes) -> str | None:
    return {b"{": "an object", b"[": "an array"}.get(text[:1])


def refuse_repeated(pairs: Iterable[tuple[str, bytes]], parent: str | None = None) -> None:
    """Raise InvalidField where a member is given twice: of the body, or of the object that is its member `parent`."""
    seen: dict[str, bytes] = {}
    for name, value in pairs:
        if name in seen:
            both = f"{told(parent or name, seen[name])} and {told(parent or name, value)}"
            which = f"{quoted(_STAND_INS.sub(NO_CHARACTER, name))} " if parent else ""
            raise InvalidField(parent or bounded(name), f"{which}is given twice, got {both}", Code.REPEATED_FIELD)
        seen[name] = value


def _check_object(name: str, text: str) -> None:
    """Raise InvalidField for an object in which a member is given twice. Longer ones than any option has are not looked
    through."""
    if text.startswith("{") and len(text) <= OBJECT_LENGTH:
        members = decode_members(without_halves(text.encode()))
        refuse_repeated([(str(member), bytes(value)) for member, value in members.items()], name)


def _check_texts(name: str, text: str) -> None:
    """Raise InvalidField for a member of an object that is no text."""
    for member, raw in msgspec.json.decode(without_halves(text.encode()), type=dict[str, Raw]).items():
        given = bytes(raw)
        if not given.startswith(b'"'):
            shown_name = quoted(_STAND_INS.sub(NO_CHARACTER, member))
            raise InvalidField(name, f"{shown_name} must be a text, got {told(name, given)}")


def _given_list(text: str, kind: Any) -> str:
    """Return a valid JSON array as an error shows it: how long it is, and which member alone would be refused."""
    members = msgspec.json.decode(without_halves(text.encode()), type=list[Raw])
    length = f"an array of {len(members)}"
    for index, member in enumerate(members):
        try:
            msgspec.json.decode(b"[%b]" % member, type=kind)
        except msgspec.DecodeError:
            return f"{length} with {shown(member)} at index {index}"
    return length


def _members(body: bytes, known: Collection[str]) -> dict[str, bytes]:
    """Return the members of a body in their order. Raises InvalidRequest if it is not JSON, or one is not known."""
    _check_encoding(body)
    if not body.strip(_SPACES):
        raise InvalidRequest(Code.NOT_JSON, "The body is not JSON: it ends too early")
    try:
        return _read(body, body, known)
    except msgspec.DecodeError as error:
        shown = without_halves(body)  # perhaps because of half a pair
        if shown == body:
            _refuse(body, str(error))
        try:
            return _read(body, shown, known)
        except msgspec.DecodeError as another:
            _refuse(body, str(another))


def _read(body: bytes, whole: bytes, known: Collection[str]) -> dict[str, bytes]:
    """Return the members of a body; the decoder sees it as `whole`. Raises InvalidRequest, or the decoder's error."""
    names: list[str] = []

    def take(_kind: type[MemberName], name: str) -> MemberName:
        if name not in known:
            raise _unknown(name[:LOOKED_AT], known)
        names.append(name)
        if len(names) > len(known) + 1:  # a million members are not kept
            often = max(names, key=names.count)
            raise InvalidField(often, f"is given {names.count(often)} times", Code.REPEATED_FIELD)
        return MemberName(name)

    buffer = bytearray(whole)
    text = body.strip(_SPACES)
    if not text.startswith(b"{"):
        msgspec.json.decode(buffer, type=Raw)
        got = _kind_of(text) or shown(Raw(text))
        raise InvalidRequest(Code.NOT_AN_OBJECT, f"The body must be a JSON object, got {got}")
    try:
        members = msgspec.json.Decoder(dict[MemberName, Raw], dec_hook=take).decode(buffer)
    except InvalidRequest:
        # What is no JSON, or too deep, is told as that.
        msgspec.json.decode(buffer, type=Raw)
        raise
    buffer[:] = body  # its raw parts are views of the whole body: give them the original bytes
    pairs = [(str(name), bytes(raw)) for name, raw in members.items()]
    refuse_repeated(pairs)
    return dict(pairs)


_STAND_INS = re.compile("[\ue000-\uefff]")
"""The text that the decoder was shown in the place of half a pair; a name may hold it."""

_SPACES = b" \t\n\r"
_MALFORMED = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")
_NO_NUMBER = re.compile(rb"NaN|Infinity")


def _refuse(body: bytes, message: str) -> NoReturn:
    """Raise InvalidRequest for a body that is not JSON, by the decoder's error."""
    malformed = _MALFORMED.fullmatch(message)
    if malformed is None:
        raise InvalidRequest(Code.NOT_JSON, "The body is not JSON: it ends too early")
    at = int(malformed[2])
    number = _NO_NUMBER.match(body, at)
    what = f"{number[0].decode()} is no number in it" if number else malformed[1]
    line, column = body.count(b"\n", 0, at) + 1, at - body.rfind(b"\n", 0, at)
    raise InvalidRequest(Code.NOT_JSON, f"The body is not JSON: {what}, at line {line}, column {column}")


def _check_encoding(body: bytes) -> None:
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidRequest(
            Code.NOT_JSON, "The body is not JSON: it begins with a byte order mark (BOM), which must be left out"
        )
    # In UTF-16 and UTF-32 the first character, which is an ASCII one, has a byte of 0.
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:2]:
        raise InvalidRequest(Code.NOT_JSON, "The body is not JSON: it is UTF-16 or UTF-32, and must be UTF-8")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        where = f"its byte {error.start + 1} (0x{body[error.start]:02x})"
        raise InvalidRequest(Code.NOT_JSON, f"The body is not JSON: it is not UTF-8, by {where}") from error
