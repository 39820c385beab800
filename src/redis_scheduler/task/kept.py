"""How long, and how much, is kept of tasks that have ended."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """DEAD_TTL and DEAD_BYTES. What is older, or too much, is dropped, the oldest first."""

    dead_ttl_ms: int = 30 * 86_400_000
    """A dead letter is kept for so long after its death, or after the first start of a version that drops any."""

    dead_bytes: int = 256 * 1_048_576
    """So much may the dead letters of a shard take in Redis."""


DEFAULT = Kept()
"""What is kept unless a setting says otherwise."""
