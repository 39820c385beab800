"""What tokens have waiting in each shard, as far as that is known: where one is away counts what it told last."""

import asyncio

from redis_scheduler.api.places import SILENT_S, Places
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.tokens import NO_SHARE, Share, Tokens, sum_of

SHARES_KEPT = 10_000
"""So many are remembered, to be used while a shard is away."""


class Shares:
    """Those of tokens with limits that this process has asked for."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._kept: dict[tuple[int, str], Share] = {}

    @property
    def counting(self) -> ShardCalls:
        """The calls of the shard in which limits are counted: the first one that is not away, or the first if all
        are."""
        shards = map(self._places.at, range(self._places.generations.used))
        return next((calls for calls in shards if not calls.is_away), self._places.first)

    async def elsewhere(self, token_id: str, but: int) -> Share:
        """Return what a token has waiting in other shards than this one."""
        if self._places.generations.is_single:
            return NO_SHARE
        others = [calls for calls in await self._places.all() if calls.number != but]
        return sum_of(await asyncio.gather(*(self._waiting_in(calls, token_id) for calls in others)))

    def note(self, shard: int, token_id: str, share: Share) -> None:
        """Remember what a token has waiting in a shard; below 0: what is not told."""
        if self._places.generations.is_single or max(share) < 0:
            return
        before = self._kept.get((shard, token_id), NO_SHARE)
        if len(self._kept) >= SHARES_KEPT:
            self._kept.clear()
        self._kept[shard, token_id] = Share(*(old if new < 0 else new for old, new in zip(before, share, strict=True)))

    async def _waiting_in(self, calls: ShardCalls, token_id: str) -> Share:
        """Return what it has in a shard; while that is away, or silent, what it had there when it was asked for
        last."""
        if self._places.may_answer(calls):
            try:
                async with asyncio.timeout(SILENT_S):
                    [share] = await Tokens(calls.writes.client).waiting([token_id])
            except StoreUnavailable:
                pass
            except TimeoutError:
                self._places.note_silent(calls)
            else:
                self.note(calls.number, token_id, share)
        return self._kept.get((calls.number, token_id), NO_SHARE)
