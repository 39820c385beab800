"""What brings claims to a consumer, keeps them, and gives them back unchanged: each verb one method, and one Lua script
of the same name."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis_scheduler.store.answer_shape import NUMBER, TEXTS, booleans, numbers, of, sized
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING, text_of
from redis_scheduler.store.script import Script
from redis_scheduler.store.sweep import Sweeps
from redis_scheduler.task.claim import Claim, Entry
from redis_scheduler.task.failure import is_told_to_run, read_attempts, read_mark, status_of
from redis_scheduler.task.record import read_record
from redis_scheduler.task.timing import Timing

if TYPE_CHECKING:
    from redis_scheduler.store.vault import Vault

PROMOTE, CLAIM, LOAD, RENEW, ENTRY = map(Script, ("promote", "claim", "load", "renew", "entry"))
PROMOTE_IN_TURN = Script("promote_in_turn")
RELEASE, RETIRE = Script("release"), Script("retire")


@dataclass(slots=True)
class Promotion:
    """What a promotion did: how many tasks it moved, the seconds until the next is due (None: none is scheduled),
    and the claims that this consumer got."""

    moved: int
    wait_s: float | None
    claims: list[Claim] = field(default_factory=list)
    is_all_paused: bool = False
    """Whether all is paused: then nothing was moved or claimed."""


@dataclass(slots=True)
class Claimed:
    """What a claim brought: claims that were read, and entries that are still to be loaded."""

    claims: list[Claim] = field(default_factory=list)
    rest: list[Entry] = field(default_factory=list)


class Claiming(Sweeps):
    """How a consumer comes to its claims, and parts with them; what is written of them is Claims. Every method raises
    StoreUnavailable, after which nobody knows whether it was applied, or StoreFull.

    `renew` and `pending` make several calls. A promotion without the group still moves, but claims nothing.
    """

    def __init__(self, client: RedisClient, name: str, timing: Timing) -> None:
        super().__init__(client, name, timing)
        self.on_records_missing: Callable[[Sequence[str]], None] | None = None
        """Called with the keys of tasks that were queued and have no record: they are lost."""

    async def promote(self, limit: int | None = None, most_claims: int = 0, in_turn: bool = False) -> Promotion:
        """Move what is due into the queue: `limit` tasks at most, a batch (or `sorted_most`) if it is not given. Then
        claim, lease and read as many of its oldest entries as came into it, but at most `most_claims`, and about
        `promoted_bytes`.

        With `in_turn` no more come into the queue than fit, and tokens take turns: the rest waits in lines."""
        keys, timing = self.client.keys, self._timing
        usual = timing.sorted_most if in_turn else timing.batch_limit
        arguments: dict[str, Any] = {
            "limit": usual if limit is None else limit,
            "most_claims": most_claims,
            "group": GROUP,
            "consumer": self.name,
            "idle_ms": timing.lease_idle_ms,
            "room": timing.promoted_bytes,
        }
        if in_turn:
            call = PROMOTE_IN_TURN.bind(
                keys,
                **arguments,
                queued_most=timing.queued_most,
                in_turn_most=timing.in_turn_most,
                read_most=timing.load_bytes,
                interval_us=timing.in_turn_us,
            )
        else:
            call = PROMOTE.bind(keys, **arguments)
        promotion, now_ms = await self.client.run(call, functools.partial(_promotion, keys.vault))
        self._hear_time(now_ms)
        return promotion

    async def claim(self, limit: int, waited: Entry | None = None) -> Claimed:
        """Claim and lease at most `limit` entries that nobody has, without waiting for any, and that which the reader
        has `waited` for; read the tasks of the first: about `load_bytes`."""
        claimed, now_ms = await self.client.run(
            CLAIM.bind(
                self.client.keys,
                limit=limit,
                group=GROUP,
                consumer=self.name,
                idle_ms=self._timing.lease_idle_ms,
                room=self._timing.load_bytes,
                waited="" if waited is None else waited.id,
                waited_key="" if waited is None else waited.key,
            ),
            functools.partial(_claimed, self.client.keys.vault),
        )
        self._hear_time(now_ms)
        return claimed

    async def load(self, entries: Sequence[Entry]) -> tuple[list[Claim], int]:
        """Lease entries that are pending for this consumer, and read the tasks of the first: about `load_bytes`, one at
        least.

        Returns their claims, without tasks that were cancelled, updated or taken over since, and how many entries were
        looked at. Tasks without a record are counted as lost.
        """
        if not entries:
            return [], 0
        ids = [entry.id for entry in entries]
        loaded, lost, looked_at, now_ms = await self.client.run(
            LOAD.bind(
                self.client.keys,
                room=self._timing.load_bytes,
                ids=ids,
                task_keys=[entry.key for entry in entries],
                **self._lease(_in_order(ids)),
            ),
            lambda answer: _loaded(entries, self.client.keys.vault, answer),
        )
        self._hear_time(now_ms)
        if lost and self.on_records_missing is not None:
            self.on_records_missing(lost)
        return loaded, looked_at

    def _lease(self, by_id: Sequence[str]) -> dict[str, Any]:
        """Return the arguments of scripts that start leases: whose, from when, and the range of ids to look at."""
        return {
            "group": GROUP,
            "consumer": self.name,
            "idle_ms": self._timing.lease_idle_ms,
            "lowest": by_id[0],
            "highest": by_id[-1],
        }

    async def renew(self, ids: Sequence[str]) -> set[str]:
        """Renew the leases of entries in flight; return those that are still this consumer's."""
        held: set[str] = set()
        # In order, so that the batches' ranges of ids do not overlap.
        by_id = _in_order(ids)
        for start in range(0, len(ids), self._timing.batch_limit):
            part = by_id[start : start + self._timing.batch_limit]
            answer = await self.client.run(RENEW.bind(self.client.keys, ids=part, **self._lease(part)), TEXTS)
            held.update(entry_id.decode() for entry_id in answer)
        return held

    async def release(self, claims: Sequence[Claim]) -> list[bool]:
        """Give claims back for any worker to take at once; return for each whether it took effect."""
        return await self.client.run(
            RELEASE.bind(
                self.client.keys,
                claims,
                group=GROUP,
                consumer=self.name,
                waiting=WAITING,
                window_ms=self._timing.window_ms,
                interval_ms=self._timing.sweep_waiting_interval_ms,
                ring_below_ms=self._timing.ring_below_ms,
            ),
            booleans(len(claims)),
        )

    async def pending(self, limit: int, known: Collection[str] = ()) -> list[Entry]:
        """List the entries that are pending for this consumer, without those known. Changes none of them."""
        rows = await self.client.command(
            "XPENDING", self.client.keys.queue, GROUP, "-", "+", limit, self.name, read=_PENDING
        )
        unknown = [(row[0], row[3]) for row in rows if row[0].decode() not in known]
        entries = []
        for start in range(0, len(unknown), self._timing.batch_limit):
            part = unknown[start : start + self._timing.batch_limit]
            # One command a time: on a link that loses replies again and again, one of many is always lost.
            part_ids = [entry_id for entry_id, _ in part]
            task_keys = await self.client.run(
                ENTRY.bind(self.client.keys, ids=part_ids), sized(list[bytes | None], len(part))
            )
            for (entry_id, tries), key in zip(part, task_keys, strict=True):
                if key is not None:
                    entries.append(Entry(entry_id.decode(), text_of(key), tries))
        return entries

    async def retire(self, idle_ms: int, only: str = "") -> int:
        """Delete consumers with nothing pending that were idle so long; return how many."""
        count: int = await self.client.run(
            RETIRE.bind(self.client.keys, group=GROUP, waiting=WAITING, idle_ms=idle_ms, only=only), NUMBER
        )
        return count


