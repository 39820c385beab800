"""The commands `redis-scheduler export` and `import`: all tasks of a deployment to a file, and back, one a line.

Both run beside the service, in bounded steps, and hold no more than a step in memory.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from redis_scheduler.api import reading
from redis_scheduler.api.limits import DEFAULT as LIMITS
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.errors import RequestRefused, SchedulerError, StartError, StoreUnavailable
from redis_scheduler.process.command import all_shards_of, begin_deployment, counted, note, say, tell
from redis_scheduler.process.interruption import waiting
from redis_scheduler.process.process import process_name
from redis_scheduler.process.streams import Waited
from redis_scheduler.process.task_line import DEAD, line_of, moved_of, unwritable
from redis_scheduler.settings import Settings
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.generations import Generations, generations_of
from redis_scheduler.store.moves import Moved, Moves, RestoreAnswer
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.views import Views
from redis_scheduler.task.key import SHARDS_MOST, has_made_form, shards_of
from redis_scheduler.task.timing import DEFAULT

BATCH_LIMIT = 100
"""Tasks of one call: 0.8 ms of Redis."""

BATCH_BYTES = 131_072
"""A batch ends before the task that would make its records and failures larger than this, unless that is the first: a
call of a MiB held Redis for 4 to 12 ms, one of this for 0.5."""

NESTING_MOST = 2 * reading.NESTING_LIMIT
"""Levels of a task: each callback with include_data puts the data that the API took one level deeper."""

LINE_BYTES = 402_653_184
"""More than the line of the largest task that the API takes."""

CHANGING_S = 15
"""An import waits so long for a new number of shards to hold: in the ten seconds before, nobody makes a task."""

SHOWN_MOST = 100
"""So many bad lines are told of; of the rest only the number."""

STANDARD = "-"
"""The name of the file that stands for standard output, or input."""

# Export


async def export_tasks(settings: Settings, path: str) -> bool:
    """Write every task to a file, or to standard output; return whether each could be written.

    A task that is there from the start to the end of the walk is written, as it was at one moment; one that comes or
    goes meanwhile may be.
    """
    counts: Counter[str] = Counter()
    async with all_shards_of(settings) as (clients, _):
        with _output(path) as file:
            async for stored in _all_tasks(clients):
                if problem := unwritable(stored):
                    counts["left out"] += 1
                    if counts["left out"] <= SHOWN_MOST:
                        tell(f"{stored.key}: {problem}")
                else:
                    counts[stored.state] += 1
                    file.write(line_of(stored))
    left_out = counts.pop("left out", 0)
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    tell(f"Exported {counted(counts.total(), 'task')}{states and f' ({states})'}; {left_out} left out.")
    return not left_out


async def _all_tasks(clients: Sequence[RedisClient]) -> AsyncIterator[Stored]:
    for client in clients:
        views = Views(client)
        async for task_keys in Moves(client, process_name()).task_keys():
            for key, found in zip(task_keys, await views.tasks(task_keys), strict=True):
                stored = await views.task(key) if isinstance(found, int) else found
                if stored is not None:
                    yield stored


@contextlib.contextmanager
def _output(path: str) -> Iterator[BinaryIO]:
    """Open what an export writes to. A file comes to its name only when it is whole; only this user may read it."""
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    try:
        if Path(path).exists() and not Path(path).is_file():  # a FIFO or a device, which another file must not replace
            with waiting():
                descriptor = os.open(path, os.O_WRONLY)
            with Waited.buffered(descriptor, path) as special:
                yield special
            return
        target = Path(os.path.realpath(path))  # a link stays: the file that it leads to is replaced
        # A new file of this user alone, whatever else has a name like it.
        descriptor, draft = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror or error}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(target)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        Path(draft).unlink(missing_ok=True)


# Import


async def import_tasks(settings: Settings, path: str, shift_s: float, replaces: bool, is_dry: bool) -> bool:
    """Put the tasks of a file, or of standard input, back; return whether every line could be read.

    `shift_s` moves all due times. Keys that exist are skipped, or replaced. A dry run only counts.
    """
    with _input(path) as file:
        async with all_shards_of(settings, may_be_new=True) as (clients, generations):
            client = clients[0]
            if is_new := not is_dry and await begin_deployment(client, settings):
                generations = await generations_of(clients, len(clients))
            dead_before_ms = await Views(client).now_ms() - round(settings.dead_ttl * 1000)
            work = _Import(clients, generations, settings.max_timeout, dead_before_ms, replaces, is_dry)
            try:
                await work.run(_lines(file), round(shift_s * 1000))
                if is_new and work.shards > len(clients):
                    begins = f"begins with {counted(len(clients), 'shard')}, by SHARDS and REDIS_URL"
                    tell(
                        f"The tasks come from {work.shards} shards or more; here nothing had started yet, so it {begins}."
                    )
            finally:
                if not is_dry:
                    await note(client, settings, "import", tasks=work.counts["imported"])
                say(work.summary)
    return not work.counts["bad"]


class _Import:
    """One import: what it has read, and what became of it."""

    def __init__(
        self,
        clients: Sequence[RedisClient],
        generations: Generations,
        timeout_most_s: float,
        dead_before_ms: int,
        replaces: bool,
        is_dry: bool,
    ) -> None:
        limits = replace(LIMITS, timeout_most_s=timeout_most_s)
        self._moves = [Moves(client, process_name()) for client in clients]
        self._clients = clients
        self._generations = generations
        self._calls = ShardCalls(clients[0], process_name(), DEFAULT, limits, (), set())
        self._dead_before_ms = dead_before_ms
        self._replaces = replaces
        self._is_dry = is_dry
        self.shards = 1
        """Keys of the file tell of so many shards."""
        self.counts: Counter[str] = Counter()

    async def run(self, lines: Iterator[bytes | None], shift_ms: int) -> None:
        batch: dict[str, Moved] = {}
        size = 0
        for number, line in enumerate(lines, 1):
            if line is None:
                self._tell_bad(number, f"is longer than {LINE_BYTES} bytes")
                continue
            if not line.strip():
                continue
            try:
                kept = moved_of(line, shift_ms)
                await self._check(kept)
            except (RequestRefused, ValueError) as error:
                self._tell_bad(number, str(error).removeprefix("The body "))
                continue
            size += len(kept.tail) + len(kept.failure)
            if kept.key in batch or len(batch) == BATCH_LIMIT or size > BATCH_BYTES:
                await self._write(list(batch.values()))
                batch, size = {}, len(kept.tail) + len(kept.failure)
            if has_made_form(kept.key):
                self.shards = max(self.shards, 1 + shards_of(kept.key, (SHARDS_MOST,))[0])
            batch[kept.key] = kept
        await self._write(list(batch.values()))
        if count := self.counts["late"]:
            old = f"{counted(count, 'dead letter')} of the file died longer ago than DEAD_TTL"
            tell(f"{old}: the next worker drops what is so old.")

    async def _check(self, kept: Moved) -> None:
        """Raise RequestRefused for what the API would not take now; count what the next worker drops."""
        await self._calls.check_options(kept.options, kept.content, kept.token)
        if reading.may_be_deep(whole := b"{" + kept.tail[1:]):
            await reading.check_nesting(whole, NESTING_MOST)
        self.counts["late"] += kept.place == DEAD and kept.at_ms < self._dead_before_ms

    def _tell_bad(self, number: int, problem: str) -> None:
        self.counts["bad"] += 1
        if self.counts["bad"] <= SHOWN_MOST:
            tell(f"line {number}: {problem}")

    async def _write(self, batch: Sequence[Moved]) -> None:
        await self._ensure_numbers()
        if self._generations.most == 1:
            await self._write_in(self._moves[0], batch)
            return
        by_shard: dict[int, list[Moved]] = {}
        for kept in batch:
            by_shard.setdefault(await self._shard_of(kept.key), []).append(kept)
        for shard, part in by_shard.items():
            await self._write_in(self._moves[shard], part)

    async def _ensure_numbers(self) -> None:
        """See by which number of shards a task may be made now: a file may outlast the one before. Raises
        SchedulerError, or StoreUnavailable."""
        for left_s in range(CHANGING_S, -1, -1):
            if self._generations.is_stale:
                self._generations = await generations_of(self._clients, len(self._clients))
            if self._generations.most > len(self._clients):
                raise SchedulerError(
                    f"There are {self._generations.most} shards by now: import the file again (what is there is skipped)"
                )
            try:
                self._generations.to_create()
            except StoreUnavailable:
                if not left_s:
                    raise
                await asyncio.sleep(1)
            else:
                return

    async def _shard_of(self, key: str) -> int:
        """Return the shard in which a key is, else the one in which it would be looked for first."""
        shards = shards_of(key, self._generations.numbers)
        for shard in shards if len(shards) > 1 else ():
            if any(await self._moves[shard].sizes([key])):
                return shard
        return shards[0]

    async def _write_in(self, moves: Moves, batch: Sequence[Moved]) -> None:
        if not batch:
            return
        if self._is_dry:
            sizes = await moves.sizes([kept.key for kept in batch])
            there = [kept for kept, size in zip(batch, sizes, strict=True) if size]
        else:
            there = await _restore(moves, batch)
        self.counts["imported"] += len(batch) - len(there)
        if not self._replaces:
            self.counts["skipped"] += len(there)
            return
        self.counts["replaced"] += len(there)
        if there and not self._is_dry:
            # What is cut off between these two is in the file: the next import brings it.
            await moves.cancel(await moves.types([kept.key for kept in there]))
            # What a client schedules in between stays.
            kept = len(await _restore(moves, there))
            self.counts["skipped"] += kept
            self.counts["replaced"] -= kept

    @property
    def summary(self) -> str:
        counts, would = self.counts, "Would have imported" if self._is_dry else "Imported"
        return (
            f"{would} {counted(counts['imported'], 'task')}; {counts['replaced']} replaced, {counts['skipped']} skipped "
            f"since their keys are there; {counted(counts['bad'], 'bad line')}."
        )


async def _restore(moves: Moves, batch: Sequence[Moved]) -> list[Moved]:
    """Put tasks back; return those that are there already."""
    answers = await moves.restore(batch)
    return [kept for kept, found in zip(batch, answers, strict=True) if found is RestoreAnswer.EXISTS]


@contextlib.contextmanager
def _input(path: str) -> Iterator[BinaryIO]:
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        with waiting():  # for a writer, if it is a FIFO
            file = Path(path).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror or error}") from None
    with file:
        yield file


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield each line, None for one that is too long."""
    while line := _line(file):
        if len(line) <= LINE_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = _line(file)
        yield None


def _line(file: BinaryIO) -> bytes:
    try:
        with waiting():
            return file.readline(LINE_BYTES + 1)
    except OSError as error:
        name = "Standard input" if file is sys.stdin.buffer else file.name
        raise StartError(f"{name} cannot be read: {error.strerror or error}") from None
