"""Keys of tasks: how a new one is made, what can be one, and which shard it stands in."""

import secrets

KEY_LENGTH = 22


def shard_of(_task_key: str) -> int:
    """The number of the shard that holds the task of a key. There is one; what chooses among several stands here."""
    return 0


def new_task_key() -> str:
    """A new task's key: 128 random bits, URL-safe, 22 characters, no dot."""
    return secrets.token_urlsafe(16)


_KEY_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def is_task_key(text: str) -> bool:
    """Whether the text can be a task's key at all. If not, Redis need not be asked."""
    return 0 < len(text) <= KEY_LENGTH and _KEY_CHARACTERS.issuperset(text)
