"""Seals anew what the first of the given keys has not sealed: records and failures, which is all that is sealed.

It walks through both in bounded steps, beside live processes, and may be cut off and begun again at any moment: what
it has sealed is told by its beginning.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import NamedTuple, TypeVar

from redis_scheduler.store.answer_shape import each_of, sized
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import text_of
from redis_scheduler.store.memory import UNKNOWN, memory_of, refuse_beyond
from redis_scheduler.store.script import Script
from redis_scheduler.store.vault import BEGINNING_BYTES, NotSealed, Vault, Why
from redis_scheduler.store.walk import LOOK_LIMIT, STEP_BYTES, Walk
from redis_scheduler.task.listing import TOKEN_MARK, Listing

T = TypeVar("T")

ROUNDS = 3
"""So often what changed meanwhile is looked at again; whoever changes it seals it with the first of its own keys."""

NEEDS_ANOTHER_KEY = (Why.OTHER_KEY, Why.CHANGED)
"""What stays so needs a key that is to go: be it only to be known for other hands' work, and buried."""


class _Answer(Enum):
    REPLACED = "U"
    CHANGED = "C"


class _Row(NamedTuple):
    place: str
    key: bytes
    expected: bytes
    sealed: bytes
    listed: Listing = None
    """The name of the token that its bytes are counted for."""


_REKEY = Script("rekey")


class Left(NamedTuple):
    """What stays as it is: the task, what of it, and why."""

    key: bytes
    place: str
    why: Why


@dataclass
class Counts:
    """What a walk has met: a record that moved on the way perhaps twice."""

    seen: int = 0
    resealed: int = 0
    """So many were sealed anew; of a walk that only counts, would be."""
    left: Counter[Why] = field(default_factory=Counter)

    @property
    def is_done(self) -> bool:
        """Whether nothing needs another key than the first, or is still to be sealed by it; after a walk that only
        counts."""
        return not (self.resealed or any(self.left[why] for why in NEEDS_ANOTHER_KEY))


class Rekeying:
    """One walk; with `writes` it seals, else it only counts. `reserve`: the share of Redis' memory that it leaves free
    where what it seals grows."""

    def __init__(self, client: RedisClient, vault: Vault, writes: bool, reserve: float = 0.0) -> None:
        self._client = client
        self._vault = vault
        self._writes = writes
        self._reserve = reserve
        self.counts = Counts()

    async def run(self) -> AsyncIterator[list[Left]]:
        """Walk through all; yield after each step what stays as it is. Raises StoreUnavailable, or StoreFull where
        Redis has no room: what is sealed by then stays so."""
        walk = Walk(self._client)
        async for heads in walk.all_heads(BEGINNING_BYTES):
            self.counts.seen += len(heads)
            others = [head for head in heads if not self._vault.is_by_first(head.text or b"")]
            for part in _parts(others, lambda head: head.size_bytes):
                yield await self._seal("tasks", await self._read("tasks", [head.key for head in part]))
        async for failures in walk.failures():
            self.counts.seen += len(failures)
            yield await self._seal("failures", failures)

    async def _seal(self, place: str, stored: dict[bytes, bytes]) -> list[Left]:
        """Seal what is stored of tasks anew; return what stays as it is."""
        left: list[Left] = []
        for _ in range(ROUNDS):
            rows = self._rows(place, stored, left)
            if not self._writes:
                self.counts.resealed += len(rows)
                return left
            changed = await self._replace(rows)
            self.counts.resealed += len(rows) - len(changed)
            if not changed:
                return left
            stored = await self._read(place, changed)
        return left  # what others changed each time the next walk meets

    async def _read(self, place: str, task_keys: Sequence[bytes]) -> dict[bytes, bytes]:
        read = sized(list[bytes | None], len(task_keys))
        values = await self._client.command("HMGET", getattr(self._client.keys, place), *task_keys, read=read)
        return {key: value for key, value in zip(task_keys, values, strict=True) if value is not None}

    def _rows(self, place: str, stored: dict[bytes, bytes], left: list[Left]) -> list[_Row]:
        """Return how what is stored is to be replaced; note in `left` what cannot be."""
        reseal = self._vault.resealed if place == "tasks" else self._vault.resealed_failure
        rows: list[_Row] = []
        for key, value in stored.items():
            try:
                sealed, token = reseal(text_of(key), value)
            except NotSealed as error:
                left.append(Left(key, place, error.why))
                self.counts.left[error.why] += 1
            else:
                if sealed != value:
                    rows.append(_Row(place, key, value, sealed, None if token is None else TOKEN_MARK + token))
        return rows

    async def _replace(self, rows: Sequence[_Row]) -> list[bytes]:
        """Write them; return the keys of what was changed meanwhile."""
        changed: list[bytes] = []
        for part in _parts(rows, lambda row: len(row.sealed)):
            if self._reserve and any(len(row.sealed) > len(row.expected) for row in part):
                refuse_beyond(await memory_of(self._client) or UNKNOWN, self._reserve)
            read = partial(each_of, _Answer, count=len(part))
            answers = await self._client.run(_REKEY.bind(self._client.keys, part), read)
            changed += [row.key for row, answer in zip(part, answers, strict=True) if answer is _Answer.CHANGED]
        return changed


def _parts(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield them in parts for one call each: LOOK_LIMIT at most, and about STEP_BYTES."""
    part: list[T] = []
    size_bytes = 0
    for item in items:
        if part and (len(part) == LOOK_LIMIT or size_bytes + size_of(item) > STEP_BYTES):
            yield part
            part, size_bytes = [], 0
        part.append(item)
        size_bytes += size_of(item)
    if part:
        yield part
