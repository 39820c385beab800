"""What the alerts keep in Redis: whose turn it is to look after the deployment, and what is to be told.

One process looks at a time, whichever has the turn. What it finds is told at first at once, then with the count since,
and when it is over; a telling stays until somebody has sent it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redis_scheduler.store.answer_shape import NUMBER, TEXTS
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import text_of
from redis_scheduler.store.script import Script

WATCH, ALERT = Script("watch"), Script("alert")

KEPT_MOST = 50
"""Tellings that are not sent yet; what comes then is told later."""

NAMED_MOST = 64
"""Things that are remembered."""

DETAIL_LENGTH = 500

LETTERS_MOST = 200
"""So many new dead letters are looked at for their hosts."""


class Turn(NamedTuple):
    """A look at the deployment: when it was taken, and up to when dead letters were looked at (None: never), in Redis'
    ms."""

    now_ms: int
    seen_ms: int | None


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
    """Every method raises StoreUnavailable when Redis does not answer."""

    def __init__(self, client: RedisClient, every_ms: int) -> None:
        self._client = client
        self._every_ms = every_ms

    async def take_turn(self, turn_ms: int) -> Turn | None:
        """Take the turn for so long; None if another process has it."""
        return await self._client.run(WATCH.bind(self._client.keys, turn_ms=turn_ms), _turn)

    async def note(self, turn: Turn, found: Sequence[Found]) -> list[Telling]:
        """Note all that is so at this turn; return what is to be told and not sent yet, the first first."""
        rows = [Found(one.name, one.count, one.detail[:DETAIL_LENGTH].replace("\n", " ")) for one in found]
        call = ALERT.bind(
            self._client.keys,
            rows,
            turn=turn.now_ms,
            every_ms=self._every_ms,
            kept_most=KEPT_MOST,
            named_most=NAMED_MOST,
        )
        return await self._client.run(call, _tellings)

    async def forget(self, telling: Telling) -> None:
        """Note that a telling was sent."""
        await self._client.command("HDEL", self._client.keys.alerts, f"tell:{telling.number}", read=NUMBER)

    async def new_letters(self, turn: Turn) -> tuple[int, list[str]]:
        """Return how many tasks died since the turn before, and the keys of the newest of them."""
        if turn.seen_ms is None:
            return 0, []
        dead = self._client.keys.dead
        # In the ms of this turn others may still die: they are the next turn's.
        until = f"({turn.now_ms}"
        count = await self._client.command("ZCOUNT", dead, turn.seen_ms, until, read=NUMBER)
        if not count:
            return 0, []
        keys = await self._client.command(
            "ZREVRANGEBYSCORE", dead, until, turn.seen_ms, "LIMIT", 0, LETTERS_MOST, read=TEXTS
        )
        return count, [text_of(key) for key in keys]


_TURN = re.compile(r"(\d{1,15}) (\d{1,15}|-)")
_TELLING = re.compile(r"(began|again|over) (\d{1,15}) (\d{1,15}) (.*)\n(.*)", re.DOTALL)


def _turn(answer: bytes) -> Turn | None:
    if answer == b"":
        return None
    found = _TURN.fullmatch(answer.decode())
    if found is None:
        raise ValueError("Expected a turn")
    return Turn(int(found[1]), None if found[2] == "-" else int(found[2]))


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
