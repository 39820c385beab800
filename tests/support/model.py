"""A small model of what the store's transitions do, to compare Redis with: one method a verb, which returns the answer.

It is written from the rules, not from the scripts. Entries and due times that only Redis can know are taken over from
there once, by `adopt`, and must then stay until a transition moves them.
"""

from dataclasses import dataclass

from redis_scheduler.store import keys
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.series import Firing
from tests.support.api_model import ApiModel
from tests.support.modelled import FORGETFUL, Modelled, id_order, names_of

LEASE_MS = 15_000


@dataclass
class Model(ApiModel):
    """What the API, the timer and the workers write."""

    lined_up: int = 0
    """How many were ever put into lines of tokens."""

    def promote(self, limit: int, now_ms: int) -> list[Modelled]:
        """Return what comes into the queue, in its order."""
        due = self._due(limit, now_ms)
        for task in due:
            task.enter_queue()
        return due

    def promote_in_turn(self, limit: int, now_ms: int) -> tuple[int, list[Modelled]]:
        """Return how many leave DUE, and what comes into the queue, in its order: all that is due, if it fits and
        nothing waits; else each token's in its turn."""
        due, room = self._due(limit, now_ms), self.timing.queued_most - len(self.standing("queued"))
        if not self.lines and len(due) <= room:
            queued, self.turn = due, None
        else:
            for task in due:
                self.lined_up += 1
                task.end("in turn")
                task.lined_up = self.lined_up
            queued = self._take_turns(room)
        for task in queued:
            task.enter_queue()
        return len(due), queued

    def _due(self, limit: int, now_ms: int) -> list[Modelled]:
        due = [(task.score, task.key) for task in self.standing("due") if task.score is not None]
        return [self.tasks[key] for score, key in sorted(due) if score <= now_ms][:limit]

    def _take_turns(self, room: int) -> list[Modelled]:
        turn, waiting, taken = self.turn or 0, self.lines, list[Modelled]()
        while waiting and len(taken) < room:
            line = next((task.line for task in waiting if task.line >= turn), waiting[0].line)
            most = min(self.timing.in_turn_most, room - len(taken))
            taken += [task for task in waiting if task.line == line][:most]
            waiting, turn = [task for task in waiting if task not in taken], line + 1
        self.turn = turn if waiting else None
        return taken

    def claim(self, worker: str, limit: int) -> list[Modelled]:
        """Return what the next claim brings, in its order."""
        queued = sorted(self.standing("queued"), key=lambda task: id_order(task.entry or ""))[:limit]
        for task in queued:
            task.place, task.owner, task.tries, task.wait_ms = "pending", worker, 1, 60_000
        return queued

    @property
    def reclaimable(self) -> list[Modelled]:
        return [task for task in self.standing("pending") if task.wait_ms == 0]

    def reclaim(self, worker: str, limit: int, cursor: str) -> list[Modelled]:
        """Return what a step of the sweep from the cursor brings.

        What may lose no worker more is never in flight beside another that has lost one.
        """
        over = [task for task in self.reclaimable if id_order(task.entry or "") >= id_order(cursor)]
        over = sorted(over, key=lambda task: id_order(task.entry or ""))[:limit]
        in_flight = [task for task in self.standing("pending") if task.owner == worker and task not in over]
        lost = [task.tries for task in in_flight if task.tries > 1]
        taken = []
        for task in over:
            tries = task.tries + 1
            if (
                lost
                and 1 < tries <= self.timing.lost_workers_most
                and max(*lost, tries) >= self.timing.lost_workers_most
            ):
                task.owner = keys.WAITING
                continue
            task.owner, task.tries, task.wait_ms = worker, tries, LEASE_MS
            taken.append(task)
            if 1 < tries <= self.timing.lost_workers_most:
                lost.append(tries)
        return taken

    def renew(self, worker: str, entry: str) -> bool:
        for task in self.standing("pending"):
            if task.entry == entry and task.owner == worker:
                task.wait_ms = LEASE_MS
                return True
        return False

    def is_in(self, claim: Claim) -> bool:
        """Whether the task is still in the entry of this claim."""
        return self.tasks[claim.key].entry == claim.id

    def holds(self, worker: str, claim: Claim) -> bool:
        """The fence: the entry is the task's and this worker's, and no failure was recorded since the claim."""
        task = self.tasks[claim.key]
        return self.is_in(claim) and task.owner == worker and task.attempts == claim.attempts

    def settle(self, worker: str, claims: list[Claim]) -> list[int]:
        answers = [int(self.is_in(claim)) for claim in claims]
        for claim in claims:
            task = self.tasks[claim.key]
            if self.is_in(claim):
                task.end("missing")
                task.attempts, task.mark = 0, ""
                self.counters["delivered"] += 1
                self._keep(task, worker, "delivered")
        return answers

    def retry(self, worker: str, claim: Claim, delay_ms: int) -> int:
        if not self.holds(worker, claim):
            return 0
        if sum(task.owner == keys.WAITING for task in self.standing("pending")) >= self.timing.waiting_most:
            return 2
        self._park(self.tasks[claim.key], delay_ms)
        self._count_failure(claim.key)
        return 1

    def release(self, worker: str, claim: Claim) -> int:
        if not self.holds(worker, claim):
            return 0
        self._park(self.tasks[claim.key], 0)
        return 1

    @staticmethod
    def _park(task: Modelled, delay_ms: int) -> None:
        task.owner, task.tries, task.wait_ms = keys.WAITING, 0, delay_ms

    def defer(self, worker: str, claim: Claim, delay_ms: int, counts: bool) -> int:
        if not self.holds(worker, claim):
            return 0
        self.tasks[claim.key].wait_in_due(delay_ms)
        if counts:
            self._count_failure(claim.key)
        return 1

    def hold(self, worker: str, claim: Claim) -> int:
        if not self.holds(worker, claim):
            return 0
        self.tasks[claim.key].end("held")
        return 1

    def admit(self) -> None:
        """Queue all that is held: no limit is said of it."""
        for task in self.standing("held"):
            task.enter_queue()

    def expect(self, worker: str, claim: Claim, within_ms: int) -> int:
        if not self.holds(worker, claim):
            return 0
        task = self.tasks[claim.key]
        if task.mark in (f"@{claim.id}+", f"@{claim.id}-"):
            task.enter_queue()
        else:
            task.end("awaiting")
            task.mark, task.wait_ms, task.score = f"@{claim.id}", within_ms, None
        return 1

    def lose(self, task: Modelled) -> None:
        """Its record is gone when it is loaded."""
        task.end("missing")
        task.attempts, task.mark = 0, ""
        self.counters["lost"] += 1

    def overdue(self, limit: int) -> list[Modelled]:
        """Queue what was not acknowledged in time."""
        over = [task for task in self.standing("awaiting") if task.wait_ms == 0]
        over = sorted(over, key=lambda task: (task.score or 0, task.key))[:limit]
        for task in over:
            task.enter_queue()
        return over

    def set_back(self) -> list[Modelled]:
        """Redis' clock was set back, which is mended: leases begin anew that would not end in time. Return what comes
        earlier by as much: what is deferred, and what is awaited; the rest comes at its own time."""
        for task in self.standing("pending"):
            if task.owner != keys.WAITING and task.wait_ms > LEASE_MS:
                task.wait_ms = LEASE_MS
        waiting = [task for task in self.standing("due", "awaiting") if task.wait_ms]
        return [task for task in waiting if task.place == "awaiting" or task.score != task.due_ms]

    def bury(self, worker: str, claim: Claim, counts: bool) -> int:
        if not self.holds(worker, claim):
            return 0
        self.tasks[claim.key].end("dead")
        self.tasks[claim.key].mark = ""
        self.counters["died"] += 1
        if counts:
            self._count_failure(claim.key)
        return 1

    def again(self, claim: Claim, delay_ms: int, due_ms: int | None) -> int:
        """As settle, whoever has the entry; the task is due once more, and its record says how often."""
        if not self.is_in(claim):
            return 0
        assert due_ms is not None, f"{claim.key} does not wait to come again"
        task = self.tasks[claim.key]
        task.attempts, task.mark, task.due_ms, task.again = 0, "", due_ms, claim.record.again + 1
        task.wait_in_due(delay_ms)
        self.counters["delivered"] += 1
        self.counters["scheduled"] += 1
        return 1

    def expire(self, worker: str, claim: Claim, counts: bool) -> int:
        if not self.holds(worker, claim):
            return 0
        if counts:
            self._count_failure(claim.key)
        task = self.tasks[claim.key]
        task.end("missing")
        task.attempts = 0
        self._keep(task, worker, "expired")
        self.counters["expired"] += 1
        return 1

    def fire(self, worker: str, firing: Firing, now_ms: int) -> int:
        if not self.holds(worker, firing.claim):
            return 0
        before = self.tasks.get(firing.unless)
        is_unfinished = before is not None and before.place not in ("missing", "dead")
        series, goes_on = self.tasks[firing.claim.key], firing.otherwise if is_unfinished else firing.after
        series.attempts, series.mark = 0, ""
        if goes_on.due_ms is None:
            series.end("missing")
            self._keep(series, worker, "ended")
            self.counters["ended"] += 1
        else:
            series.wait_in_due(goes_on.due_ms - now_ms, goes_on.due_ms)
            series.due_ms, series.tail, series.again = goes_on.due_ms, goes_on.tail, 0
        for one in [] if is_unfinished else firing.made:
            made = self.tasks[one.key] = Modelled(one.key, names_of(one.listed), one.due_ms, one.tail)
            made.enter_queue()
            self.counters["scheduled"] += 1
        return 1 if is_unfinished else 2

    @staticmethod
    def _keep(task: Modelled, worker: str, result: str) -> None:
        if worker != FORGETFUL:
            task.result = result

    def _count_failure(self, key: str) -> None:
        self.tasks[key].mark = ""
        self.tasks[key].attempts += 1
        self.counters["failed"] += 1
