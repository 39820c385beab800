"""Who asks with a token that has rights: found in Redis by its id, kept for a second, and for longer while Redis is
away."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import TypeVar

from msgspec import UNSET
from starlette.requests import Request
from starlette.types import Scope

from redis_scheduler.api.batcher import Batcher
from redis_scheduler.api.bodies import UpdateRequest
from redis_scheduler.api.diagnosis import within
from redis_scheduler.errors import Code, InvalidField, RequestRefused, StoreUnavailable
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.token import FORM, RIGHTS, Right, Token
from redis_scheduler.store.tokens import TOKENS_MOST, Tokens
from redis_scheduler.task.alert import ALERT_TYPE
from redis_scheduler.task.given import quoted
from redis_scheduler.task.options import CALLBACKS, Options
from redis_scheduler.task.record import DEFAULT_TYPE
from redis_scheduler.task.summary import Summary

CALLER = "caller"
"""The name of a request's caller in its ASGI scope. It has none if it carries the service's own token."""

PREFIX = b"rs_"
"""The text of a token with rights begins so."""

FRESH_S = 1.0
"""What Redis said of a token counts for so long: a token that is revoked is refused after this time."""

NOTED_S = 60.0
"""A process notes the use of a token so often."""

SILENT_S = 0.2
"""Redis has so long to tell of a token. If it does not, what it told within the grace counts for another second."""

IDS_A_CALL = 200

_HOW = ": `token create --limit-keys` says which it may give"


@dataclass(frozen=True, slots=True)
class Caller:
    """A token with rights that a request carries."""

    id: str
    rights: int
    types: frozenset[str]
    """It sees and changes only tasks of these types; empty: of all."""
    token: Token

    @property
    def is_limited(self) -> bool:
        """Whether it must ask before it schedules."""
        return bool(self.token.rate or self.token.tasks or self.token.task_bytes)

    def sees(self, type_name: str | None) -> bool:
        """Whether tasks of this type (None: the default) are there for it: alerts only for whoever may admin all."""
        if not self.types:
            return type_name != ALERT_TYPE or bool(self.rights & Right.ADMIN)
        return (type_name or DEFAULT_TYPE) in self.types and type_name != ALERT_TYPE

    def may_give(self, limit_key: str) -> bool:
        """Whether its tasks may be under this limit_key: a name that nobody gave it could be that of another."""
        if self.rights & Right.ADMIN and not self.types:
            return True
        return any(limit_key == one or limit_key.startswith(f"{one}:") for one in self.token.limit_keys)

    def refused(self, needs: int) -> RequestRefused:
        """Return the 403 for what needs more rights than it has."""
        names = " and ".join(name for name, right in RIGHTS.items() if right & needs & ~self.rights)
        return RequestRefused(Code.MISSING_RIGHT, f"The token {self.id} has not the right: {names}", "Authorization")


@dataclass(slots=True)
class _Known:
    """What is known of a token: `given`, its text as it was found genuine; times by the monotonic clock."""

    token: Token
    caller: Caller
    clock_ms: float
    """Redis' ms less those of the monotonic clock."""
    fresh_until: float
    usable_until: float
    ends_at: float
    given: bytes = b""
    noted_at: float = float("-inf")

    def is_of(self, given: bytes) -> bool:
        """Whether this text is its own, or was until it was rotated."""
        return self.token.is_of(given, round(time.monotonic() * 1000 + self.clock_ms))


class Callers:
    """The callers of one process. Only tokens that exist are kept, so strangers fill nothing."""

    def __init__(self, tokens: Tokens, grace_s: float) -> None:
        self._grace_s = grace_s
        self._outage = tokens.client.outage
        self._found = Batcher(tokens.find, IDS_A_CALL)
        self._known: dict[bytes, _Known] = {}

    def known(self, given: bytes) -> Caller | None:
        """Return the caller with this token if it was found within the last second; None: ask."""
        known = self._known.get(given[3:13])
        if known is not None and time.monotonic() < known.fresh_until and compare_digest(given, known.given):
            return known.caller
        return None

    async def ask(self, given: bytes) -> Caller | None:
        """Return the caller with this token; None if there is none. Raises a 401 for one that has expired, and
        StoreUnavailable while Redis is away and the token was not seen within the grace."""
        form = FORM.fullmatch(given)
        if form is None:
            return None
        token_id = form[1]
        before = self._known.get(token_id)
        known = await self._refreshed(token_id)
        if known is not None and known is before and not known.is_of(given) and not self._outage.is_away:
            known = await self._asked(token_id)  # it may just have been rotated
        now = time.monotonic()
        if known is None or not known.is_of(given):
            return None
        if now >= known.ends_at:
            raise RequestRefused(Code.UNAUTHORIZED, f"The token {known.caller.id} has expired", "Authorization")
        known.given = given
        if now >= known.noted_at + NOTED_S and not self._outage.is_away:
            known.noted_at = now
            # Nobody waits for it; its error is one of a look-up, which the next one meets, too.
            self._found.submit((token_id.decode(), 1)).add_done_callback(lambda done: done.exception())
        return known.caller

    async def of_id(self, token_id: bytes, is_of: Callable[[str], bool]) -> Caller | None:
        """Return the caller whose token has this id, if `is_of` takes the digest of the token's text, or the one before
        it was rotated; None if there is none, or it has expired. Raises StoreUnavailable as `ask` does."""
        known = await self._refreshed(token_id)
        if known is None or time.monotonic() >= known.ends_at:
            return None
        now_ms = time.monotonic() * 1000 + known.clock_ms
        was_own = now_ms < known.token.before_until and is_of(known.token.before)
        return known.caller if is_of(known.token.digest) or was_own else None

    async def _refreshed(self, token_id: bytes) -> _Known | None:
        """Return what is known of a token, as Redis says now, or said a moment ago; of none: None."""
        known, now = self._known.get(token_id), time.monotonic()
        if known is not None and (now < known.fresh_until or (self._outage.is_away and now < known.usable_until)):
            return known
        return await self._asked(token_id)

    async def _asked(self, token_id: bytes) -> _Known | None:
        """Return what Redis says of a token, or said within the grace where it is away."""
        known, now = self._known.get(token_id), time.monotonic()
        is_usable = known is not None and now < known.usable_until
        try:
            async with asyncio.timeout(SILENT_S if is_usable else None):
                now_ms, token = await self._found.submit((token_id.decode(), 0))
        except (StoreUnavailable, TimeoutError):
            if known is None or not is_usable:
                raise
            known.fresh_until = min(now + FRESH_S, known.usable_until, known.ends_at)
            return known
        if token is None:
            self._known.pop(token_id, None)
            return None
        return self._keep(token_id, token, now_ms)

    def _keep(self, token_id: bytes, token: Token, now_ms: int) -> _Known:
        before, now = self._known.get(token_id), time.monotonic()
        ends_at = now + (token.expires - now_ms) / 1000
        caller = Caller(token_id.decode(), int(token.rights), frozenset(token.types), token)
        known = _Known(
            token,
            caller,
            now_ms - now * 1000,
            min(now + FRESH_S, ends_at),
            now + max(FRESH_S, self._grace_s),
            ends_at,
        )
        if before is not None:
            known.noted_at = before.noted_at
        elif len(self._known) >= TOKENS_MOST:
            self._known.clear()
        self._known[token_id] = known
        return known


