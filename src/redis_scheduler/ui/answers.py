"""Answers to browsers: each with the policy that they keep to, so that no text of a stranger is ever run."""

from collections.abc import Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.store.refusal import told

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

_ALWAYS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    # With no-referrer a browser would say `Origin: null` of our own forms.
    (b"referrer-policy", b"same-origin"),
]

NO_STORE = {"Cache-Control": "no-store"}


class PageAnswer(Response):
    """An answer with a body, and the headers that all have."""

    def __init__(
        self,
        body: str | bytes,
        status_code: int = 200,
        headers: Mapping[str, str] = NO_STORE,
        content_type: str = "text/html; charset=utf-8",
        cookies: Sequence[str] = (),
    ) -> None:
        self.body = body.encode(errors="replace") if isinstance(body, str) else body
        self.status_code = status_code
        self.raw_headers = [
            *_ALWAYS,
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", content_type.encode()),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
            *((b"set-cookie", cookie.encode()) for cookie in cookies),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as Starlette calls it
        """Send it; to HEAD without the body."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


def moved_to(place: str, cookies: Sequence[str] = ()) -> PageAnswer:
    """Return a 303: what to look at next."""
    return PageAnswer("", 303, {"Location": place, **NO_STORE}, cookies=cookies)


class PageRefused(Exception):
    """A request that gets a page with an error."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class Unavailable(StoreUnavailable):
    """What the API answered with a 503. Its text is meant for whoever asked."""


def said_of(error: StoreUnavailable | StoreFull) -> str:
    """Return what a person is told of an error."""
    return str(error) if isinstance(error, Unavailable | StoreFull) else told(error)
