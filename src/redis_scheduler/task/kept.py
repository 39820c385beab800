"""How long, and how much, is kept of tasks that have ended."""

from dataclasses import dataclass

from redis_scheduler.task.attempts import ANSWER_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """DEAD_TTL and DEAD_BYTES, RESULT_TTL and RESULT_BYTES: what is older, or too much, is dropped, the oldest
    first."""

    dead_ttl_ms: int = 30 * 86_400_000
    """A dead letter is kept for so long after its death, or after the first start of a version that drops any."""

    dead_bytes: int = 256 * 1_048_576
    """So much may the dead letters of a shard take in Redis."""

    result_ttl_ms: int = 3_600_000
    """The summary of a finished task is kept for so long; 0 keeps none."""

    result_bytes: int = 64 * 1_048_576
    """So much may the summaries of a shard take in Redis."""

    answer_bytes: int = ANSWER_BYTES
    """So much is kept of the answer to each failed attempt."""


DEFAULT = Kept()
"""What is kept unless a setting says otherwise."""

NO_RESULTS = Kept(result_ttl_ms=0)
"""The same without summaries."""
