"""What an attempt came to. delivery makes it, retry.py decides by it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went: no error is a success. `status` is None when there was no answer.

    `answer`: the beginning of the body of an answer that is no success. `is_local`: this machine is at fault, without
    free sockets or memory; no request was made, so it counts as no attempt.
    """

    error: str | None
    status: int | None
    elapsed_ms: int
    is_local: bool = False
    answer: bytes = b""
