"""Asks the API as the token of a visitor would: pages show what it answers, and buttons do what it does. So rights,
types, checks and logs are those of the API, in one place."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from starlette.types import ASGIApp, Message, Scope

from redis_scheduler.api.answers import TRY_AGAIN
from redis_scheduler.api.callers import CALLER
from redis_scheduler.api.journal import BY_PERSON
from redis_scheduler.api.pages import LOOK
from redis_scheduler.api.request_ids import REQUEST_ID
from redis_scheduler.task.json_text import without_halves
from redis_scheduler.ui.answers import PageRefused, Unavailable
from redis_scheduler.ui.entering import Visitor

T = TypeVar("T")

_content = msgspec.json.Decoder(dict[str, Any])

NONE_GIVEN: Mapping[str, str] = MappingProxyType({})

LOOK_S = 0.1
"""So long a page looks for what its filters want: a browser asks again and again, and others' requests wait for it."""


class Answered(NamedTuple):
    """What the API answered: its status, and its body as it came."""

    status: int
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The body, read."""
        return self.read(_content)

    def read(self, decoder: msgspec.json.Decoder[T]) -> T:
        """Return what the body says. Half a surrogate pair in somebody's data, which the API takes and the decoder
        refuses, becomes another character: no such task takes a page from all the others."""
        try:
            return decoder.decode(self.body)
        except msgspec.DecodeError:
            return decoder.decode(without_halves(self.body))

    @property
    def error(self) -> str:
        """What is wrong; empty if nothing is."""
        return "" if self.status == 200 else str(self.content.get("error", ""))


def check(answered: Answered) -> None:
    """Raise Unavailable for a 503, PageRefused for another error."""
    if answered.status == 503:
        raise Unavailable(answered.error.removesuffix(TRY_AGAIN))
    if answered.status != 200:
        raise PageRefused(answered.status, answered.error)


def content_of(answered: Answered) -> dict[str, Any]:
    """Return what the API answered, read. Raises as `check` does."""
    check(answered)
    return answered.content


class Asker:
    """Asks the API behind its gate."""

    def __init__(self, api: ASGIApp) -> None:
        self._api = api

    async def ask(
        self,
        visitor: Visitor,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes = b"",
        given: Mapping[str, str] = NONE_GIVEN,
        look_s: float = LOOK_S,
    ) -> Answered:
        """Send a request, and return its answer. `path` is as the server gives it: not percent-encoded; `given`:
        further headers; `look_s`: for so long it looks for what filters want."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))] if body else []
        headers += [(name.lower().encode(), text.encode("utf-8")) for name, text in given.items()]
        scope: Scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": urlencode(query or {}).encode(),
            "headers": headers,
            "client": visitor.client,
            "state": {},
            BY_PERSON: True,
            REQUEST_ID: visitor.request_id,
            LOOK: look_s,
        }
        if visitor.caller is not None:
            scope[CALLER] = visitor.caller
        status, pieces = 500, []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                pieces.append(message.get("body", b""))

        await self._api(scope, receive, send)
        return Answered(status, b"".join(pieces))
