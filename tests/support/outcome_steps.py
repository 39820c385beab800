"""Steps that write what became of claims."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.record import decode_record
from redis_scheduler.task.repeat import Progress
from redis_scheduler.task.series import Firing, Made, Next
from redis_scheduler.task.summary import ended_tail, summary_tail
from tests.scripts.states import FAILURE, TTL_MS, ask
from tests.support.modelled import FORGETFUL, LISTED, TOLERANCE_MS, names_of
from tests.support.names import KEYS
from tests.support.steps import ALIVE_MOST, DELIVERED, RETRY_DELAY_MS, WORKERS, Step, Steps
from tests.support.store import Store

Send = Callable[[Store, list[Claim]], Awaitable[Sequence[int]]]
EndSend = Callable[[Store, list[Claim], dict[int, NewTask]], Awaitable[Sequence[int]]]
Judge = Callable[[str, Claim], int]


class OutcomeSteps(Steps):
    """A verb each."""

    def _chosen(self, step: Step) -> tuple[str, list[Claim]]:
        """Claims that a worker comes with: those that it holds, those that it lost to another, or any that it ever
        had."""
        known = [(worker, claim) for worker in WORKERS for claim in self.claims[worker]]
        held = [(worker, claim) for worker, claim in known if self.model.holds(worker, claim)]
        late = [pair for pair in known if pair not in held and self.model.is_in(pair[1])]
        choice = (known, late or held or known, held or late or known, held or known)[step.which % 4]
        if self.goal and step.which < 6:
            lost = [pair for pair in known if pair not in held]
            wanted = late if self.goal.endswith(" late") else lost if self.goal.endswith((" fenced", " lost")) else held
            choice = wanted or choice
        worker, claim = choice[step.who % len(choice)]
        if step.which == 4:
            # With another's entry: no worker comes with such, but the fence knows of it.
            owner, other = (held or known)[0]
            return owner, [claim if other.key == claim.key else replace(claim, id=other.id)]
        others = [other for owner, other in choice if owner == worker and other is not claim]
        return worker, [claim, *others][: step.count]

    async def _outcome(self, step: Step, verb: str, send: Send, judge: Judge, labels: Sequence[str]) -> None:
        """Write the outcome of some claims, sometimes twice; `labels` name the answers."""
        worker, claims = self._chosen(step)
        for time in range(1 + (step.count == 2)):
            answers = await send(self.stores[worker], claims)
            assert answers == [judge(worker, claim) for claim in claims]
            self.taken.update(labels[answer] for answer in answers)
            self.taken[f"again {verb}"] += time

    async def _settle(self, step: Step) -> None:
        worker, claims = self._chosen(step)
        follow_ups = self._follow_ups(step, step.flag)
        for time in range(1 + (step.count == 2)):
            for claim in filter(self.model.is_in, claims):
                self.taken["settle" if self.model.holds(worker, claim) else "settle late"] += 1
                self.taken["settle unkept"] += worker == FORGETFUL
                # Whatever the model thinks of entries: a success takes nothing away that was updated after its claim.
                record = decode_record(self.model.tasks[claim.key].record)
                assert claim.record == record, f"an update of {claim.key} is lost"
                claim.result = DELIVERED
            answers = await self.stores[worker].settle(claims, follow_ups)
            assert answers == self.model.settle(worker, claims)
            await self._adopt_follow_ups("settle", follow_ups, answers)
            self.taken["settle fenced"] += answers.count(False)
            self.taken["again settle"] += time

    def _follow_ups(self, step: Step, is_wanted: bool) -> dict[int, NewTask]:
        """What follows the first claim of a step, where it is to be followed and there is room for another task."""
        has_room = len(self.model.standing("due", "queued", "pending", "dead")) < ALIVE_MOST
        if not has_room or not (is_wanted or self.goal.endswith(" and follow")):
            return {}
        ttl_ms, listed = (TTL_MS if step.which % 2 else 0), (LISTED if step.who % 2 else None)
        return {0: NewTask(f"task-{len(self.model.tasks)}", ttl_ms, self._tail(listed), listed)}

    async def _adopt_follow_ups(self, verb: str, follow_ups: dict[int, NewTask], answers: Sequence[int]) -> None:
        for index, task in follow_ups.items():
            if answers[index]:
                now_ms = redis_ms(await ask(self.raw, "TIME"))
                due_ms = int(await ask(self.raw, "ZSCORE", KEYS.due, task.key))
                assert abs(due_ms - now_ms - task.ttl_ms) < TOLERANCE_MS
                self.model.follow(task.key, names_of(task.listed), task.tail, due_ms, task.ttl_ms)
            self.taken[f"{verb} and follow" if answers[index] else f"{verb} fenced alone"] += 1

    async def _end(self, step: Step, verb: str, send: EndSend, judge: Judge) -> None:
        """As `_outcome`, of what ends a task, which another may follow."""
        worker, claims = self._chosen(step)
        follow_ups = self._follow_ups(step, step.choice % 4 == 0)
        labels = (f"{verb} fenced", verb if step.flag else f"{verb} uncounted")
        for time in range(1 + (step.count == 2)):
            answers = await send(self.stores[worker], claims, follow_ups)
            assert answers == [judge(worker, claim) for claim in claims]
            await self._adopt_follow_ups(verb, follow_ups, answers)
            self.taken.update(labels[answer] for answer in answers)
            self.taken[f"{verb} unkept"] += (worker == FORGETFUL) * sum(answers)
            self.taken[f"again {verb}"] += time

    async def _retry(self, step: Step) -> None:
        delay_ms = 0 if step.who % 3 == 0 else RETRY_DELAY_MS
        await self._outcome(
            step,
            "retry",
            lambda store, claims: store.retry(_failed(claims, delay_ms)),
            lambda worker, claim: self.model.retry(worker, claim, delay_ms),
            ("retry fenced", "retry", "retry full"),
        )

    async def _defer(self, step: Step) -> None:
        await self._outcome(
            step,
            "defer",
            lambda store, claims: store.defer(_failed(claims, RETRY_DELAY_MS, step.flag)),
            lambda worker, claim: self.model.defer(worker, claim, RETRY_DELAY_MS, step.flag),
            ("defer fenced", "defer" if step.flag else "defer uncounted"),
        )

    async def _bury(self, step: Step) -> None:
        await self._end(
            step,
            "bury",
            lambda store, claims, follow_ups: store.bury(_failed(claims, counts=step.flag), follow_ups),
            lambda worker, claim: self.model.bury(worker, claim, step.flag),
        )

    async def _expire(self, step: Step) -> None:
        await self._end(
            step,
            "expire",
            lambda store, claims, follow_ups: store.expire(_expired(store, claims, step.flag), follow_ups),
            lambda worker, claim: self.model.expire(worker, claim, step.flag),
        )

    async def _fire(self, step: Step) -> None:
        """The task is a series that came due: it makes an occurrence, or several, where there is room for more tasks,
        unless another task is unfinished; and comes again, or ends."""
        worker, [claim, *_] = self._chosen(step)
        task = self.model.tasks[claim.key]
        room = ALIVE_MOST - len(self.model.standing("due", "queued", "pending", "dead"))
        now_ms, first = redis_ms(await ask(self.raw, "TIME")), len(self.model.tasks)
        made = [
            Made(f"task-{first + number}", now_ms - number, self._tail(task.listed), task.listed)
            for number in range(min(step.count, room))
        ]
        unless = self._known(step.who).key if step.flag else ""
        due_ms = None if step.which % 3 == 0 else now_ms + TTL_MS
        keeps = self.stores[worker].keeps_results and due_ms is None
        result = ended_tail(claim.record, Progress(len(made)), now_ms) if keeps else b""
        after, otherwise = (
            Next(due_ms, self._tail(task.listed), result),
            Next(now_ms + 2 * TTL_MS, self._tail(task.listed)),
        )
        firing = Firing(claim, made, after, unless, otherwise)
        for time in range(1 + (step.count == 2)):
            [answer] = await self.stores[worker].fire([firing])
            assert answer == self.model.fire(worker, firing, now_ms)
            self.taken["again fire"] += time
            self.taken[("fire fenced", "fire skipped", "fire" if due_ms else "fire and end")[answer]] += 1

    async def _again(self, step: Step) -> None:
        worker, claims = self._chosen(step)
        for time in range(1 + (step.count == 2)):
            answers = await self.stores[worker].again(_failed(claims, RETRY_DELAY_MS))
            for claim, answer in zip(claims, answers, strict=True):
                due_ms = await ask(self.raw, "ZSCORE", KEYS.due, claim.key)
                assert answer == self.model.again(claim, RETRY_DELAY_MS, due_ms and int(due_ms))
                self.taken["deliver and again" if answer else "again fenced"] += 1
            self.taken["again again"] += time

    async def _release(self, step: Step) -> None:
        labels = ("release fenced", "release")
        await self._outcome(step, "release", lambda store, claims: store.release(claims), self.model.release, labels)

    async def _renew(self, step: Step) -> None:
        worker, claims = self._chosen(step)
        if step.flag:
            claims = self.claims[worker]
        ids = list({claim.id: None for claim in claims})
        held = await self.stores[worker].renew(ids)
        assert held == {entry for entry in ids if self.model.renew(worker, entry)}
        self.taken["renew"] += len(held)
        self.taken["renew lost"] += len(ids) - len(held)

    async def _hold(self, step: Step) -> None:
        await self._outcome(
            step, "hold", lambda store, claims: store.hold(claims), self.model.hold, ("hold fenced", "hold")
        )

    async def _expect(self, step: Step) -> None:
        await self._outcome(
            step,
            "expect",
            lambda store, claims: store.expect([Unsettled(claim, b"", TTL_MS) for claim in claims]),
            lambda worker, claim: self.model.expect(worker, claim, TTL_MS),
            ("expect fenced", "expect"),
        )


def _failed(claims: list[Claim], delay_ms: int = 0, counts: bool = True) -> list[Unsettled]:
    return [Unsettled(claim, FAILURE, delay_ms, counts) for claim in claims]


def _expired(store: Store, claims: list[Claim], counts: bool) -> list[Unsettled]:
    for claim in claims:
        claim.result = summary_tail("expired", claim.record, claim.attempts + counts) if store.keeps_results else b""
    return _failed(claims, counts=counts)