def caller_of(request: Request) -> Caller | None:
    """Return who asks; None if that is the service's own token."""
    return caller_in(request.scope)


def whose(request: Request) -> str:
    """Return the id of the token that asks, by which tokens take turns; nothing of the service's own token."""
    caller = caller_in(request.scope)
    return "" if caller is None else caller.id


def caller_in(scope: Scope) -> Caller | None:
    """Return who asks; None if that is the service's own token."""
    caller: Caller | None = scope.get(CALLER)
    return caller


def may_see_all(caller: Caller | None) -> bool:
    """Whether answers may name the addresses of errors, and the tokens whose tasks they show."""
    return caller is None or bool(caller.rights & Right.ADMIN)


def may_see_hosts(caller: Caller | None) -> bool:
    """Whether answers may tell what runs for a host, of all tokens together."""
    return caller is None or bool(caller.rights & Right.METRICS)


def refuse_without(caller: Caller | None, needs: Right) -> None:
    """Raise a 403 for a caller that has not these rights."""
    if caller is not None and needs & ~caller.rights:
        raise caller.refused(needs)


Seen = TypeVar("Seen", bound=Stored | Summary | None)


def visible(caller: Caller | None, found: Seen) -> Seen | None:
    """Return a task, as it stands or as it ended; None where its type is not the caller's: it is not there for it."""
    if caller is None or found is None:
        return found
    return found if caller.sees(found.type if isinstance(found, Summary) else found.record.type) else None


def refuse_other_type(caller: Caller, name: str) -> None:
    """Raise a 403 for a type that is not the caller's."""
    if not caller.sees(name):
        rule = f"one of the token's ({', '.join(sorted(caller.types))})" if caller.types else "one that it may see"
        error = f"must be {rule}, got {quoted(name)}"
        raise InvalidField("type", error, Code.OTHER_TYPE)


def taken_key(key: str) -> InvalidField:
    """Return the 403 for the own key of a task of a type that is not the caller's."""
    return InvalidField(
        "key", f"is that of a task of another type than the token's, got {quoted(key)}", Code.OTHER_TYPE
    )


def refuse_others(caller: Caller, type_name: str | None, wanted: Options | UpdateRequest) -> None:
    """Raise a 403 for a task whose type or limit_key is not the caller's, or with such a callback."""
    if caller.types:
        refuse_other_type(caller, type_name or DEFAULT_TYPE)
    refuse_other_options(caller, wanted)


def refuse_other_options(caller: Caller | None, wanted: Options | UpdateRequest) -> None:
    """Raise a 403 for a limit_key that is not the caller's, and for a callback, at any depth, with such a one or of
    another type."""
    if caller is None:
        return
    if isinstance(wanted.limit_key, str) and not caller.may_give(wanted.limit_key):
        own = ", ".join(caller.token.limit_keys)
        rule = f"must be one of the token's ({own}), or begin with one and `:`" if own else "is not for this token"
        raise InvalidField("limit_key", f"{rule}, got {quoted(wanted.limit_key)}{_HOW}", Code.OTHER_LIMIT_KEY)
    for name in CALLBACKS:
        callback = getattr(wanted, name)
        if callback is not UNSET and callback is not None:
            with within(name):
                refuse_others(caller, None if callback.type is UNSET else callback.type, callback)


def refuse_other_way(caller: Caller | None, options: Options, wanted: UpdateRequest) -> None:
    """Raise a 403 for another webhook of a task that keeps a limit_key which the caller may not give."""
    if caller is None or not wanted.webhook or wanted.limit_key is not UNSET:
        return
    if isinstance(kept := options.limit_key, str) and not caller.may_give(kept):
        problem = f"is {quoted(kept)}, under which this token may bring no other webhook{_HOW}"
        raise InvalidField("limit_key", problem, Code.OTHER_LIMIT_KEY)
