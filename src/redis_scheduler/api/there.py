"""The shards that are there for one answer, which can do without the others and names them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec import UNSET, UnsetType

from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.errors import StoreRefused, StoreUnavailable

Said = TypeVar("Said")


class There:
    """Asks the shards; one that turns out to be away is not asked again."""

    def __init__(self, shards: Sequence[ShardCalls]) -> None:
        self._shards = shards
        self.is_single = len(shards) == 1
        self._away = {} if self.is_single else {calls.number: calls.away() for calls in shards if calls.is_away}

    @property
    def away(self) -> list[int] | UnsetType:
        """The numbers of those that are away; UNSET: none is."""
        return sorted(self._away) or UNSET

    async def each(self, ask: Callable[[ShardCalls], Awaitable[Said]], most: int | None = None) -> dict[int, Said]:
        """Ask each, or only the first `most`; return what those have said that are there, by number. Raises
        StoreUnavailable where all are away."""

        async def said(calls: ShardCalls) -> list[Said]:
            if calls.number not in self._away:
                try:
                    return [await ask(calls)]
                except StoreUnavailable as error:
                    if isinstance(error, StoreRefused) or error.shard != calls.number or self.is_single:
                        raise
                    self._away[calls.number] = error
            return []

        asked = self._shards[:most]
        found = await asyncio.gather(*map(said, asked))
        if len(self._away) == len(self._shards):
            raise next(iter(self._away.values()))
        return {calls.number: one for calls, ones in zip(asked, found, strict=True) for one in ones}
