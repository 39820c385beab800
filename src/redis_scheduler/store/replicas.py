"""REPLICAS: what the API writes counts only once so many replicas have it, so that a failover does not lose it."""

from collections.abc import Callable
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from redis_scheduler.errors import StoreUnreplicated
from redis_scheduler.metrics.family import REDIS_ERRORS
from redis_scheduler.metrics.meter import UNREAD, Meter
from redis_scheduler.store.check import Servers
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.script import Argument, Call

T = TypeVar("T")

WAITED = frozenset(
    (
        *("schedule", "schedule_once", "put", "update", "replay", "cancel", "discard", "purge"),
        *("pause", "resume", "run", "acknowledge", "shift", "limit", "pause_all"),
    )
)
"""The scripts that write what a client was told. (A lost outcome of an attempt only repeats the attempt.)"""


class ReplicatedClient(RedisClient):
    """A client whose writes are followed by WAIT, in the same packet: that costs 30 us a batch.

    So many `replicas` must have a write within half the time that Redis has to answer.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float,
        keys: Keys,
        outage: Outage | None,
        meter: Meter = UNREAD,
        servers: Servers | None = None,
        replicas: int = 1,
    ) -> None:
        super().__init__(url, timeout_s, keys, outage, meter, servers)
        self.replicas = replicas
        self._wait_ms = round(timeout_s * 500)

    async def run(self, call: Call, read: Callable[[Any], T]) -> T:
        """Run a script as any client does. Raises StoreUnreplicated where too few replicas have what it wrote."""
        if call[0].name not in WAITED:
            return await super().run(call, read)
        count = 0

        async def execute(*arguments: Argument) -> Any:
            nonlocal count
            answer, count = await self._execute_waited(*arguments)
            return answer

        found = await self.resending(lambda: self._evaluate(call, read, execute))
        if count < self.replicas:
            error = StoreUnreplicated(
                f"{count} of {self.replicas} replicas (REPLICAS) have a write after {self._wait_ms} ms; it stands in this "
                "master, but a failover may lose it: see why replicas lag, or lower REPLICAS"
            )
            self._meter.add(REDIS_ERRORS, "away")
            self.outage.note(error)
            self.look_anew(error)
            raise error
        return found

    async def _execute_waited(self, *arguments: Argument) -> tuple[Any, int]:
        """Send a command with WAIT behind it; return both answers. WAIT answers also where the command was refused,
        whose error counts before its own.

        WAIT looks at what its connection has written last, and from Redis 7.2 on a script that finds its work done has
        written nothing. So a write goes between that changes nothing, but goes to the replicas behind all before it.
        A full Redis refuses that; what writes then is seen by WAIT all the same.
        """
        connection = await self._connection()
        answers: list[Any] = []
        try:
            mark = ("HINCRBY", self.keys.counters, "scheduled", 0)
            wait = ("WAIT", self.replicas, self._wait_ms)
            await connection.send_packed_command(connection.pack_commands([arguments, mark, wait]))
            for _ in range(3):
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    answers.append(error)
        finally:
            await self._release(connection)
        answer, _, count = answers
        for one in (answer, count):
            if isinstance(one, ResponseError):
                raise one
        return answer, int(count)

    async def _send_check(self) -> str | None:
        await self._execute("WAIT", 0, 1)  # so that a user who may not is known before anything is written
        return await super()._send_check()
