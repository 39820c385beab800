"""Keys of tasks: how a new one is made, and what can be one."""

import base64
import os
import secrets
from collections.abc import Iterator

KEY_LENGTH = 22


def _random_bits() -> Iterator[bytes]:
    while True:
        # As many keys as fit a page: the system call costs more than all else that makes a key.
        drawn = secrets.token_bytes(4_096)
        yield from (drawn[first : first + 16] for first in range(0, len(drawn), 16))


_drawn = _random_bits()
# A fork would draw the same ones again.
os.register_at_fork(after_in_child=lambda: globals().update(_drawn=_random_bits()))


def new_task_key() -> str:
    """A new task's key: 128 random bits, URL-safe, 22 characters, no dot."""
    return base64.urlsafe_b64encode(next(_drawn))[:KEY_LENGTH].decode()


_KEY_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def is_task_key(text: str) -> bool:
    """Whether the text can be a task's key at all; what cannot is answered without asking Redis."""
    return 0 < len(text) <= KEY_LENGTH and _KEY_CHARACTERS.issuperset(text)
