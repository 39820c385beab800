"""Reads the bytes of a body: of the right type, no more than may come, and not too deep for receivers to read."""

import asyncio
from itertools import accumulate

from starlette.requests import ClientDisconnect, Request

from redis_scheduler.api.headers import headers_of
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, RequestRefused
from redis_scheduler.task.given import quoted

NESTING_LIMIT = 128
"""Levels of a body that receivers' parsers take: serde_json, the strictest of the common ones, stops there."""

EMPTY = (b"", b"{}", b"null")
"""Bodies that say nothing. Some clients send one with each request."""

EMPTY_BYTES = 64
"""A longer one says something."""


def has_body(request: Request) -> bool:
    """Whether a body comes with the request, or may come."""
    headers = headers_of(request.scope)
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip() != b"0"


async def check_is_empty(request: Request) -> None:
    """Raise InvalidRequest for a body that says something, where none is taken: a filter in it would be passed over."""
    body, has_more = b"", True
    while has_more and len(body) <= EMPTY_BYTES:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
    if has_more or body.strip() not in EMPTY:
        error = "The body would be passed over: leave it out, since this route takes only a path and a query"
        raise InvalidRequest(Code.UNEXPECTED_BODY, error)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body. Raises 413 before it is read whole, 415 for another type. The server limits its time."""
    headers = headers_of(request.scope)
    content_type, encoding = headers.get(b"content-type"), headers.get(b"content-encoding")
    if content_type and content_type != b"application/json" and not _is_json(content_type):
        got = quoted(content_type.decode("latin-1"))
        raise InvalidField("Content-Type", f"must be application/json, in UTF-8, got {got}", Code.UNSUPPORTED_CONTENT)
    if encoding and encoding.lower() != b"identity":
        got = quoted(encoding.decode("latin-1"))
        raise InvalidField("Content-Encoding", f"must be identity, got {got}", Code.UNSUPPORTED_CONTENT)
    # The server has checked that the length is a number of 64 bits, perhaps with blanks behind it: before its last 20
    # digits there are zeros only, which may be more than int() takes.
    is_too_large = int(headers.get(b"content-length", b"0").strip()[-20:]) > limit
    pieces: list[bytes] = []
    size, has_more = 0, True
    while has_more and not is_too_large:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        has_more = message.get("more_body", False)
        is_too_large = size > limit
    if is_too_large:
        raise RequestRefused(Code.BODY_TOO_LARGE, f"The body is larger than {limit} bytes")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _is_json(content_type: bytes) -> bool:
    """Whether it is application/json, in UTF-8 if it names a charset. Other parameters do not matter."""
    media_type, *given = (part.strip() for part in content_type.lower().split(b";"))
    charsets = [part.removeprefix(b"charset=").strip(b'"') for part in given if part.startswith(b"charset=")]
    return media_type == b"application/json" and all(charset in (b"utf-8", b"utf8") for charset in charsets)


TOO_DEEP = f"The body is nested more than {NESTING_LIMIT} levels deep"
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[{]}"'))
_LEVELS = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")
"""An opening bracket goes one level deeper, a closing one goes back: -1, as a signed byte."""

SLICE_BYTES = 65_536
"""So much of a body is looked at in one go, while the rest of the service waits."""

BLOCK_BYTES = 128
"""So many brackets are counted at once; they are walked one by one only where they could be too deep."""


def may_be_deep(body: bytes) -> bool:
    """Whether valid JSON needs `check_nesting`: it is long, or has many brackets."""
    size = len(body)
    return size > NESTING_LIMIT and (size > SLICE_BYTES or body.count(b"[") + body.count(b"{") > NESTING_LIMIT)


async def check_nesting(body: bytes, most: int = NESTING_LIMIT) -> None:
    """Raise InvalidRequest if valid JSON is nested in more than so many levels."""
    brackets = start = 0
    while brackets <= most:
        if start >= len(body):
            return
        end = start + SLICE_BYTES
        brackets += body.count(b"[", start, end) + body.count(b"{", start, end)
        start = end
    depth = start = inside = 0
    while start < len(body):
        piece = body[start : start + SLICE_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = piece[:-1]  # an escape is not cut in two
        start += len(piece)
        unescaped = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        # Where one string ends and the next begins, nothing is lost by making one of them.
        parts = unescaped.translate(None, _NO_STRUCTURE).replace(b'""', b"").split(b'"')
        depth = _walk(b"".join(parts[inside::2]).translate(_LEVELS), depth, most)
        inside = (inside + len(parts) - 1) % 2
        if start < len(body):
            await asyncio.sleep(0)


def _walk(levels: bytes, depth: int, most: int) -> int:
    """Return the depth after these brackets. Raises InvalidRequest if they go too deep."""
    for start in range(0, len(levels), BLOCK_BYTES):
        block = levels[start : start + BLOCK_BYTES]
        opening = block.count(1)
        if depth + opening > most and depth + max(accumulate(memoryview(block).cast("b"))) > most:
            raise InvalidRequest(Code.TOO_DEEP, f"The body is nested more than {most} levels deep")
        depth += 2 * opening - len(block)
    return depth
