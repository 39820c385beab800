"""Steps of the store's transitions in any order, each done to a real Redis and to the model, and compared after it.

Steps are numbers; what they mean depends on where the tasks stand, so that each has something to do: several workers
with claims that may be long lost, several writers that read before they change, resends, and time that is pressed
forward.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.audit import audit
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.moves import Moved
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.retention import Retention, Trim
from redis_scheduler.store.views import Views
from redis_scheduler.store.writes import Acknowledgement, Change, OnceTask, Put, StoredTask
from redis_scheduler.task.claim import Claim, Entry, Unsettled
from redis_scheduler.task.kept import DEFAULT as KEPT
from redis_scheduler.task.kept import Kept
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import decode_record
from redis_scheduler.task.series import Firing, Made, Next
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.states import FAILURE, LETTER_BYTES, TTL_MS, ask, counters, letters_of, state_of, tail, typed_keys
from tests.support.model import TOLERANCE_MS, Model, Modelled
from tests.support.names import KEYS
from tests.support.store import Store, letters
from tests.support.together import Together

WORKERS = ("worker-a", "worker-b", "worker-c")
WRITERS = ("api-a", "api-b")
ALIVE_MOST = 4
TIMING = replace(DEFAULT, waiting_most=1, lost_workers_most=2)
"""So few may wait that a retry finds too many; what is released waits too. And tasks on their last chance meet within
an example."""
RETRY_DELAY_MS = 50_000
DELIVERED, CANCELLED = (b',"state":"%s","attempts":1,"due":0}' % state for state in (b"delivered", b"cancelled"))
CLAIMS_KEPT = 8
ROUNDS_MOST = 10
"""Times that everything is delivered in the end: a sweep may begin behind some, or pass over what may lose no worker
more."""
REPEATS_MOST = 3

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

RARE_FIRST = ("dead", "awaiting", "waiting", "deferred", "paused", "in delivery", "queued", "due", "missing")
OUTCOMES = ("settle", "retry", "defer", "bury", "expire", "fire", "again", "release", "renew", "expect")


@dataclass(frozen=True)
class Step:
    """Numbers that choose a verb, who does it, and to what. A choice of 0 is no step: so hypothesis shortens an
    example."""

    choice: int
    who: int
    which: int
    count: int
    flag: bool


Send = Callable[[Store, list[Claim]], Awaitable[Sequence[int]]]
Judge = Callable[[str, Claim], int]


class Connections:
    """What all examples share: the connections, and how often each transition was taken."""

    def __init__(self, url: str) -> None:
        # Answers as they come.
        self.raw = Together.from_url(url, protocol=2)
        self.raw.response_callbacks.clear()
        self.client = RedisClient(url, 3, KEYS)
        self.readers = {name: QueueReader(self.client, name) for name in WORKERS}
        self.taken: Counter[str] = Counter()
        self.steps = 0

    async def empty(self) -> None:
        """Begin anew on an empty Redis."""
        await ask(self.raw, "FLUSHALL")
        await self.client.create_group()

    async def aclose(self) -> None:
        for reader in self.readers.values():
            await reader.aclose()
        for client in (self.client, self.raw):
            await client.aclose()


class Example:
    """One sequence of steps, each done to Redis and to the model."""

    def __init__(self, shared: Connections, missing: Collection[str] = ()) -> None:
        self.shared = shared
        self.missing = missing
        """Kinds of transition that no example has taken yet: where one can be, it is likelier."""
        self.raw = shared.raw
        self.taken = shared.taken
        self.model = Model(TIMING)
        self.views = Views(shared.client)
        self.stores = {name: Store(shared.client, name, TIMING, KEPT) for name in (*WORKERS, *WRITERS)}
        self.unloaded: dict[str, list[Entry]] = {name: [] for name in WORKERS}
        self.claims: dict[str, list[Claim]] = {name: [] for name in WORKERS}
        self.reads: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.last_writes: dict[tuple[str, str], tuple[Callable[[], Awaitable[Any]], Any]] = {}
        self.stored: dict[str, StoredTask] = {}
        """What stands for each idempotency id."""
        self.versions = 0
        self.done: list[tuple[str, Step]] = []

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

    async def _compare(self) -> None:
        model, raw = self.model, self.raw
        (
            now,
            entries,
            records,
            scores,
            queue,
            pending,
            found,
            counted,
            typed,
            ledger,
            letter_bytes,
            held,
            summaries,
            awaited,
            *states,
        ) = await asyncio.gather(
            ask(raw, "TIME"),
            ask(raw, "HGETALL", KEYS.entries),
            ask(raw, "HGETALL", KEYS.tasks),
            ask(raw, "ZRANGE", KEYS.due, 0, -1, "WITHSCORES"),
            ask(raw, "XRANGE", KEYS.queue, "-", "+"),
            ask(raw, "XPENDING", KEYS.queue, keys.GROUP, "-", "+", DEFAULT.batch_limit),
            self._problems(),
            counters(raw),
            typed_keys(raw),
            self.views.ledger(),
            letters_of(raw),
            ask(raw, "ZRANGE", KEYS.paused, 0, -1, "WITHSCORES"),
            asyncio.gather(*(self.views.summary(key) for key in model.tasks)),
            ask(raw, "ZRANGE", KEYS.awaiting, 0, -1, "WITHSCORES"),
            *(state_of(raw, key) for key in model.tasks),
        )
        kept = {key: found and found.state for key, found in zip(model.tasks, summaries, strict=True)}
        assert kept == {key: task.result for key, task in model.tasks.items()}
        assert dict(zip(model.tasks, states, strict=True)) == {key: task.state for key, task in model.tasks.items()}
        due, paused, awaiting = [{key: int(at) for key, at in _pairs(rows).items()} for rows in (scores, held, awaited)]
        model.adopt(_pairs(entries), due, paused, awaiting, redis_ms(now))
        alive = [task for task in model.tasks.values() if task.place != "missing"]
        assert _pairs(records) == {task.key: task.record.decode() for task in alive}
        assert {fields[1].decode(): at.decode() for at, fields in queue} == _pairs(entries)
        model.check_waits({row[0].decode(): DEFAULT.window_ms - row[2] for row in pending})
        assert found == []
        assert counted == +model.counters
        mail = {task.key for task in alive if task.type and task.is_running}
        assert typed == ({"mail": mail} if mail else {})
        assert ledger.is_balanced, ledger
        assert letter_bytes == {
            task.key: LETTER_BYTES + len(task.record) + (len(f"{task.attempts} ") + len(FAILURE))
            for task in model.standing("dead")
        }
        assert (ledger.paused, ledger.awaiting) == (len(model.standing("paused")), len(model.standing("awaiting")))

    async def _problems(self) -> list[str]:
        return [finding.text async for finding in audit(self.shared.client)]

    # What the time does

    async def _come_due(self, step: Step) -> None:
        tasks = [task for task in self.model.standing("due") if task.wait_ms]
        task = tasks[step.which % len(tasks)]
        self.taken[f"come_due {task.state.place}"] += 1
        await self._press_due(task)

    async def _press_due(self, task: Modelled) -> None:
        task.wait_ms, task.score = 0, redis_ms(await ask(self.raw, "TIME")) - 1_000
        await ask(self.raw, "ZADD", KEYS.due, "XX", task.score, task.key)

    async def _run_out(self, step: Step) -> None:
        """A lease runs out, or the delay of a retry is over."""
        tasks = [task for task in self.model.standing("pending") if task.wait_ms]
        task = tasks[step.which % len(tasks)]
        self.taken[f"run_out {task.state.place}"] += 1
        await self._press_over(task)

    async def _press_over(self, task: Modelled) -> None:
        assert task.owner is not None
        assert task.entry is not None
        command = ("XCLAIM", KEYS.queue, keys.GROUP, task.owner, 0, task.entry, "IDLE", DEFAULT.window_ms, "JUSTID")
        await ask(self.raw, *command)
        task.wait_ms = 0

    # What the API writes

    async def _write(self, writer: str, verb: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Send a batch; keep it, so that it may be sent again."""
        answer = await call()
        self.last_writes[writer, verb] = call, answer
        return answer

    async def _resend(self, step: Step) -> None:
        """The answer of a writer's last batch of a verb was lost, and came after whatever happened meanwhile."""
        known = sorted(self.last_writes)
        known = [name for name in known if f"resend {name[1]}" in self.missing] or known
        writer, verb = known[step.which % len(known)]
        call, answer = self.last_writes[writer, verb]
        self.stores[writer]._batch_numbers[verb] -= 1
        assert await call() == answer, f"resend {verb}"
        self.taken[f"resend {verb}"] += 1

    async def _schedule(self, step: Step) -> None:
        count = min(step.count, ALIVE_MOST - len(self.model.tasks) + len(self.model.standing("missing")))
        ttl_ms, type_name = (TTL_MS if step.which < 3 else 0), ("mail" if step.which % 2 else None)
        first = len(self.model.tasks)
        tasks = [NewTask(f"task-{first + number}", ttl_ms, self._tail(type_name), type_name) for number in range(count)]
        writer = WRITERS[step.who % 2]
        due_ms = await self._write(writer, "schedule", lambda: self.stores[writer].schedule(tasks))
        for task, due_at_ms in zip(tasks, due_ms, strict=True):
            self.model.schedule(task.key, type_name, task.tail, due_at_ms, ttl_ms)
            self.taken["schedule due" if ttl_ms else "schedule queued"] += 1

    async def _schedule_once(self, step: Step) -> None:
        """A request with an Idempotency-Key comes, perhaps again, and its call is sent twice."""
        name, ttl_ms = f"id-{step.which % 3}", 0 if step.flag else TTL_MS
        task = NewTask(f"task-{len(self.model.tasks)}", ttl_ms, self._tail(None), None)
        store, known = self.stores[WRITERS[step.who % 2]], self.stored.get(name)
        for _ in range(2):
            [found] = await store.schedule_once([OnceTask(name, "mac", task)], 3_600_000, 3)
            assert isinstance(found, StoredTask)
            assert found == self.stored.setdefault(name, found)
        if known is None:
            stored = self.stored[name]
            assert stored.key == task.key
            self.model.schedule(task.key, None, task.tail, stored.due_ms, ttl_ms)
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
        wanted = [Moved(task.key, at_ms, self._tail(task.type), place, placed_ms, failure, task.type)]
        answers = await self._write(writer, "restore", lambda: self.stores[writer].restore(wanted))
        tail = wanted[0].tail
        assert letters(answers) == self.model.restore(task.key, task.type, tail, at_ms, in_ms, place, attempts)
        # One that found nothing is not remembered: sent again it finds what has come back, as a later one would.
        for name in [(each, verb) for each in WRITERS for verb in ("cancel", "discard")]:
            if name in self.last_writes and letters(self.last_writes[name][1]) == "N":
                del self.last_writes[name]
        self.taken[f"restore {place if before == 'missing' else 'there'}"] += 1

    def _tail(self, type_name: str | None) -> bytes:
        """The next version of a record."""
        self.versions += 1
        return tail(TTL_MS, type_name, b'{"version":%d}' % self.versions, Options(again_most=9))

    def _known(self, which: int) -> Modelled:
        """The task that a step is about, now and then one that is gone; those in states that are rarely come to are
        first."""
        verb = self.done[-1][0]

        def rank(task: Modelled) -> tuple[bool, int]:
            place = task.state.place
            return f"{verb} {place}" not in self.missing, RARE_FIRST.index(place)

        tasks = sorted(self.model.tasks.values(), key=rank)
        alive = [task for task in tasks if task.place != "missing"]
        gone = [task for task in tasks if task.place == "missing"]
        return (gone or alive)[-1] if which == 7 or not alive else alive[which // 2 % len(alive)]

    async def _read(self, step: Step) -> None:
        await self._read_as(WRITERS[step.who % 2], self._known(step.which))

    async def _read_as(self, writer: str, task: Modelled) -> None:
        stored = await self.views.task(task.key)
        if stored is not None:
            assert (stored.raw, stored.state, stored.attempts) == (task.record, task.view, task.attempts)
            self.reads[writer, task.key] = stored.raw, stored.record.due

    async def _change(self, step: Step, task: Modelled, ttl_ms: int | None) -> Change:
        """A change of what this writer has read: now, or before whatever happened meanwhile."""
        writer = WRITERS[step.who % 2]
        if (writer, task.key) not in self.reads or step.flag:
            await self._read_as(writer, task)
        expected, due_ms = self.reads.get((writer, task.key), (b"{}", 0))
        return Change(task.key, expected, self._tail(task.type), ttl_ms, due_ms, task.type)

    async def _update(self, step: Step, ttl_ms: int | None = None, verb: str = "update") -> None:
        task, writer = self._known(step.which), WRITERS[step.who % 2]
        change, before = await self._change(step, task, ttl_ms), task.state.place
        now_ms, answers = await self._write(writer, "update", lambda: self.stores[writer].update([change]))
        letter = letters(answers)
        assert letter == self.model.update(task.key, change.expected, change.tail, ttl_ms, now_ms)
        self.taken[f"{verb} {'changed' if letter == 'C' else before}"] += 1

    async def _update_delay(self, step: Step) -> None:
        await self._update(step, TTL_MS, "update_delay")

    async def _put(self, step: Step) -> None:
        """A task under an own key: it takes the place of one that this writer has read, or of none."""
        task, writer = self._known(step.which), WRITERS[step.who % 2]
        expected, before = (await self._change(step, task, TTL_MS)).expected, task.state.place
        if before == "missing" and step.flag:
            expected = b""
        type_name, old_type = ("mail" if step.count % 2 else None), task.type
        put = Put(NewTask(task.key, TTL_MS, self._tail(type_name), type_name), expected, old_type)
        now_ms, answers = await self._write(writer, "put", lambda: self.stores[writer].put([put]))
        letter = letters(answers)
        assert letter == self.model.put(task.key, expected, put.task.tail, type_name, TTL_MS, now_ms)
        self.taken[f"put {'changed' if letter == 'C' else before}"] += 1

    async def _replay(self, step: Step) -> None:
        dead = self.model.standing("dead")
        await self._replay_one(step, dead[step.which % len(dead)])

    async def _replay_other(self, step: Step) -> None:
        """A replay of a task that is dead no more, or was not."""
        await self._replay_one(step, self._known(step.which))

    async def _replay_one(self, step: Step, task: Modelled) -> None:
        writer = WRITERS[step.who % 2]
        change, before = await self._change(step, task, TTL_MS), task.state.place
        now_ms, answers = await self._write(writer, "replay", lambda: self.stores[writer].replay([change]))
        letter = letters(answers)
        assert letter == self.model.replay(task.key, change.expected, change.tail, TTL_MS, now_ms)
        self.taken[f"replay {'changed' if letter == 'C' else before}"] += 1

    async def _cancel(self, step: Step) -> None:
        task, writer = self._known(step.which), WRITERS[step.who % 2]
        before, wanted = task.state.place, [(task.key, task.type, b"", CANCELLED)]
        answers = await self._write(writer, "cancel", lambda: self.stores[writer].cancel(wanted))
        assert letters(answers) == self.model.cancel(task.key)
        self.taken[f"cancel {before}"] += 1

    async def _discard(self, step: Step) -> None:
        writer, dead = WRITERS[step.who % 2], self.model.standing("dead")
        task = dead[step.which % len(dead)] if dead and step.flag else self._known(step.which)
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
        await self._move(step, "run", self.model.run)

    async def _purge(self, step: Step) -> None:
        writer = WRITERS[step.who % 2]
        assert await self._write(writer, "purge", self.stores[writer].purge) == self.model.purge()
        self.stored.clear()
        self.taken["purge"] += 1

    # What the timer and the workers write

    async def _promote(self, step: Step) -> None:
        await self._promote_as(WORKERS[step.who % 3], step.count, step.which // 3)

    async def _promote_as(self, worker: str, limit: int, claims: int) -> None:
        # What is due in this very millisecond may be moved or not: let it be over.
        scores = [task.score or 0 for task in self.model.standing("due")]
        for _ in range(100_000):
            now_ms = redis_ms(await ask(self.raw, "TIME"))
            if not any(now_ms <= score < now_ms + 1_000 for score in scores):
                break
        promotion = await self.stores[worker].promote(limit, claims)
        moved = self.model.promote(limit, now_ms)
        assert promotion.moved == moved
        self.taken["promote"] += moved
        await self._learn_entries()
        expected = self.model.claim(worker, min(claims, moved))
        for task in expected:
            assert self.model.renew(worker, task.entry or "")
        assert [(claim.id, claim.key, claim.record, claim.attempts, claim.tries) for claim in promotion.claims] == [
            (task.entry or "", task.key, decode_record(task.record), task.attempts, 1) for task in expected
        ]
        self._hold(worker, promotion.claims)
        self.taken["promote and claim"] += len(expected)

    async def _learn_entries(self) -> None:
        entries = _pairs(await ask(self.raw, "HGETALL", KEYS.entries))
        for task in self.model.standing("queued"):
            task.entry = entries[task.key]

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
            assert claim.mark == task.mark
        self._hold(worker, claims)
        self.taken["load"] += len(claims)
        self.taken["load dropped"] += len(entries) - len(claims)
        return claims

    def _hold(self, worker: str, claims: list[Claim]) -> None:
        self.claims[worker] = (self.claims[worker] + claims)[-CLAIMS_KEPT:]

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
            entries = (await self.stores[worker].reclaim(limit)).entries
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

    def _chosen(self, step: Step) -> tuple[str, list[Claim]]:
        """Claims that a worker comes with: those that it holds, those that it lost to another, or any that it ever
        had."""
        known = [(worker, claim) for worker in WORKERS for claim in self.claims[worker]]
        held = [(worker, claim) for worker, claim in known if self.model.holds(worker, claim)]
        late = [pair for pair in known if pair not in held and self.model.is_in(pair[1])]
        choice = (known, late or held or known, held or late or known, held or known)[step.which % 4]
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
        follow_ups = self._follow_ups(step)
        for time in range(1 + (step.count == 2)):
            for claim in filter(self.model.is_in, claims):
                self.taken["settle" if self.model.holds(worker, claim) else "settle late"] += 1
                # Whatever the model thinks of entries: a success takes nothing away that was updated after its claim.
                record = decode_record(self.model.tasks[claim.key].record)
                assert claim.record == record, f"an update of {claim.key} is lost"
                claim.result = DELIVERED
            answers = await self.stores[worker].settle(claims, follow_ups)
            assert answers == self.model.settle(claims)
            await self._adopt_follow_ups(follow_ups, answers)
            self.taken["settle fenced"] += answers.count(False)
            self.taken["again settle"] += time

    def _follow_ups(self, step: Step) -> dict[int, NewTask]:
        """What follows the first claim of a step, where it is to be followed and there is room for another task."""
        if not step.flag or len(self.model.standing("due", "queued", "pending", "dead")) >= ALIVE_MOST:
            return {}
        ttl_ms, type_name = (TTL_MS if step.which % 2 else 0), ("mail" if step.who % 2 else None)
        return {0: NewTask(f"task-{len(self.model.tasks)}", ttl_ms, self._tail(type_name), type_name)}

    async def _adopt_follow_ups(self, follow_ups: dict[int, NewTask], answers: Sequence[int]) -> None:
        for index, task in follow_ups.items():
            if answers[index]:
                now_ms = redis_ms(await ask(self.raw, "TIME"))
                due_ms = int(await ask(self.raw, "ZSCORE", KEYS.due, task.key))
                assert abs(due_ms - now_ms - task.ttl_ms) < TOLERANCE_MS
                self.model.follow(task.key, task.type, task.tail, due_ms, task.ttl_ms)
            self.taken["settle and follow" if answers[index] else "settle fenced alone"] += 1

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
        await self._outcome(
            step,
            "bury",
            lambda store, claims: store.bury(_failed(claims, counts=step.flag)),
            lambda worker, claim: self.model.bury(worker, claim, step.flag),
            ("bury fenced", "bury" if step.flag else "bury uncounted"),
        )

    async def _expire(self, step: Step) -> None:
        await self._outcome(
            step,
            "expire",
            lambda store, claims: store.expire(_failed(claims, counts=step.flag)),
            lambda worker, claim: self.model.expire(worker, claim, step.flag),
            ("expire fenced", "expire" if step.flag else "expire uncounted"),
        )

    async def _fire(self, step: Step) -> None:
        """The task is a series that came due: it makes an occurrence, or several, where there is room for more tasks,
        unless another task is unfinished; and comes again, or ends."""
        worker, [claim, *_] = self._chosen(step)
        task = self.model.tasks[claim.key]
        room = ALIVE_MOST - len(self.model.standing("due", "queued", "pending", "dead"))
        now_ms, first = redis_ms(await ask(self.raw, "TIME")), len(self.model.tasks)
        made = [
            Made(f"task-{first + number}", now_ms - number, self._tail(task.type), task.type)
            for number in range(min(step.count, room))
        ]
        unless = self._known(step.who).key if step.flag else ""
        due_ms = None if step.which % 3 == 0 else now_ms + TTL_MS
        after, otherwise = Next(due_ms, self._tail(task.type)), Next(now_ms + 2 * TTL_MS, self._tail(task.type))
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

    async def _expect(self, step: Step) -> None:
        await self._outcome(
            step,
            "expect",
            lambda store, claims: store.expect([Unsettled(claim, b"", TTL_MS) for claim in claims]),
            lambda worker, claim: self.model.expect(worker, claim, TTL_MS),
            ("expect fenced", "expect"),
        )

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

    async def _run_out_awaited(self, step: Step) -> None:
        tasks = [task for task in self.model.standing("awaiting") if task.wait_ms]
        await self._press_awaited(tasks[step.which % len(tasks)])

    async def _press_awaited(self, task: Modelled) -> None:
        task.wait_ms, task.score = 0, redis_ms(await ask(self.raw, "TIME")) - 1_000
        await ask(self.raw, "ZADD", KEYS.awaiting, "XX", task.score, task.key)

    async def _retire(self, step: Step) -> None:
        self.taken["retire"] += await self.stores[WORKERS[0]].retire(0) > 0


def _verb_of(kind: str, places: Collection[str]) -> str:
    """Return the verb that takes this kind of transition; none if it needs a task where none stands."""
    verb, _, rest = kind.partition(" ")
    if verb == "again" and rest in WEIGHTS:
        return rest
    return "" if rest in RARE_FIRST and rest not in places else verb


def _failed(claims: list[Claim], delay_ms: int = 0, counts: bool = True) -> list[Unsettled]:
    return [Unsettled(claim, FAILURE, delay_ms, counts) for claim in claims]


def _pairs(answer: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(answer[::2], answer[1::2], strict=True)}
