"""Keeps tokens with limits to these: how many tasks they may schedule a second, and how many tasks and bytes of them
may wait.

An engine's own step is never refused: what is accepted goes on, also where retries, callbacks and occurrences of a
series bring more than a token may have. Nor is what API_AUTH does to a token's task.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TypeVar

from redis_scheduler.api.callers import Caller, may_see_all
from redis_scheduler.api.places import Places
from redis_scheduler.api.shares import Shares
from redis_scheduler.errors import Code, RequestRefused
from redis_scheduler.store.token import Token
from redis_scheduler.store.tokens import NO_SHARE, Share, Taken, Tokens, sum_of

Written = TypeVar("Written")
Write = Callable[[], Awaitable[Written]]


class Quotas:
    """Asks Redis before tasks are written. What this process has asked for and not yet written counts as if it were
    there, so requests at once do not pass the limit together; those of other processes may, by as many as are under
    way there. `tokens`: where they are kept. A rate is counted in the first shard, and while that is away in the next
    one."""

    def __init__(self, tokens: Tokens, places: Places) -> None:
        self._tokens = tokens
        self._shares = Shares(places)
        self._coming: dict[str, Share] = {}

    async def within(self, caller: Caller | None, share: Share, write: Write[Written], rated: int = 0) -> Written:
        """Write what a caller has that much more waiting with; `rated` tasks of it count towards its rate. Raises a 429
        above the rate, and a 507 where too much would wait."""
        if caller is None or not caller.is_limited:
            return await write()
        async with self._held(caller.id, caller.token, share, rated, caller.id):
            return await write()

    async def rated(self, caller: Caller | None, count: int) -> None:
        """Count so many dead letters that come back towards a caller's rate: each is delivered as a new task is. Raises
        a 429 above it."""
        if caller is not None and caller.token.rate and count:
            tokens = Tokens(self._shares.counting.writes.client)
            taken, number, _ = await tokens.take(caller.id, caller.token, NO_SHARE, NO_SHARE, count)
            if taken is not Taken.TAKEN:
                raise _refused(caller.id, caller.token, taken, number)

    async def of_its_token(
        self, caller: Caller | None, token_id: str | None, share: Share
    ) -> AbstractAsyncContextManager[None]:
        """Return what is held while a task is changed, by which the token whose task it is has that much more waiting.
        Entered, it raises a 507 where that is too much, whoever of the tokens asks."""
        if caller is None or token_id is None or (share.tasks <= 0 and share.bytes <= 0):
            return nullcontext()
        token: Token | None = caller.token
        if token_id != caller.id:
            [(_, token)] = await self._tokens.find([(token_id, 0)])
        if token is None or not (token.tasks or token.task_bytes):
            return nullcontext()
        name = token_id if token_id == caller.id or may_see_all(caller) else "whose task it is"
        return self._held(token_id, token, share, 0, name)

    @asynccontextmanager
    async def _held(self, token_id: str, token: Token, share: Share, rated: int, name: str) -> AsyncIterator[None]:
        coming = self._coming.get(token_id, NO_SHARE)
        more = Share(max(0, share.tasks), max(0, share.bytes))
        self._coming[token_id] = sum_of((coming, more))
        try:
            calls, others = self._shares.counting, NO_SHARE
            if token.tasks or token.task_bytes:
                others = await self._shares.elsewhere(token_id, calls.number)
            beside = sum_of((coming, others))
            tokens = Tokens(calls.writes.client)
            taken, number, waiting = await tokens.take(token_id, token, share, beside, rated)
            self._shares.note(calls.number, token_id, waiting)
            if taken is Taken.TASKS:
                number += others.tasks
            elif taken is Taken.BYTES:
                number += others.bytes
            if taken is not Taken.TAKEN:
                raise _refused(name, token, taken, number)
            yield
        finally:
            # There is no entry any more where this one brought nothing more, and all others have ended.
            left = self._coming.pop(token_id, NO_SHARE)
            if left != more:
                self._coming[token_id] = Share(left.tasks - more.tasks, left.bytes - more.bytes)


def _refused(name: str, token: Token, taken: Taken, number: int) -> RequestRefused:
    match taken:
        case Taken.WAIT:
            error = f"The token {name} may schedule {token.rate:g} tasks a second: try again later"
            return RequestRefused(Code.TOKEN_RATE, error, headers={"Retry-After": str(math.ceil(number / 1000))})
        case Taken.TASKS:
            has, may = f"{number} tasks", f"{token.tasks} (tasks)"
        case _:
            has, may = f"{number} bytes of records", f"{token.task_bytes} (bytes)"
    return RequestRefused(Code.TOKEN_FULL, f"{has} of the token {name} wait, which may have {may}: nothing was changed")
