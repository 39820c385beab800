"""How a process becomes, and stays, a member of each shard: how many there are, and how many new tasks go to.

The first shard says how many there have been. A process serves as many, and at least SHARDS and all servers that are
listed. New tasks go to SHARDS once this number holds there. A process with the API announces it, as soon as a worker
was seen in each of these shards: so workers may come first, then the API, and nobody else has to agree. While all is
paused it announces none, since what came into new shards would not be paused. All other shards keep that the number is
coming before the first one is told: so while that is away, they say that nothing has changed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.logs import Events
from redis_scheduler.metrics.meter import UNREAD, Meter
from redis_scheduler.process.process import Process
from redis_scheduler.settings import WORKER
from redis_scheduler.store.answer_shape import all_paused_since_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.generations import Coming
from redis_scheduler.store.workers import Workers
from redis_scheduler.task.timing import Timing

logger = Events(__name__)


class Joining:
    """The membership of one process. `timeout_s`: of one send to Redis."""

    def __init__(self, process: Process, timing: Timing, timeout_s: float) -> None:
        self._process = process
        self._timing = timing
        self._timeout_s = timeout_s
        self._count = 0
        self._note(process.shards_least)
        self._is_settled = False
        self._copied = b""
        """What the other shards were told last."""
        self._on_more: list[Callable[[int], None]] = []
        self._clients: list[RedisClient] = []
        self._workers: list[Workers] = []

    async def run(self) -> None:
        """Join each shard, again every few seconds, until the stop."""
        process = self._process
        async with self.clients(self._timeout_s, process.meter) as clients, asyncio.TaskGroup() as tasks:
            self._clients, self._workers = clients, list(map(Workers, clients))

            def join(number: int) -> None:
                deployment, outage = process.deployment_at(number), process.outage_at(number)
                if number == 0:
                    deployment.listeners.redis_peers = clients[0].peers
                deployment.on_join = self._settle if number == 0 else self._serve
                running = deployment.run(clients[number], outage, process.stop, self._timing)
                tasks.create_task(running, name="deployment")

            for number in range(self._count):
                join(number)
            self._on_more.append(join)

    @contextlib.asynccontextmanager
    async def clients(
        self, timeout_s: float, meter: Meter = UNREAD, replicas: int = 0
    ) -> AsyncIterator[list[RedisClient]]:
        """Give a client of each shard. There come more, if others have announced more shards. `replicas`: so many must
        have what these write."""
        process, clients = self._process, list[RedisClient]()

        def add(number: int) -> None:
            clients.append(process.shard_at(number).client(timeout_s, process.outage_at(number), meter, replicas))

        for number in range(self._count):
            add(number)
        self._on_more.append(add)
        try:
            yield clients
        finally:
            self._on_more.remove(add)
            for client in clients:
                await client.aclose()

    def tell_more(self, on_more: Callable[[int], None]) -> None:
        """Call it with the number of each shard that comes."""
        self._on_more.append(on_more)

    def _note(self, count: int) -> None:
        """Note how many shards there are. That, and from how many of them this process delivers, decide how often it
        looks at each (task/timing.py)."""
        self._count, served = count, self._timing.served
        served.joined, served.shards = count, max(1, sum(map(self._process.delivers_from, range(count))))

    async def _serve(self) -> None:
        """Serve all shards that there have been, as far as is known, and choose how many new tasks go to."""
        generations = self._process.deployment.generations
        while self._count < min(generations.most, self._process.shards_most):
            number = self._count
            self._note(number + 1)
            for tell in list(self._on_more):
                tell(number)
        wanted = self._process.shards
        if self._process.role != WORKER and generations.most > wanted and self._process.is_new("fewer-shards"):
            logger.warning("fewer-shards", shards=wanted, served=generations.most)
        if generations.known:
            # Until a number holds, another process may look for no task in the shards that it brings.
            generations.use(min(wanted, generations.numbers[0]))
        self._process.joined.set()

    async def _settle(self) -> None:
        """The first shard has told how many there are: serve them, let the other shards keep its word, and announce the
        number that is to be."""
        await self._serve()
        generations, wanted = self._process.deployment.generations, self._process.shards
        if generations.told != self._copied:
            self._copied = generations.told
            for number in range(1, self._count):
                self._process.outage_at(number).changed.set()
        # Once it was announced others may announce another; but other hands may take what Redis keeps of it.
        if self._process.deployment.announced or (self._is_settled and wanted in generations.kept):
            return
        self._is_settled = wanted == generations.newest
        if self._is_settled or self._process.role == WORKER:
            return
        coming = generations.coming(wanted)
        if await self._are_served(wanted) and not await self._is_paused() and await self._is_kept(coming):
            self._process.deployment.announced = coming
            self._process.outage.changed.set()  # so that it is announced at once

    async def _are_served(self, count: int) -> bool:
        """Whether a worker was seen in each of so many shards. What is away says nothing of it."""
        try:
            return all(await asyncio.gather(*(workers.count() for workers in self._workers[:count])))
        except (StoreUnavailable, StoreFull):
            return False

    async def _is_paused(self) -> bool:
        """Whether all is paused, as the first shard says; also where it says nothing."""
        first = self._clients[0]
        try:
            return await first.command("GET", first.keys.pause_all, read=all_paused_since_ms) is not None
        except (StoreUnavailable, StoreFull):
            return True

    async def _is_kept(self, coming: Coming) -> bool:
        """Have every shard that there has been, but the first, keep that a number is coming; return whether all do."""
        others = range(1, max(self._process.deployment.generations.kept, default=1))
        if len(self._clients) < others.stop:
            return False  # it does not reach all
        try:
            joins = (self._process.deployment_at(one).join(self._clients[one], coming=coming) for one in others)
            await asyncio.gather(*joins)
        except (StoreUnavailable, StoreFull):
            return False
        return True
