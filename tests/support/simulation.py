"""A worker in virtual time: the real Engine and its Slots, on a model of the queue, with receivers that answer or hang.

What a minute brings is known in a second or two, so that many courses of it can be looked at. The model knows what
becomes of an entry and when, and none of Redis' faults: those are tried on Redis itself.
"""

import asyncio
import heapq
import random
import selectors
from collections import deque
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.consumer import ShardAccess
from redis_scheduler.engine.engine import Engine
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.blocking import Bell, QueueReader
from redis_scheduler.store.claiming import Claimed, Promotion
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.sweep import Sweep
from redis_scheduler.task.claim import Claim, Entry, Unsettled
from redis_scheduler.task.limit import NO_BREAKING, NO_LIMIT, Limit
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.record import Record
from redis_scheduler.task.timing import DEFAULT
from tests.support.store import Store

Result = TypeVar("Result")

CALL_S = (0.0005, 0.003)
"""What a call of Redis takes, at least and at most; and an answer of a receiver that does not hang."""

ATTEMPT_CPU_S = 0.0003
"""What the worker's process does for an attempt, while nothing else of it goes on."""


class _NoWaiting(selectors.SelectSelector):
    """Goes on to the next event at once, and keeps what time it is then."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is left that could happen")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes as soon as nothing is left to do at the present one."""

    def __init__(self) -> None:
        self._clock = _NoWaiting()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s

    def spend(self, seconds: float) -> None:
        """Let time pass in which the process does something else."""
        self._clock.now_s += seconds


