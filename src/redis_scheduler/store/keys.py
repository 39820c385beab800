"""Every key name in Redis, with its type and meaning. Nothing else in the program spells one.

All keys share one hash tag, so that every script touches one slot of a Redis Cluster; a second shard would be a second
tag. The table in ARCHITECTURE.md is this page with the scripts that write each key.
"""

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


def text_of(name: bytes) -> str:
    """Return a key, or a type, that Redis answered. What is no UTF-8, from foreign hands, goes back as it came."""
    return name.decode(errors="surrogateescape")


def type_index(name: str) -> str:
    """ZSET key → due ms: the tasks of one type, still to be delivered. The default type has none."""
    return f"{SHARD}:type:{name}"


def writer(writer_id: str, verb: str) -> str:
    """STRING '<batch> <answer>', which expires: the last batch a writer had applied, so a resend does not run twice."""
    return f"{SHARD}:writer:{writer_id}:{verb}"


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
