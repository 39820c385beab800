"""What the alerts keep in Redis: whose turn it is to look after the deployment, and what is to be told.

One process looks at a time, whichever has the turn, and keeps it for as long as that takes. What it finds is told at
first at once, then with the count since, and when it is over; a telling stays until somebody has sent it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis_scheduler.store.answer_shape import NUMBER, TEXTS, as_it_is, of, text_pairs
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import text_of
from redis_scheduler.store.script import Script

WATCH, ALERT = Script("watch"), Script("alert")
_COPY = Script("alert_copy", {"name": "row[0]", "value": "row[1]"})

KEPT_MOST = 50
"""Tellings that are not sent yet; what comes then is told later."""

NAMED_MOST = 64
"""Things that are remembered."""

DETAIL_LENGTH = 500

LETTERS_MOST = 200
"""So many new dead letters are looked at for their hosts."""


class Turn(NamedTuple):
    """A look at the deployment: when it was taken, by the clock of the shard in which it is noted."""

    now_ms: int
    seen_ms: Sequence[int | None] = ()
    """Up to when dead letters of each shard were looked at, by its own clock; None, or none for it: never."""

    def seen_of(self, shard: int) -> int | None:
        """Return up to when dead letters of a shard were looked at."""
        return self.seen_ms[shard] if shard < len(self.seen_ms) else None


@dataclass(frozen=True, slots=True)
class Found:
    """What is so now: `late`, `died:shop.example:443`. `count`: how many more than at the look before."""

    name: str
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class Telling:
    """What is to be told: that something `began`, goes on (`again`) or is `over`; how many since the last telling, and
    since when it is so."""

    number: int
    what: str
    count: int
    since_ms: int
    name: str
    detail: str


class Alerts:
    """What one shard keeps of them. Every method raises StoreUnavailable when Redis does not answer."""

    def __init__(self, client: RedisClient, who: str, every_ms: int, turn_ms: int) -> None:
        self.client = client
        self._who = who
        """Takes turns: a name that no other process has."""
        self._every_ms = every_ms
        self._turn_ms = turn_ms
        """For so long a turn is its own."""

    async def take_turn(self, led_ms: int = 0) -> Turn | None:
        """Take the turn; None if another process has it, or has brought a copy in so many ms, of what it has noted in
        another shard."""
        return await self._watch(keeps=False, led_ms=led_ms)

    async def keep_turn(self) -> Turn | None:
        """Keep the turn for as long again; None if another process has taken it meanwhile."""
        return await self._watch(keeps=True)

    async def _watch(self, keeps: bool, led_ms: int = 0) -> Turn | None:
        call = WATCH.bind(self.client.keys, turn_ms=self._turn_ms, led_ms=led_ms, who=self._who, keeps=int(keeps))
        return await self.client.run(call, _turn)

    async def note(
        self, turn: Turn, found: Sequence[Found], looked_ms: Mapping[int, int], is_whole: bool = True
    ) -> list[Telling]:
        """Note all that is so at this turn; return what is to be told and not sent yet, the first first. `looked_ms`:
        when each shard was looked at, by its own clock; `is_whole`: whether all were."""
        shards = range(max(len(turn.seen_ms), 1 + max(looked_ms, default=-1)))
        seen = [looked_ms.get(shard, turn.seen_of(shard)) for shard in shards]
        rows = [Found(one.name, one.count, one.detail[:DETAIL_LENGTH].replace("\n", " ")) for one in found]
        call = ALERT.bind(
            self.client.keys,
            rows,
            turn=turn.now_ms,
            seen=" ".join("-" if at_ms is None else str(at_ms) for at_ms in seen),
            is_whole=int(is_whole),
            every_ms=self._every_ms,
            kept_most=KEPT_MOST,
            named_most=NAMED_MOST,
        )
        return await self.client.run(call, _tellings)

    async def forget(self, telling: Telling) -> None:
        """Note that a telling was sent."""
        await self.client.command("HDEL", self.client.keys.alerts, f"tell:{telling.number}", read=NUMBER)

    async def looks(self) -> int:
        """Return how many looks were noted here, or in the shard that this is a copy of."""
        found: int = await self.client.command("HGET", self.client.keys.alerts, "looks", read=_count)
        return found

    async def noted(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Return how many looks were noted, and all that is kept of them, as `copy` takes it."""
        pairs = await self.client.command("HGETALL", self.client.keys.alerts, read=text_pairs)
        return _count(dict(pairs).get(b"looks")), [(name, value) for name, value in pairs if _COPIED.match(name)]

    async def copy(self, looks: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep what was noted in another shard, unless more was here."""
        await self.client.run(_COPY.bind(self.client.keys, fields, looks=looks), as_it_is)

    async def new_letters(self, turn: Turn, client: RedisClient, looked_ms: int) -> tuple[int, list[str]]:
        """Return how many tasks of a shard, given by a client of it, died between the last look at it and this one, and
        the keys of the newest of them."""
        seen_ms = turn.seen_of(client.keys.shard)
        if seen_ms is None:
            return 0, []
        dead = client.keys.dead
        # In the ms of this look others may still die: they are the next one's.
        until = f"({looked_ms}"
        count = await client.command("ZCOUNT", dead, seen_ms, until, read=NUMBER)
        if not count:
            return 0, []
        newest = ("BYSCORE", "REV", "LIMIT", 0, LETTERS_MOST)
        keys = await client.command("ZRANGE", dead, until, seen_ms, *newest, read=TEXTS)
        return count, [text_of(key) for key in keys]


_COPIED = re.compile(rb"(seen|number)\Z|is:|tell:")
"""What is kept of looks; whose turn it is each shard says itself, by its own clock."""


def _count(answer: Any) -> int:
    return int(answer) if answer is not None and re.fullmatch(rb"\d{1,15}", of(bytes)(answer)) else 0


_TURN = re.compile(r"(\d{1,15}) (.*)", re.DOTALL)
_MS = re.compile(r"\d{1,15}", re.ASCII)
_TELLING = re.compile(r"(began|again|over) (\d{1,15}) (\d{1,15}) (.*)\n(.*)", re.DOTALL)


def _turn(answer: bytes) -> Turn | None:
    if answer == b"":
        return None
    found = _TURN.fullmatch(text_of(answer))
    if found is None:
        raise ValueError("Expected a turn")
    return Turn(int(found[1]), [int(text) if _MS.fullmatch(text) else None for text in found[2].split(" ")])


def _tellings(answer: object) -> list[Telling]:
    """Return the tellings, without what foreign hands wrote that is none."""
    texts = TEXTS(answer)
    tellings = []
    for number, text in zip(texts[::2], texts[1::2], strict=True):
        found = _TELLING.fullmatch(text_of(text))
        if found and number.isdigit():
            what, count, since_ms, name, detail = found.groups()
            tellings.append(Telling(int(number), what, int(count), int(since_ms), name, detail))
    return sorted(tellings, key=lambda telling: telling.number)
