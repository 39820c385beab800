"""What is read once for all who look: however many browsers ask for the same, it is made at most once in a while, and
one making is under way. While Redis is away the last that was made is shown, with how old it is."""

import asyncio
import functools
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.ui.answers import said_of

KEPT = 64
"""Parts of pages that are kept, the last ones used: some 10 kB each, but for tasks with much data."""

KEPT_BYTES = 16 * 1_048_576
"""All of them have no more bytes, but for the last one."""

T = TypeVar("T")


@dataclass(slots=True)
class _Part(Generic[T]):
    value: T | None = None
    made_at: float = float("-inf")
    made_s: float = 0.0
    making: asyncio.Future[T] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """A part of a page. `since`: when it was made, by this machine's clock in seconds, if it could not be made anew."""

    value: T
    since: float | None = None
    error: str = ""


class Shared(Generic[T]):
    """Parts of pages by what they show and who may see them."""

    def __init__(self, kept: int = KEPT, size: Callable[[T], int] = lambda _: 0) -> None:
        self._kept = kept
        self._size = size
        self._parts: OrderedDict[Hashable, _Part[T]] = OrderedDict()

    async def get(self, key: Hashable, fresh_s: float, make: Callable[[], Awaitable[T]]) -> Seen[T]:
        """Return a part that was made within `fresh_s`, or make it. Raises what `make` does; but StoreUnavailable only
        if none was made before."""
        part = self._parts.setdefault(key, _Part())
        self._parts.move_to_end(key)
        self._drop_above()
        if part.value is not None and time.monotonic() < part.made_at + fresh_s:
            return Seen(part.value)
        if part.making is None:
            part.making = asyncio.ensure_future(make())
            part.making.add_done_callback(functools.partial(_keep, part, time.monotonic()))
        try:
            # A browser that goes away must not end it for the others.
            return Seen(await asyncio.shield(part.making))
        except StoreUnavailable as error:
            if part.value is None:
                raise
            return Seen(part.value, part.made_s, said_of(error))

    def _drop_above(self) -> None:
        """Drop what was used the longest ago above the limits; never what was used last."""
        held = sum(self._size(part.value) for part in self._parts.values() if part.value is not None)
        while len(self._parts) > 1 and (len(self._parts) > self._kept or held > KEPT_BYTES):
            _, dropped = self._parts.popitem(last=False)
            held -= self._size(dropped.value) if dropped.value is not None else 0

    def forget(self) -> None:
        """Make all anew that is asked for from now on; what there was stays for an outage."""
        for part in self._parts.values():
            part.made_at, part.making = float("-inf"), None


def _keep(part: _Part[T], begun_at: float, made: asyncio.Future[T]) -> None:
    is_latest = part.making is made
    if is_latest:
        part.making = None
    if not made.cancelled() and made.exception() is None and is_latest:
        part.value, part.made_at, part.made_s = made.result(), begun_at, time.time()
