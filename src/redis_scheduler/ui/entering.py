"""Who is signed in: a cookie holds a random text, under which Redis keeps whose sign-in it is (store/sign_ins.py).

The token itself is asked for at each request, so what is revoked, expired or changed counts within a second, and so
does a sign-out by any process. A token that is rotated ends what was signed in with the old text. A sign-in stands in
the first shard, or in the next one that answered then; its cookie says so. Without any nobody signs in; who looks at
pages then stays signed in, with a token with rights for as long as it is taken (TOKEN_GRACE).
"""

import contextlib
import re
import secrets
import time
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from redis_scheduler.api.admission import CONNECTION
from redis_scheduler.api.app import Inside
from redis_scheduler.api.callers import PREFIX, Caller
from redis_scheduler.api.headers import headers_of
from redis_scheduler.api.request_ids import REQUEST_ID
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.logs import Events
from redis_scheduler.store.joint import Joint
from redis_scheduler.store.sign_ins import OWN, SIGN_INS_MOST, SignIn, SignIns, proof_of

logger = Events(__name__)

COOKIE = "redis_scheduler"
SIGNED_IN_S = 12 * 3600

FRESH_S = 1.0
"""What Redis said of a sign-in counts for so long: one that was ended elsewhere is refused after this time."""

AWAY_S = 60.0
"""While Redis is away a sign-in counts if it was asked for within this time: before, somebody may have ended it."""

LATELY_S = 30.0
"""With one sign-in all are asked for that came within this time: pages ask again and again."""

_FORM = re.compile(r"[A-Za-z0-9_-]{43}(?:\.([1-9]|1[0-4]))?")
"""What a cookie holds; at its end the shard that keeps it, where that is not the first."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks: by a token with rights, or (None) the service's own; from where, and by which request."""

    caller: Caller | None
    client: tuple[str, int] | None = None
    request_id: bytes = b""

    @property
    def name(self) -> str:
        """How pages call it."""
        return "the service's own token" if self.caller is None else f"{self.caller.token.name} ({self.caller.id})"

    @property
    def sight(self) -> tuple[int, tuple[str, ...]] | None:
        """What it may see: pages are made once for all who may see the same."""
        return None if self.caller is None else (self.caller.rights, tuple(sorted(self.caller.types)))

    @property
    def rights(self) -> int:
        """Its rights; -1: all."""
        return -1 if self.caller is None else self.caller.rights


@dataclass(slots=True)
class _Known:
    """What Redis said of a sign-in; times by the monotonic clock."""

    sign_in: SignIn
    shard: int
    fresh_until: float
    usable_until: float
    ends_at: float
    seen_at: float
    """When its cookie came last."""

    def use_without_redis(self) -> bool:
        """Let it count for AWAY_S more, while Redis is away and nobody can end it; return False if it counts no more,
        since nobody asked for it in that time."""
        now = time.monotonic()
        if now >= self.usable_until:
            return False
        self.usable_until = min(now + AWAY_S, self.ends_at)
        return True


