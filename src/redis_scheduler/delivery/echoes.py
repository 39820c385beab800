"""What receivers send back of what was sent to them: answers are kept, logged and shown without its secrets."""

import html
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

EXCERPT_LENGTH = 200
"""Characters that a line shows of a text from outside."""

KNOWN_LENGTH = 256
"""By so many first bytes a secret is found in a text."""

SECRETS_KNOWN = 64
"""So many secrets are kept as patterns."""

ESCAPES_KNOWN = 1_024
"""So many escapes are kept with what they mean."""

BEGINNING_LENGTH = 4
"""At the end of a text so many bytes of a secret's beginning are hidden; fewer tell nothing."""


def excerpt(content: bytes, secret: str) -> str:
    """Return the beginning of a text from outside, without a secret, as it may be logged: one line that no terminal
    takes for commands."""
    text = " ".join(without_secrets(content, (secret,)).decode(errors="replace").split())[:EXCERPT_LENGTH]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def without_secrets(content: bytes, secrets: Iterable[str]) -> bytes:
    """Return the beginning of an answer without secrets that were sent there.

    A secret is found in large and in small letters, where JSON, HTML or a URL has escaped some or all of it, and where
    the text ends in the middle of it. In another encoding, or with anything in between, it stays.
    """
    secrets = [secret for secret in secrets if secret]
    spans = [span for secret in secrets for span in _spans(content.lower(), secret)]
    if any(sign in content for sign in _SIGNS):
        spans += _escaped_spans(content, secrets)
    for start, end in reversed(_joined(spans)):
        content = content[:start] + b"***" + content[end:]
    return content


def _spans(read: bytes, secret: str) -> list[tuple[int, int]]:
    """Return from where to where a text, in small letters, is a form of the secret, or begins so at its end."""
    spans = [found.span() for found in _pattern_of(secret).finditer(read)]
    for form in _forms_of(secret):
        start = read.find(form[:BEGINNING_LENGTH], max(spans[-1][1] if spans else 0, len(read) - len(form)))
        while start >= 0:
            if form.startswith(read[start:]):
                return [*spans, (start, len(read))]
            start = read.find(form[:BEGINNING_LENGTH], start + 1)
    return spans


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans in their order, those in one that overlap."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


_SIGNS = (b"%", b"\\", b"&")
"""What escapes begin with."""

_ESCAPE = re.compile(
    rb"%[0-9a-fA-F]{2}|\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[\\/\"'])|&(?:#(?:[0-9]{1,10}|[xX][0-9a-fA-F]{1,8});?|\w{1,8};)"
)
_CUT = re.compile(rb"(?:%[0-9a-fA-F]?|\\(?:u[0-9a-fA-F]{0,3}|x[0-9a-fA-F]?)?|&#?\w{0,10})\Z")
"""An escape that the end of a text cuts off."""

CUT_LENGTH = 12
"""Bytes of the longest."""


def _escaped_spans(content: bytes, secrets: Iterable[str]) -> list[tuple[int, int]]:
    """Return from where to where a content means a secret by its escapes."""
    cut = _CUT.search(content, max(0, len(content) - CUT_LENGTH))
    whole = content[: cut.start()] if cut else content
    read = _ESCAPE.sub(lambda found: _meaning(found[0]), whole).lower()
    spans = [span for secret in secrets for span in _spans(read, secret)]
    if not spans:
        return []
    starts, at = list[int](), 0  # where in the content each byte begins that was read
    for found in _ESCAPE.finditer(whole):
        starts += [*range(at, found.start()), *[found.start()] * len(_meaning(found[0]))]
        at = found.end()
    starts += range(at, len(whole))
    return [(starts[start], starts[end] if end < len(starts) else len(content)) for start, end in spans]


@lru_cache(ESCAPES_KNOWN)
def _meaning(escape: bytes) -> bytes:
    if escape[:1] == b"%":
        return bytes([int(escape[1:], 16)])
    if escape[:1] == b"&":
        return html.unescape(escape.decode()).encode()
    return escape[1:] if len(escape) == len(b"\\/") else chr(int(escape[2:], 16)).encode(errors="surrogatepass")


@lru_cache(SECRETS_KNOWN)
def _forms_of(secret: str) -> tuple[bytes, ...]:
    """Return how a text may have a secret, in small letters. It was sent in Latin-1."""
    texts = {
        form
        for text in (secret, secret.lower(), secret.upper())
        for form in (text, text.replace("/", "\\/"), html.escape(text), quote(text, safe=""))
    }
    forms = {form.encode(encoding, "replace").lower() for form in texts for encoding in ("utf-8", "latin-1")}
    return tuple(forms)


@lru_cache(SECRETS_KNOWN)
def _pattern_of(secret: str) -> re.Pattern[bytes]:
    # A very long secret may be cut off at its end.
    patterns = [
        re.escape(form[:KNOWN_LENGTH]) + (rb"\S*" if len(form) > KNOWN_LENGTH else b"") for form in _forms_of(secret)
    ]
    return re.compile(b"|".join(patterns))
