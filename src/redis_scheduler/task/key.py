"""Keys of tasks: how a new one is made, what can be one, and which shards its task may stand in."""

import re
import secrets
import string
import zlib
from collections.abc import Sequence

KEY_LENGTH = 22

SHARDS_MOST = 15
"""A key has room for the numbers 0 to 15. 15 names no shard: it is kept for a form to come."""

_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
_VALUES = {letter: value for value, letter in enumerate(_LETTERS)}
_SHARD_BITS = 0b1111
"""Of the last character: 22 of them hold 132 bits, for 128 random ones."""


def new_task_key(shard: int = 0) -> str:
    """A new task's key: 128 random bits and the number of its shard, URL-safe, 22 characters, no dot."""
    key = secrets.token_urlsafe(16)
    return in_shard(key, shard) if shard else key


def in_shard(key: str, shard: int) -> str:
    """Return a key that was made here as one of another shard."""
    return key[:-1] + _LETTERS[_VALUES[key[-1]] & ~_SHARD_BITS | shard]


def hashed_shard(text: str, shards: int) -> int:
    """Return the shard of a key that a caller made, or of another text, among so many."""
    return zlib.crc32(text.encode(errors="surrogateescape")) % shards


def shards_of(key: str, numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the shards that the task of a key may stand in, the likeliest first.

    `numbers`: how many shards there are, then how many there were before. A key of the form that the service makes
    tells its shard; but an import may have brought it from more shards, and callers could once make one that tells
    another shard than 0.
    """
    most = max(numbers)
    if most == 1:
        return (0,)
    hashed = [hashed_shard(key, number) for number in numbers]
    if not has_made_form(key):
        return tuple(dict.fromkeys(hashed))
    told = _VALUES[key[-1]] & _SHARD_BITS
    if told == 0:
        return (0,)
    return tuple(dict.fromkeys([told, *hashed] if told < most else hashed))


OWN_KEY_LENGTH = 128
"""Characters of the longest key that a caller may give."""

_IS_KEY = re.compile(rf"[A-Za-z0-9_:-]{{1,{OWN_KEY_LENGTH}}}").fullmatch


def is_task_key(text: str) -> bool:
    """Whether the text can be a task's key at all, made here or by a caller. If not, Redis need not be asked."""
    return _IS_KEY(text) is not None


def has_made_form(key: str) -> bool:
    """Whether the key has the form of those that the service makes, of whichever shard: no caller may take it for an
    own one, however many shards there are."""
    return len(key) == KEY_LENGTH and ":" not in key and is_task_key(key)
