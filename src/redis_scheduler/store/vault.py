"""What stands in Redis sealed with DATA_KEY: records and failures, as AES-256-GCM.

A sealed record is `{"due":ms,"head":bytes,"seal":"<id of the key>","type":…,"labels":…,"sealed":"<base64>"}`, of a
series with `"repeat":{}` before `sealed`. Scripts, lists and the audit go by what stands there; it is sealed along, so
that it cannot be changed either. A version that knows no seals finds unknown members, and leaves the task to another
worker.

The text in base64 is the id of the key, the salt of the process that wrote it, the number of what it sealed, and the
ciphertext. The number is the nonce of a key that the process has alone: random nonces of one key would meet again
within days.
"""

import re
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from itertools import count
from os import urandom

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from redis_scheduler.task.failure import FOREIGN_FAILURE, LastFailure, encode_failure
from redis_scheduler.task.label import LABEL_MARK
from redis_scheduler.task.listing import SERIES, TOKEN_MARK, Listing, listing_of
from redis_scheduler.task.record import SEAL, UNREADABLE, Record, read_record

KEY_BYTES = 32

# Two times as fast as those of binascii.
_in_base64, _from_base64 = msgspec.json.Encoder().encode, msgspec.json.Decoder(bytes).decode

_ID_BYTES, _SALT_BYTES, _NONCE_BYTES = 4, 16, 12
_FRONT_BYTES = _ID_BYTES + _SALT_BYTES
_TEXT_AT = _FRONT_BYTES + _NONCE_BYTES
_WRITERS_KEPT = 256
"""The keys of so many writing processes are remembered: to derive one takes as long as to open some ten records."""

_AGAIN = re.compile(rb',"again":[0-9]{1,9}')
_NUMBERS = re.compile(rb'\{"due":[0-9]{1,15}(?:%b)?' % _AGAIN.pattern)
_FRONT = re.compile(rb'(%b),"head":([0-9]{1,9})(?=,"seal":)' % _NUMBERS.pattern)
_SEALED = b',"sealed":'
_FAILURE = b'{"sealed":'
_ABOUT_FAILURE = b"\0failure"

UNKNOWN_FAILURE = encode_failure(LastFailure("the failure that is kept is sealed with a DATA_KEY that is not given", 0))


BEGINNING_BYTES = 128
"""More than a sealed record has up to the id of its key."""


class Why(Enum):
    """Why something stays as it is though the first key has not sealed it."""

    OTHER_KEY = "it is sealed with a DATA_KEY that is not given"
    CHANGED = "other hands changed it: no key that is given opens it"
    PLAIN = "it is not sealed, and DATA_PLAIN=refuse takes it for other hands'"
    UNREADABLE = "it is not sealed, and no record"


