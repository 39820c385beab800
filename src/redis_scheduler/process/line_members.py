"""The members of a task's line in an export (task_line.py), of which none is given twice."""

import msgspec
from msgspec import Raw

from redis_scheduler.api.diagnosis import decode_members, refuse_repeated

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


def members_of(line: bytes) -> dict[str, Raw]:
    """Return the members of a line. Raises InvalidField for one that is given twice, of which the decoder would take
    the last, and ValueError for what is no JSON object."""
    try:
        members = _decode_members(line)
        # An export writes no blanks between members: where nothing is missing, nothing is given twice. Each member has
        # two quotes, a colon, and a comma or brace; one brace is left.
        read_bytes = 1 + sum(len(name) + memoryview(value).nbytes + 4 for name, value in members.items())
        if read_bytes < len(line.rstrip(b"\r\n")):
            refuse_repeated((str(name), bytes(value)) for name, value in decode_members(line).items())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON object: {error}") from None
    return members
