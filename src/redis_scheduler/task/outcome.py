"""What an attempt came to. delivery makes it, retry.py decides by it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went: no error is a success. `status` is None when there was no answer.

    `answer`: how the answer's body begins, where it is no success. `is_local`: the fault is this machine's, which is
    out of sockets or memory; no request was made, and it counts as no attempt.
    """

    error: str | None
    status: int | None
    elapsed_ms: int
    is_local: bool = False
    answer: bytes = b""
