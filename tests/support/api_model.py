"""A small model of what requests do to tasks: one method a verb, which returns the answer."""

from dataclasses import dataclass

from redis_scheduler.task.claim import Claim
from tests.support.modelled import TOLD, Modelled, Names, Tasks, letter_of


@dataclass
class ApiModel(Tasks):
    """What the API writes."""

    def schedule(self, key: str, listed: Names, tail: bytes, due_ms: int, ttl_ms: int, must_wait: bool = False) -> None:
        """`must_wait`: for the turn of its token."""
        task = self.tasks[key] = Modelled(key, listed, due_ms, tail)
        if ttl_ms or must_wait:
            task.wait_in_due(ttl_ms, due_ms)
        else:
            task.enter_queue()
        self.counters["scheduled"] += 1

    def follow(self, key: str, listed: Names, tail: bytes, due_ms: int, ttl_ms: int) -> None:
        """A follow-up is scheduled, but waits in DUE also with a delay of 0."""
        self.schedule(key, listed, tail, due_ms, ttl_ms)
        self.tasks[key].wait_in_due(ttl_ms, due_ms)

    def restore(self, key: str, listed: Names, tail: bytes, at_ms: int, in_ms: int, place: str, attempts: int) -> str:
        if key in self.tasks and self.tasks[key].place != "missing":
            return "E"
        result = self.tasks[key].result if key in self.tasks else None
        task = self.tasks[key] = Modelled(key, listed, at_ms, tail, attempts=attempts, result=result)
        task.wait_in_due(in_ms, at_ms)
        if place == "paused":
            task.end("paused")
        if place == "dead":
            task.end("dead")
            self.counters["died"] += 1
        self.counters["scheduled"] += 1
        return "U"

    def cancel(self, key: str) -> str:
        task = self.tasks[key]
        if task.place == "missing":
            return "N"
        letter = "D" if task.state.place in ("in delivery", "awaiting") else "C"
        self.counters["cancelled"] += task.is_running
        task.result = "cancelled" if task.is_running else task.result
        task.end("missing")
        task.attempts, task.mark = 0, ""
        return letter

    def update(self, key: str, expected: bytes, tail: bytes, ttl_ms: int | None, now_ms: int, moves: bool) -> str:
        """Any change of what was claimed already moves it to another entry, so that no outcome of that claim counts.
        `moves`: to another limit."""
        task = self.tasks[key]
        if task.place == "missing":
            return "N"
        if task.record != expected:
            return "C"
        if task.place == "dead" and ttl_ms is not None:
            return "X"
        letter = "D" if task.state.place in ("in delivery", "awaiting") else "U"
        if task.mark != TOLD:
            task.mark = ""
        if ttl_ms is not None:
            self._start_afresh(task, now_ms, ttl_ms)
        elif letter == "D":
            task.enter_queue()
        elif task.state.place == "waiting":
            task.wait_in_due(task.wait_ms)
        elif task.place in ("held", "in turn") and moves:
            task.wait_in_due(0)
        task.tail, task.again = tail, 0
        return letter

    def replay(self, key: str, expected: bytes, tail: bytes, ttl_ms: int, now_ms: int) -> str:
        task = self.tasks[key]
        if task.place != "dead":
            return "N"
        if task.record != expected:
            return "C"
        self._start_afresh(task, now_ms, ttl_ms)
        task.tail, task.again = tail, 0
        self.counters["replayed"] += 1
        return "U"

    def put(self, key: str, expected: bytes, tail: bytes, listed: Names, ttl_ms: int, now_ms: int) -> str:
        """A task takes another's place, or that of none."""
        task = self.tasks[key]
        if expected != (b"" if task.place == "missing" else task.record):
            return "C"
        in_delivery = task.state.place in ("in delivery", "awaiting")
        letter = {"missing": "N", "dead": "X"}.get(task.place, "D" if in_delivery else "U")
        self.counters["scheduled"] += letter == "N"
        self.counters["replayed"] += letter == "X"
        self._start_afresh(task, now_ms, ttl_ms)
        task.tail, task.listed, task.again = tail, listed, 0
        return letter

    @staticmethod
    def _start_afresh(task: Modelled, now_ms: int, ttl_ms: int) -> None:
        task.attempts, task.due_ms, task.mark = 0, now_ms + ttl_ms, ""
        place = task.place
        task.wait_in_due(ttl_ms, task.due_ms)
        if place == "paused":
            task.place = place

    def pause(self, key: str) -> str:
        task = self.tasks[key]
        letter = letter_of(task)
        if letter in "SFQWH":
            task.pause()
        return letter

    def resume(self, key: str) -> str:
        task = self.tasks[key]
        letter = letter_of(task)
        if letter == "P":
            task.wait_in_due(task.wait_ms, task.score if task.wait_ms else None)
        return letter

    def run(self, key: str, delay_ms: int, now_ms: int, is_series: bool = False) -> str:
        """Nothing comes later by that but what is paused, and its time over. A series is told once."""
        task = self.tasks[key]
        letter = letter_of(task)
        if is_series and letter in "SFQWP":
            if task.mark:
                return "R"
            task.mark = TOLD
        if letter == "P" and task.score is not None and now_ms < task.score <= now_ms + delay_ms:
            task.wait_in_due(task.wait_ms, task.score)
        elif letter == "P":
            task.wait_in_due(min(delay_ms, task.wait_ms) if task.score is None and task.wait_ms else delay_ms)
        elif letter == "W":
            task.wait_in_due(min(delay_ms, task.wait_ms))
        elif letter in "SF" and task.wait_ms > delay_ms:
            task.wait_in_due(delay_ms)
        return letter

    def shift(self, key: str, by_ms: int, now_ms: int) -> bool:
        """Move what waits for its first attempt, at the time that it was given: none comes earlier than now by that."""
        task = self.tasks[key]
        if task.place not in ("due", "paused") or task.attempts or task.score != task.due_ms:
            return False
        if by_ms < 0 and task.due_ms <= now_ms:
            return False
        task.due_ms, task.score, task.wait_ms = task.due_ms + by_ms, task.due_ms + by_ms, task.wait_ms + by_ms
        return True

    def discard(self, key: str) -> str:
        task = self.tasks[key]
        if task.place != "dead":
            return "N"
        task.end("missing")
        task.attempts, task.mark = 0, ""
        return "C"

    def trim(self) -> int:
        """Drop all dead letters."""
        dead = self.standing("dead")
        for task in dead:
            self.discard(task.key)
        self.counters["dead_dropped"] += len(dead)
        return len(dead)

    def purge(self) -> int:
        found = [task for task in self.tasks.values() if task.place != "missing"]
        self.counters["purged"] += sum(task.is_running for task in found)
        for task in found:
            task.end("missing")
            task.attempts, task.mark = 0, ""
        for task in self.tasks.values():
            task.result = None
        self.turn = None
        return len(found)

    def acknowledge(self, claim: Claim, sign: str, within_ms: int) -> str:
        task, wanted = self.tasks[claim.key], f"@{claim.id}"
        if task.place == "missing":
            return "N"
        if task.attempts != claim.attempts:
            return "O"
        if sign and task.mark == wanted + sign:
            return "A"
        if task.place == "awaiting" and task.mark == wanted:
            if sign:
                task.enter_queue()
                task.mark = wanted + sign
            else:
                task.wait_ms, task.score = within_ms, None
            return "A"
        if not task.mark and task.state.place == "in delivery" and task.entry == claim.id:
            task.mark = wanted + sign if sign else ""
            return "A"
        return "O"