def run_virtually(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@dataclass
class Task:
    """A task of a host, and what became of it."""

    number: int
    host: str
    due_s: float
    hangs: bool = False
    fails_first: bool = False
    token: str | None = None
    attempts: int = 0
    began_s: list[float] = field(default_factory=list)
    failed_s: float = 0


class Model:
    """What the worker asks for: the queue in Redis, its blocking reader, and deliveries."""

    lost_answers = 0
    name = "worker"

    def __init__(self, chance: random.Random, timeout_s: float) -> None:
        self.tasks: list[Task] = []
        self.holding = 0
        """Slots of deliveries that hang."""
        self.held_most = 0
        self.passed = 0
        self.client = self
        self.outage = Outage()
        self._chance = chance
        self._timeout_s = timeout_s
        self._attempt_cpu_s = ATTEMPT_CPU_S * 10 ** chance.uniform(-0.5, 1)
        self._due: list[tuple[float, int, Task]] = []
        self._order = count()
        self._queue: deque[Entry] = deque()
        self._by_key: dict[str, Task] = {}
        self._waiting: dict[int, tuple[float, Entry]] = {}
        """By the number of the entry: when a retry's delay is over."""
        self._cursor = 0
        self._next_sweep_s = 0.0
        self.rung = asyncio.Event()
        self._has_come = asyncio.Event()

    @property
    def _loop(self) -> VirtualLoop:
        return cast(VirtualLoop, asyncio.get_running_loop())

    async def _call(self) -> None:
        await asyncio.sleep(self._chance.uniform(*CALL_S))

    def schedule(self, task: Task) -> None:
        self.tasks.append(task)
        self._by_key[str(task.number)] = task
        heapq.heappush(self._due, (task.due_s, next(self._order), task))

    def _claim(self, entry: Entry) -> Claim:
        task = self._by_key[entry.key]
        record = Record(0, f"http://{task.host}/", 0, origin=f"http://{task.host}", target="/", token=task.token)
        return Claim(entry.id, entry.key, record, task.attempts, entry.tries)

    # What the timer and the claim loop ask for

    async def promote(self, limit: int = DEFAULT.batch_limit, most_claims: int = 0, in_turn: bool = False) -> Promotion:
        """`in_turn` is passed over: what waits has the order of its times here."""
        await self._call()
        now, moved = self._loop.time(), 0
        while self._due and self._due[0][0] <= now and moved < limit:
            _, _, task = heapq.heappop(self._due)
            self._queue.append(Entry(f"{next(self._order)}-0", str(task.number)))
            moved += 1
        found = [self._claim(self._queue.popleft()) for _ in range(min(moved, most_claims, len(self._queue)))]
        if self._queue:
            self._has_come.set()
        return Promotion(moved, self._due[0][0] - now if self._due else None, found)

    async def claim(self, limit: int, waited: Entry | None = None) -> Claimed:
        await self._call()
        return Claimed([self._claim(entry) for entry in ([waited] if waited else []) + self._taken(limit)])

    async def claim_waiting(self, limit: int) -> list[Entry]:
        await self._call()
        if not self._queue:
            self._has_come.clear()
            await stop_or_interval(self._has_come, DEFAULT.block_ms / 1000)
            await self._call()
        return self._taken(limit)

    def _taken(self, limit: int) -> list[Entry]:
        return [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]

    async def load(self, entries: Sequence[Entry]) -> tuple[list[Claim], int]:
        await self._call()
        return [self._claim(entry) for entry in entries], len(entries)

    async def pending(self, limit: int, known: Collection[str] = ()) -> list[Entry]:
        return []

    async def renew(self, ids: Sequence[str]) -> set[str]:
        await self._call()
        return set(ids)

    async def retire(self, idle_ms: int, only: str = "") -> int:
        return 0

    # What it makes of claims

    async def settle(self, claims: Sequence[Claim], follow_ups: Mapping[int, NewTask]) -> None:
        await self._call()

    async def retry(self, failed: Sequence[Unsettled]) -> list[int]:
        await self._call()
        now, answers = self._loop.time(), []
        for item in failed:
            answers.append(1 if len(self._waiting) < DEFAULT.waiting_most else 2)
            if answers[-1] == 1:
                self._by_key[item.claim.key].attempts += 1
                number = int(item.claim.id.partition("-")[0])
                self._waiting[number] = (now + item.delay_ms / 1000, Entry(item.claim.id, item.claim.key))
        self._next_sweep_s = min(self._next_sweep_s, now + DEFAULT.sweep_waiting_interval_ms / 1000)
        return answers

    async def defer(self, failed: Sequence[Unsettled]) -> None:
        await self._call()
        for item in failed:
            task = self._by_key[item.claim.key]
            task.attempts += item.counts
            self.passed += not item.counts
            heapq.heappush(self._due, (self._loop.time() + item.delay_ms / 1000, next(self._order), task))
        self.rung.set()

    async def release(self, claims: Sequence[Claim]) -> list[int]:
        return [1 for _ in claims]

    keeps_results = False
    answer_bytes = 1_024

    def now_ms(self) -> float:
        return self._loop.time() * 1000

    async def look(self, limit: int) -> Sweep:
        await self._call()
        now = self._loop.time()
        if limit == 0:
            return Sweep([], DEFAULT.sweep_waiting_interval_ms / 1000)
        if now < self._next_sweep_s:
            return Sweep([], self._next_sweep_s - now)
        ready = sorted(number for number, (at, _) in self._waiting.items() if at <= now and number > self._cursor)
        taken = [self._waiting.pop(number)[1] for number in ready[: min(limit, DEFAULT.batch_limit // 2)]]
        self._cursor = ready[len(taken) - 1] if len(ready) > len(taken) else 0
        wait_ms = (
            0
            if self._cursor
            else DEFAULT.sweep_waiting_interval_ms
            if self._waiting
            else DEFAULT.sweep_idle_interval_ms
        )
        self._next_sweep_s = now + wait_ms / 1000
        return Sweep(taken, wait_ms / 1000)

    # What it delivers

    async def attempt(self, claim: Claim) -> Outcome:
        task = self._by_key[claim.key]
        self._loop.spend(self._attempt_cpu_s)
        task.began_s.append(self._loop.time())
        if task.hangs:
            self.holding += 1
            self.held_most = max(self.held_most, self.holding)
            try:
                await asyncio.sleep(self._timeout_s)
            finally:
                self.holding -= 1
            return Outcome("timed out", None, 0)
        await self._call()
        if task.fails_first and len(task.began_s) == 1:
            task.failed_s = self._loop.time()
            return Outcome("status 500", 500, 0)
        return Outcome(None, 200, 0)

    # No limits

    default, breaking = NO_LIMIT, NO_BREAKING

    async def said(self) -> dict[str, Limit]:
        return {}

    # The processes

    async def _promote_always(self, engine: Engine) -> None:
        while True:
            self.rung.clear()
            promotion = await engine.consumers[0].intake.promote()
            if promotion.moved < DEFAULT.batch_limit:
                await stop_or_interval(self.rung, min(1.0, 1.0 if promotion.wait_s is None else promotion.wait_s))

    async def work(self, concurrency: int, retry_time_s: float, seconds: float) -> Engine:
        """Let an engine work for so long; return it as it is then."""
        never = asyncio.Event()
        store = cast(Store, self)
        policy = Policy(-1, round(retry_time_s * 1000))
        reader = cast(QueueReader, SimpleNamespace(claim=self.claim_waiting))
        bell, deliverer = cast(Bell, self), cast(Deliverer, self)
        limiting = cast(Limiting, self)
        engine = Engine({0: ShardAccess(store, reader, bell, self.outage, limiting)}, deliverer, policy, concurrency)
        parts = [
            engine.deliver(never, never, 0),
            engine.consumers[0].reclaimer.run(never),
            self._promote_always(engine),
        ]
        running = [asyncio.create_task(part) for part in parts]
        await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        for result in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        return engine


@dataclass
class Course:
    """What one course came to: how late the host's tasks and retries were, and what those had that hang."""

    late_s: list[float]
    retries_late_s: list[float]
    held_most: int
    attempts_that_hang: int
    untried: int
    """Tasks that hang and were never tried."""
    passed: int
    """How often tasks came back as surplus."""


def course(
    seed: int,
    hosts: int,
    retry_time_s: float,
    steady_per_s: float,
    steady_s: float,
    *,
    tasks_each: int = 1,
    timeout_s: float = 10,
    concurrency: int = 200,
    mixed_per_s: float = 0,
    mixed_hang: float = 0.5,
    watched_s: float = 20,
    tokens: tuple[str, str] | None = None,
) -> Course:
    """Let so many hosts hang with so many tasks each, beside one with `steady_per_s` tasks a second, of which a tenth
    fail once; and, if `mixed_per_s`, one that answers at once but for a part, `mixed_hang`. `tokens`: that of the tasks
    which hang, and that of the steady ones.

    By the seed: how fast tasks come, when the host's first does, what calls take, and what an attempt costs.
    """
    chance = random.Random(seed)
    model = Model(chance, timeout_s)
    numbers, (a_token, b_token) = count(), tokens or (None, None)
    per_s = 10 ** chance.uniform(2, 3.5)
    for number in range(hosts * tasks_each):
        model.schedule(
            Task(next(numbers), f"hangs-{number // tasks_each}", 1 + number / per_s, hangs=True, token=a_token)
        )
    begins = (
        hosts * tasks_each / per_s + 0.01 if chance.random() < 0.5 else chance.uniform(0, hosts * tasks_each / per_s)
    )
    steady = [
        Task(next(numbers), "steady", 1 + begins + number / steady_per_s, fails_first=number % 10 == 0, token=b_token)
        for number in range(int(steady_per_s * steady_s))
    ]
    for task in steady:
        model.schedule(task)
    for number in range(int(mixed_per_s * steady_s)):
        model.schedule(Task(next(numbers), "mixed", 1 + number / mixed_per_s, hangs=chance.random() < mixed_hang))
    run_virtually(model.work(concurrency, retry_time_s, steady[-1].due_s + retry_time_s + watched_s))
    hanging = [task for task in model.tasks if task.hangs]
    never = float("inf")
    return Course(
        [task.began_s[0] - task.due_s if task.began_s else never for task in steady],
        [
            task.began_s[1] - task.failed_s - retry_time_s if len(task.began_s) > 1 else never
            for task in steady
            if task.fails_first
        ],
        model.held_most,
        sum(len(task.began_s) for task in hanging),
        sum(not task.began_s for task in hanging),
        model.passed,
    )
