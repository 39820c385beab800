"""What an attempt came to. delivery makes it, retry.py decides by it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """How an attempt went: no error is a success. `status` is None when there was no answer.

    `answer` and `headers`: of an answer that is no success, the beginning of its body, and its headers by their names
    in lower case; of a success only AGAIN_HEADER (answer.py). `is_local`: this machine is at fault, without free
    sockets or memory; no request was made, so it counts as no attempt.
    """

    error: str | None
    status: int | None
    elapsed_ms: int
    is_local: bool = False
    answer: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
