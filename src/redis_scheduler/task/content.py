"""What a task was given to be sent. Its record keeps it as JSON, with the name that it was given by."""

from base64 import b64decode
from typing import Literal, get_args

import msgspec

from redis_scheduler.task.options import Options, format_of

Content = Literal["data", "body", "body_base64"]
"""JSON that is sent as it is, a text, or bytes in base64."""

CONTENTS: tuple[Content, ...] = get_args(Content)


def format_needed(options: Options, content: Content, token: str | None = None) -> int:
    """Return the record format that a worker must know for such a task; `token`: the id of the token whose it is."""
    return max(format_of(options), 1 if content == "data" and token is None else 2)


def content_bytes(content: Content, data: bytes | None) -> bytes:
    """Return what a delivery sends, from the JSON of the content. Raises ValueError for what foreign hands wrote."""
    if content == "data" or data is None:
        return data or b""
    text = msgspec.json.decode(data, type=str)
    return text.encode() if content == "body" else b64decode(text, validate=True)
