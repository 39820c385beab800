"""The policy: what follows from an attempt. Pure; the worker carries it out."""

from dataclasses import dataclass
from enum import Enum

from redis_scheduler.task.timing import DEFAULT, Timing


class Transition(Enum):
    """What a worker does with a task next; each is a transition of the store."""

    RETRY = "retry"
    DEFER = "defer"
    BURY = "bury"


@dataclass(frozen=True, slots=True)
class Policy:
    """RETRIES and RETRY_TIME: `retries` attempts after the first (-1: for ever), `delay_ms` after the end of each."""

    retries: int
    delay_ms: int

    def after_failure(self, attempts: int, timing: Timing = DEFAULT) -> Transition:
        """Return the step after a failed attempt, `attempts` having failed before it."""
        if 0 <= self.retries <= attempts:
            return Transition.BURY
        return Transition.RETRY if self.delay_ms <= timing.window_ms else Transition.DEFER

    def attempts_left(self, attempts: int) -> int | None:
        """Return how many attempts may follow a failed one, `attempts` having failed before it; None: any number."""
        return None if self.retries < 0 else max(0, self.retries - attempts)


def is_poison(tries: int, timing: Timing = DEFAULT) -> bool:
    """Whether a task is not to be tried again: the claims before this one all ended with their worker."""
    return tries > timing.lost_workers_most
