"""What the API writes to Redis: each verb one method and one Lua script of the same name.

Each writer numbers its batches of a verb, so that a resend is not applied twice: await one call of each verb at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.answer_shape import TEXTS, letters, time_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING, text_of
from redis_scheduler.store.script import Argument, Script, Types
from redis_scheduler.task.timing import DEFAULT, Timing

T = TypeVar("T")


@dataclass(slots=True)
class NewTask:
    """A task to schedule: its new key, delay, record less the due time, and type (None: the default)."""

    key: str
    ttl_ms: int
    tail: bytes
    type: str | None


@dataclass(slots=True)
class Change:
    """A record to replace: what it must be now, what it becomes, and the new delay (None keeps the due time)."""

    key: str
    expected: bytes
    tail: bytes
    ttl_ms: int | None
    due_ms: int
    type: str | None


SCRIPTS = {name: Script(name) for name in ("schedule", "update", "cancel", "purge", "replay")}


class Writes:
    """What the API writes. Every method raises StoreUnavailable, which leaves open whether it was applied, or StoreFull.

    One call of a script is applied as a whole or not at all; a purge makes several.
    """

    def __init__(self, client: RedisClient, name: str, timing: Timing = DEFAULT) -> None:
        self.client = client
        self._timing = timing
        self.name = name
        """The writer's id: new for every process, so that a restart is never mistaken."""
        self._batch_numbers: dict[str, int] = {}

    async def _write(
        self,
        verb: str,
        redis_keys: Sequence[str],
        arguments: Sequence[Argument],
        read: Callable[[bytes], T],
        types: Types | None = None,
    ) -> T:
        number = self._batch_numbers[verb] = self._batch_numbers.get(verb, 0) + 1
        typed_keys, typed_arguments = (types.indexes(self.client.keys), types.arguments) if types else ([], [])
        # The verbs that know of the group name it between the writer's part and the types.
        group: list[Argument] = [GROUP, WAITING] if verb in ("cancel", "update") else []
        if verb == "update":
            group.append(self._timing.window_ms)
        answer = await self.client.script(
            SCRIPTS[verb],
            [self.client.keys.writer(self.name, verb), *redis_keys, *typed_keys],
            [number, self._timing.writer_expiry_s, *group, *typed_arguments, *arguments],
            lambda answer: None if answer == b"stale" else read(answer),
        )
        if answer is None:
            raise StoreUnavailable("This batch came to Redis after a later one, and was not applied")
        return answer

    async def schedule(self, tasks: Sequence[NewTask]) -> list[int]:
        """Enter new tasks; return when each is due, in Redis' ms."""
        types = Types()
        arguments: list[Argument] = []
        for task in tasks:
            arguments += (task.key, task.ttl_ms, task.tail, types.number(task.type))
        now_ms = await self._write(
            "schedule",
            [
                self.client.keys.tasks,
                self.client.keys.due,
                self.client.keys.queue,
                self.client.keys.entries,
                self.client.keys.counters,
                self.client.keys.types,
                self.client.keys.bell,
            ],
            arguments,
            time_ms,
            types,
        )
        return [now_ms + task.ttl_ms for task in tasks]

    async def cancel(self, tasks: Sequence[tuple[str, str | None]]) -> str:
        """Take tasks (key, type) out; return a letter for each: C cancelled, D in delivery, N not found."""
        types = Types()
        arguments: list[Argument] = []
        for key, type_name in tasks:
            arguments += (key, types.number(type_name))
        return await self._write(
            "cancel",
            [
                *(
                    self.client.keys.tasks,
                    self.client.keys.due,
                    self.client.keys.queue,
                    self.client.keys.entries,
                    self.client.keys.failures,
                    self.client.keys.dead,
                ),
                *(self.client.keys.counters, self.client.keys.types),
            ],
            arguments,
            lambda answer: letters(answer, b"CDN", len(tasks)),
            types,
        )

    async def update(self, changes: Sequence[Change]) -> tuple[int, str]:
        """Replace records; return Redis' ms and a letter for each.

        U updated, D updated while in delivery, C changed meanwhile, N not found, X dead and a new delay was asked for.
        """
        types = Types()
        arguments: list[Argument] = []
        for change in changes:
            ttl_ms = "" if change.ttl_ms is None else change.ttl_ms
            type_number = types.number(change.type)
            arguments += (change.key, change.expected, change.tail, ttl_ms, change.due_ms, type_number)
        return await self._write(
            "update",
            [
                *(
                    self.client.keys.tasks,
                    self.client.keys.due,
                    self.client.keys.queue,
                    self.client.keys.entries,
                    self.client.keys.failures,
                    self.client.keys.dead,
                ),
                *(self.client.keys.types, self.client.keys.bell),
            ],
            arguments,
            lambda answer: _time_and_letters(answer, b"UDCNX", len(changes)),
            types,
        )

    async def replay(self, changes: Sequence[Change]) -> tuple[int, str]:
        """Bring dead letters back with a new delay; return Redis' ms and a letter for each.

        U replayed, C changed meanwhile, N not found or not dead.
        """
        types = Types()
        arguments: list[Argument] = []
        for change in changes:
            ttl_ms = change.ttl_ms or 0
            arguments += (change.key, change.expected, change.tail, ttl_ms, types.number(change.type))
        return await self._write(
            "replay",
            [
                self.client.keys.tasks,
                self.client.keys.due,
                self.client.keys.failures,
                self.client.keys.dead,
                self.client.keys.counters,
                self.client.keys.types,
                self.client.keys.bell,
            ],
            arguments,
            lambda answer: _time_and_letters(answer, b"UCN", len(changes)),
            types,
        )

    async def purge(self) -> int:
        """Delete every task; return how many. Tasks scheduled meanwhile may go too."""
        deleted = 0
        while True:
            sample = await self.client.command(
                "SRANDMEMBER", self.client.keys.types, self._timing.batch_limit, read=TEXTS
            )
            names = [text_of(name) for name in sample]
            count, types_left = await self._write(
                "purge",
                [
                    *(
                        self.client.keys.tasks,
                        self.client.keys.due,
                        self.client.keys.queue,
                        self.client.keys.entries,
                        self.client.keys.failures,
                        self.client.keys.dead,
                    ),
                    *(self.client.keys.counters, self.client.keys.types, self.client.keys.sweep),
                    *map(self.client.keys.type_index, names),
                ],
                [GROUP, *names],
                _two_numbers,
            )
            deleted += count
            if not types_left:
                return deleted


def _time_and_letters(answer: bytes, known: bytes, count: int) -> tuple[int, str]:
    now_ms, found = answer.split(b" ")
    return time_ms(now_ms), letters(found, known, count)


def _two_numbers(answer: bytes) -> tuple[int, int]:
    count, rest = answer.split(b" ")
    return int(count), int(rest)
