"""Keeps tokens with limits to these: how many tasks they may schedule a second, and how many of their types may
wait."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis_scheduler.api.callers import Caller
from redis_scheduler.errors import Code, RequestRefused
from redis_scheduler.store.tokens import Taken, Tokens

Written = TypeVar("Written")


class Quotas:
    """Asks Redis before tasks are written. What this process has asked for and not yet written counts as if it were
    there, so requests at once do not pass the limit together; those of other processes may, by as many as are under
    way there."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._coming: dict[str, int] = {}

    async def within(self, caller: Caller | None, count: int, write: Callable[[], Awaitable[Written]]) -> Written:
        """Write so many tasks. Raises a 429 above the caller's rate, and a 507 where too many would wait."""
        if caller is None or not caller.is_limited:
            return await write()
        coming = self._coming.get(caller.id, 0)
        self._coming[caller.id] = coming + count
        try:
            taken, number = await self._tokens.take(caller.id, caller.token, count, coming)
            if taken is Taken.WAIT:
                error = f"The token {caller.id} may schedule {caller.token.rate:g} tasks a second: try again later"
                wait = {"Retry-After": str(math.ceil(number / 1000))}
                raise RequestRefused(Code.TOKEN_RATE, error, headers=wait)
            if taken is Taken.FULL:
                error = (
                    f"{number} tasks wait of the types of the token {caller.id}, which may have {caller.token.tasks}"
                )
                raise RequestRefused(Code.TOKEN_FULL, error)
            return await write()
        finally:
            self._coming[caller.id] -= count
            if not self._coming[caller.id]:
                del self._coming[caller.id]
