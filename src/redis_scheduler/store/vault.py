"""What stands in Redis sealed with DATA_KEY: records and failures, as AES-256-GCM.

A sealed record is `{"due":ms,"head":bytes,"seal":"<id of the key>","type":…,"labels":…,"sealed":"<base64>"}`. Scripts,
lists and the audit go by what stands before `sealed`; it is sealed along, so that it cannot be changed either. A
version that knows no seals finds unknown members, and leaves the task to another worker.

The text in base64 is the id of the key, the salt of the process that wrote it, the number of what it sealed, and the
ciphertext. The number is the nonce of a key that the process has alone: random nonces of one key would meet again
within days.
"""

import re
from collections.abc import Sequence
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
from redis_scheduler.task.listing import Listing
from redis_scheduler.task.record import UNREADABLE, Record, read_record

KEY_BYTES = 32

# Two times as fast as those of binascii.
_in_base64, _from_base64 = msgspec.json.Encoder().encode, msgspec.json.Decoder(bytes).decode

_ID_BYTES, _SALT_BYTES, _NONCE_BYTES = 4, 16, 12
_FRONT_BYTES = _ID_BYTES + _SALT_BYTES
_WRITERS_KEPT = 256
"""The keys of so many writing processes are remembered: to derive one takes as long as to open some ten records."""

_FRONT = re.compile(rb'(\{"due":[0-9]{1,15}(?:,"again":[0-9]{1,9})?),"head":([0-9]{1,9})(?=,"seal":)')
_SEALED = b',"sealed":'
_FAILURE = b'{"sealed":'
_ABOUT_FAILURE = b"\0failure"

UNKNOWN_FAILURE = encode_failure(LastFailure("the failure that is kept is sealed with a DATA_KEY that is not given", 0))


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
        self._seal_member = _seal_member(key_id)
        self._front = key_id + salt
        self._numbers = count()
        self._cipher_of = lru_cache(_WRITERS_KEPT)(self._new_cipher)
        self._encrypt = self._cipher_of(self._front).encrypt

    def seal_tail(self, key: str, tail: bytes, listed: Listing) -> bytes:
        """Return a record without its due time, sealed; empty if it is empty."""
        if not tail:
            return tail
        head = self._seal_member if listed is None else b"%b,%b" % (self._seal_member, _names(listed))
        return b',"head":%d,%b,"sealed":%b}' % (len(head) + 1, head, self._sealed(tail, _about(key, head)))

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
            if self._refuses_plain:
                raise ValueError("not sealed")
            return stored
        start, end = front.end() + 1, front.end() + int(front[2])
        if not (stored.startswith(_SEALED, end) and stored.endswith(b"}")):
            raise ValueError("no seal behind the head")
        sealed = stored[end + len(_SEALED) : -1]
        if not stored.startswith(_seal_member(_from_base64(sealed)), start):
            raise ValueError("sealed with another key than the head says")
        tail = self._text(sealed, _about(key, stored[start:end]))
        return stored if tail is None else front[1] + tail

    def open_failure(self, key: str, failure: bytes | None) -> bytes | None:
        """Return what is kept of failed attempts, as it was before it was sealed; where it cannot be opened a failure
        that says so."""
        if failure is None or not failure.startswith(_FAILURE):
            return bytes(FOREIGN_FAILURE) if failure and self._refuses_plain else failure
        try:
            text = self._text(failure[len(_FAILURE) : -1], _about(key, _ABOUT_FAILURE))
        except ValueError:
            return bytes(FOREIGN_FAILURE)
        return UNKNOWN_FAILURE if text is None else text

    def _sealed(self, text: bytes, about: bytes) -> bytes:
        nonce = next(self._numbers).to_bytes(_NONCE_BYTES, "big")
        return _in_base64(b"".join((self._front, nonce, self._encrypt(nonce, text, about))))

    def _text(self, sealed: bytes, about: bytes) -> bytes | None:
        """Return what was sealed; None if the key is not given. Raises ValueError."""
        whole = _from_base64(sealed)
        if whole[:_ID_BYTES] not in self._keys:
            return None
        cipher, nonce = self._cipher_of(whole[:_FRONT_BYTES]), whole[_FRONT_BYTES : _FRONT_BYTES + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, whole[_FRONT_BYTES + _NONCE_BYTES :], about)
        except InvalidTag:
            raise ValueError("not sealed for this task") from None

    def _new_cipher(self, front: bytes) -> AESGCM:
        return AESGCM(_derived(self._keys[front[:_ID_BYTES]], front[_ID_BYTES:], b"seal", KEY_BYTES))


def _derived(key: bytes, salt: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, b"redis-scheduler " + purpose).derive(key)


def _about(key: str, head: bytes) -> bytes:
    """Return what a seal is about: the task, and what stands before it."""
    return b"%b\0%b" % (key.encode(errors="surrogateescape"), head)


@lru_cache(512)
def _names(listed: str | tuple[str, ...]) -> bytes:
    """Return the members of a record that say the names of its indexes: its type and its labels."""
    names = (listed,) if isinstance(listed, str) else listed
    labels = dict(name[1:].split("=", 1) for name in names if name.startswith(LABEL_MARK))
    members: dict[str, object] = {} if names[0].startswith(LABEL_MARK) else {"type": names[0]}
    if labels:
        members["labels"] = labels
    return msgspec.json.encode(members)[1:-1]
