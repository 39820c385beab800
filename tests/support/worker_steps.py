"""Steps of the timer, the workers and the time."""

import asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.store.written import Acknowledgement
from redis_scheduler.task.claim import Claim, Entry
from redis_scheduler.task.record import decode_record
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.states import ask
from tests.support.model import LEASE_MS
from tests.support.modelled import TOLD, TOLERANCE_MS, Modelled, id_order
from tests.support.names import KEYS
from tests.support.steps import ALIVE_MOST, REPEATS_MOST, WORKERS, Step, Steps
from tests.support.store import letters

CALL_MOST_S = 0.01
"""While lines stand, the next promotion comes within this: of three workers, and what waits for a retry."""

SET_BACK_MS = 20_000
"""By so much is Redis' clock set back: longer than an example takes, shorter than what is deferred."""


class WorkerSteps(Steps):
    """A verb each."""

    async def _come_due(self, step: Step) -> None:
        tasks = [task for task in self.model.standing("due") if task.wait_ms]
        task = self._one_of(tasks, step.which)
        self.taken[f"come_due {task.state.place}"] += 1
        await self._press_due(task)

    async def _press_due(self, task: Modelled) -> None:
        task.wait_ms, task.score = 0, redis_ms(await ask(self.raw, "TIME")) - 1_000
        await ask(self.raw, "ZADD", KEYS.due, "XX", task.score, task.key)

    async def _run_out(self, step: Step) -> None:
        """A lease runs out, or the delay of a retry is over."""
        tasks = [task for task in self.model.standing("pending") if task.wait_ms]
        task = self._one_of(tasks, step.which)
        self.taken[f"run_out {task.state.place}"] += 1
        await self._press_over(task)

    async def _press_over(self, task: Modelled) -> None:
        assert task.owner is not None
        assert task.entry is not None
        command = ("XCLAIM", KEYS.queue, keys.GROUP, task.owner, 0, task.entry, "IDLE", DEFAULT.window_ms, "JUSTID")
        await ask(self.raw, *command)
        task.wait_ms = 0

    async def _promote(self, step: Step) -> None:
        await self._promote_as(WORKERS[step.who % 3], step.count, step.which // 3, step.flag)

    async def _line_up(self, step: Step) -> None:
        """Promote more than fits into the queue."""
        await self._promote_as(WORKERS[step.who % 3], ALIVE_MOST, step.which // 3, in_turn=True)

    async def _promote_as(self, worker: str, limit: int, claims: int, in_turn: bool) -> None:
        # What is due in this very millisecond may be moved or not: let it be over.
        scores = [task.score or 0 for task in self.model.standing("due")]
        for _ in range(100_000):
            now_ms = redis_ms(await ask(self.raw, "TIME"))
            if not any(now_ms <= score < now_ms + 1_000 for score in scores):
                break
        promotion = await self.stores[worker].promote(limit, claims, in_turn)
        waiting = self.model.lines
        if in_turn:
            moved, queued = self.model.promote_in_turn(limit, now_ms)
        else:
            queued = self.model.promote(limit, now_ms)
            moved = len(queued)
        assert promotion.moved == moved
        if in_turn and self.model.lines:
            assert promotion.wait_s is not None
            assert promotion.wait_s <= CALL_MOST_S
        await self._learn_entries()
        in_order = [id_order(task.entry or "") for task in queued]
        assert in_order == sorted(in_order)
        from_lines = sum(task in waiting for task in queued)
        self.taken["promote"] += len(queued) - from_lines
        self.taken["promote from a line"] += from_lines
        self.taken["promote into a line"] += moved - len(queued) + from_lines
        expected = self.model.claim(worker, min(claims, len(queued)))
        for task in expected:
            assert self.model.renew(worker, task.entry or "")
        self._note_read(worker, promotion.claims, expected)
        self.taken["promote and claim"] += len(expected)

    async def _claim(self, step: Step) -> None:
        worker = WORKERS[step.who % 3]
        await self._claim_as(worker, step.count)
        if step.which < 5:
            await self._load_as(worker)

    async def _claim_as(self, worker: str, limit: int) -> None:
        expected = self.model.claim(worker, limit)
        if not expected:
            # Without the wait of the real claim.
            command = ("XREADGROUP", "GROUP", keys.GROUP, worker, "COUNT", limit, "STREAMS", KEYS.queue, ">")
            assert await ask(self.raw, *command) is None
            self.taken["claim nothing"] += 1
            return
        entries = await self.shared.readers[worker].claim(limit)
        assert entries == [Entry(task.entry or "", task.key, 1) for task in expected]
        self.unloaded[worker] += entries
        self.taken["claim"] += len(entries)

    async def _claim_and_read(self, step: Step) -> None:
        """All in one call, without waiting; or after a wait for one."""
        worker = WORKERS[step.who % 3]
        expected = self.model.claim(worker, step.count)
        for task in expected:
            assert self.model.renew(worker, task.entry or "")
        if expected and step.flag:
            [waited] = await self.shared.readers[worker].claim(1)
            claimed = await self.stores[worker].claim(step.count - 1, waited)
        else:
            claimed = await self.stores[worker].claim(step.count)
        assert claimed.rest == []
        self._note_read(worker, claimed.claims, expected)
        self.taken["claim_and_read" if expected else "claim_and_read nothing"] += max(1, len(expected))

    def _note_read(self, worker: str, claims: list[Claim], expected: list[Modelled]) -> None:
        assert [(claim.id, claim.key, claim.record, claim.attempts, claim.tries) for claim in claims] == [
            (task.entry or "", task.key, decode_record(task.record), task.attempts, 1) for task in expected
        ]
        self._note_claims(worker, claims)

    async def _load(self, step: Step) -> None:
        await self._load_as(WORKERS[step.who % 3])

    async def _load_as(self, worker: str) -> list[Claim]:
        """Load what was claimed: now, or before whatever happened meanwhile. It is what is delivered, so the newest."""
        entries, self.unloaded[worker] = self.unloaded[worker], []
        held = [entry for entry in entries if self.model.renew(worker, entry.id)]
        claims, _ = await self.stores[worker].load(entries)
        assert [(claim.id, claim.key, claim.tries) for claim in claims] == [
            (entry.id, entry.key, entry.tries) for entry in held
        ]
        for claim in claims:
            task = self.model.tasks[claim.key]
            assert (claim.record, claim.attempts) == (decode_record(task.record), task.attempts)
            assert (claim.mark or TOLD * claim.is_told_to_run) == task.mark
        self._note_claims(worker, claims)
        self.taken["load"] += len(claims)
        self.taken["load dropped"] += len(entries) - len(claims)
        return claims

    async def _recover(self, step: Step) -> None:
        """What an answer lost on the way left pending."""
        worker = WORKERS[step.who % 3]
        held = {task.entry: task for task in self.model.standing("pending") if task.owner == worker}
        found = await self.stores[worker].pending(100)
        assert {entry.id: (entry.key, entry.tries) for entry in found} == {
            entry: (task.key, task.tries) for entry, task in held.items()
        }
        unloaded = {entry.id for entry in self.unloaded[worker]}
        for entry in found:
            self.taken["recover unloaded" if entry.id in unloaded else "recover loaded"] += 1
        self.unloaded[worker] = found
        await self._load_as(worker)

    async def _reclaim(self, step: Step) -> None:
        worker = WORKERS[step.who % 3]
        await self._reclaim_as(worker, step.count)
        if step.which < 5:
            await self._load_as(worker)

    async def _reclaim_as(self, worker: str, limit: int) -> None:
        for _ in range(REPEATS_MOST):
            now_ms, cursor = redis_ms(await ask(self.raw, "TIME")), await ask(self.raw, "HGET", KEYS.sweep, "cursor")
            await ask(self.raw, "HSET", KEYS.sweep, "next_ms", now_ms, "seen_ms", now_ms - 1)
            sweep = await self.stores[worker].look(limit)
            entries = sweep.entries
            assert sweep.has_lines == (self.model.turn is not None)
            # A step that a loaded machine held up is void.
            if int(await ask(self.raw, "HGET", KEYS.sweep, "seen_ms")) >= now_ms:
                break
        eligible = {task.key: task.owner for task in self.model.reclaimable}
        expected = self.model.reclaim(worker, limit, (cursor or b"0-0").decode())
        self.taken["reclaim awaited"] += len(self.model.overdue(limit))
        await self._learn_entries()
        assert entries == [Entry(task.entry or "", task.key, task.tries) for task in expected]
        for entry in entries:
            owner = eligible.pop(entry.key)
            self.taken["reclaim " + {keys.WAITING: "retry", worker: "own"}.get(owner or "", "lost")] += 1
        self.taken["reclaim passed over"] += sum(
            self.model.tasks[key].owner != owner for key, owner in eligible.items()
        )
        self.taken["reclaim nothing"] += not entries
        self.unloaded[worker] += entries

    async def _admit(self, step: Step) -> None:
        """No limit is said of anything: a round admits all."""
        self.taken["admit"] += await self._admit_all()

    async def _admit_all(self) -> int:
        count = len(self.model.standing("held"))
        await ask(self.raw, "HDEL", KEYS.sweep, "round_ms", "round_from")
        admission = await Limiting(self.shared.client).admit()
        assert (admission.admitted, admission.held) == (count, len(self.model.lines))
        self.model.admit()
        return count

    async def _run_out_awaited(self, step: Step) -> None:
        tasks = [task for task in self.model.standing("awaiting") if task.wait_ms]
        await self._press_awaited(tasks[step.which % len(tasks)])

    async def _press_awaited(self, task: Modelled) -> None:
        task.wait_ms, task.score = 0, redis_ms(await ask(self.raw, "TIME")) - 1_000
        await ask(self.raw, "ZADD", KEYS.awaiting, "XX", task.score, task.key)

    async def _pause_all(self, step: Step) -> None:
        """While all is paused nothing is promoted, swept or ended by an acknowledgement; then it goes on."""
        store = self.stores[WORKERS[step.who % 3]]
        assert await store.pause_all(True)
        promotion = await store.promote(step.count, step.count, step.flag)
        assert (promotion.is_all_paused, promotion.moved, promotion.claims) == (True, 0, [])
        await ask(self.raw, "HSET", KEYS.sweep, "next_ms", 0)
        assert (await store.look(step.count)).entries == []
        known = [claim for claims in self.claims.values() for claim in claims]
        awaited = [claim for claim in known if self.model.tasks[claim.key].mark == f"@{claim.id}"]
        for claim in awaited:
            said = Acknowledgement(claim.key, claim.id, claim.attempts, "+", DEFAULT.window_ms)
            is_awaiting = self.model.tasks[claim.key].place == "awaiting"
            assert letters(await store.acknowledge([said])) == ("P" if is_awaiting else "O")
        assert await store.pause_all(False) is None
        self.taken["pause_all"] += 1
        self.taken["pause_all due"] += any(not task.wait_ms for task in self.model.standing("due"))
        self.taken["pause_all over"] += bool(self.model.reclaimable)
        self.taken["pause_all awaited"] += bool(self.model.standing("awaiting"))

    async def _set_back(self, step: Step) -> None:
        """Redis' clock is set back, and some worker mends it: to the scripts it looks the same where the greatest time
        that was seen is ahead."""
        store, now_ms = self.stores[WORKERS[step.who % 3]], redis_ms(await ask(self.raw, "TIME"))
        self.taken["set_back leased"] += any(
            task.wait_ms > LEASE_MS and task.owner != keys.WAITING for task in self.model.standing("pending")
        )
        await ask(self.raw, "HSET", KEYS.sweep, "clock_ms", now_ms + SET_BACK_MS)
        assert (await store.look(0)).must_rewind
        by_ms, _ = await store.rewind()
        assert SET_BACK_MS - TOLERANCE_MS < by_ms <= SET_BACK_MS
        while await ask(self.raw, "HEXISTS", KEYS.sweep, "step_ms"):
            assert (await store.rewind())[0] == 0
        assert await store.rewind() == (0, 0)
        for task in self.model.set_back():
            score = int(await ask(self.raw, "ZSCORE", getattr(KEYS, task.place), task.key))
            # Up to 2 ms later: these tell what was deferred since from what was before.
            assert task.score is not None
            earlier_ms = task.score - score
            assert by_ms - 2 <= earlier_ms <= by_ms, f"{task.key} comes {earlier_ms} ms earlier, not {by_ms}: {task}"
            task.score, task.wait_ms = score, task.wait_ms - by_ms
            if task.wait_ms < TOLERANCE_MS:  # what whole steps leave of a delay: it is due by then
                task.wait_ms = 0
                await asyncio.sleep(max(0, score - redis_ms(await ask(self.raw, "TIME"))) / 1000)
            self.taken["set_back " + task.state.place] += 1

    async def _lose(self, step: Step) -> None:
        """Other hands delete the record of a task that is claimed: its load counts it as lost. It has no type or label,
        by which a list would find it yet."""
        [worker, task], *_ = self._losable()
        await ask(self.raw, "HDEL", KEYS.tasks, task.key)
        self.model.lose(task)
        await self._load_as(worker)
        self.taken["lose"] += 1

    def _losable(self) -> list[tuple[str, Modelled]]:
        """Tasks that a worker holds and has not loaded yet, with that worker."""
        unloaded = {(worker, entry.id) for worker in WORKERS for entry in self.unloaded[worker]}
        return [
            (task.owner or "", task)
            for task in self.model.standing("pending")
            if (task.owner, task.entry) in unloaded and not task.listed
        ]

    async def _retire(self, step: Step) -> None:
        self.taken["retire"] += await self.stores[WORKERS[0]].retire(0) > 0
