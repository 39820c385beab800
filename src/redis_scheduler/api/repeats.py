"""How a task repeats, as a body says it: what is wrong with that, and which times it means."""

import asyncio
from itertools import islice

from msgspec import UNSET

from redis_scheduler.api.diagnosis import quoted
from redis_scheduler.errors import Code, InvalidField
from redis_scheduler.logs import rfc3339
from redis_scheduler.task.repeat import Repeat, fault_of, times_after


def check_repeat(repeat: Repeat, start_ms: int) -> None:
    """Raise InvalidField for a rule that means no time after its start, or contradicts itself."""
    fault = fault_of(repeat, start_ms)
    if fault is None:
        return
    given = fault.given
    shown = "" if given is UNSET else f", got {quoted(given) if isinstance(given, str) else given}"
    code = Code.CONTRADICTION if fault.is_contradiction else Code.INVALID_VALUE
    raise InvalidField(f"repeat.{fault.member}", f"{fault.rule}{shown}", code)


async def times_of(repeat: Repeat, after_ms: int, count: int) -> list[str]:
    """Return the first times after another, fewer if the series ends before. A rare time takes 5 ms: others go on in
    between."""
    times = times_after(repeat, after_ms)
    if repeat.times is not UNSET:
        count = min(count, repeat.times)
    found: list[str] = []
    for at_ms in islice(times, count):
        found.append(rfc3339(at_ms))
        await asyncio.sleep(0)
    return found