class Entrance:
    """Signs in and out, and knows who is."""

    def __init__(self, inside: Inside, path: str) -> None:
        self._inside = inside
        self._path = path
        self._known: dict[str, _Known] = {}
        self._asking: dict[int, Joint[None]] = {}

    async def visitor(self, request: Request) -> Visitor | None:
        """Return who is signed in; None: nobody. Raises StoreUnavailable where that cannot be said."""
        text = _cookie_of(request)
        if (place := self._place_of(text)) is None or (sign_in := await self._of(text, place)) is None:
            return None
        caller = None
        if sign_in.whose == OWN:
            if not any(_is_by(token, text, sign_in) for token in self._inside.tokens):
                return None
        else:
            token_id = sign_in.whose.encode()
            caller = await self._inside.callers.of_id(token_id, lambda digest: _is_by(digest, text, sign_in))
            if caller is None:
                return None
        _become_known(request, "" if caller is None else caller.id)
        return Visitor(caller, request.scope.get("client"), request.scope.get(REQUEST_ID, b""))

    def _place_of(self, text: str) -> SignIns | None:
        """Return the sign-ins of the shard that keeps this one, if it is one."""
        found, clients = _FORM.fullmatch(text), self._inside.clients
        return SignIns(clients[number]) if found and (number := int(found[1] or 0)) < len(clients) else None

    async def _of(self, text: str, place: SignIns) -> SignIn | None:
        """Return a sign-in, as Redis says now, or said a moment ago, or before it was away."""
        known = self._known.get(text)
        if known is not None:
            known.seen_at = time.monotonic()
            if known.seen_at < known.fresh_until:
                return known.sign_in
        try:
            if known is not None:
                await self._refresh(place)
                if (found := self._known.get(text)) is not None and time.monotonic() < found.fresh_until:
                    return found.sign_in
            sign_in = await place.find(text)
        except StoreUnavailable:
            if known is not None and known.use_without_redis():
                return known.sign_in
            if any(not client.outage.is_away for client in self._inside.clients) and place.client.outage.is_away:
                return None  # another shard takes a new one
            raise
        if sign_in is None:
            self._known.pop(text, None)
            return None
        if len(self._known) >= SIGN_INS_MOST:
            self._known.clear()
        now = time.monotonic()
        ends_at = now + sign_in.left_ms / 1000
        fresh_until, usable_until = min(now + FRESH_S, ends_at), min(now + AWAY_S, ends_at)
        self._known[text] = _Known(sign_in, place.client.keys.shard, fresh_until, usable_until, ends_at, now)
        return sign_in

    async def _refresh(self, place: SignIns) -> None:
        """Learn which of the sign-ins that came lately a shard still keeps: all who look cost one command a second.
        Raises StoreUnavailable, to all who wait for the same answer."""
        asking = self._asking.setdefault(place.client.keys.shard, Joint("sign-ins"))
        await asking.answer(partial(self._ask, place))

    async def _ask(self, place: SignIns) -> None:
        now, shard = time.monotonic(), place.client.keys.shard
        asked = {
            text: one
            for text, one in self._known.items()
            if one.shard == shard and now < min(one.seen_at + LATELY_S, one.ends_at)
        }
        if not asked:
            return
        kept = await place.are_kept(list(asked), [one.sign_in for one in asked.values()])
        for (text, one), is_kept in zip(asked.items(), kept, strict=True):
            if is_kept:
                one.fresh_until = min(now + FRESH_S, one.ends_at)
                one.usable_until = min(now + AWAY_S, one.ends_at)
            elif self._known.get(text) is one:
                del self._known[text]

    async def enter(self, request: Request, fields: dict[str, str]) -> str | None:
        """Return the cookie for a form with a token; None for a token that is wrong, which is counted. What the
        browser was signed in with before ends, if its shard is there. Raises RequestRefused for one that has expired,
        StoreUnavailable."""
        given = fields.get("token", "").strip().encode()
        for own in self._inside.tokens:
            if compare_digest(given, own.encode()):
                return await self._cookie(OWN, own, request, fields)
        caller = await self._inside.callers.ask(given) if given.startswith(PREFIX) else None
        if caller is None:
            self._inside.note_refused(request.scope)
            return None
        return await self._cookie(caller.id, sha256(given).hexdigest(), request, fields)

    async def _cookie(self, whose: str, token: str, request: Request, fields: dict[str, str]) -> str:
        with contextlib.suppress(StoreUnavailable):
            await self.leave(request)
        text = await self._begin(whose, token)
        secure = "" if is_at_loopback(request, fields.get("origin", "")) else "; Secure"
        return f"{COOKIE}={text}; Path={self._path}; Max-Age={SIGNED_IN_S}; HttpOnly; SameSite=Strict{secure}"

    async def _begin(self, whose: str, token: str) -> str:
        """Keep a new sign-in in the first shard that takes it; return the text of its cookie."""
        error: StoreUnavailable | None = None
        for number, client in sorted(enumerate(self._inside.clients), key=lambda one: one[1].outage.is_away):
            # A text of its own: the shard before may have taken the other, and no sign-out would end that.
            text = secrets.token_urlsafe(32) + (f".{number}" if number else "")
            try:
                dropped = await SignIns(client).begin(text, whose, token, SIGNED_IN_S * 1000)
            except StoreUnavailable as found:
                error = error or found
            else:
                if dropped:
                    logger.warning("sign-ins-dropped", sign_ins=dropped, most=SIGN_INS_MOST)
                return text
        raise error or StoreUnavailable

    async def leave(self, request: Request) -> None:
        """End the sign-in of a request, if it has one. Raises StoreUnavailable."""
        text = _cookie_of(request)
        self._known.pop(text, None)
        if (place := self._place_of(text)) is not None:
            await place.end(text)

    def without_cookie(self) -> str:
        """Return what takes the cookie from the browser."""
        return f"{COOKIE}=; Path={self._path}; Max-Age=0; HttpOnly; SameSite=Strict"


def _is_by(token: str, text: str, sign_in: SignIn) -> bool:
    return compare_digest(proof_of(text, token), sign_in.proof)


def _cookie_of(request: Request) -> str:
    """Return what our cookie holds, the last of that name; empty without one. Not by http.cookies: Python before
    3.11.10 and 3.12.6 takes seconds for a head full of backslashes, which any stranger may send (CVE-2024-7592)."""
    text = headers_of(request.scope).get(b"cookie", b"").decode("latin-1")
    pairs = (one.partition("=") for one in text.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}.get(COOKIE, "")


def is_at_loopback(request: Request, origin: str) -> bool:
    """Whether the browser asks at loopback over http, by what it says of the page (if it says it), and by Host."""
    headers = {name: value.decode("latin-1") for name, value in headers_of(request.scope).items()}
    if "https" in headers.get(b"x-forwarded-proto", "").lower() or not is_loopback(headers.get(b"host", "")):
        return False
    # A proxy may ask by a Host of its own: what the browser says of the page counts as well.
    named = [urlsplit(one) for one in (origin, headers.get(b"origin", "")) if one.startswith(("http://", "https://"))]
    return all(one.scheme == "http" and is_loopback(one.netloc) for one in named)


def is_loopback(host: str) -> bool:
    """Whether a Host names this machine for its own programs."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _become_known(request: Request, token_id: str) -> None:
    """Note that the connection is no stranger's."""
    connection: Any = request.scope.get("state", {}).get(CONNECTION)
    if connection is not None and connection.is_stranger:
        connection.become_known(token_id)
