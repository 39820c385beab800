"""Pages of several shards: each walks in its order, and what comes next in any of them is next in all.

A place by time and key means the same in each shard, so one cursor is enough. Entries of the queue have their numbers
by shard: there the cursor tells the shard, too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from redis_scheduler.store.cursor import ID_LAST, PLACES, Position, decode_cursor, encode_cursor
from redis_scheduler.store.dead_letters import GROUPS_MOST, DeadLetters, Group, Groups
from redis_scheduler.store.dead_letters import LOOK_S as GROUPS_LOOK_S
from redis_scheduler.store.filters import ANY, Filters
from redis_scheduler.store.series import are_series_listed
from redis_scheduler.store.stored import Stored

Order = tuple[int, float, int, bytes, int]
"""The place, the time or the two numbers of an entry, the key, and the shard."""


class MergedViews(DeadLetters):
    """Pages of all these shards, by their numbers. What is asked of one shard must be asked of its own views."""

    def __init__(self, views: Sequence[DeadLetters]) -> None:
        super().__init__(views[0].client)
        self._views = views

    async def _are_series_listed(self) -> bool:
        return all(await asyncio.gather(*(are_series_listed(one.client) for one in self._views)))

    def walk_listed(self, name: str | None, cursor: str | None, filters: Filters) -> AsyncIterator[list[Position]]:
        """Walk what `page` shows, behind the place of a cursor."""
        if name is not None:
            return merged([one.walk_listed(name, cursor, filters) for one in self._views])
        position = decode_cursor(cursor, set(PLACES))
        return merged([one.walk_all(_in(number, position), filters) for number, one in enumerate(self._views)])

    def walk_dead(self, cursor: str | None, filters: Filters) -> AsyncIterator[list[Position]]:
        """Walk the dead letters, the newest first."""
        return merged([one.walk_dead(cursor, filters) for one in self._views], is_down=True)

    def cursor_of(self, position: Position) -> str:
        """Return the cursor of a place."""
        place, at, key, shard = position
        return encode_cursor((place, f"{at}@{shard}" if place == "queue" else at, key))

    async def read_at(self, places: Sequence[Position], read_bytes: int) -> list[Stored | None]:
        """Return the tasks of the first places, as many as one call to each shard reads of its share of the bytes."""
        shards = sorted({place[3] for place in places})
        keys = {shard: [place[2] for place in places if place[3] == shard] for shard in shards}
        views, share = [self._views[int(shard)] for shard in shards], read_bytes // len(shards)
        answers = await asyncio.gather(
            *(one.read_whole(of_shard, share) for one, of_shard in zip(views, keys.values(), strict=True))
        )
        found = dict(zip(shards, map(iter, answers), strict=True))
        tasks: list[Stored | None] = []
        for place in places:
            try:
                tasks.append(next(found[place[3]]))
            except StopIteration:  # the records that one call reads are only so large
                break
        return tasks

    async def groups(self, filters: Filters = ANY, look_s: float = GROUPS_LOOK_S) -> Groups:
        """Count the newest dead letters of each shard by host and error."""
        seen = await asyncio.gather(*(one.groups(filters, look_s) for one in self._views))
        found = dict[tuple[str, str], Group]()
        for group in (group for one in seen for group in one.groups):
            kept = found.get((group.host, group.error), group)
            if kept is not group:
                newest = max(kept, group, key=lambda one: one.died_ms)
                group = replace(newest, count=kept.count + group.count)
            found[group.host, group.error] = group
        by_size = sorted(found.values(), key=lambda group: -group.count)
        others = sum(one.others for one in seen) + sum(group.count for group in by_size[GROUPS_MOST:])
        looked_at, dead = sum(one.looked_at for one in seen), sum(one.dead for one in seen)
        return Groups(by_size[:GROUPS_MOST], others, looked_at, dead, all(one.is_complete for one in seen))


def _in(number: int, position: Position) -> Position:
    """Return where a shard's walk begins, for all to go on behind a place."""
    if not position or position[0] != "queue":
        return position
    place, at, key = position
    entry, _, shard = at.partition("@")
    return (place, entry if number <= int(shard or 0) else _before(entry), key)


def _before(entry: str) -> str:
    """Return the id behind which an entry is the first that there can be."""
    ms, sequence = map(int, entry.split("-"))
    return f"{ms}-{sequence - 1}" if sequence else f"{max(0, ms - 1)}-{ID_LAST}"


def _order(position: Position, shard: int) -> Order:
    place, at, key = position
    rank = PLACES.index(place) if place in PLACES else 0
    if place == "queue":
        ms, sequence = map(int, at.split("-"))
        return rank, ms, sequence, b"", shard
    return rank, float(at), 0, key.encode(), shard


async def merged(
    walks: Sequence[AsyncIterator[list[Position]]], is_down: bool = False
) -> AsyncIterator[list[Position]]:
    """Walk several shards as one: up, or down from the greatest. Each place has its shard behind it."""
    heads = dict[int, list[tuple[Order, Position]]]()
    is_before: Callable[[Order, Order], bool] = (
        (lambda one, end: one >= end) if is_down else (lambda one, end: one <= end)
    )

    async def refill(shard: int) -> None:
        heads.pop(shard, None)
        async for chunk in walks[shard]:
            if chunk:
                heads[shard] = [(_order(one, shard), (*one, str(shard))) for one in chunk]
                break

    await asyncio.gather(*map(refill, range(len(walks))))
    while heads:
        # Only up to the nearest end: what is behind it may be of another shard.
        end = (max if is_down else min)(chunk[-1][0] for chunk in heads.values())
        taken = [one for chunk in heads.values() for one in chunk if is_before(one[0], end)]
        heads = {shard: [one for one in chunk if not is_before(one[0], end)] for shard, chunk in heads.items()}
        yield [place for _, place in sorted(taken, reverse=is_down)]
        await asyncio.gather(*(refill(shard) for shard, chunk in list(heads.items()) if not chunk))
