"""Idempotency-Key: a request that is sent again gets the answer of the first, and schedules nothing.

Redis keeps an id and a digest for each task of such a request, both made with a secret that the token gives: it holds
neither the header nor the body, and a client with another token never meets the ids of this one. What must be the same
is method and path, the type in the query, and the body byte for byte. In a batch each task has an id of its own, by its
place: a batch of which only a part was written goes on where it ended.
"""

import asyncio
import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping

from starlette.requests import Request

from redis_scheduler.api.callers import caller_of
from redis_scheduler.errors import Code, InvalidField, RequestRefused
from redis_scheduler.store.keys import IDS_MARK
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.written import OnceAnswer, OnceTask, StoredTask
from redis_scheduler.task.given import quoted

HEADER = b"idempotency-key"
"""In lower case, as the server gives names of headers."""

KEY_LENGTH = 255
_FIELD = "Idempotency-Key"

ROUNDS = 20_000
"""About 10 ms at the first such request: who reads the ids in Redis cannot try tokens by the million."""

_DIGEST_BYTES = 16


class Once:
    """The tasks of one request with an Idempotency-Key."""

    def __init__(self, secret: bytes, key: bytes, mac: str, ids_listed: str | None) -> None:
        self._secret = secret
        self.key = key
        self._mac = mac
        self._ids_listed = ids_listed

    def task(self, task: NewTask, place: int = 0) -> OnceTask:
        """Return a task of the request with its id; `place`: which of several it is, from 0."""
        id_of_task = _text(hmac.digest(self._secret, b"%d %b" % (place, self.key), "sha256"))
        return OnceTask(id_of_task, self._mac, task, self._ids_listed)


class Idempotency:
    """Makes the ids and digests of requests."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._secret = b""

    async def of(self, request: Request, given: Mapping[str, str], body: bytes) -> Once:
        """Return the Idempotency-Key of a request that has one. Raises InvalidField."""
        keys = [value for name, value in request.scope["headers"] if name == HEADER]
        if len(keys) > 1:
            got = " and ".join(quoted(key.decode("latin-1")) for key in keys[:2])
            raise InvalidField(_FIELD, f"is given twice, got {got}", Code.REPEATED_FIELD)
        [key] = keys
        if not (0 < len(key) <= KEY_LENGTH and all(0x21 <= byte <= 0x7E for byte in key)):
            got = quoted(key.decode("latin-1"))
            raise InvalidField(_FIELD, f"must be 1 to {KEY_LENGTH} visible ASCII characters, got {got}")
        if not self._secret:
            salt = b"redis-scheduler " + HEADER
            self._secret = await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", self._token.encode(), salt, ROUNDS)
        caller, secret = caller_of(request), self._secret
        if caller is not None:  # what others have given does not matter to it
            secret = hmac.digest(secret, caller.id.encode(), "sha256")
        mac = hmac.new(secret, digestmod="sha256")
        for part in (request.scope["path"].encode(), given.get("type", "").encode(), body):
            mac.update(b"%d " % len(part))
            mac.update(part)
        return Once(secret, key, _text(mac.digest()), None if caller is None else IDS_MARK + caller.id)


def _text(digest: bytes) -> str:
    return urlsafe_b64encode(digest[:_DIGEST_BYTES]).rstrip(b"=").decode()


def stored_by(answer: StoredTask | OnceAnswer, once: Once) -> StoredTask:
    """Return the task that is stored for an id of a request. Raises RequestRefused where this request stored none."""
    if answer is OnceAnswer.OTHER_CONTENT:
        raise RequestRefused(
            Code.IDEMPOTENCY_KEY_REUSED,
            f"{_FIELD}: was given before, with another body, path or type: give each request a key of its own, got "
            f"{quoted(once.key.decode('latin-1'))}",
            _FIELD,
        )
    if answer is OnceAnswer.TOKEN_FULL:
        raise RequestRefused(
            Code.IDEMPOTENCY_FULL,
            f"{_FIELD}: this token has as many kept as IDEMPOTENCY_BYTES leaves for others, and none is dropped before "
            "IDEMPOTENCY_TTL: try again later, without the header, or raise the setting",
            _FIELD,
        )
    if answer is OnceAnswer.FULL:
        raise RequestRefused(
            Code.IDEMPOTENCY_FULL,
            f"{_FIELD}: as many are kept as IDEMPOTENCY_BYTES allows, and none is dropped before IDEMPOTENCY_TTL: try "
            "again later, without the header, or raise the setting",
            _FIELD,
        )
    return answer
