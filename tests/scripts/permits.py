"""What tests of limits ask: whether tasks may begin, and how a limit stands."""

from redis_scheduler.store.limiting import Asked, HostState, Limiting, PermitAnswer
from tests.scripts.verbs import LIMIT

HOLD, BEGIN, BEGIN_WITH_PERMIT = PermitAnswer


def asked(*keys: str, limit: str = LIMIT) -> list[Asked]:
    return [Asked(key, limit) for key in keys]


async def state(limiting: Limiting) -> HostState:
    [found] = await limiting.states([LIMIT])
    return found
