"""A small model of which shard has which task, and in which it is looked for, while one shard becomes two, and one
again.

It is written from the rules of keys, not from the code.
"""

import zlib
from dataclasses import dataclass, field

PHASES = [
    ((1,), 0),
    ((2, 1), 60_000),
    ((2, 1), 5_000),
    ((2, 1), 0),
    ((1, 2), 60_000),
    ((1, 2), 5_000),
    ((1, 2), 0),
]
"""The numbers of shards, the newest first, and in how many ms this one holds. After the last comes the second again."""


@dataclass
class Model:
    """Which task stands in which shard, by the rules of keys."""

    phase: int = 0
    standing: dict[tuple[int, str], str] = field(default_factory=dict)
    """(shard, key) → later, now (when it is due) or dead."""
    ended: dict[tuple[int, str], str] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number that holds, then the other."""
        (newest, *older), ahead_ms = PHASES[self.phase]
        return (*older, newest) if ahead_ms else (newest, *older)

    @property
    def is_open(self) -> bool:
        """Whether something may be created by the number."""
        return PHASES[self.phase][1] in (0, 60_000)

    def looked_in(self, key: str) -> list[int]:
        """The shards in which a key is looked for, in this order."""
        if max(self.numbers) == 1:
            return [0]
        hashed = [self.hashed(key, number) for number in self.numbers]
        if len(key) != 22:
            return hashed
        told = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(key[-1]) % 16
        return [told, *hashed] if told else [0]

    @staticmethod
    def hashed(text: str, number: int) -> int:
        return zlib.crc32(text.encode()) % number

    def place_of(self, key: str) -> tuple[int, str] | None:
        """Where the task stands that a key leads to."""
        return next(((shard, key) for shard in self.looked_in(key) if (shard, key) in self.standing), None)

    def state_of(self, key: str) -> str | None:
        """What GET says of a key."""
        if place := self.place_of(key):
            return self.standing[place]
        return next((self.ended[shard, key] for shard in self.looked_in(key) if (shard, key) in self.ended), None)

    @property
    def strays(self) -> set[tuple[int, str]]:
        if max(self.numbers) == 1:
            return set()
        return {(shard, key) for shard, key in self.standing if shard not in self.looked_in(key)}

    def grow(self) -> None:
        self.phase = self.phase + 1 if self.phase + 1 < len(PHASES) else 1

    def end(self, shard: int, state: str) -> int:
        """End all that is due in a shard."""
        due = [place for place, was in self.standing.items() if place[0] == shard and was == "now"]
        for place in due:
            if state == "dead":
                self.standing[place] = state
            else:
                del self.standing[place]
                self.ended[place] = state
        return len(due)