def _in_order(ids: Sequence[str]) -> Sequence[str]:
    try:
        return sorted(ids, key=_id_order)
    except ValueError:  # Redis refuses a text that is no id
        return ids


def _id_order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


_PENDING = of(list[tuple[bytes, bytes, int, int]])


def _promotion(vault: "Vault | None", answer: Any) -> tuple[Promotion, int]:
    moved, wait_us, now_ms, rows = answer
    numbers(3)([moved, wait_us, now_ms])
    wait_s = None if wait_us < 0 else wait_us / 1_000_000
    return Promotion(max(0, moved), wait_s, _claims_of(vault, rows), is_all_paused=moved < 0), now_ms


def _claimed(vault: "Vault | None", answer: Any) -> tuple[Claimed, int]:
    now_ms, rows, rest = answer
    entries = [Entry(entry_id.decode(), text_of(key)) for entry_id, key in zip(rest[::2], rest[1::2], strict=True)]
    return Claimed(_claims_of(vault, rows), entries), NUMBER(now_ms)


def _claims_of(vault: "Vault | None", rows: Any) -> list[Claim]:
    """Return the claims that a script has read: of each the entry's id, key, record and failure."""
    return [
        _claim(Entry(entry_id.decode(), text_of(key)), record, failure, vault)
        for entry_id, key, record, failure in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True)
    ]


def _loaded(entries: Sequence[Entry], vault: "Vault | None", answer: Any) -> tuple[list[Claim], list[str], int, int]:
    """Return the claims of tasks that were read, the keys of those without a record, how many were looked at, and
    Redis' time in ms."""
    now_ms, *found = answer
    looked_at, rest = divmod(len(found), 2)
    if rest or not 1 <= looked_at <= len(entries):
        raise ValueError(f"Expected rows of two for 1 to {len(entries)}")
    claims, lost = [], []
    for entry, record, failure in zip(entries, found[::2], found[1::2], strict=False):
        if record is not None:
            claims.append(_claim(entry, record, failure, vault))
        elif failure == 1:
            lost.append(entry.key)
    return claims, lost, looked_at, NUMBER(now_ms)


def _claim(entry: Entry, stored: bytes, failure: bytes | None, vault: "Vault | None") -> Claim:
    attempts, last_failure = read_attempts(failure)
    record = read_record(stored) if vault is None else vault.read_record(entry.key, stored)
    claim = Claim(entry.id, entry.key, record, attempts, entry.tries)
    if failure is not None:
        claim.mark, claim.is_told_to_run = read_mark(failure), is_told_to_run(failure)
    if attempts:
        if vault is not None:
            last_failure = vault.open_failure(entry.key, last_failure)
        claim.previous_status, claim.failure = status_of(last_failure), last_failure
    return claim


def entry_of(wire: Any) -> Entry:
    """Return an entry of the queue as Redis answers it."""
    entry_id, fields = wire
    return Entry(entry_id.decode(), text_of(fields[1]))


def entries_of(answer: Any) -> list[Entry]:
    """Return the entries that XREADGROUP answers for the queue; none if the time was over."""
    if answer is None:
        return []
    [(_, rows)] = answer
    return [entry_of(row) for row in rows]
