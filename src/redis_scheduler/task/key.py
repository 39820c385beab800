"""Keys of tasks: how a new one is made, what can be one, and which shard it stands in."""

import re
import secrets

KEY_LENGTH = 22


def shard_of(_task_key: str) -> int:
    """The number of the shard that holds the task of a key. There is one; what chooses among several stands here."""
    return 0


def new_task_key() -> str:
    """A new task's key: 128 random bits, URL-safe, 22 characters, no dot."""
    return secrets.token_urlsafe(16)


OWN_KEY_LENGTH = 128
"""Characters of the longest key that a caller may give."""

_IS_KEY = re.compile(rf"[A-Za-z0-9_:-]{{1,{OWN_KEY_LENGTH}}}").fullmatch


def is_task_key(text: str) -> bool:
    """Whether the text can be a task's key at all, made here or by a caller. If not, Redis need not be asked."""
    return _IS_KEY(text) is not None


def is_made_here(key: str) -> bool:
    """Whether the key has the form of those that `new_task_key` makes, which no caller may take for an own one.

    16 bytes in base64: the last of the 22 characters holds two bits.
    """
    return len(key) == KEY_LENGTH and ":" not in key and key[-1] in "AQgw"
