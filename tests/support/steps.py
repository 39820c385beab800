"""What steps of any kind share: the connections, what they know of Redis, and the comparison with the model after
each."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.audit import audit
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.views import Views
from redis_scheduler.store.written import Change, StoredTask
from redis_scheduler.task.claim import Claim, Entry
from redis_scheduler.task.kept import DEFAULT as KEPT
from redis_scheduler.task.kept import NO_RESULTS
from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import SERIES
from redis_scheduler.task.options import Options
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import counters
from tests.scripts.indexes import LETTER_BYTES, letters_of, typed_keys
from tests.scripts.states import FAILURE, TTL_MS, ask, state_of, tail
from tests.support.model import Model
from tests.support.modelled import FORGETFUL, OTHER_TOKEN, TOKEN, TOLD, Modelled, Names, letter_of
from tests.support.names import KEYS, VAULT
from tests.support.routed import master_of
from tests.support.steering import PLACES
from tests.support.store import Store
from tests.support.together import Together

WORKERS = ("worker-a", "worker-b", FORGETFUL)
WRITERS = ("api-a", "api-b")
ALIVE_MOST = 4
TIMING = replace(DEFAULT, waiting_most=1, lost_workers_most=2, queued_most=2, in_turn_most=1)
"""So few may wait that a retry finds too many; what is released waits too. Tasks on their last chance meet within an
example. And the queue that tokens share is soon full, so that lines of them stand."""
RETRY_DELAY_MS = 50_000
DELIVERED, CANCELLED = (b',"state":"%s","attempts":1,"due":0}' % state for state in (b"delivered", b"cancelled"))
CLAIMS_KEPT = 8
ROUNDS_MOST = 10
"""Times that everything is delivered in the end: a sweep may begin behind some, or pass over what may lose no worker
more."""
REPEATS_MOST = 3


@dataclass(frozen=True)
class Step:
    """Numbers that choose a verb, who does it, and to what. A choice of 0 is no step: so hypothesis shortens an
    example."""

    choice: int
    who: int
    which: int
    count: int
    flag: bool


class Connections:
    """What all examples share: the connections, and how often each transition was taken."""

    def __init__(self, url: str, names: Keys = KEYS) -> None:
        # Answers as they come.
        self.raw = Together.from_url(master_of(url), protocol=2)
        self.raw.response_callbacks.clear()
        self.client = RedisClient(url, 3, names)
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


class Steps:
    """What the steps of one sequence know."""

    def __init__(self, shared: Connections, missing: Sequence[str] = ()) -> None:
        self.shared = shared
        self.missing = missing
        """Kinds of transition that no example before has taken."""
        self.goal = ""
        """The kind that the step is to lead to, if any."""
        self.raw = shared.raw
        self.taken: Counter[str] = Counter()
        self.model = Model(TIMING)
        self.views = Views(shared.client)
        self.stores = {
            name: Store(shared.client, name, TIMING, NO_RESULTS if name == FORGETFUL else KEPT)
            for name in (*WORKERS, *WRITERS)
        }
        self.unloaded: dict[str, list[Entry]] = {name: [] for name in WORKERS}
        self.claims: dict[str, list[Claim]] = {name: [] for name in WORKERS}
        self.reads: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.last_writes: dict[tuple[str, str], tuple[Callable[[], Awaitable[Any]], Any]] = {}
        self.stored: dict[str, StoredTask] = {}
        """What stands for each idempotency id."""
        self.is_sealed = shared.client.keys.vault is not None
        self.failure_bytes = len(VAULT.seal_failure("", FAILURE) if self.is_sealed else FAILURE)
        self.versions = 0
        self.done: list[tuple[str, Step]] = []

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
            in_lines,
            turn,
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
            ask(raw, "ZRANGEBYSCORE", KEYS.held, "-inf", "(0"),
            ask(raw, "HGET", KEYS.sweep, "turn"),
            *(state_of(raw, key) for key in model.tasks),
        )
        kept = {key: found and found.state for key, found in zip(model.tasks, summaries, strict=True)}
        assert kept == {key: task.result for key, task in model.tasks.items()}
        assert dict(zip(model.tasks, states, strict=True)) == {key: task.state for key, task in model.tasks.items()}
        due, paused, awaiting = [{key: int(at) for key, at in pairs(rows).items()} for rows in (scores, held, awaited)]
        model.adopt(pairs(entries), due, paused, awaiting, redis_ms(now))
        assert [key.decode() for key in in_lines] == [task.key for task in model.lines]
        assert turn == (None if model.turn is None else b"%d" % model.turn)
        alive = [task for task in model.tasks.values() if task.place != "missing"]
        stored = dict(zip(records[::2], records[1::2], strict=True))
        opened = {key.decode(): VAULT.opened(key.decode(), record) for key, record in stored.items()}
        assert opened == {task.key: task.record for task in alive}
        assert {fields[1].decode(): at.decode() for at, fields in queue} == pairs(entries)
        model.check_waits({row[0].decode(): DEFAULT.window_ms - row[2] for row in pending})
        assert found == []
        assert counted == +model.counters
        listed: dict[str, set[str]] = {}
        for task in alive:
            for name in (task.listed or ()) if task.is_running else ():
                listed.setdefault(name, set()).add(task.key)
        assert typed == listed
        assert ledger.is_balanced, ledger
        assert letter_bytes == {
            task.key: LETTER_BYTES + len(stored[task.key.encode()]) + (len(f"{task.attempts} ") + self.failure_bytes)
            for task in model.standing("dead")
        }
        held = len(model.standing("held", "in turn"))
        expected = (len(model.standing("paused")), len(model.standing("awaiting")), held)
        assert (ledger.paused, ledger.awaiting, ledger.held) == expected

    async def _problems(self) -> list[str]:
        return [finding.text async for finding in audit(self.shared.client, has_all_series=True)]

    async def _write(self, writer: str, verb: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Send a batch; keep it, so that it may be sent again."""
        answer = await call()
        self.last_writes[writer, verb] = call, answer
        return answer

    def _tail(self, listed: Names) -> bytes:
        """The next version of a record."""
        self.versions += 1
        return tail(TTL_MS, listed, b'{"version":%d}' % self.versions, Options(again_most=9))

    def _known(self, which: int) -> Modelled:
        """The task that a step is about: one of the goal's place, if it names that; now and then one that is gone.
        Those in states that are rarely come to are first."""
        verb, _, place = self.goal.partition(" ")
        tasks = sorted(self.model.tasks.values(), key=lambda task: PLACES.index(task.state.place))
        wanted = [task for task in tasks if task.state.place == place and self.done[-1][0].startswith(verb)]
        alive = [task for task in tasks if task.place != "missing"]
        if wanted:
            return wanted[which // 2 % len(wanted)]
        return tasks[-1] if which == 7 or not alive else alive[which // 2 % len(alive)]

    def _told(self) -> list[Modelled]:
        """Series that were told to run, and that can be told again."""
        return [task for task in self.model.tasks.values() if task.mark == TOLD and letter_of(task) in "SFQWP"]

    def _one_of(self, tasks: list[Modelled], which: int) -> Modelled:
        """One of some tasks: of the goal's place, if it names that."""
        wanted = [task for task in tasks if self.goal.endswith(f" {task.state.place}")] or tasks
        return wanted[which % len(wanted)]

    def _stale(self) -> list[tuple[str, Modelled]]:
        """Writers, and tasks that have changed since they read them."""
        read = [(writer, self.model.tasks[key], raw) for (writer, key), (raw, _) in self.reads.items()]
        return [
            (writer, task)
            for writer, task, raw in read
            if task.place != "missing" and task.record != VAULT.opened(task.key, raw)
        ]

    def _writer_of(self, step: Step) -> tuple[str, Modelled]:
        """A writer, and the task that it changes: one that it has not read since it changed, if that is the goal."""
        verb, _, what = self.goal.partition(" ")
        stale = [pair for pair in self._stale() if verb != "replay" or pair[1].place == "dead"]
        if stale and (self.done[-1][0], what) == (verb, "changed"):
            return stale[step.which % len(stale)]
        return WRITERS[step.who % 2], self._known(step.which)

    async def _read_as(self, writer: str, task: Modelled) -> None:
        stored = await self.views.task(task.key)
        if stored is not None:
            record = VAULT.opened(task.key, stored.raw)
            assert (record, stored.state, stored.attempts) == (task.record, task.view, task.attempts)
            self.reads[writer, task.key] = stored.raw, stored.record.due

    async def _change(self, step: Step, writer: str, task: Modelled, ttl_ms: int | None) -> Change:
        """A change of what this writer has read: now, or before whatever happened meanwhile."""
        reads = not self.goal.endswith(" changed") if self.goal else step.flag
        if (writer, task.key) not in self.reads or reads:
            await self._read_as(writer, task)
        expected, due_ms = self.reads.get((writer, task.key), (b"{}", 0))
        # A type stays as it was, and what is a series; labels may change.
        kept = [
            [name for name in task.listed or () if name in wanted]
            for wanted in (("mail",), (SERIES, TOKEN, OTHER_TOKEN))
        ]
        listed = task.listed and (*kept[0], index_of(f"order={step.count}"), *kept[1])
        return Change(task.key, expected, self._tail(listed), ttl_ms, due_ms, listed, task.listed)

    async def _learn_entries(self) -> None:
        entries = pairs(await ask(self.raw, "HGETALL", KEYS.entries))
        for task in self.model.standing("queued"):
            task.entry = entries[task.key]

    def _note_claims(self, worker: str, claims: list[Claim]) -> None:
        self.claims[worker] = (self.claims[worker] + claims)[-CLAIMS_KEPT:]


def pairs(answer: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(answer[::2], answer[1::2], strict=True)}
