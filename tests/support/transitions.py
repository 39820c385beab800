"""Steps of the store's transitions in any order, each done to a real Redis and to the model, and compared after it.

Steps are numbers; what they mean depends on where the tasks stand, so that each has something to do: several workers
with claims that may be long lost, several writers that read before they change, resends, and time that is pressed
forward.
"""

from collections.abc import Collection

from redis_scheduler.task.timing import DEFAULT
from tests.support.api_steps import ApiSteps
from tests.support.outcome_steps import OutcomeSteps
from tests.support.steps import ALIVE_MOST, DELIVERED, OUTCOMES, RARE_FIRST, ROUNDS_MOST, WORKERS, Step
from tests.support.store import letters
from tests.support.worker_steps import WorkerSteps

WEIGHTS = {
    "schedule": 5,
    "schedule_once": 2,
    "come_due": 4,
    "promote": 6,
    "claim": 6,
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
    "expect": 8,
    "acknowledge": 5,
    "run_out_awaited": 3,
    "purge": 1,
    "retire": 1,
    "resend": 3,
}
"""How often each verb is chosen, where it has something to do."""

MISSING_WEIGHT = 10
"""So many times likelier is a verb that can take a kind of transition which was not taken yet."""


class Example(ApiSteps, WorkerSteps, OutcomeSteps):
    """One sequence of steps, each done to Redis and to the model."""

    async def take(self, step: Step) -> None:
        """Do one step, and compare."""
        verbs = [verb for verb, weight in self._weights().items() for _ in range(weight)]
        verb = verbs[step.choice % len(verbs)]
        self.done.append((verb, step))
        await getattr(self, f"_{verb}")(step)
        self.shared.steps += 1
        await self._compare()

    def _weights(self) -> dict[str, int]:
        """How often each verb is to be chosen now: as WEIGHTS says where it changes something, else seldom or never."""
        model = self.model
        due, pending, missing = model.standing("due"), model.standing("pending"), model.standing("missing")
        is_held = any(model.holds(worker, claim) for worker in WORKERS for claim in self.claims[worker])
        changes = {
            "schedule": len(model.tasks) - len(missing) < ALIVE_MOST,
            "schedule_once": len(model.tasks) - len(missing) < ALIVE_MOST,
            "come_due": any(task.wait_ms for task in due),
            "promote": any(task.wait_ms == 0 for task in due),
            "claim": bool(model.standing("queued")),
            "load": any(self.unloaded.values()),
            "recover": bool(pending),
            "run_out": any(task.wait_ms for task in pending),
            "reclaim": bool(model.reclaimable) or any(not task.wait_ms for task in model.standing("awaiting")),
            "replay": bool(model.standing("dead")),
            **dict.fromkeys(("trim", "discard"), bool(model.standing("dead"))),
            "resume": bool(model.standing("paused")),
            "acknowledge": any(self.claims.values()),
            "run_out_awaited": any(task.wait_ms for task in model.standing("awaiting")),
            "resend": bool(self.last_writes),
            "purge": len(model.tasks) - len(missing) == ALIVE_MOST,
            **dict.fromkeys(OUTCOMES, is_held),
            **dict.fromkeys(
                ("read", "update", "update_delay", "cancel", "restore", "replay_other", "put", "pause", "run"),
                bool(model.tasks),
            ),
        }
        is_stale = any(self.claims.values())
        seldom = {
            "claim": 1,
            "discard": int(bool(model.tasks)),
            "reclaim": 1,
            "settle": int(is_stale),
            "retry": int(is_stale),
        }
        places = {task.state.place for task in model.tasks.values()}
        wanted = {verb for kind in self.missing if (verb := _verb_of(kind, places))}
        return {
            verb: (weight if changes.get(verb, True) else seldom.get(verb, 0))
            * (MISSING_WEIGHT if verb in wanted else 1)
            for verb, weight in WEIGHTS.items()
        }

    async def finish(self) -> None:
        """Let all time pass: each task that is left is delivered, with its newest record."""
        left = {task.key for task in self.model.tasks.values() if task.is_running}
        worker = WORKERS[0]
        self.unloaded[worker] = []
        for task in self.model.standing("paused"):
            assert letters(await self.stores[worker].resume([task.key])) == self.model.resume(task.key)
        await self._compare()
        for _ in range(ROUNDS_MOST):
            if not left:
                break
            for task in self.model.standing("due"):
                await self._press_due(task)
            await self._promote_as(worker, DEFAULT.batch_limit, 0)
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
                assert await self.stores[worker].settle(delivered) == self.model.settle(delivered)
            left -= {claim.key for claim in delivered}
        assert not left, f"never delivered: {left}"
        await self._compare()


def _verb_of(kind: str, places: Collection[str]) -> str:
    """Return the verb that takes this kind of transition; none if it needs a task where none stands."""
    verb, _, rest = kind.partition(" ")
    if verb == "again" and rest in WEIGHTS:
        return rest
    return "" if rest in RARE_FIRST and rest not in places else verb
