"""Steps of the API: what requests write."""

from collections.abc import Callable

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.moves import Moved
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.rekeying import Rekeying
from redis_scheduler.store.retention import Retention, Trim
from redis_scheduler.store.vault import Vault
from redis_scheduler.store.written import Acknowledgement, OnceTask, Operation, Put, ShiftStep, StoredTask
from redis_scheduler.task.kept import Kept
from tests.scripts.states import FAILURE, TTL_MS, ask
from tests.support.modelled import LISTED, LISTINGS, Modelled, names_of
from tests.support.names import OTHER_KEY, TEST_KEY, VAULT
from tests.support.steps import ALIVE_MOST, CANCELLED, WRITERS, Step, Steps
from tests.support.store import letters

LATER_MS = 20_000
"""How much later a task is told to run, if not at once."""


class ApiSteps(Steps):
    """A verb each."""

    async def _resend(self, step: Step) -> None:
        """The answer of a writer's last batch of a verb was lost, and came after whatever happened meanwhile."""
        known = sorted(self.last_writes)
        known = [name for name in known if self.goal == f"resend {name[1]}"] or known
        writer, verb = known[step.which % len(known)]
        call, answer = self.last_writes[writer, verb]
        self.stores[writer]._batch_numbers[verb] -= 1
        assert await call() == answer, f"resend {verb}"
        self.taken[f"resend {verb}"] += 1

    async def _schedule(self, step: Step) -> None:
        count = min(step.count, ALIVE_MOST - len(self.model.tasks) + len(self.model.standing("missing")))
        ttl_ms, listed = (TTL_MS if step.which < 3 else 0), LISTINGS[step.who // 2]
        if self.goal == "schedule in turn":
            ttl_ms, listed = 0, LISTED
        must_wait = not ttl_ms and listed is not None and self.model.is_crowded(count)
        first = len(self.model.tasks)
        tasks = [NewTask(f"task-{first + number}", ttl_ms, self._tail(listed), listed) for number in range(count)]
        writer = WRITERS[step.who % 2]
        due_ms = await self._write(writer, "schedule", lambda: self.stores[writer].schedule(tasks))
        for task, due_at_ms in zip(tasks, due_ms, strict=True):
            self.model.schedule(task.key, listed, task.tail, due_at_ms, ttl_ms, must_wait)
            self.taken["schedule due" if ttl_ms else "schedule in turn" if must_wait else "schedule queued"] += 1

    async def _schedule_once(self, step: Step) -> None:
        """A request with an Idempotency-Key comes, perhaps again, and its call is sent twice."""
        again = sorted(self.stored) if self.goal == "schedule once again" else []
        name, ttl_ms = again[0] if again else f"id-{step.which % 3}", 0 if step.flag else TTL_MS
        listed = LISTINGS[step.who // 2]
        if self.goal == "schedule_once in turn":
            ttl_ms, listed = 0, LISTED
        task = NewTask(f"task-{len(self.model.tasks)}", ttl_ms, self._tail(listed), listed)
        must_wait = not ttl_ms and listed is not None and self.model.is_crowded(1)
        store, known = self.stores[WRITERS[step.who % 2]], self.stored.get(name)
        for _ in range(2):
            [found] = await store.schedule_once([OnceTask(name, "mac", task)], 3_600_000, 3)
            assert isinstance(found, StoredTask)
            assert found == self.stored.setdefault(name, found)
        if known is None:
            stored = self.stored[name]
            assert stored.key == task.key
            self.model.schedule(task.key, listed, task.tail, stored.due_ms, ttl_ms, must_wait)
            self.taken["schedule_once in turn"] += must_wait
        self.taken["schedule once" if known is None else "schedule once again"] += 1

    async def _restore(self, step: Step) -> None:
        """A task of an export comes back under its key: one that is gone, or is there."""
        known = self.model.tasks.values()
        gone = [task for task in known if task.place == "missing"]
        has_room = len(known) - len(gone) < ALIVE_MOST
        task = gone[step.which % len(gone)] if gone and has_room else self._known(step.which)
        place, before = ("due", "paused", "dead")[step.count - 1], task.state.place
        in_ms, attempts = TTL_MS if step.flag and place != "dead" else 0, int(step.count > 1)
        writer = WRITERS[step.who % 2]
        at_ms = redis_ms(await ask(self.raw, "TIME")) + in_ms
        failure = b"%d %b" % (attempts, FAILURE) if attempts else b""
        placed_ms = at_ms - in_ms if place == "dead" else at_ms  # no task died in the future
        wanted = [Moved(task.key, at_ms, self._tail(task.listed), place, placed_ms, failure, task.listed)]
        answers = await self._write(writer, "restore", lambda: self.stores[writer].restore(wanted))
        tail = wanted[0].tail
        assert letters(answers) == self.model.restore(task.key, task.listed, tail, at_ms, in_ms, place, attempts)
        # One that found nothing is not remembered: sent again it finds what has come back, as a later one would.
        for name in [(each, verb) for each in WRITERS for verb in ("cancel", "discard")]:
            if name in self.last_writes and letters(self.last_writes[name][1]) == "N":
                del self.last_writes[name]
        self.taken[f"restore {place if before == 'missing' else 'there'}"] += 1

    async def _rekey(self, step: Step) -> None:
        """All is sealed anew: now with the one key, now with the other. Whoever read a record before reads it again."""
        given = [OTHER_KEY, TEST_KEY] if step.flag else [TEST_KEY, OTHER_KEY]
        work = Rekeying(self.shared.client, Vault(given), writes=True)
        assert [left async for left in work.run() if left] == []
        self.reads.clear()
        self.taken["rekey"] += work.counts.resealed

    async def _read(self, step: Step) -> None:
        await self._read_as(WRITERS[step.who % 2], self._known(step.which))

    async def _update(self, step: Step, ttl_ms: int | None = None, verb: str = "update") -> None:
        writer, task = self._writer_of(step)
        change, before = await self._change(step, writer, task, ttl_ms), task.state.place
        change.has_other_limit = verb == "update_limit"
        now_ms, answers = await self._write(writer, "update", lambda: self.stores[writer].update([change]))
        letter = letters(answers)
        moves = change.has_other_limit
        expected = VAULT.opened(task.key, change.expected)
        assert letter == self.model.update(task.key, expected, change.tail, ttl_ms, now_ms, moves)
        if letter in "UD":
            task.listed = names_of(change.listed)
        self.taken[f"{verb} {'changed' if letter == 'C' else before}"] += 1

    async def _update_delay(self, step: Step) -> None:
        await self._update(step, TTL_MS, "update_delay")

    async def _update_limit(self, step: Step) -> None:
        await self._update(step, verb="update_limit")

    async def _put(self, step: Step) -> None:
        """A task under an own key: it takes the place of one that this writer has read, or of none."""
        writer, task = self._writer_of(step)
        expected, before = (await self._change(step, writer, task, TTL_MS)).expected, task.state.place
        if before == "missing" and step.flag:
            expected = b""
        listed, old_listed = LISTINGS[step.count - 1], task.listed
        put = Put(NewTask(task.key, TTL_MS, self._tail(listed), listed), expected, old_listed)
        now_ms, answers = await self._write(writer, "put", lambda: self.stores[writer].put([put]))
        letter = letters(answers)
        expected = VAULT.opened(task.key, expected)
        assert letter == self.model.put(task.key, expected, put.task.tail, listed, TTL_MS, now_ms)
        self.taken[f"put {'changed' if letter == 'C' else before}"] += 1

    async def _replay(self, step: Step) -> None:
        writer, task = self._writer_of(step)
        await self._replay_one(step, writer, task if task.place == "dead" else self.model.standing("dead")[0])

    async def _replay_other(self, step: Step) -> None:
        """A replay of a task that is dead no more, or was not."""
        await self._replay_one(step, *self._writer_of(step))

    async def _replay_one(self, step: Step, writer: str, task: Modelled) -> None:
        change, before = await self._change(step, writer, task, TTL_MS), task.state.place
        now_ms, answers = await self._write(writer, "replay", lambda: self.stores[writer].replay([change]))
        letter = letters(answers)
        expected = VAULT.opened(task.key, change.expected)
        assert letter == self.model.replay(task.key, expected, change.tail, TTL_MS, now_ms)
        if letter == "U":
            task.listed = names_of(change.listed)
        self.taken[f"replay {'changed' if letter == 'C' else before}"] += 1

    async def _cancel(self, step: Step) -> None:
        task, writer = self._known(step.which), WRITERS[step.who % 2]
        before, wanted = task.state.place, [(task.key, task.listed, b"", CANCELLED)]
        answers = await self._write(writer, "cancel", lambda: self.stores[writer].cancel(wanted))
        assert letters(answers) == self.model.cancel(task.key)
        self.taken[f"cancel {before}"] += 1

    async def _discard(self, step: Step) -> None:
        writer, dead = WRITERS[step.who % 2], self.model.standing("dead")
        task = (
            dead[step.which % len(dead)]
            if dead and (step.flag or self.goal.endswith("discard"))
            else self._known(step.which)
        )
        before = task.state.place
        answers = await self._write(writer, "discard", lambda: self.stores[writer].discard([task.key]))
        assert letters(answers) == self.model.discard(task.key)
        if letters(answers) == "N":
            # Not remembered: sent again it finds what has died since, as a later one would.
            del self.last_writes[writer, "discard"]
        self.taken["discard" if before == "dead" else "discard nothing"] += 1

    async def _trim(self, step: Step) -> None:
        # Not by their age: what was restored may die in the future.
        trim = await Retention(self.shared.client, Kept(dead_bytes=0)).trim()
        assert trim == Trim(self.model.trim(), None)
        self.taken["trim"] += trim.dropped

    async def _move(self, step: Step, verb: str, judge: Callable[[str], str]) -> None:
        task, writer = self._known(step.which), WRITERS[step.who % 2]
        before, move = task.state.place, getattr(self.stores[writer], verb)
        answers = await self._write(writer, verb, lambda: move([task.key]))
        assert letters(answers) == judge(task.key)
        self.taken[f"{verb} {before}"] += 1

    async def _pause(self, step: Step) -> None:
        await self._move(step, "pause", self.model.pause)

    async def _resume(self, step: Step) -> None:
        await self._move(step, "resume", self.model.resume)

    async def _run(self, step: Step) -> None:
        task, writer = self._known(step.which), WRITERS[step.who % 2]
        if self.goal == "run told":
            [task, *_] = self._told() or [task]
        before, delay_ms = task.state.place, LATER_MS if step.flag else 0
        is_series = step.count > 1 or self.goal == "run told"
        move, now_ms = self.stores[writer].run, redis_ms(await ask(self.raw, "TIME"))
        answers = await self._write(writer, "run", lambda: move([task.key], [delay_ms], are_series=[int(is_series)]))
        assert letters(answers) == self.model.run(task.key, delay_ms, now_ms, is_series)
        self.taken[f"run {before}"] += letters(answers) != "R"
        self.taken["run later"] += step.flag
        self.taken["run series"] += is_series
        self.taken["run told"] += letters(answers) == "R"

    async def _shift(self, step: Step) -> None:
        """A step of an operation moves the due times of some tasks, and is sent twice."""
        tasks = [self._known(step.which), *self.model.tasks.values()][: step.count]
        found = [stored for key in {task.key: None for task in tasks} if (stored := await self.views.task(key))]
        before = {stored.key: self.model.tasks[stored.key].state.place for stored in found}
        by_ms, now_ms = (TTL_MS if step.flag else -1_000), redis_ms(await ask(self.raw, "TIME"))
        self.versions += 1
        name, wanted = f"shift-{self.versions}", ShiftStep(1, len(found), "mark", None, by_ms)
        moved = [key for key in before if self.model.shift(key, by_ms, now_ms)]
        for _ in range(2):
            operation = await self.stores[WRITERS[step.who % 2]].shift(name, wanted, found)
            assert operation == Operation("mark", None, 1, len(moved), len(found))
        self.taken.update(f"shift {place if key in moved else 'nothing'}" for key, place in before.items())

    async def _purge(self, step: Step) -> None:
        writer = WRITERS[step.who % 2]
        assert await self._write(writer, "purge", self.stores[writer].purge) == self.model.purge()
        self.stored.clear()
        self.taken["purge"] += 1

    async def _acknowledge(self, step: Step) -> None:
        """By the receiver of any claim that a worker ever had; most often one whose task awaits it."""
        writer, known = WRITERS[step.who % 2], [claim for claims in self.claims.values() for claim in claims]
        awaited = [claim for claim in known if self.model.tasks[claim.key].mark == f"@{claim.id}"]
        choice = known if step.which > 5 else awaited or known
        claim, sign = choice[step.which % len(choice)], ("+", "-", "")[step.count - 1]
        before = self.model.tasks[claim.key].state.place
        said = [Acknowledgement(claim.key, claim.id, claim.attempts, sign, TTL_MS)]
        answers = await self._write(writer, "acknowledge", lambda: self.stores[writer].acknowledge(said))
        assert letters(answers) == self.model.acknowledge(claim, sign, TTL_MS)
        self.taken[f"acknowledge {before}" if letters(answers) == "A" else "acknowledge other"] += 1
