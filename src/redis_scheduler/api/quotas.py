"""Keeps tokens with limits to these: how many tasks they may schedule a second, and how many tasks and bytes of them
may wait.

An engine's own step is never refused: what is accepted goes on, also where retries, callbacks and occurrences of a
series bring more than a token may have. Nor is what API_AUTH does to a token's task.
"""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from itertools import count
from typing import TypeVar

from redis_scheduler.api.callers import Caller, may_see_all
from redis_scheduler.api.places import SILENT_S, Places
from redis_scheduler.api.shares import Shares
from redis_scheduler.errors import Code, RequestRefused, StoreFull, StoreUnavailable
from redis_scheduler.store.token import Token
from redis_scheduler.store.tokens import NO_SHARE, UNTOLD, Coming, Share, Taken, Tokens, sum_of

Written = TypeVar("Written")
Write = Callable[[], Awaitable[Written]]


class Quotas:
    """Asks Redis before tasks are written. What was asked for and is not yet written counts as if it were there, so
    requests at once do not pass the limit together; of other processes, too, which tell it in Redis. `tokens`: where
    they are kept. All this is counted in the first shard, and while that is away in the next one."""

    def __init__(self, tokens: Tokens, places: Places) -> None:
        self._tokens = tokens
        self._shares = Shares(places)
        self._coming: dict[str, Share] = {}
        self._process, self._numbers = secrets.token_hex(4), count(1)
        self._told: set[str] = set()
        """Of which tokens others count what is coming."""

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
        calls, others, tells = self._shares.counting, NO_SHARE, bool(token.tasks or token.task_bytes)
        tokens = Tokens(calls.writes.client)
        coming = self._coming.get(token_id, NO_SHARE)
        more = Share(max(0, share.tasks), max(0, share.bytes))
        self._coming[token_id] = sum_of((coming, more))
        try:
            if tells:
                others = await self._shares.elsewhere(token_id, calls.number)
            beside, told = sum_of((coming, others)), self._to_tell(token_id) if tells else UNTOLD
            taken, number, waiting = await tokens.take(token_id, token, share, beside, rated, told)
            self._shares.note(calls.number, token_id, waiting)
            if taken is Taken.TASKS:
                number += others.tasks
            elif taken is Taken.BYTES:
                number += others.bytes
            if taken is not Taken.TAKEN:
                raise _refused(name, token, taken, number)
            if tells:
                self._told.add(token_id)
            yield
        finally:
            # There is no entry any more where this one brought nothing more, and all others have ended.
            left = self._coming.pop(token_id, NO_SHARE)
            if left != more:
                self._coming[token_id] = Share(left.tasks - more.tasks, left.bytes - more.bytes)
            elif token_id in self._told:
                self._told.remove(token_id)
                # Before the answer: whoever asks next, by another process, has the room that is left.
                with suppress(StoreUnavailable, StoreFull, TimeoutError):
                    async with asyncio.timeout(SILENT_S):
                        await tokens.take(token_id, token, NO_SHARE, NO_SHARE, 0, self._to_tell(token_id))

    def _to_tell(self, token_id: str) -> Coming:
        """Return what other processes are to count of this one."""
        return Coming(self._process, next(self._numbers), self._coming.get(token_id, NO_SHARE))


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
