"""What a browser sends: a form's fields, and from which page it comes."""

from urllib.parse import parse_qsl, urlsplit

from starlette.requests import ClientDisconnect, Request

from redis_scheduler.api.headers import headers_of
from redis_scheduler.ui.answers import PageRefused

FORM_BYTES = 262_144
STRANGERS_BYTES = 16_384
"""Of a form that is read before it is known who sends it: a stranger may open many connections."""

FIELDS_MOST = 64


def check_same_origin(request: Request) -> None:
    """Raise PageRefused unless a change is asked for by one of our own pages, as the browser says."""
    headers = headers_of(request.scope)
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        is_own = site == b"same-origin"
    else:
        origin = headers.get(b"origin", b"").decode("latin-1")
        is_own = bool(origin) and _host(origin) == headers.get(b"host", b"").decode("latin-1").lower()
    if not is_own:
        raise PageRefused(403, "Refused: this change was not asked for by a page of the dashboard itself")


def _host(origin: str) -> str | None:
    """Return host and port of an origin; None if it is no web page's."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") and parts.netloc else None


async def fields_of(request: Request, most: int = FORM_BYTES) -> dict[str, str]:
    """Return the fields of a form, the last of each name. Raises PageRefused for what is none, or has more bytes."""
    return pairs_of(await body_of(request, most, most))


async def body_of(request: Request, most: int, kept: int) -> bytes:
    """Return the first `kept` bytes of the body of a request: of the rest nothing is held. Raises PageRefused for a
    body of more than `most` bytes."""
    body, size, has_more = b"", 0, True
    while has_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        size += len(piece)
        if size > most:
            raise PageRefused(413, f"The body is larger than {most} bytes")
        body += piece[: kept - len(body)]
        has_more = message.get("more_body", False)
    return body


def query_of(request: Request) -> dict[str, str]:
    """Return the parameters of the address, without empty ones. Raises PageRefused."""
    return {name: value for name, value in pairs_of(request.scope["query_string"]).items() if value}


def pairs_of(text: bytes) -> dict[str, str]:
    """Return the pairs of a form or a query. Raises PageRefused."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MOST)
    except ValueError as error:
        raise PageRefused(
            400, "The form or the address is not percent-encoded UTF-8, or has too many fields"
        ) from error
    return dict(pairs)
