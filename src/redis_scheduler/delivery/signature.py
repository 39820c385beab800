"""Signatures of deliveries, by Standard Webhooks 1.0: a receiver knows that a request is the scheduler's, and of now.

Signed is `<webhook-id>.<webhook-timestamp>.<body>`: by HMAC-SHA256 with each secret `whsec_…` (`v1`), by ed25519 with
each key `whsk_…` (`v1a`), which receivers check by the public key `whpk_…`. The id is the task's key, which has no dot;
the time is that of the attempt. While secrets are changed there are several, and a signature of each.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRETS_MOST = 8
"""More signatures than that no rotation needs, and each costs time."""

_SECRET_BYTES = range(24, 65)
_RULE = (
    "must be secrets with spaces between: whsec_ and 24 to 64 bytes in base64, or whsk_ and an ed25519 key of 32 or 64 "
    f"bytes in base64, {SECRETS_MOST} at most"
)

Sign = Callable[[bytes], bytes]
"""Returns a signature as a receiver finds it, with its version in front."""


def signers(text: str) -> tuple[Sign, ...]:
    """Return what signs with each of these secrets. Raises ValueError, whose text repeats none."""
    words = text.split()
    if not 1 <= len(words) <= SECRETS_MOST:
        raise ValueError(_RULE)
    return tuple(map(_signer, words))


def _signer(secret: str) -> Sign:
    prefix, _, encoded = secret.partition("_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(_RULE) from None
    if prefix == "whsec" and len(key) in _SECRET_BYTES:
        return _hmac_sha256(key)
    if prefix == "whsk" and len(key) in (32, 64):
        return _Ed25519(_private_key(key))
    raise ValueError(_RULE)


def _hmac_sha256(key: bytes) -> Sign:
    """Sign by HMAC (RFC 2104), with both hashes begun beforehand: 1.6 µs, where `hmac.digest` takes 3.7."""
    block = key.ljust(hashlib.sha256().block_size, b"\0")  # no secret is longer
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))

    def sign(content: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(content)
        second.update(first.digest())
        return b"v1," + binascii.b2a_base64(second.digest(), newline=False)

    return sign


class _Ed25519:
    """Signs by a key, whose public key receivers have."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._sign = private.sign
        self.public_key = f"whpk_{base64.b64encode(private.public_key().public_bytes_raw()).decode()}"

    def __call__(self, content: bytes) -> bytes:
        return b"v1a," + binascii.b2a_base64(self._sign(content), newline=False)


def _private_key(key: bytes) -> "Ed25519PrivateKey":
    # Imported only where such a key is given: it takes as long as a tenth of a start.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(key[:32])
    if len(key) == 64 and private.public_key().public_bytes_raw() != key[32:]:
        raise ValueError(_RULE)
    return private


@dataclass(frozen=True, slots=True)
class Signatures:
    """Which secrets sign what: those of the receiver's host, else of the task's type, else of all."""

    of_all: tuple[Sign, ...] = ()
    of_hosts: Mapping[str, tuple[Sign, ...]] = field(default_factory=dict)
    of_types: Mapping[str, tuple[Sign, ...]] = field(default_factory=dict)

    def lines(self, key: str, host: str, type_name: str, body: bytes, now_ms: float) -> str:
        """Return the headers that sign a request; nothing if no secret is for it."""
        signs = self.of_hosts.get(host) if self.of_hosts else None
        if signs is None:
            signs = self.of_types.get(type_name, self.of_all)
        if not signs:
            return ""
        seconds = int(now_ms // 1000)
        content = f"{key}.{seconds}.".encode() + body
        signature = (signs[0](content) if len(signs) == 1 else b" ".join([sign(content) for sign in signs])).decode()
        return f"webhook-id: {key}\r\nwebhook-timestamp: {seconds}\r\nwebhook-signature: {signature}\r\n"

    def public_keys(self) -> Iterator[str]:
        """Yield the public key of each `whsk_` key, behind `host:name=` or `type:name=` where it is not for all."""
        named = {f"host:{name}=": signs for name, signs in self.of_hosts.items()}
        named |= {f"type:{name}=": signs for name, signs in self.of_types.items()}
        for label, signs in ({"": self.of_all} | named).items():
            yield from (f"{label}{sign.public_key}" for sign in signs if isinstance(sign, _Ed25519))
