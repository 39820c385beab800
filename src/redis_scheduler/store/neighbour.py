"""Looks whether others use the same database: another deployment (each would deliver the other's tasks, with its own
token), or a program with keys of the same names.

A process that starts leaves a mark of its token in Redis, and looks at the mark before it. The mark is a salted hash:
it tells whether two tokens are the same, and nothing else.
"""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import socket

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.answer_shape import of
from redis_scheduler.store.audit import Finding, holds_no_mark, sample
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.refusal import TEXT_MOST

ROUNDS = 20_000
"""About 10 ms a token: no start waits for it, and a reader of the mark cannot try words by the million."""

_SALT_BYTES, _MARK_BYTES = 16, 16

_STRANGER = (
    "the last process that started on this Redis database, on {host}, had another API_AUTH. If that was not changed since, two "
    "deployments share the database, and each delivers the other's tasks with its own token: give each a NAMESPACE of its own, "
    "or a database (redis://host:6379/1)"
)

_NOT_OURS = (
    "Redis holds under this service's names what it did not write, or what other hands have changed: {first}{more}; "
    "`redis-scheduler doctor` looks at all of it"
)


async def neighbours(client: RedisClient, auth: str) -> list[str]:
    """Return warnings of signs that others use this database: another deployment, or a foreign program. `auth`: this
    deployment's token, or two with a space between."""
    warnings = [_STRANGER.format(host=host)] if (host := await stranger(client, *auth.split(" "))) else []
    faults: list[Finding] = []
    with contextlib.suppress(StoreRefused):  # it can be done without
        faults = await sample(client)
    if faults:
        more = f", and {len(faults) - 1} more in a sample" if len(faults) > 1 else ""
        warnings.append(_NOT_OURS.format(first=faults[0].text[:TEXT_MOST], more=more))
    return warnings


async def stranger(client: RedisClient, token: str, *others: str) -> str | None:
    """Leave this deployment's mark; return the name of the machine where a process with another token started last.

    None if the last one had this token (or one of the others), if there was none, or if Redis refuses the call: the
    service can do without. A value that is no mark is left as it is.
    """
    if await holds_no_mark(client):
        return None
    mark = await asyncio.to_thread(_mark, token, secrets.token_hex(_SALT_BYTES))
    found = await client.optional(
        "SET", client.keys.token_mark, f"{mark} {socket.gethostname()}", "GET", read=of(bytes | None)
    )
    last, _, host = (found or b"").decode(errors="replace").partition(" ")
    salt, has_salt, _ = last.partition(":")
    if not has_salt:
        return None
    for own in (token, *others):
        if hmac.compare_digest(last.encode(), (await asyncio.to_thread(_mark, own, salt)).encode()):
            return None
    return host or "an unknown machine"


def _mark(token: str, salt: str) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", token.encode(), salt.encode(), ROUNDS, _MARK_BYTES)
    return f"{salt}:{digest.hex()}"
