"""The tokens with rights that Redis keeps, in the first shard: finds, makes, changes and deletes them."""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from redis_scheduler.store.answer_shape import NUMBER, of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.script import Script
from redis_scheduler.store.token import ANY, Allowed, Token, encode_token, read_token

TOKENS_MOST = 10_000
"""A deployment may have so many."""

IDS_A_CALL = 200

USE_MS = 60_000
"""The last use of a token is known to the minute."""

_FIND = Script("token_find", {"token_id": "row[0]", "is_used": "row[1]"})
_WRITE, _TAKE = Script("token_write"), Script("token_take")
_FOUND = of(list[int | bytes])
_ALL = of(dict[bytes, bytes])


class Written(Enum):
    """What became of a change."""

    DONE = b"done"
    CHANGED = b"changed"
    """Somebody else changed or revoked the token first."""
    FULL = b"full"
    """There are TOKENS_MOST."""


class Taken(Enum):
    """Whether a token may schedule tasks now."""

    TAKEN = b"taken"
    WAIT = b"wait"
    TASKS = b"tasks"
    BYTES = b"bytes"
    """So much waits already that its limit of tasks, or bytes, would be passed."""


class Share(NamedTuple):
    """What a token has waiting: tasks, and the bytes of their records."""

    tasks: int
    bytes: int

    def beyond(self, asked: "Share") -> "Share":
        """Return what is more than was asked for."""
        return Share(max(0, self.tasks - asked.tasks), max(0, self.bytes - asked.bytes))


NO_SHARE = Share(0, 0)


class Coming(NamedTuple):
    """What a process tells others that it is about to write for a token; `number`: the greater, the newer."""

    process: str
    number: int
    share: Share


UNTOLD = Coming("", 0, NO_SHARE)

COMING_KEPT_MS = 10_000
"""What a process told counts for so long, unless it tells more: it may have ended."""


def sum_of(shares: Iterable[Share]) -> Share:
    """Return what several come to."""
    shares = list(shares)
    return Share(sum(share.tasks for share in shares), sum(share.bytes for share in shares))


class KeptToken(NamedTuple):
    """A token as Redis keeps it. `token`: None if this version cannot read it; `used_ms`: 0: never used."""

    id: str
    raw: bytes
    token: Token | None
    used_ms: int


class Tokens:
    """The tokens of a deployment. Every method raises StoreUnavailable, or StoreFull. `allowed`: what those may that
    are found and have no limits of their own."""

    def __init__(self, client: RedisClient, allowed: Allowed = ANY) -> None:
        self.client = client
        self._allowed = allowed

    async def find(self, wanted: Sequence[tuple[str, int]]) -> list[tuple[int, Token | None]]:
        """Return Redis' ms and the token for each id; 1 beside an id notes that the token is in use."""
        call = _FIND.bind(self.client.keys, wanted, use_ms=USE_MS)
        now_ms, *found = await self.client.run(call, _FOUND)
        if not isinstance(now_ms, int) or len(found) != len(wanted):
            raise ValueError("Expected a token for each id")
        tokens = [read_token(one) if isinstance(one, bytes) else None for one in found]
        return [(now_ms, token and self._allowed.limiting(token)) for token in tokens]

    async def write(self, token_id: str, before: bytes, after: Token | None) -> Written:
        """Put a token in the place of what was kept under its id (empty: nothing), or delete that (None)."""
        call = _WRITE.bind(
            self.client.keys,
            token_id=token_id,
            expected=before,
            changed=b"" if after is None else encode_token(after),
            most=TOKENS_MOST,
        )
        return await self.client.run(call, Written)

    async def take(
        self, token_id: str, token: Token, share: Share, coming: Share, rated: int, told: Coming = UNTOLD
    ) -> tuple[Taken, int, Share]:
        """Ask whether a token may have that much more waiting beside what is `coming`, here and as other processes
        have told, and count `rated` tasks towards its rate. If it may, `told` is what others count then.

        Returns also for how many ms it must wait, or how many tasks or bytes wait; and what waits in this shard, -1
        where that was not asked for."""
        call = _TAKE.bind(
            self.client.keys,
            token_rate=self.client.keys.token_rate(token_id),
            token_coming=self.client.keys.token_coming(token_id),
            owned=self.client.keys.owned(token_id),
            entering=share.tasks,
            growing=share.bytes,
            coming=coming.tasks,
            coming_bytes=coming.bytes,
            most=token.tasks or "",
            most_bytes=token.task_bytes or "",
            rate=token.rate or "",
            rated=rated,
            process=told.process,
            number=told.number,
            held=told.share.tasks,
            held_bytes=told.share.bytes,
            kept_ms=COMING_KEPT_MS,
        )
        return await self.client.run(call, _taken)

    async def waiting(self, token_ids: Sequence[str]) -> list[Share]:
        """Return what each of these tokens has waiting."""
        shares: list[Share] = []
        for at in range(0, len(token_ids), IDS_A_CALL):
            owned = [self.client.keys.owned(token_id) for token_id in token_ids[at : at + IDS_A_CALL]]
            commands = [command for key in owned for command in (("HLEN", key), ("HGET", key, ".bytes"))]
            # A foreign key in its place has none of its tasks.
            found = await self.client.optionals(commands, of(int | bytes | None))
            for fields, size in zip(found[::2], found[1::2], strict=True):
                count = fields if isinstance(fields, int) else 0
                shares.append(Share(count - (size is not None), _ms(size if isinstance(size, bytes) else None)))
        return shares

    async def all(self) -> list[KeptToken]:
        """Return every token, the oldest first."""
        kept = await self.client.command("HGETALL", self.client.keys.tokens, read=_pairs)
        used = await self.client.command("HGETALL", self.client.keys.token_uses, read=_pairs)
        found = [
            KeptToken(name.decode(errors="replace"), raw, read_token(raw), _ms(used.get(name)))
            for name, raw in kept.items()
        ]
        return sorted(found, key=lambda one: (one.token.made if one.token else 0, one.id))


def _taken(answer: Any) -> tuple[Taken, int, Share]:
    word, *numbers = answer
    number, tasks, size = map(NUMBER, numbers)
    return Taken(word), number, Share(tasks, size)


def _pairs(answer: Any) -> dict[bytes, bytes]:
    """Read the answer to HGETALL, which RESP2 gives as a list."""
    found: dict[bytes, bytes] = _ALL(
        dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else answer
    )
    return found


def _ms(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() and len(text) < 16 else 0
