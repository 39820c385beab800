"""How many shards a deployment has, and has had before: by that the keys that callers make find their shard.

Redis keeps every number there has been, and from when on it holds. A new one is announced ANNOUNCED_MS ahead, and a
process that has not read them for STALE_S creates nothing by them: so no two processes create one key in two shards.
The first shard's word counts. The others keep copies, by which a process serves that starts while the first is away;
and a number that only they know, or a server that is listed, may have tasks too. Before a number is announced each of
them keeps that it is coming: so while the first one is away, any of them can say that none was.
"""

import asyncio
import math
import re
import time
from collections.abc import Sequence
from typing import NamedTuple, Self

from redis_scheduler.errors import ShardUnknown, StoreRefused, StoreUnavailable, WrongServer
from redis_scheduler.store.answer_shape import NUMBER, redis_ms, text_pairs
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.key import SHARDS_MOST

ANNOUNCED_MS = 60_000
"""From the announcement of a number to the moment from which it holds."""

STALE_S = 30.0
"""What was read longer ago may not hold any more."""

CLOSED_MS = 10_000
"""Before another number holds nothing is created by the old one for so long. What was chosen by then is written within
it: a call may wait for the one before it, each takes 1.8 s at most, and a look at a few older numbers goes before."""

COMING_MS = 500_000_000_000_000
"""The ms of a number that is to be announced, in the copies of other shards: that of the newest before it, and so much
more, so it does not hold. What the first shard says of it then, which is later, takes its place."""

_PAIR = re.compile(rb"([0-9]{1,2}) ([0-9]{1,15})")


def read_generations(text: bytes) -> tuple[int, list[tuple[int, int]]]:
    """Read Redis' ms, and every number with the ms from which it holds. Raises ValueError."""
    now, *pairs = text.split(b",")
    found = [_PAIR.fullmatch(pair) for pair in pairs]
    numbers = [(int(one[1]), int(one[2])) for one in found if one is not None]
    if len(numbers) != len(pairs) or not all(1 <= number <= SHARDS_MOST for number, _ in numbers):
        raise ValueError("Expected numbers of shards")
    return int(now), numbers


class Coming(NamedTuple):
    """A number that is to be announced behind the newest that is known, and from when on that holds."""

    number: int
    since_ms: int


