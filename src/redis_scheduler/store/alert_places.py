"""Where alerts keep what was told, and whose turn it is: in the first shard, and while that is away in the next one.

Each look is copied to the other shards. So whichever takes over knows what was told, and so does the first one when it
is back; and a process that alone does not reach the first one sees that others look, and tells nothing beside them.
"""

import asyncio
from collections.abc import Sequence

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.store.alerts import Alerts, Turn
from redis_scheduler.store.client import RedisClient

WITHIN_S = 1.0
"""A shard that does not answer within this time is passed over."""


class AlertPlaces:
    """Those of one process, by a client of each shard (there may come more). `who`, `every_ms`, `turn_ms`: as Alerts
    has them. Every method raises StoreUnavailable when Redis does not answer."""

    def __init__(self, clients: Sequence[RedisClient], who: str, every_ms: int, turn_ms: int) -> None:
        self._clients = clients
        self._given = who, every_ms, turn_ms
        self._led_ms = 3 * turn_ms
        """Another shard takes over when it was brought no look for so long."""
        self._places: list[Alerts] = []

    async def take_turn(self) -> tuple[Alerts, Turn] | None:
        """Take the turn; return it with the place that is looked by; None if another process has it."""
        self._places += [Alerts(client, *self._given) for client in self._clients[len(self._places) :]]
        number = next((number for number, client in enumerate(self._clients) if not client.outage.is_away), 0)
        place = self._places[number]
        turn = await place.take_turn(self._led_ms if number else 0)
        if turn is None or len(self._places) == 1:
            return turn and (place, turn)
        known = [place, *self._others(place)]
        looks = await asyncio.gather(*map(_looks_of, known))
        newest = known[looks.index(max(looks))]
        if newest is not place:
            # Who looks by that one must be done; then nobody else does.
            if not await newest.keep_turn() and not await newest.take_turn():
                return None
            await place.copy(*await newest.noted())
            turn = await place.keep_turn()
        return turn and (place, turn)

    async def go_on(self, place: Alerts) -> None:
        """Have the shards that are there know that the look by a place goes on. What was noted comes at its end."""
        await self._bring(place, 0, [])

    async def hand_on(self, place: Alerts) -> None:
        """Copy what was noted at a place to the shards that are there."""
        if self._others(place):
            await self._bring(place, *await place.noted())

    async def _bring(self, place: Alerts, looks: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        async def copy(other: Alerts) -> None:
            async with asyncio.timeout(WITHIN_S):
                await other.copy(looks, fields)

        for error in await asyncio.gather(*map(copy, self._others(place)), return_exceptions=True):
            if isinstance(error, BaseException) and not isinstance(error, _PASSED_OVER):
                raise error

    def _others(self, place: Alerts) -> list[Alerts]:
        return [one for one in self._places if one is not place and not one.client.outage.is_away]


_PASSED_OVER = (StoreUnavailable, StoreFull, TimeoutError)


async def _looks_of(place: Alerts) -> int:
    """Return how many looks were noted there; none where it does not answer."""
    try:
        async with asyncio.timeout(WITHIN_S):
            return await place.looks()
    except _PASSED_OVER:
        return 0
