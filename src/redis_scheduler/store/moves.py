"""Tasks that move between deployments: the walk through the keys of all tasks, what puts a task back under its key, and
the pause of a whole deployment."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from redis_scheduler.store.answer_shape import each_of, time_ms
from redis_scheduler.store.script import Script
from redis_scheduler.store.walk import Walk
from redis_scheduler.store.writes import Writes
from redis_scheduler.task.content import Content
from redis_scheduler.task.listing import Listing, listing_of
from redis_scheduler.task.options import NONE, Options


@dataclass(slots=True)
class Moved:
    """A task as an export kept it: its record less the due time, but with `again` in front; where it stands (`due`,
    `paused` or `dead`) with its score there, and its failures as they are stored, empty for none; `options`, `content`
    and `token` are those in the record. Times are Redis' ms."""

    key: str
    due_ms: int
    tail: bytes
    place: str
    at_ms: int
    failure: bytes
    listed: Listing
    options: Options = field(default=NONE, compare=False)
    content: Content = field(default="data", compare=False)
    token: str | None = field(default=None, compare=False)


class RestoreAnswer(Enum):
    """What a restore did. A task that is there stays as it is."""

    RESTORED = "U"
    EXISTS = "E"


RESTORE, PAUSE_ALL = Script("restore"), Script("pause_all")


class Moves(Writes):
    """What export, import and pause-all read and write. Every method raises as those of Writes do."""

    async def task_keys(self) -> AsyncIterator[list[str]]:
        """Walk through the keys of all tasks, in bounded steps. A key that is there throughout is met, perhaps more
        than once; keys that are no text, which foreign hands wrote, are left out."""
        async for heads in Walk(self.client).all_heads(most=0):
            yield [key for head in heads if (key := head.key.decode(errors="replace")).encode() == head.key]

    async def sizes(self, task_keys: Sequence[str]) -> list[int]:
        """Return the bytes of each task's record, 0 where there is none."""
        _, heads = await Walk(self.client).heads([key.encode() for key in task_keys], 0)
        return [head.size_bytes for head in heads]

    async def types(self, task_keys: Sequence[str]) -> list[tuple[str, Listing]]:
        """Return each task that is there with the names that it is listed under, as `cancel` takes them."""
        records = await Walk(self.client).records([key.encode() for key in task_keys])
        return [
            (key.decode(), listing_of(record.type, record.options, record.token))
            for key, record in records
            if record is not None
        ]

    async def pause_all(self, wanted: bool) -> int | None:
        """Let nothing be promoted or claimed any more, or again; return since when that is so, None if it is not."""
        return await self.client.run(
            PAUSE_ALL.bind(self.client.keys, wanted=int(wanted)),
            lambda answer: None if answer == b"" else time_ms(answer),
        )

    async def restore(self, tasks: Sequence[Moved]) -> list[RestoreAnswer]:
        """Put tasks back; return what was done with each. Give 200 of them at most, and 128 KiB or so."""
        return await self._write(
            RESTORE.bind(self.client.keys, tasks, **self._numbered(RESTORE)),
            lambda answer: each_of(RestoreAnswer, answer, len(tasks)),
        )
