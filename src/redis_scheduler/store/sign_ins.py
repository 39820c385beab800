"""Who is signed in at the dashboard, as a shard keeps it: the first one, or the next that answered then.

A cookie holds a random text. Redis keeps its digest, whose it is, and a proof that takes the text and the token to
make: so neither who has the cookie nor who reads Redis can try tokens against it.
"""

import hmac
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from redis_scheduler.store.answer_shape import NUMBER, of, redis_ms, sized
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.script import Script

SIGN_INS_MOST = 1_000
"""So many may be at one time."""

OWN = "own"
"""Whose a sign-in with the service's own token is; of one with rights, it is the token's id."""

_SIGN_IN = Script("sign_in")
_KEPT = re.compile(rb"(\d{1,15}) ([0-9a-z]{1,10}) ([0-9a-f]{64})")


class SignIn(NamedTuple):
    """One that has not ended yet."""

    whose: str
    proof: str
    left_ms: int


class SignIns:
    """Every method raises StoreUnavailable when Redis does not answer. `text`: what the cookie holds."""

    def __init__(self, client: RedisClient) -> None:
        self.client = client

    async def begin(self, text: str, whose: str, token: str, lasts_ms: int) -> int:
        """Keep it; `token`: the text of the service's own, or the digest of another's. Return how many were dropped
        before their end."""
        call = _SIGN_IN.bind(
            self.client.keys,
            digest=_digest(text),
            whose=whose,
            proof=proof_of(text, token),
            lasts_ms=lasts_ms,
            most=SIGN_INS_MOST,
        )
        return await self.client.run(call, NUMBER)

    async def find(self, text: str) -> SignIn | None:
        """Return it; None if there is none, or it has ended."""
        kept: bytes | None = await self.client.command(
            "HGET", self.client.keys.sign_ins, _digest(text), read=of(bytes | None)
        )
        found = _KEPT.fullmatch(kept or b"")
        if found is None:
            return None
        now_ms: int = await self.client.command("TIME", read=redis_ms)
        left_ms = int(found[1]) - now_ms
        return SignIn(found[2].decode(), found[3].decode(), left_ms) if left_ms > 0 else None

    async def are_kept(self, texts: Sequence[str], sign_ins: Sequence[SignIn]) -> list[bool]:
        """Return of each whether it is still there; not whether it has ended."""
        digests = map(_digest, texts)
        read = sized(list[bytes | None], len(texts))
        kept = await self.client.command("HMGET", self.client.keys.sign_ins, *digests, read=read)
        found = [_KEPT.fullmatch(one or b"") for one in kept]
        return [
            one is not None and (one[2].decode(), one[3].decode()) == sign_in[:2]
            for one, sign_in in zip(found, sign_ins, strict=True)
        ]

    async def end(self, text: str) -> None:
        """Forget it."""
        await self.client.command("HDEL", self.client.keys.sign_ins, _digest(text), read=NUMBER)


def proof_of(text: str, token: str) -> str:
    """Return what proves that whoever got this text had the token."""
    return hmac.digest(text.encode(), token.encode(), "sha256").hex()


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
