"""Who is signed in: a cookie that names a token by its id, signed, with an end; the token itself is asked for at each
request, so what is revoked, expired or changed counts within a second.

The service's own token is named by a keyed digest, a token with rights by its id and a keyed digest of what proves its
text: a token that is rotated ends what was signed in with the old text. Without Redis a token with rights is taken for
as long as the API takes it (TOKEN_GRACE).
"""

import hmac
import time
from dataclasses import dataclass
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from redis_scheduler.api.admission import CONNECTION
from redis_scheduler.api.app import Inside
from redis_scheduler.api.callers import PREFIX, Caller
from redis_scheduler.api.headers import headers_of

COOKIE = "redis_scheduler"
SIGNED_IN_S = 12 * 3600
COOKIE_LENGTH = 400
_OWN, _WITH_RIGHTS = "own", "rs"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks: by a token with rights, or (None) the service's own; and from where."""

    caller: Caller | None
    client: tuple[str, int] | None = None

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


class Entrance:
    """Signs in, and knows who is."""

    def __init__(self, inside: Inside, path: str) -> None:
        self._inside = inside
        self._path = path
        self._keys = [hmac.digest(token.encode(), b"redis-scheduler dashboard", "sha256") for token in inside.tokens]

    async def visitor(self, request: Request) -> Visitor | None:
        """Return who is signed in; None: nobody. Raises StoreUnavailable where that cannot be said."""
        parts = _cookie_of(request).split(".")
        if len(parts) != 5:
            return None
        kind, name, proof, end, mark = parts
        signed = f"{kind}.{name}.{proof}.{end}"
        if not any(hmac.compare_digest(_mark(key, signed), mark) for key in self._keys) or int(end) <= time.time():
            return None
        if kind == _OWN:
            if not any(hmac.compare_digest(_mark(key, _OWN), name) for key in self._keys):
                return None
            caller = None
        else:
            caller = await self._inside.callers.of_id(name.encode(), lambda digest: self._is_proof(digest, proof))
            if caller is None:
                return None
        _become_known(request)
        return Visitor(caller, request.scope.get("client"))

    def _is_proof(self, digest: str, proof: str) -> bool:
        return any(hmac.compare_digest(_mark(key, digest), proof) for key in self._keys)

    async def enter(self, request: Request, fields: dict[str, str]) -> str | None:
        """Return the cookie for a form with a token; None for a token that is wrong, which is counted. Raises
        RequestRefused for one that has expired, StoreUnavailable."""
        given = fields.get("token", "").strip().encode()
        key, end = self._keys[0], int(time.time()) + SIGNED_IN_S
        for own, own_key in zip(self._inside.tokens, self._keys, strict=True):
            if hmac.compare_digest(given, own.encode()):
                return self._cookie(f"{_OWN}.{_mark(own_key, _OWN)}.-.{end}", request, fields)
        caller = await self._inside.callers.ask(given) if given.startswith(PREFIX) else None
        if caller is None:
            self._inside.note_refused(request.scope)
            return None
        digest = sha256(given).hexdigest()
        return self._cookie(f"{_WITH_RIGHTS}.{caller.id}.{_mark(key, digest)}.{end}", request, fields)

    def _cookie(self, signed: str, request: Request, fields: dict[str, str]) -> str:
        secure = "" if is_at_loopback(request, fields.get("origin", "")) else "; Secure"
        value = f"{signed}.{_mark(self._keys[0], signed)}"
        return f"{COOKIE}={value}; Path={self._path}; Max-Age={SIGNED_IN_S}; HttpOnly; SameSite=Strict{secure}"

    def leaving(self) -> str:
        """Return the cookie that ends a sign-in."""
        return f"{COOKIE}=; Path={self._path}; Max-Age=0; HttpOnly; SameSite=Strict"


def _mark(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()[:40]


def _cookie_of(request: Request) -> str:
    text = headers_of(request.scope).get(b"cookie", b"").decode("latin-1")
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(text)
    except CookieError:
        return ""
    found = cookies[COOKIE].value if COOKIE in cookies else ""
    return found if found.isascii() and len(found) <= COOKIE_LENGTH else ""


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


def _become_known(request: Request) -> None:
    """Note that the connection is no stranger's: it is not closed for another."""
    connection: Any = request.scope.get("state", {}).get(CONNECTION)
    if connection is not None and connection.is_stranger:
        connection.become_known()
