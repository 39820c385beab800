"""The audit: whether every task stands in exactly one place, nothing is left of tasks that are gone, and the ledger
balances.

It walks through all keys in bounded steps, and a script looks at what it meets, 100 suspects at one moment. So it
examines a live service, and never takes a task that moves for a fault. process/doctor.py calls it, and each test on
Redis ends with it.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis_scheduler.errors import StoreFull
from redis_scheduler.store.answer_shape import NUMBER, TEXTS, of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, Keys, text_of
from redis_scheduler.store.ledger import BESIDE, ENDED, ENTERED
from redis_scheduler.store.script import Argument, Script
from redis_scheduler.store.series import are_series_listed, note_series_listed
from redis_scheduler.store.walk import LOOK_LIMIT, Suspect, Walk, suspect_of
from redis_scheduler.task.key import shards_of
from redis_scheduler.task.listing import name_shown

SAMPLE_LIMIT = 10
"""A start looks at so many in each place."""

SAMPLE_BYTES = 262_144
"""A start reads so much of records in all: a quarter of a millisecond of Redis."""

_TEXT = of(bytes | None)
_ENTRIES = of(list[tuple[bytes, Any]])
_MARK = re.compile(rb"[0-9a-f]+:[0-9a-f]+ ")

_AUDIT = Script("audit")
_BALANCE = Script("balance", {"sign": "row[0]", "name": "row[1]"})


class _Fault(NamedTuple):
    """A kind of fault: what it is found at, what is wrong and what that means, and what a repair does (empty:
    nothing)."""

    subject: str
    wrong: str
    repair: str


FAULTS = {
    "nowhere": _Fault(
        "task", "has a record but stands nowhere: it would never be delivered", "put back into `due` at its due time"
    ),
    "no entry": _Fault(
        "task",
        "is queued as entry {where}, which is not its own or is gone: it would never be delivered",
        "queued anew",
    ),
    "several places": _Fault(
        "task",
        "stands in {where} at once: it would be delivered more than once, or after its end",
        "left in the most imminent of them",
    ),
    "no record": _Fault("task", "stands in {where} without a record: nobody knows its webhook any more", "removed"),
    "stray failure": _Fault("task", "has a failure but no record: a leftover of a task that is gone", "removed"),
    "stray entry": _Fault("entry", "is in the queue but not that of task {where}: nobody would deliver it", "removed"),
    "forgotten": _Fault(
        "entry",
        "is that of task {where}, but the group is past it and it is pending for nobody: it would never be delivered",
        "queued anew",
    ),
    "stray pending": _Fault(
        "entry", "is pending for {where} but not in the queue: each sweep would look at it", "acknowledged"
    ),
    "not listed": _Fault(
        "task", "is missing in the index of its {where}: no list by that shows it", "put into the index"
    ),
    "wrongly listed": _Fault(
        "task", "is in the index of {where}, but is none of its tasks still to be delivered", "taken out of it"
    ),
    "not counted": _Fault(
        "task", "is not counted with its bytes in what {where} has waiting: its limits allow too much", "counted"
    ),
    "wrongly counted": _Fault(
        "task",
        "is counted in what {where} has waiting, but is none of its tasks still to be delivered",
        "taken out of it",
    ),
    "wrong sum": _Fault("index", "has not the sum of the bytes of its tasks: its limit in bytes is wrong", "set right"),
    "empty type": _Fault("type", "is named but has no task", "removed"),
    "no end": _Fault("idempotency id", "has no end: it would be kept for ever", "given an end in a day"),
    "stray end": _Fault("idempotency id", "has an end, but nothing is kept for it", "removed"),
    "no number": _Fault(
        "counter", "is not a number: what should be counted fails", "set to 0, and the ledger closed by what is `lost`"
    ),
    "wrong shard": _Fault(
        "task",
        "stands in shard {where}, where nobody looks for its key: it is delivered, but the API neither shows nor changes "
        "it by its key",
        "",
    ),
    "foreign key": _Fault(
        "key", "holds what this service did not write: a foreign program has one of its names; move one of the two", ""
    ),
    "unreadable record": _Fault(
        "task",
        "has a record that cannot be read: it cannot be delivered, nor repaired; delete it (DELETE /schedule/<key>, or "
        "HDEL {tasks} <key>) and repair again",
        "",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault: its kind (of FAULTS), the key, entry id or name it is found at, and one line that explains it."""

    kind: str
    subject: str
    text: str


async def audit(
    client: RedisClient, repairs: bool = False, has_all_series: bool | None = None, numbers: Sequence[int] = (1,)
) -> AsyncIterator[Finding]:
    """Yield each fault once, repaired if `repairs`. It looks at everything that exists during the whole
    audit.

    Series are looked for in their index if that has all (series.py; `has_all_series`, if given, says it), and with
    `repairs`: then it has them at the end. `numbers`: how many shards there are, and were.

    Without `repairs` it writes nothing, but makes the group if that is missing. No call holds Redis for more than about
    a millisecond, unless records are larger than STEP_BYTES, or brings more than heads of records. If StoreFull or
    StoreUnavailable ends it, the next audit finds what is left.
    """
    is_whole = await are_series_listed(client) if has_all_series is None else has_all_series
    walk = Walk(client, is_whole or repairs, opens=repairs and not is_whole)
    found = set()
    async for suspects in walk.suspects():
        for finding in (*_misplaced(client.keys, suspects, numbers), *await _faults(client, suspects, repairs)):
            if finding not in found:
                found.add(finding)
                yield finding
    if await holds_no_mark(client):
        yield _finding(client.keys, "foreign key", client.keys.token_mark, "", repairs)
    for segment in client.keys.segments:
        if await client.optional("HLEN", segment, read=NUMBER) is None:
            yield _finding(client.keys, "foreign key", segment, "", repairs)
    if repairs and not is_whole and not walk.has_unopened:
        with contextlib.suppress(StoreFull):  # lists go on by the walk
            await note_series_listed(client)


