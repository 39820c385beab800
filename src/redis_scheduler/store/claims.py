"""What a worker writes to Redis for the claims that it holds: each verb one method and one Lua script of the same name.

Outcomes are fenced by (entry id, owner, attempts), so each call may be sent twice as it is.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from redis_scheduler.store.answer_shape import NUMBER, TEXTS, booleans, each_of, numbers, of, sized
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING, text_of
from redis_scheduler.store.new_task import AS_FOLLOW_UP, NewTask
from redis_scheduler.store.script import Script
from redis_scheduler.store.sweep import Sweeps
from redis_scheduler.task.claim import Claim, Entry, Unsettled
from redis_scheduler.task.failure import read_attempts, read_mark, status_of
from redis_scheduler.task.kept import NO_RESULTS, Kept
from redis_scheduler.task.record import read_record
from redis_scheduler.task.series import Firing
from redis_scheduler.task.timing import DEFAULT, Timing


@dataclass(slots=True)
class Promotion:
    """What a promotion did: how many tasks it moved, the seconds until the next is due (None: none is scheduled),
    and the claims that this consumer got."""

    moved: int
    wait_s: float | None
    claims: list[Claim] = field(default_factory=list)
    is_paused: bool = False
    """Whether all is paused: then nothing was moved or claimed."""


class RetryAnswer(IntEnum):
    """What a retry did. If too many wait already it does nothing: defer the task."""

    FENCED = 0
    PARKED = 1
    TOO_MANY = 2


class FireAnswer(IntEnum):
    """What a series did that came due: its occurrence before may be unfinished, and then it makes none."""

    FENCED = 0
    SKIPPED = 1
    MADE = 2


_RETRIED_ROW = {
    "id": "row.claim.id",
    "key": "row.claim.key",
    "attempts": "row.claim.attempts",
    "failure": "row.last_failure",
}
_DEFERRED_ROW = _RETRIED_ROW | {"newly_failed": "int(row.counts)"}
_BURIED_ROW = _DEFERRED_ROW | {"type_number": "row.claim.record.type"}
_EXPIRED_ROW = {column: value for column, value in _BURIED_ROW.items() if column != "failure"}

PROMOTE, LOAD, RENEW, ENTRY = map(Script, ("promote", "load", "renew", "entry"))
_SETTLED_ROW = {"type_number": "row.record.type"}
SETTLE = Script("settle", _SETTLED_ROW, then=AS_FOLLOW_UP)
FINISH = Script("finish", _SETTLED_ROW, then=AS_FOLLOW_UP)
RETRY, DEFER = Script("retry", _RETRIED_ROW), Script("defer", _DEFERRED_ROW)
BURY = Script("bury", _BURIED_ROW, then=AS_FOLLOW_UP)
EXPIRE = Script("expire", _EXPIRED_ROW, then=AS_FOLLOW_UP)
_FIRED_ROW = {
    "id": "row.claim.id",
    "key": "row.claim.key",
    "attempts": "row.claim.attempts",
    "next_ms": "'' if row.after.due_ms is None else row.after.due_ms",
    "tail": "row.after.tail",
    "other_next_ms": "'' if row.otherwise.due_ms is None else row.otherwise.due_ms",
    "other_tail": "row.otherwise.tail if row.unless else b''",
    "type_number": "row.claim.record.type",
}
_MADE_ROW = {
    "item": "row[0] + 1",
    "key": "row[1].key",
    "due_ms": "row[1].due_ms",
    "tail": "row[1].tail",
    "type_number": "row[1].type",
}
FIRE = Script("fire", _FIRED_ROW, then=_MADE_ROW)
AGAIN = Script(
    "again",
    {
        "id": "row.claim.id",
        "key": "row.claim.key",
        "times": "row.claim.record.again + 1",
        "type_number": "row.claim.record.type",
    },
)
RELEASE = Script("release")
EXPECT = Script("expect", {"id": "row.claim.id", "key": "row.claim.key", "attempts": "row.claim.attempts"})
RETIRE = Script("retire")


NO_FOLLOW_UPS: Mapping[int, NewTask] = MappingProxyType({})


class Claims(Sweeps):
    """What a worker writes. Every method raises StoreUnavailable, after which nobody knows whether it was applied, or
    StoreFull.

    One script call is atomic; `renew` and `pending` make several calls. A promotion without the group still moves, but
    claims nothing.
    """

    def __init__(self, client: RedisClient, name: str, timing: Timing = DEFAULT, kept: Kept = NO_RESULTS) -> None:
        super().__init__(client, name, timing)
        self._kept = kept
        self.on_records_missing: Callable[[Sequence[str]], None] | None = None
        """Called with the keys of tasks that were queued and have no record: they are lost."""

    async def promote(self, limit: int | None = None, most_claims: int = 0) -> Promotion:
        """Move what is due into the queue: `limit` tasks at most, a batch if it is not given. Then claim, lease and
        read as many of its oldest entries as were moved, but at most `most_claims`, and about `promoted_bytes`."""
        promotion, now_ms = await self.client.run(
            PROMOTE.bind(
                self.client.keys,
                limit=self._timing.batch_limit if limit is None else limit,
                most_claims=most_claims,
                group=GROUP,
                consumer=self.name,
                idle_ms=self._timing.lease_idle_ms,
                room=self._timing.promoted_bytes,
            ),
            _promotion,
        )
        self._hear_time(now_ms)
        return promotion

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
            lambda answer: _loaded(entries, answer),
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

    async def settle(self, claims: Sequence[Claim], follow_ups: Mapping[int, NewTask] = NO_FOLLOW_UPS) -> list[bool]:
        """Delete delivered tasks, and keep the results of their claims; return for each whether it took effect: not if
        the task has left this entry. Also false if the call was sent again, and the first took effect: its answer was
        lost.

        `follow_ups`, by index of a claim, are tasks that start in the same moment if the claim took effect. Their
        records are part of the call: give about `load_bytes` of them at most, so that Redis takes a millisecond or two.
        """
        if not self.keeps_results:
            call = SETTLE.bind(self.client.keys, claims, follow_ups.items(), group=GROUP)
        else:
            call = FINISH.bind(
                self.client.keys,
                claims,
                follow_ups.items(),
                group=GROUP,
                result_ttl_ms=self._kept.result_ttl_ms,
                result_bytes=self._kept.result_bytes,
            )
        return await self.client.run(call, booleans(len(claims)))

    @property
    def answer_bytes(self) -> int:
        """So many bytes are kept of the answer to a failed attempt."""
        return self._kept.answer_bytes

    @property
    def keeps_results(self) -> bool:
        """Whether summaries of finished tasks are kept."""
        return self._kept.result_ttl_ms > 0

    async def retry(self, failed: Sequence[Unsettled]) -> list[RetryAnswer]:
        """Record failed attempts and park their entries until the retry; delays are at most the window."""
        return await self.client.run(
            RETRY.bind(
                self.client.keys,
                failed,
                group=GROUP,
                consumer=self.name,
                waiting=WAITING,
                window_ms=self._timing.window_ms,
                most=self._timing.waiting_most,
                interval_ms=self._timing.sweep_waiting_interval_ms,
                clock_set_least_ms=self._timing.clock_set_least_ms,
            ),
            lambda answer: each_of(RetryAnswer, answer, len(failed)),
        )

    async def defer(self, failed: Sequence[Unsettled]) -> list[bool]:
        """Record failed attempts and send the tasks back to `due` for their delay; return whether it took effect."""
        return await self.client.run(
            DEFER.bind(self.client.keys, failed, group=GROUP, consumer=self.name), booleans(len(failed))
        )

    async def expect(self, taken_on: Sequence[Unsettled]) -> list[bool]:
        """Let tasks wait for an acknowledgement for their delay; return for each whether it took effect."""
        return await self.client.run(
            EXPECT.bind(self.client.keys, taken_on, group=GROUP, consumer=self.name), booleans(len(taken_on))
        )

    async def bury(self, failed: Sequence[Unsettled], follow_ups: Mapping[int, NewTask] = NO_FOLLOW_UPS) -> list[bool]:
        """Move tasks to the dead letters; return for each whether it took effect, false also after a lost answer as for
        `settle`. `follow_ups`: as there."""
        return await self.client.run(
            BURY.bind(self.client.keys, failed, follow_ups.items(), group=GROUP, consumer=self.name),
            booleans(len(failed)),
        )

    async def expire(
        self, expired: Sequence[Unsettled], follow_ups: Mapping[int, NewTask] = NO_FOLLOW_UPS
    ) -> list[bool]:
        """Delete tasks that have expired; return for each whether it took effect, false also after a lost answer as for
        `settle`. `follow_ups`: as there."""
        return await self.client.run(
            EXPIRE.bind(self.client.keys, expired, follow_ups.items(), group=GROUP, consumer=self.name),
            booleans(len(expired)),
        )

    async def fire(self, firings: Sequence[Firing]) -> list[FireAnswer]:
        """Put the occurrences of series that came due into the queue, and the series back into `due`, or end them.

        The records of all occurrences are part of the call: give a batch of them at most, or one series.
        """
        made = [(index, one) for index, each in enumerate(firings) for one in each.made]
        return await self.client.run(
            FIRE.bind(self.client.keys, firings, made, group=GROUP, consumer=self.name),
            lambda answer: each_of(FireAnswer, answer, len(firings)),
        )

    async def again(self, delivered: Sequence[Unsettled]) -> list[bool]:
        """Have delivered tasks due again after their delay; return for each whether it took effect, false also after a
        lost answer as for `settle`. Each record is written anew: give about `load_bytes` of them at most."""
        return await self.client.run(AGAIN.bind(self.client.keys, delivered, group=GROUP), booleans(len(delivered)))

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


def _promotion(answer: Any) -> tuple[Promotion, int]:
    moved, wait_us, now_ms, rows = answer
    numbers(3)([moved, wait_us, now_ms])
    found = [
        _claim(Entry(entry_id.decode(), text_of(key)), record, failure)
        for entry_id, key, record, failure in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True)
    ]
    wait_s = None if wait_us < 0 else wait_us / 1_000_000
    return Promotion(max(0, moved), wait_s, found, is_paused=moved < 0), now_ms


def _loaded(entries: Sequence[Entry], answer: Any) -> tuple[list[Claim], list[str], int, int]:
    """Return the claims of tasks that were read, the keys of those without a record, how many were looked at, and
    Redis' time in ms."""
    now_ms, *found = answer
    looked_at, rest = divmod(len(found), 2)
    if rest or not 1 <= looked_at <= len(entries):
        raise ValueError(f"Expected rows of two for 1 to {len(entries)}")
    claims, lost = [], []
    for entry, record, failure in zip(entries, found[::2], found[1::2], strict=False):
        if record is not None:
            claims.append(_claim(entry, record, failure))
        elif failure == 1:
            lost.append(entry.key)
    return claims, lost, looked_at, NUMBER(now_ms)


def _claim(entry: Entry, record: bytes, failure: bytes | None) -> Claim:
    attempts, last_failure = read_attempts(failure)
    claim = Claim(entry.id, entry.key, read_record(record), attempts, entry.tries, mark=read_mark(failure))
    if attempts:
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
