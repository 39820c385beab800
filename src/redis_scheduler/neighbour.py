"""Whether another deployment uses the same database: each would deliver the other's tasks, with its own token.

Whoever starts leaves a mark of its token in Redis, and looks at the one that was there. The mark is a salted hash: it
says whether a token is the same, and nothing of what it is.
"""

import asyncio
import hashlib
import hmac
import secrets
import socket

from redis_scheduler import keys
from redis_scheduler.redis_client import RedisClient

ROUNDS = 20_000
"""About 10 ms a token: no start waits for it, and who reads the mark tries no words by the million."""

_SALT_BYTES, _MARK_BYTES = 16, 16


async def stranger(client: RedisClient, token: str) -> str | None:
    """Leave this deployment's mark; return the name of the machine where a process with another token started last.

    None where the last one had this token, where there was none, or where Redis refuses it: this can be done without.
    """
    mark = await asyncio.to_thread(_mark, token, secrets.token_hex(_SALT_BYTES))
    found = await client.optional("SET", keys.TOKEN_MARK, f"{mark} {socket.gethostname()}", "GET")
    last, _, host = (found or b"").decode(errors="replace").partition(" ")
    salt, has_salt, _ = last.partition(":")
    if not has_salt or hmac.compare_digest(last.encode(), (await asyncio.to_thread(_mark, token, salt)).encode()):
        return None
    return host or "an unknown machine"


def _mark(token: str, salt: str) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", token.encode(), salt.encode(), ROUNDS, _MARK_BYTES)
    return f"{salt}:{digest.hex()}"
