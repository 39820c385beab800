"""Every key name in Redis, with its type and meaning. Nothing else in the program spells one.

All keys share one hash tag, so that every script touches one slot of a Redis Cluster; a second shard would be a second
tag. The table in ARCHITECTURE.md is this page with the scripts that write each key.
"""

import base64
import os
import secrets
from collections.abc import Iterator

SHARD = "{rs:0}"

TASKS = f"{SHARD}:tasks"
"""HASH key → record: one JSON object per task, opaque to every script."""

DUE = f"{SHARD}:due"
"""ZSET key → due ms: waiting for their time, be it the first delivery or a deferred retry."""

QUEUE = f"{SHARD}:queue"
"""STREAM of {key}: due now; its consumer group is GROUP."""

ENTRIES = f"{SHARD}:entries"
"""HASH key → stream id: which entry of the queue a task is in, while it is in it."""

FAILURES = f"{SHARD}:failures"
"""HASH key → '<attempts> <json>': failed attempts so far and the last failure, of tasks that have failed."""

DEAD = f"{SHARD}:dead"
"""ZSET key → died ms: retries exhausted; record and failure stay."""

COUNTERS = f"{SHARD}:counters"
"""HASH: scheduled, delivered, failed, died, cancelled, purged, replayed, lost: since ever."""

TYPES = f"{SHARD}:types"
"""SET of the type names that have a TYPE key."""

SWEEP = f"{SHARD}:sweep"
"""HASH cursor, next_ms, seen_ms, held_until_ms: where the sweep of the pending list stands, when its next step is due,
when a worker was last heard of, and until when a gap in that holds the sweep. clock_ms: the greatest time that a sweep
or a retry has seen; step_ms, rewind_from_ms, rewound: after a step back of the clock, by how much, and where the rewind
of DUE stands."""

INSTANCE = f"{SHARD}:instance"
"""STRING: the id of the deployment, 32 hexadecimal digits, made by its first process."""

TOKEN_MARK = f"{SHARD}:token"
"""STRING '<salt>:<hash> <host>': a mark of the last started process' token, not the token, and its machine."""

BELL = f"{SHARD}:bell"
"""Pub/sub channel (not a key): rung when a task becomes the new head of DUE."""

GROUP = "deliverers"
"""The consumer group of QUEUE."""

WAITING = "waiting"
"""The consumer that holds entries which wait for a retry, or were released: nobody's, claimable when idle for W."""

DEFAULT_TYPE = "default"

KEY_LENGTH = 22


def text_of(name: bytes) -> str:
    """Return a key, or a type, that Redis answered. What is no UTF-8, from foreign hands, goes back as it came."""
    return name.decode(errors="surrogateescape")


def type_index(name: str) -> str:
    """ZSET key → due ms: the tasks of one type, still to be delivered. The default type has none."""
    return f"{SHARD}:type:{name}"


def writer(writer_id: str, verb: str) -> str:
    """STRING '<batch> <answer>', which expires: the last batch a writer had applied, so a resend does not run twice."""
    return f"{SHARD}:writer:{writer_id}:{verb}"


def _random_bits() -> Iterator[bytes]:
    while True:
        # As many keys as fit a page: the system call costs more than all else that makes a key.
        drawn = secrets.token_bytes(4_096)
        yield from (drawn[first : first + 16] for first in range(0, len(drawn), 16))


_drawn = _random_bits()
# A fork would draw the same ones again.
os.register_at_fork(after_in_child=lambda: globals().update(_drawn=_random_bits()))


def new_task_key() -> str:
    """A new task's key: 128 random bits, URL-safe, 22 characters, no dot."""
    return base64.urlsafe_b64encode(next(_drawn))[:KEY_LENGTH].decode()


_KEY_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def is_task_key(text: str) -> bool:
    """Whether the text can be a task's key at all; what cannot is answered without asking Redis."""
    return 0 < len(text) <= KEY_LENGTH and _KEY_CHARACTERS.issuperset(text)


CHECKED = (
    TASKS,
    DUE,
    QUEUE,
    ENTRIES,
    FAILURES,
    DEAD,
    COUNTERS,
    TYPES,
    SWEEP,
    INSTANCE,
    TOKEN_MARK,
    BELL,
    writer("", "check"),
    type_index(""),
)
"""A key of each kind, on which the client tries what the service needs; the last two are nobody's."""
