"""What is done to many tasks, as an operation: step by step, over as many requests as it takes.

How far it is stands in Redis, so a request goes on from there, whatever became of the answers before. Between its steps
it leaves this process to the requests of others.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.acknowledgements import AcknowledgementsApi
from redis_scheduler.api.answers import answer, answer_to
from redis_scheduler.api.bodies import ManyDone
from redis_scheduler.api.callers import Caller, caller_of, whose
from redis_scheduler.api.filters import filters_of, without_alerts
from redis_scheduler.api.request_ids import request_id_of
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.api.shards import shard_named
from redis_scheduler.api.steps import TURNS_S, WORK_S, is_dry_run
from redis_scheduler.errors import Code, InvalidField, RequestRefused, StoreFull, StoreUnavailable
from redis_scheduler.logs import Events
from redis_scheduler.store.filters import ANY, Filters
from redis_scheduler.store.written import Operation
from redis_scheduler.task.given import quoted
from redis_scheduler.task.key import new_task_key

logger = Events(__name__)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Take = Callable[[ShardCalls, str, Operation], Awaitable[Operation]]
"""Makes a step of an operation in a shard."""


class OperationsApi(AcknowledgementsApi):
    """What AcknowledgementsApi does, and how an operation goes on."""

    async def _operated(
        self,
        request: Request,
        given: Mapping[str, str],
        verb: str,
        filters: Filters,
        what: str,
        take: Take,
    ) -> Response:
        """Take the steps of this request; answer how far the operation is. `what` is done besides the verb to what the
        filters want. `take` makes one step of the operation with an id, and returns how far that is then; with
        `dry_run` there is no id, and it only counts. An operation is there only for the token that began it. Each shard
        has its own part of it; one that is away is left for a later request: it is named beside what was done in
        others, or by a 503 where there was nothing else to do."""
        repeats = "" if filters.repeats is None else f" repeats {filters.repeats}"
        mark = blake2b(f"{verb} {what} {filters}{repeats}".encode(), digest_size=8).hexdigest()
        is_dry = is_dry_run(given)
        caller = caller_of(request)
        beginning = "" if caller is None else f"{caller.id}."
        shards = await self._places.all()
        away = (
            {calls.number: calls.away() for calls in shards if calls.is_away} if len(shards) > 1 and not is_dry else {}
        )
        operation_id, parts = (
            ("", dry_parts(given, mark, len(shards)))
            if is_dry
            else await self._begun(given, mark, beginning, shards, away)
        )
        before = list(parts)
        try:
            named = operation_id and beginning + operation_id
            await self._take_steps(shards, named, parts, away, take, whose(request))
            if away and parts == before and unfinished(parts) is not None:
                raise next(iter(away.values()))
        except (StoreUnavailable, StoreFull) as error:
            if is_dry:
                raise
            # A step may have been taken all the same: only its id has that known.
            return answer_to(error, request.scope, operation_id)
        operation = total(parts)
        if operation.touched > (begun := total(before).touched) and not is_dry:
            client = request.client.host if request.client else None
            count, request_id = operation.touched - begun, request_id_of(request.scope)
            is_of_all = replace(filters, other_than=None) == ANY
            logger.warning("many", verb=verb, tasks=count, all=is_of_all, client=client, request_id=request_id)
        onward = dry_cursor(parts) if is_dry else operation.cursor and operation_id
        # A token with types may not see how many others there are.
        looked_at = operation.looked_at if filters.types is None else operation.touched
        done = ManyDone(verb, operation.touched, looked_at, onward, is_dry)
        if self._is_kept(given, operation):
            done.operation = operation_id
        if left := [number for number in sorted(away) if is_unfinished(parts[number])]:
            done.away = left
        return answer(done)

    async def _take_steps(
        self,
        shards: Sequence[ShardCalls],
        operation_id: str,
        parts: list[Operation],
        away: dict[int, StoreUnavailable],
        take: Take,
        caller_id: str,
    ) -> None:
        """Take steps in one shard after the other, until all is done or the time is over: `parts` then says how far
        each is, `away` which of them could not be asked. An error that may pass is raised only if nothing was done
        before it, or in a dry run, which has no id."""
        is_dry = not operation_id
        before, start_s = list(parts), time.monotonic()
        while (number := unfinished(parts, away)) is not None:
            part = parts[number]
            try:
                # Requests of this kind take turns step by step, so that none waits until another ends.
                async with self._one_bulk.held(start_s + TURNS_S - time.monotonic(), caller_id):
                    self._rest.begin()
                    try:
                        parts[number] = part = await take(shards[number], operation_id, part)
                    except StoreUnavailable as error:
                        if is_dry or error.shard != number or len(shards) == 1:
                            raise
                        away[number] = error
                        continue
                    await self._rest()  # before anybody takes another
            except (RequestRefused, StoreUnavailable, StoreFull) as error:
                if is_dry or parts == before or not _may_pass(error):
                    raise
                break  # only an answer tells the id by which the next request goes on
            # Not between two shards: a cursor keeps when the next task may come due, and the next shard has none yet.
            if time.monotonic() > start_s + WORK_S and part.cursor is not None:
                break

    async def _begun(
        self,
        given: Mapping[str, str],
        mark: str,
        beginning: str,
        shards: Sequence[ShardCalls],
        away: dict[int, StoreUnavailable],
    ) -> tuple[str, list[Operation]]:
        """Return the id of the operation that a request begins or goes on with, and how far that is in each shard, as
        in its beginning in one that is `away`. `beginning`: what stands before it in Redis."""
        field = "cursor" if "cursor" in given else "operation"
        operation_id = given.get(field)
        if operation_id is None:
            return new_task_key(), [Operation(mark)] * len(shards)
        if _ID.fullmatch(operation_id) is None:
            raise InvalidField(field, f"must be 1 to 64 letters, digits, _ or -, got {quoted(operation_id)}")
        parts = await asyncio.gather(*(self._part_of(calls, beginning + operation_id, away) for calls in shards))
        if field == "cursor" and not any(parts):
            if away:
                raise next(iter(away.values()))
            problem = "must be the `next` of an earlier answer, unchanged and less than a day old, got "
            raise InvalidField("cursor", problem + quoted(operation_id))
        return operation_id, [as_asked(part or Operation(mark), mark, field, operation_id) for part in parts]

    async def _part_of(
        self, calls: ShardCalls, operation_id: str, away: dict[int, StoreUnavailable]
    ) -> Operation | None:
        if calls.number in away:
            return None
        try:
            return await calls.writes.operation(operation_id)
        except StoreUnavailable as error:
            if self._places.count == 1:
                raise
            away[calls.number] = error
            return None

    def _is_kept(self, given: Mapping[str, str], operation: Operation) -> bool:
        """Whether anybody may ask for the operation again: its client knows the id, or there are further steps to take,
        in this shard or in another."""
        if is_dry_run(given):
            return False
        is_long = operation.cursor is not None or operation.steps > 1 or self._places.count > 1
        return is_long or "operation" in given or "cursor" in given


def _may_pass(error: RequestRefused | StoreUnavailable | StoreFull) -> bool:
    """Whether the same request may be served later."""
    return not isinstance(error, RequestRefused) or error.code in (Code.TOKEN_RATE, Code.BUSY)


def is_unfinished(part: Operation) -> bool:
    """Whether there is more to do in a shard."""
    return part.steps == 0 or part.cursor is not None


def unfinished(parts: Sequence[Operation], away: Collection[int] = ()) -> int | None:
    """Return the first shard in which an operation has not ended, but for those that are away; None: there is none."""
    return next((at for at, part in enumerate(parts) if at not in away and is_unfinished(part)), None)


def total(parts: Sequence[Operation]) -> Operation:
    """Return how far an operation is in all shards; its cursor is one of a shard in which it goes on."""
    if len(parts) == 1:
        return parts[0]
    number = unfinished(parts)
    return Operation(
        parts[0].mark,
        None if number is None else parts[number].cursor or str(number),
        sum(part.steps for part in parts),
        sum(part.touched for part in parts),
        sum(part.looked_at for part in parts),
    )


def dry_parts(given: Mapping[str, str], mark: str, count: int) -> list[Operation]:
    """Return where a dry run goes on in so many shards: its cursor tells the number of the shard, if there are
    several. Raises InvalidField."""
    cursor = given.get("cursor")
    if count == 1 or cursor is None:
        return [Operation(mark, cursor)] * count
    shard, _, rest = cursor.partition(".")
    if (number := shard_named(shard, count)) is None:
        raise InvalidField("cursor", f"must be the `next` of an earlier answer, unchanged, got {quoted(cursor)}")
    before = [Operation(mark, steps=1)] * number
    return [*before, Operation(mark, rest), *[Operation(mark)] * (count - 1 - len(before))]


def dry_cursor(parts: Sequence[Operation]) -> str | None:
    """Return the cursor from which `dry_parts` goes on."""
    number = unfinished(parts)
    if number is None or len(parts) == 1:
        return None if number is None else parts[0].cursor
    return f"{number}.{parts[number].cursor}"


def stepped(operation: Operation, touched: int, looked_at: int, cursor: str | None) -> Operation:
    """Return how far an operation is after its next step."""
    return replace(
        operation,
        cursor=cursor,
        steps=operation.steps + 1,
        touched=operation.touched + touched,
        looked_at=operation.looked_at + looked_at,
    )


def as_asked(operation: Operation, mark: str, field: str, operation_id: str) -> Operation:
    """Return an operation that does what is asked for. Raises InvalidField for another, which `field` names."""
    if operation.mark != mark:
        problem = (
            "is of an operation that does something else, or to others: verb, `by`, `rate` and filters must stay, got "
        )
        raise InvalidField(field, problem + quoted(operation_id), Code.CONTRADICTION)
    return operation


def wanted_by(given: Mapping[str, str], states: tuple[str, ...], verb: str, caller: Caller | None) -> Filters:
    """Return the filters of a query. They want no state in which it cannot be done, and no alerts for a caller that may
    not see these. Raises InvalidField."""
    filters = without_alerts(filters_of(given), caller)
    if filters.states and not set(filters.states) <= set(states):
        problem = f"must be {' or '.join(states)}: others cannot be {verb}, got {quoted(given['state'])}"
        raise InvalidField("state", problem, Code.CONTRADICTION)
    if "operation" in given and is_dry_run(given):
        problem = f"must not be given beside dry_run, which begins none, got {quoted(given['operation'])}"
        raise InvalidField("operation", problem, Code.CONTRADICTION)
    if "operation" in given and given.get("cursor", given["operation"]) != given["operation"]:
        problem = f"is another than that of the cursor, got {quoted(given['operation'])}"
        raise InvalidField("operation", problem, Code.CONTRADICTION)
    return filters