class NotSealed(Exception):
    """It stays as it is: why."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


def _seal_member(sealed: bytes) -> bytes:
    """Return how the head names the key whose id stands in front."""
    return b'"seal":"%b"' % sealed[:_ID_BYTES].hex().encode()


class Vault:
    """The keys of DATA_KEY: the first seals, all open. With `refuses_plain` a record that is not sealed is taken for
    foreign hands'."""

    def __init__(self, keys: Sequence[bytes], refuses_plain: bool = False) -> None:
        self._keys = {_derived(key, b"", b"id", _ID_BYTES): key for key in keys}
        self._refuses_plain = refuses_plain
        key_id, salt = next(iter(self._keys)), urandom(_SALT_BYTES)
        self._seal_members = {found: _seal_member(found) for found in self._keys}
        self._seal_member = self._seal_members[key_id]
        self._front = key_id + salt
        self._numbers = count()
        self._decrypt_of = lru_cache(_WRITERS_KEPT)(self._new_decrypt)
        self._encrypt = self._cipher_of(self._front).encrypt

    def seal_tail(self, key: str, tail: bytes, listed: Listing) -> bytes:
        """Return a record without its due time, sealed; empty if it is empty. How often its receiver wanted it again
        stays in front, where a script counts on."""
        if not tail:
            return tail
        again = b""
        if (found := _AGAIN.match(tail)) is not None:
            again, tail = found[0], tail[found.end() :]
        head = self._seal_member if listed is None else b"%b,%b" % (self._seal_member, _names(listed))
        return b'%b,"head":%d,%b,"sealed":%b}' % (again, len(head) + 1, head, self._sealed(tail, _about(key, head)))

    def seal_failure(self, key: str, failure: bytes) -> bytes:
        """Return what is kept of failed attempts, sealed from its JSON on."""
        front, brace, rest = failure.partition(b"{")
        if not brace:
            return failure
        return b"%b%b%b}" % (front, _FAILURE, self._sealed(brace + rest, _about(key, _ABOUT_FAILURE)))

    def read_record(self, key: str, stored: bytes) -> Record:
        """Return the record from its bytes: UNREADABLE if they were not sealed for this task, and one with an unknown
        member if the key is not given."""
        try:
            return read_record(self.opened(key, stored))
        except ValueError:
            return UNREADABLE

    def opened(self, key: str, stored: bytes) -> bytes:
        """Return a record as it was before it was sealed; one whose key is not given as it is. Raises ValueError if it
        was not sealed for this task."""
        front = _FRONT.match(stored)
        if front is None:
            if self._refuses_plain or self._bears_seal(stored):
                raise ValueError("not sealed")
            return stored
        start, end = front.end() + 1, front.end() + int(front[2])
        if not (stored.startswith(_SEALED, end) and stored.endswith(b"}")):
            raise ValueError("no seal behind the head")
        sealed = _from_base64(stored[end + len(_SEALED) : -1])
        if not stored.startswith(self._seal_members.get(sealed[:_ID_BYTES]) or _seal_member(sealed), start):
            raise ValueError("sealed with another key than the head says")
        tail = self._text(sealed, _about(key, stored[start:end]))
        return stored if tail is None else front[1] + tail

    def _bears_seal(self, stored: bytes) -> bool:
        """Whether a record ends in what a key that is given has sealed, whatever stands before. (A text of JSON has no
        bare quote, and data an end of its own.)"""
        name, text = stored.rpartition(_SEALED)[1:]
        if not (name and text.startswith(b'"') and text.endswith(b'"}')):
            return False
        try:
            return _from_base64(text[:-1])[:_ID_BYTES] in self._keys
        except ValueError:
            return False

    def is_by_first(self, beginning: bytes) -> bool:
        """Whether a record that begins so, up to BEGINNING_BYTES, says that the first key sealed it."""
        front = _FRONT.match(beginning)
        return front is not None and beginning.startswith(self._seal_member, front.end() + 1)

    def resealed(self, key: str, stored: bytes) -> tuple[bytes, str | None]:
        """Return a record as the first key seals it, and the token whose task it is; the record alone, as it is, if
        that key has sealed it. Raises NotSealed."""
        if self.is_by_first(stored):
            return stored, None
        try:
            opened = self.opened(key, stored)
        except ValueError:
            is_plain = _FRONT.match(stored) is None and not self._bears_seal(stored)
            raise NotSealed(Why.PLAIN if is_plain else Why.CHANGED) from None
        record, numbers = read_record(opened), _NUMBERS.match(opened)
        if record.unknown == SEAL:
            raise NotSealed(Why.OTHER_KEY if _FRONT.match(opened) else Why.CHANGED)
        if record is UNREADABLE or numbers is None:
            raise NotSealed(Why.UNREADABLE)
        listed = listing_of(record.type, record.options, record.token)
        return numbers[0] + self.seal_tail(key, opened[numbers.end() :], listed), record.token

    def resealed_failure(self, key: str, failure: bytes) -> tuple[bytes, None]:
        """Return what is kept of failed attempts as the first key seals it; as it is if it has done so. Raises
        NotSealed."""
        front, brace, rest = failure.partition(b"{")
        text = brace + rest
        if text.startswith(_FAILURE):
            try:
                sealed = _from_base64(text[len(_FAILURE) : -1])
                if sealed.startswith(self._front[:_ID_BYTES]):
                    return failure, None
                opened = self._text(sealed, _about(key, _ABOUT_FAILURE))
            except ValueError:
                raise NotSealed(Why.CHANGED) from None
            if opened is None:
                raise NotSealed(Why.OTHER_KEY)
            return self.seal_failure(key, front + opened), None
        if brace and self._refuses_plain:
            raise NotSealed(Why.PLAIN)
        return self.seal_failure(key, failure), None

    def open_failure(self, key: str, failure: bytes | None) -> bytes | None:
        """Return what is kept of failed attempts, as it was before it was sealed; where it cannot be opened a failure
        that says so."""
        if failure is None or not failure.startswith(_FAILURE):
            return bytes(FOREIGN_FAILURE) if failure and self._refuses_plain else failure
        try:
            text = self._text(_from_base64(failure[len(_FAILURE) : -1]), _about(key, _ABOUT_FAILURE))
        except ValueError:
            return bytes(FOREIGN_FAILURE)
        return UNKNOWN_FAILURE if text is None else text

    def _sealed(self, text: bytes, about: bytes) -> bytes:
        nonce = next(self._numbers).to_bytes(_NONCE_BYTES, "big")
        return _in_base64(b"".join((self._front, nonce, self._encrypt(nonce, text, about))))

    def _text(self, sealed: bytes, about: bytes) -> bytes | None:
        """Return what was sealed; None if the key is not given. Raises ValueError."""
        if sealed[:_ID_BYTES] not in self._keys:
            return None
        try:
            return self._decrypt_of(sealed[:_FRONT_BYTES])(sealed[_FRONT_BYTES:_TEXT_AT], sealed[_TEXT_AT:], about)
        except InvalidTag:
            raise ValueError("not sealed for this task") from None

    def _new_decrypt(self, front: bytes) -> Callable[[bytes, bytes, bytes], bytes]:
        return self._cipher_of(front).decrypt

    def _cipher_of(self, front: bytes) -> AESGCM:
        """Return the cipher of a writing process, which front names."""
        return AESGCM(_derived(self._keys[front[:_ID_BYTES]], front[_ID_BYTES:], b"seal", KEY_BYTES))


def _derived(key: bytes, salt: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, b"redis-scheduler " + purpose).derive(key)


def _about(key: str, head: bytes) -> bytes:
    """Return what a seal is about: the task, and what stands before it."""
    return b"%b\0%b" % (key.encode(errors="surrogateescape"), head)


@lru_cache(512)
def _names(listed: str | tuple[str, ...]) -> bytes:
    """Return the members of a record that say the names of its indexes: its type, its labels, whether it is a series,
    and its token."""
    names = (listed,) if isinstance(listed, str) else listed
    labels = dict(name[1:].split("=", 1) for name in names if name.startswith(LABEL_MARK))
    members: dict[str, object] = {} if names[0].startswith((LABEL_MARK, SERIES, TOKEN_MARK)) else {"type": names[0]}
    if labels:
        members["labels"] = labels
    if SERIES in names:
        members["repeat"] = {}
    if names[-1].startswith(TOKEN_MARK):
        members["token"] = names[-1][1:]
    return msgspec.json.encode(members)[1:-1]
