"""What a worker writes to Redis for the claims that it holds: each verb one method and one Lua script of the same name.

Outcomes are fenced by (entry id, owner, attempts), so each call may be sent twice as it is.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

from redis_scheduler.store.answer_shape import booleans, each_of
from redis_scheduler.store.claiming import Claiming
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING
from redis_scheduler.store.limiting import limit_of, new_salt
from redis_scheduler.store.new_task import AS_FOLLOW_UP, NewTask
from redis_scheduler.store.script import Script, listed_as
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.kept import NO_RESULTS, Kept
from redis_scheduler.task.series import Firing
from redis_scheduler.task.timing import DEFAULT, Timing


class RetryAnswer(IntEnum):
    """What a retry did. If too many wait already it does nothing: defer the task."""

    FENCED = 0
    PARKED = 1
    TOO_MANY = 2


class HoldAnswer(IntEnum):
    """What a hold did. If its limit can have no line it does nothing: defer the task."""

    FENCED = 0
    HELD = 1
    NO_LINE = 2


class Held(NamedTuple):
    """A claim that is to be held: its entry, task and attempts, and the limit that it is under."""

    id: str
    key: str
    attempts: int
    limit: str


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
_BURIED_ROW = _DEFERRED_ROW | {"type_number": listed_as("row.claim.record")}
_EXPIRED_ROW = {column: value for column, value in _BURIED_ROW.items() if column != "failure"} | {
    "result": "row.claim.result"
}

_SETTLED_ROW = {"type_number": listed_as("row.record")}
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
    "result": "row.after.result",
    "other_result": "row.otherwise.result if row.unless else b''",
    "type_number": listed_as("row.claim.record"),
}
_MADE_ROW = {
    "item": "row[0] + 1",
    "key": "row[1].key",
    "due_ms": "row[1].due_ms",
    "tail": "row[1].tail",
    "type_number": "row[1].listed",
}
FIRE = Script("fire", _FIRED_ROW, then=_MADE_ROW)
AGAIN = Script(
    "again",
    {
        "id": "row.claim.id",
        "key": "row.claim.key",
        "times": "row.claim.record.again + 1",
        "type_number": listed_as("row.claim.record"),
    },
)
HOLD = Script("hold")
EXPECT = Script("expect", {"id": "row.claim.id", "key": "row.claim.key", "attempts": "row.claim.attempts"})


NO_FOLLOW_UPS: Mapping[int, NewTask] = MappingProxyType({})


class Claims(Claiming):
    """What a worker writes. Every method raises StoreUnavailable, after which nobody knows whether it was applied, or
    StoreFull. One script call is atomic."""

    def __init__(self, client: RedisClient, name: str, timing: Timing = DEFAULT, kept: Kept = NO_RESULTS) -> None:
        super().__init__(client, name, timing)
        self._kept = kept

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
                **self._results,
            )
        return await self.client.run(call, booleans(len(claims)))

    @property
    def answer_bytes(self) -> int:
        """So many bytes are kept of the answer to a failed attempt."""
        return self._kept.answer_bytes

    @property
    def _results(self) -> dict[str, int]:
        return {"result_ttl_ms": self._kept.result_ttl_ms, "result_bytes": self._kept.result_bytes}

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
                ring_below_ms=self._timing.ring_below_ms,
                clock_set_least_ms=self._timing.clock_set_least_ms,
            ),
            lambda answer: each_of(RetryAnswer, answer, len(failed)),
        )

    async def defer(self, failed: Sequence[Unsettled]) -> list[bool]:
        """Record failed attempts and send the tasks back to `due` for their delay; return whether it took effect."""
        return await self.client.run(
            DEFER.bind(self.client.keys, failed, group=GROUP, consumer=self.name), booleans(len(failed))
        )

    async def hold(self, claims: Sequence[Claim]) -> list[HoldAnswer]:
        """Send claims that a limit does not let begin into its line."""
        rows = [Held(claim.id, claim.key, claim.attempts, limit_of(claim.record)) for claim in claims]
        return await self.client.run(
            HOLD.bind(self.client.keys, rows, group=GROUP, consumer=self.name, offered_salt=new_salt()),
            lambda answer: each_of(HoldAnswer, answer, len(claims)),
        )

    async def expect(self, taken_on: Sequence[Unsettled]) -> list[bool]:
        """Let tasks wait for an acknowledgement for their delay; return for each whether it took effect."""
        return await self.client.run(
            EXPECT.bind(
                self.client.keys,
                taken_on,
                group=GROUP,
                consumer=self.name,
                look_interval_ms=self._timing.look_interval_ms,
                interval_ms=self._timing.sweep_waiting_interval_ms,
                ring_below_ms=self._timing.ring_below_ms,
            ),
            booleans(len(taken_on)),
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
        """Delete tasks that have expired, and keep the results of their claims; return for each whether it took effect,
        false also after a lost answer as for `settle`. `follow_ups`: as there."""
        return await self.client.run(
            EXPIRE.bind(
                self.client.keys, expired, follow_ups.items(), group=GROUP, consumer=self.name, **self._results
            ),
            booleans(len(expired)),
        )

    async def fire(self, firings: Sequence[Firing]) -> list[FireAnswer]:
        """Put the occurrences of series that came due into the queue, and the series back into `due`, or end them.

        The records of all occurrences are part of the call: give a batch of them at most, or one series.
        """
        made = [(index, one) for index, each in enumerate(firings) for one in each.made]
        return await self.client.run(
            FIRE.bind(self.client.keys, firings, made, group=GROUP, consumer=self.name, **self._results),
            lambda answer: each_of(FireAnswer, answer, len(firings)),
        )

    async def again(self, delivered: Sequence[Unsettled]) -> list[bool]:
        """Have delivered tasks due again after their delay; return for each whether it took effect, false also after a
        lost answer as for `settle`. Each record is written anew: give about `load_bytes` of them at most."""
        return await self.client.run(AGAIN.bind(self.client.keys, delivered, group=GROUP), booleans(len(delivered)))
