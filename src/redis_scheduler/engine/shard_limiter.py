"""What the worker and its intake need of the limiter of a shard, which they are given as this."""

from collections.abc import Collection
from typing import Protocol

from redis_scheduler.task.claim import Claim


class ShardLimiter(Protocol):
    """Is asked before a claim begins that is under a limit; told when it has ended, and what it came to."""

    is_on: bool
    """Whether anything may be limited: only then claims are to ask."""
    asking: dict[Claim, str]
    """Claims that wait for an answer, with their limits."""
    begun: dict[Claim, str]
    """Claims that have a permit, with their limits."""

    @property
    def loading(self) -> int:
        """How many of these are counted as if they had slots."""

    @property
    def is_used(self) -> bool:
        """Whether it is to be asked, or told of ends, at all."""

    def asks(self, claim: Claim) -> bool:
        """Have a claim ask if it is under a limit; return whether it is."""

    def end(self, claim: Claim) -> None:
        """Give the permit of a claim back."""

    def remove(self, claims: Collection[Claim]) -> list[Claim]:
        """Let those of these claims ask no more that wait for an answer, and return them."""

    def clear(self) -> list[Claim]:
        """Let no claim ask any more, and return those that did."""

    def judge(self, claim: Claim, is_well: bool) -> None:
        """Note what an attempt came to."""

    def hear(self, limits_set: str) -> None:
        """Note when limits were set last."""
