"""Steps of the store's transitions in any order, each done to a real Redis and to the model, and compared after it.

Steps are numbers; what they mean depends on where the tasks stand, so that each has something to do: several workers
with claims that may be long lost, several writers that read before they change, resends, and time that is pressed
forward.
"""

from collections.abc import Collection

from redis_scheduler.task.timing import DEFAULT
from tests.support.api_steps import ApiSteps
from tests.support.outcome_steps import OutcomeSteps
from tests.support.steering import ALWAYS, NEEDS, verb_towards
from tests.support.steps import ALIVE_MOST, DELIVERED, ROUNDS_MOST, WORKERS, Step
from tests.support.store import letters
from tests.support.worker_steps import WorkerSteps

WEIGHTS = {
    "schedule": 5,
    "schedule_once": 2,
    "come_due": 4,
    "promote": 6,
    "line_up": 3,
    "claim": 6,
    "claim_and_read": 3,
    "load": 3,
    "recover": 2,
    "settle": 4,
    "retry": 10,
    "defer": 5,
    "bury": 9,
    "expire": 2,
    "fire": 5,
    "again": 3,
    "release": 4,
    "renew": 3,
    "run_out": 6,
    "reclaim": 6,
    "read": 2,
    "update": 6,
    "update_delay": 3,
    "update_limit": 1,
    "replay": 4,
    "put": 5,
    "replay_other": 1,
    "restore": 3,
    "cancel": 3,
    "discard": 2,
    "trim": 1,
    "pause": 4,
    "resume": 3,
    "run": 2,
    "shift": 2,
    "expect": 8,
    "hold": 6,
    "admit": 4,
    "acknowledge": 5,
    "run_out_awaited": 3,
    "pause_all": 1,
    "set_back": 1,
    "lose": 1,
    "purge": 1,
    "retire": 1,
    "rekey": 3,
    "resend": 3,
}
"""How often each verb is chosen, where it has something to do."""

SELDOM = ("claim", "claim_and_read", "discard", "reclaim", "settle", "retry")
"""Verbs that are tried, now and then, also where they change nothing."""


class Example(ApiSteps, WorkerSteps, OutcomeSteps):
    """One sequence of steps, each done to Redis and to the model."""

    async def take(self, step: Step) -> None:
        """Do one step, and compare."""
        here = self._here()
        left = [kind for kind in self.missing if not self.taken[kind]]
        self.goal = left[step.choice // 3 % len(left)] if left and step.choice % 3 else ""
        verb = (self.goal and verb_towards(self.goal, here)) or self._any_verb(step, here)
        self.done.append((verb, step))
        await getattr(self, f"_{verb}")(step)
        self.shared.steps += 1
        await self._compare()

    @staticmethod
    def _any_verb(step: Step, here: Collection[str]) -> str:
        """A verb as often as WEIGHTS says where it changes something, else seldom or never."""

        def weight(verb: str) -> int:
            if NEEDS.get(verb, ALWAYS) in here:
                return WEIGHTS[verb]
            return (
                verb in SELDOM
                and (NEEDS[verb] != "in hand" or "claims" in here)
                and (verb != "discard" or "task" in here)
            )

        verbs = [verb for verb in WEIGHTS for _ in range(weight(verb))]
        return verbs[step.choice % len(verbs)]

    def _here(self) -> set[str]:
        """What is there, in the words of the steering."""
        model, claims = self.model, [(worker, claim) for worker in WORKERS for claim in self.claims[worker]]
        due, pending, awaiting = model.standing("due"), model.standing("pending"), model.standing("awaiting")
        alive = len(model.tasks) - len(model.standing("missing"))
        stale = self._stale()
        due_now = [task for task in due if not task.wait_ms]
        found = {
            ALWAYS: True,
            "task": bool(model.tasks),
            "room": alive < ALIVE_MOST,
            "full": alive >= ALIVE_MOST,
            "gone": alive < len(model.tasks) and alive < ALIVE_MOST,
            "later": any(task.wait_ms for task in due),
            "due now": bool(due_now),
            "crowd": bool(due_now) and model.is_crowded(len(due_now)),
            "room beside lines": bool(model.lines) and alive < ALIVE_MOST,
            "unloaded": any(self.unloaded.values()),
            "pending": bool(pending),
            "pending later": any(task.wait_ms for task in pending),
            "overdue": any(not task.wait_ms for task in awaiting),
            "over": bool(model.reclaimable) or any(not task.wait_ms for task in awaiting),
            "awaited": any(model.tasks[claim.key].mark == f"@{claim.id}" for _, claim in claims),
            "awaited later": any(task.wait_ms for task in awaiting),
            "claims": bool(claims),
            "in hand": any(model.holds(worker, claim) for worker, claim in claims),
            "late": any(model.is_in(claim) and not model.holds(worker, claim) for worker, claim in claims),
            "stale": bool(stale),
            "dead stale": any(task.place == "dead" for _, task in stale),
            "stored": bool(self.stored) and alive < ALIVE_MOST,
            "written": bool(self.last_writes),
            "told": bool(self._told()),
            "losable": bool(self._losable()),
            "sealed": self.is_sealed,
        }
        places = {task.state.place for task in model.tasks.values()}
        later = {f"{task.state.place} later" for task in (*due, *pending) if task.wait_ms}
        written = {f"written {verb}" for _, verb in self.last_writes}
        return {name for name, is_there in found.items() if is_there} | places | later | written

    async def finish(self) -> None:
        """Let all time pass: each task that is left is delivered, with its newest record."""
        left = {task.key for task in self.model.tasks.values() if task.is_running}
        worker = WORKERS[0]
        self.unloaded[worker] = []
        await self._admit_all()
        for task in self.model.standing("paused"):
            assert letters(await self.stores[worker].resume([task.key])) == self.model.resume(task.key)
        await self._compare()
        for _ in range(ROUNDS_MOST):
            if not left:
                break
            for task in self.model.standing("due"):
                await self._press_due(task)
            await self._promote_as(worker, DEFAULT.batch_limit, 0, in_turn=True)
            for task in self.model.standing("pending"):
                await self._press_over(task)
            for task in self.model.standing("awaiting"):
                await self._press_awaited(task)
            await self._reclaim_as(worker, DEFAULT.batch_limit)
            await self._claim_as(worker, DEFAULT.batch_limit)
            delivered = await self._load_as(worker)
            for claim in delivered:
                claim.result = DELIVERED
            if delivered:
                assert await self.stores[worker].settle(delivered) == self.model.settle(worker, delivered)
            left -= {claim.key for claim in delivered}
        assert not left, f"never delivered: {left}"
        await self._compare()