class Generations:
    """Those of this deployment, as Redis has told them last. Where it keeps none there was never more than one shard.
    `listed`: so many servers REDIS_URL names."""

    def __init__(self, listed: int = 1) -> None:
        self.most = listed
        """The greatest number there has been: so many shards may hold tasks."""
        self.used = 1
        """So many of them this process schedules new tasks to."""
        self.known = False
        self.is_single = False
        """Whether it is known that there was never more than one, and none is used beside it."""
        self.told = b""
        """What the first shard keeps, as the others keep it too: `number ms,number ms`; nothing: it keeps none."""
        self.kept: frozenset[int] = frozenset()
        """The numbers that the first shard keeps."""
        self.is_first_heard = False
        """Whether the first shard has told them, and not only another its copy."""
        self._others = {listed} if listed > 1 else set[int]()
        """Numbers that there may have been besides those that the first shard keeps."""
        self._numbers: list[tuple[int, int]] = [(1, 0)]
        """Each number, and from when on it holds, the newest first; then those others."""
        self._now_ms = 0
        self._sent = self._heard = self._confirmed = -STALE_S
        """When the first shard was asked, when it told, and when another shard was asked that told of nothing newer."""
        self._told_most = 1
        """The greatest number that the first shard has told: other shards below it can say that none is newer."""
        self._newest_ms = 0
        """The latest ms that copies have told since the first shard was heard."""

    @classmethod
    def of(cls, number: int) -> Self:
        """Return those of a deployment that has always had so many shards."""
        found = cls()
        found.most, found.used, found.known, found._sent = number, number, True, math.inf
        found.is_single = number == 1
        found._numbers = [(number, 0)]
        return found

    def hear(self, sent: float, text: bytes) -> None:
        """Take what Redis has told; `sent`: when it was asked, by the monotonic clock."""
        self.kept = frozenset(number for number, _ in self._take(text))
        self.told = text.partition(b",")[2]
        self._sent, self.is_first_heard = sent, True
        self._told_most, self._newest_ms = max(self.kept, default=1), 0

    def hear_copy(self, text: bytes, sent: float = -math.inf, shard: int = SHARDS_MOST) -> None:
        """Take what another shard keeps of it: until the first one has told its own, these count. Then they only say
        whether that still holds: whoever announces another number has each shard keep that it is coming before."""
        if not text:
            return
        _, numbers = read_generations(text)
        self._others |= {number for number, _ in numbers}
        self._newest_ms = max(self._newest_ms, *(from_ms for _, from_ms in numbers))
        if self.is_first_heard and shard < self._told_most and self._newest_ms <= self._numbers[0][1]:
            self._confirmed = max(self._confirmed, sent)
        is_newer = not self.known or max(from_ms for _, from_ms in numbers) >= self._numbers[0][1]
        if not self.is_first_heard and is_newer:
            self._take(text)
        else:
            self._add_others()

    def _take(self, text: bytes) -> list[tuple[int, int]]:
        self._heard, self.known = time.monotonic(), True
        self._now_ms, numbers = read_generations(text) if text else (0, [(1, 0)])
        self._numbers = sorted(numbers, key=lambda one: -one[1])
        self._add_others()
        return numbers

    def _add_others(self) -> None:
        there = {number for number, _ in self._numbers}
        self._numbers += [(number, 0) for number in sorted(self._others - there)]
        self.most = max(number for number, _ in self._numbers)
        self.use(self.used)

    def use(self, number: int) -> None:
        """Schedule new tasks to so many shards from now on."""
        self.used = number
        self.is_single = self.most == number == 1

    def coming(self, number: int) -> Coming:
        """Return what is to be announced where a number is to hold next."""
        return Coming(number, self._numbers[0][1])

    @property
    def newest(self) -> int:
        """The number that was announced last."""
        return self._numbers[0][0]

    @property
    def is_stale(self) -> bool:
        """Whether they must be read again before anything is created by them."""
        return time.monotonic() - max(self._sent, self._confirmed) > STALE_S

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number that holds, then all others, those to come among them, the newest first."""
        now_ms = self._now_ms + 1000 * (time.monotonic() - self._heard)
        holding = self._holding(now_ms)
        return (holding, *(number for number, _ in self._numbers if number != holding))

    def to_create(self) -> int:
        """Return the number by which something may be created. Raises ShardUnknown while that changes."""
        if self.is_stale:
            raise ShardUnknown("Redis has not said for half a minute how many shards there are")
        if len(self._numbers) == 1:
            return self._numbers[0][0]
        # Redis has told its time at some moment between the question and the answer.
        now = time.monotonic()
        least_ms = self._now_ms + 1000 * (now - self._heard)
        holding = self._holding(least_ms)
        if self._holding(self._now_ms + 1000 * (now - self._sent) + CLOSED_MS) != holding:
            raise ShardUnknown("The number of shards is changing, which takes some seconds")
        return holding

    def _holding(self, now_ms: float) -> int:
        return next((number for number, from_ms in self._numbers if from_ms <= now_ms), self._numbers[-1][0])


class _Foreign(StoreRefused):
    """A foreign program wrote what is kept of the numbers."""


async def generations_of(clients: Sequence[RedisClient], shards: int) -> Generations:
    """Read them by clients of the first shards; where no process has begun yet, the first will with so many. Raises
    StoreUnavailable, but not where only some are away, or refuse, and the others know."""
    first = clients[0]
    sent, found = time.monotonic(), Generations()
    text, *copies = await asyncio.gather(*map(_kept_in, clients), return_exceptions=True)
    if isinstance(text, bytes):
        found.hear(sent, text)
    for copy in copies:
        if isinstance(copy, bytes):
            found.hear_copy(copy)
    for error in (text, *copies):
        is_away = isinstance(error, StoreUnavailable) and not isinstance(error, WrongServer | _Foreign)
        if isinstance(error, BaseException) and not (is_away and found.known):
            raise error
    is_new = not text and found.most == 1 < shards
    if is_new and not await first.command("EXISTS", first.keys.instance, read=NUMBER):
        return Generations.of(shards)
    return found


async def _kept_in(client: RedisClient) -> bytes:
    """Return what a shard keeps of them, as `read_generations` takes it; nothing where it keeps nothing."""
    key = client.keys.shards
    pairs = await client.command("ZRANGE", key, "0", "-1", "WITHSCORES", read=text_pairs)
    if not pairs:
        return b""
    text = b",".join([b"%d" % await client.command("TIME", read=redis_ms), *(b"%b %b" % pair for pair in pairs)])
    try:
        read_generations(text)
    except ValueError as error:
        raise _Foreign(
            f"{key} holds something else than numbers of shards: a foreign program wrote it; give the service a "
            "database of its own"
        ) from error
    return text