def _misplaced(keys: Keys, suspects: Sequence[Suspect], numbers: Sequence[int]) -> list[Finding]:
    """Return the faults of tasks that stand in a shard in which nobody looks for them."""
    if max(numbers) == 1:
        return []
    tasks = [text_of(one.subject) if isinstance(one.subject, bytes) else one.subject for one in suspects]
    tasks = [key for key, one in zip(tasks, suspects, strict=True) if one.what == "task"]
    away = [key for key in tasks if keys.shard not in shards_of(key, numbers)]
    return [_finding(keys, "wrong shard", key, str(keys.shard), False) for key in away]


async def sample(client: RedisClient) -> list[Finding]:
    """Look at a few of what stands in each place, as a start does, and change nothing; return the faults.

    It takes about a millisecond of Redis: records are read up to SAMPLE_BYTES in all; of larger ones it looks only at
    the place. It leaves out what the user in REDIS_URL may not ask.
    """

    keys = client.keys

    async def some(*command: Argument, read: Callable[[Any], Any] = TEXTS) -> list[Any]:
        return await client.optional(*command, read=read) or []

    suspects = [Suspect("counter", name) for name in (*ENTERED, *BESIDE, *ENDED)]
    walk = Walk(client)
    _, heads = await walk.heads(await some("HRANDFIELD", keys.tasks, SAMPLE_LIMIT), SAMPLE_BYTES)
    for head in heads:
        if head.is_unread:
            suspects.append(Suspect("task", head.key))
        elif (record := await walk.record(head)) is not None:
            # Without its type and labels: only the doctor needs the command that asks for it.
            suspects.append(suspect_of(head, record, False)._replace(listed=None))
    for place in (keys.entries, keys.failures):
        suspects += [Suspect("member", key) for key in await some("HRANDFIELD", place, SAMPLE_LIMIT)]
    for place in (keys.due, keys.paused, keys.awaiting, keys.held, keys.dead):
        for first, last in ((0, SAMPLE_LIMIT - 1), (-SAMPLE_LIMIT, -1)):
            suspects += [Suspect("member", key) for key in await some("ZRANGE", place, first, last)]
    ids = await some("HRANDFIELD", keys.idempotency, SAMPLE_LIMIT)
    ids += await some("ZRANGE", keys.idempotency_ends, 0, SAMPLE_LIMIT - 1)
    suspects += [Suspect("idempotency", one) for one in ids]
    entries = await some("XRANGE", keys.queue, "-", "+", "COUNT", SAMPLE_LIMIT, read=_ENTRIES)
    suspects += [Suspect("entry", entry_id) for entry_id, _ in entries]
    types = [text_of(name) for name in await some("SRANDMEMBER", keys.types, SAMPLE_LIMIT)]
    suspects += [Suspect("type", name, listed=name) for name in types]
    found = await _faults(client, suspects, repairs=False)
    if await holds_no_mark(client):
        found.append(_finding(keys, "foreign key", keys.token_mark, "", repairs=False))
    return list(dict.fromkeys(found))


async def holds_no_mark(client: RedisClient) -> bool:
    """Whether something else stands in the place of the mark that a start leaves."""
    found = await client.optional("GET", client.keys.token_mark, read=_TEXT)
    return found is not None and _MARK.match(found) is None


async def _faults(client: RedisClient, suspects: Sequence[Suspect], repairs: bool) -> list[Finding]:
    found = []
    for start in range(0, len(suspects), LOOK_LIMIT):
        part = suspects[start : start + LOOK_LIMIT]
        for number, kind, where in await _look(client, part, repairs):
            subject = client.keys.type_index(where) if kind == "foreign key" else part[number - 1].subject
            found.append(_finding(client.keys, kind, subject, where, repairs))
    return found


async def balance(client: RedisClient) -> int:
    """Close the ledger after an audit that left no fault; return how many were counted as lost (below zero: found
    again)."""
    rows = [*((1, name) for name in ENTERED), *((-1, name) for name in ENDED)]
    missing: int = await client.run(_BALANCE.bind(client.keys, rows), NUMBER)
    return missing


def _look(client: RedisClient, suspects: Sequence[Suspect], repairs: bool) -> Awaitable[list[tuple[int, str, str]]]:
    return client.run(_AUDIT.bind(client.keys, suspects, group=GROUP, repair=int(repairs)), _faults_found)


def _faults_found(answer: Any) -> list[tuple[int, str, str]]:
    rows = zip(answer[::3], answer[1::3], answer[2::3], strict=True)
    return [(NUMBER(number), kind.decode(), where.decode(errors="replace")) for number, kind, where in rows]


def _finding(keys: Keys, kind: str, subject: bytes | str, where: str, repairs: bool) -> Finding:
    fault = FAULTS[kind]
    name = (subject.encode(errors="surrogateescape") if isinstance(subject, str) else subject).decode(errors="replace")
    repair = fault.repair and f"; {'repaired' if repairs else 'with --repair'}: {fault.repair}"
    if kind in ("not listed", "wrongly listed", "not counted", "wrongly counted"):
        where = name_shown(where)
    # `where` is put in last: it may be foreign text.
    wrong = fault.wrong.replace("{tasks}", keys.tasks).replace("{where}", where)
    title = name_shown(name) if fault.subject in ("type", "index") else f"{fault.subject} {name}"
    return Finding(kind, name, _printable(f"{title} {wrong}{repair}"))


def _printable(text: str) -> str:
    """Return a text in which foreign hands may have put what a terminal obeys."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
