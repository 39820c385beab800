"""The members of a task's line in an export (task_line.py), of which none is given twice."""

import msgspec
from msgspec import Raw

from redis_scheduler.api.diagnosis import bounded
from redis_scheduler.errors import Code, InvalidField

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


class _Name(str):
    """The name of a member, which is checked as soon as it is read."""

    __slots__ = ()


def members_of(line: bytes) -> dict[str, Raw]:
    """Return the members of a line. Raises InvalidField for one that is given twice, of which the decoder would take
    the last, and ValueError for what is no JSON object."""
    names: list[str] = []

    def take(_kind: type[_Name], name: str) -> _Name:
        if name in names:
            raise InvalidField(bounded(name), "is given twice", Code.REPEATED_FIELD)
        names.append(name)
        return _Name(name)

    try:
        members = _decode_members(line)
        # An export writes no blanks between members: where nothing is missing, nothing is given twice. Each member has
        # two quotes, a colon, and a comma or brace; one brace is left.
        read_bytes = 1 + sum(len(name) + memoryview(value).nbytes + 4 for name, value in members.items())
        if read_bytes < len(line.rstrip(b"\r\n")):
            msgspec.json.Decoder(dict[_Name, Raw], dec_hook=take).decode(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON object: {error}") from None
    return members
