"""A token with rights: what it may do, until when, and how its text is made. Redis keeps the digest of the text.

Its text is `rs_<id>_<secret>`: the id finds it, and the secret, 256 random bits, proves it.
"""

import hashlib
import hmac
import re
import secrets
from enum import IntFlag, auto
from typing import NamedTuple

import msgspec

from redis_scheduler.task.record_head import TOKEN_ID


class Right(IntFlag):
    """What a token may be allowed to do. docs/howto/tokens.md says which route needs which."""

    SCHEDULE = auto()
    """Schedule tasks, and change, pause, resume and run them one by one."""
    READ = auto()
    """See tasks, dead letters and results."""
    CANCEL = auto()
    """Take tasks out, and delete dead letters, one by one."""
    BULK = auto()
    """Do to many tasks in one request what the token may do to one."""
    REPLAY = auto()
    """Bring dead letters back as they are; with SCHEDULE also changed."""
    PURGE = auto()
    """Delete all tasks."""
    METRICS = auto()
    """See figures about the service and its machine."""
    ADMIN = auto()
    """Change what holds for all tasks, and see what errors hide from others."""


ANY_TOKEN = Right(0)
"""What every token may."""

RIGHTS = {str(right.name).lower(): right for right in Right}
"""The rights by the names that `--can` takes."""

FORM = re.compile(rb"rs_(%b)_[A-Za-z0-9_-]{43}" % TOKEN_ID.encode())
"""What the text of such a token is: only what looks so is looked up."""

FOREVER_MS = 2**53


class Token(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What Redis keeps of a token. Times are Redis' ms.

    A member that this version does not know may be a limit: then the token is refused.
    """

    name: str
    digest: str
    """SHA-256 of its text, in hexadecimal digits."""
    can: tuple[str, ...]
    made: int
    types: tuple[str, ...] = ()
    """It sees and changes only tasks of these; empty: of all."""
    expires: int = FOREVER_MS
    before: str = ""
    """The digest that it had before it was rotated, which is taken until `before_until`."""
    before_until: int = 0
    rate: float = 0
    """So many tasks it may schedule a second; 0: any number."""
    tasks: int = 0
    """So many of its tasks may wait when it brings more; 0: any number."""
    task_bytes: int = 0
    """So many bytes the records of its waiting tasks may have when it brings more; 0: any number."""
    limit_keys: tuple[str, ...] = ()
    """The limit_keys that it may give, each also with `:` and more behind it. With ADMIN, and without types, it may
    give any."""

    @property
    def rights(self) -> Right:
        """What it may do. Raises KeyError for a right that this version does not know."""
        found = ANY_TOKEN
        for name in self.can:
            found |= RIGHTS[name]
        return found

    def is_of(self, given: bytes, now_ms: int) -> bool:
        """Whether this text is its own, compared in constant time."""
        digest = digest_of(given)
        is_own = hmac.compare_digest(digest, self.digest)
        was_own = hmac.compare_digest(digest, self.before) and now_ms < self.before_until
        return is_own or was_own


class Allowed(NamedTuple):
    """What a token may that has no limit of its own: see Token; 0: any number."""

    rate: float = 0
    tasks: int = 0
    task_bytes: int = 0

    def limiting(self, token: Token) -> Token:
        """Return a token with these limits in the place of those that it has not."""
        if not any(self):
            return token
        own = {name: getattr(token, name) or most for name, most in self._asdict().items()}
        return msgspec.structs.replace(token, **own)


ANY = Allowed()

encode_token = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Token).decode


def read_token(stored: bytes) -> Token | None:
    """Return the token from what Redis keeps; None for what this version cannot read: nobody has it then."""
    try:
        token = _decode(stored)
        _ = token.rights
    except (ValueError, KeyError):
        return None
    return token


def digest_of(text: bytes) -> str:
    """Return the digest of a token's text."""
    return hashlib.sha256(text).hexdigest()


def new_id() -> str:
    """Return the id of a new token."""
    return secrets.token_hex(5)


def new_text(token_id: str) -> str:
    """Return a new text of the token with this id."""
    return f"rs_{token_id}_{secrets.token_urlsafe(32)}"
