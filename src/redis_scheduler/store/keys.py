"""Every key name in Redis, with its type and meaning. Nothing else in the program spells one.

All keys of a shard have one hash tag, so that every script touches one hash slot of a Redis Cluster. The table in
docs/redis.md is this page with the scripts that write each key.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from redis_scheduler.task.label import LABEL_MARK
from redis_scheduler.task.listing import SERIES, TOKEN_MARK

if TYPE_CHECKING:  # it loads a library that most deployments do not use
    from redis_scheduler.store.vault import Vault

GROUP = "deliverers"
"""The consumer group of the queue."""

WAITING = "waiting"
"""The consumer that holds entries which wait for a retry, or were released: nobody's, claimable when idle for W."""


IDS_MARK = "\v"
"""The name by which a script finds the hash that counts the ids of a token begins so: see type_index."""


def text_of(name: bytes) -> str:
    """Return a key, or a type, that Redis answered. What is no UTF-8, from foreign hands, goes back as it came."""
    return name.decode(errors="surrogateescape")


SEGMENTS = 16
"""The segments in which summaries of finished tasks stand."""


@lru_cache(64)
def _segments(tag: str) -> tuple[str, ...]:
    return tuple(map(Keys(tag).segment, range(SEGMENTS)))


class Keys:
    """The names of all keys with one hash tag."""

    __slots__ = (
        *(
            "tasks",
            "due",
            "queue",
            "entries",
            "failures",
            "dead",
            "dead_bytes",
            "paused",
            "idempotency",
            "idempotency_ends",
            "awaiting",
            "held",
            "lines",
            "permits",
            "limits",
            "breakers",
            "counters",
            "types",
            "sweep",
            "results",
            "instance",
            "listeners",
            "token_mark",
            "server",
            "pause_all",
            "tokens",
            "token_uses",
            "sign_ins",
            "alerts",
            "journal",
            "workers",
            "processes",
            "remains",
            "series_listed",
            "shards",
            "oldest",
        ),
        *("bell", "tag", "shard"),
    )

    tag: str
    """What all names begin with; see tag.py."""

    shard: int
    """The number of the shard that has these keys."""

    vault: "Vault | None" = None
    """What seals and opens the content of these keys; None: it is not sealed."""

    tasks: str
    """HASH key → record: one JSON object per task. Scripts read no more of it than the due time in front."""

    due: str
    """ZSET key → due ms: not yet due, be it the first delivery or a deferred retry."""

    queue: str
    """STREAM of {key}: due now; its consumer group is GROUP."""

    entries: str
    """HASH key → stream id: which entry of the queue a task is in, while it is in it."""

    failures: str
    """HASH key → '<attempts> <json>': failed attempts so far and the last failure, of tasks that have failed."""

    dead: str
    """ZSET key → died ms: retries exhausted; record and failure stay."""

    dead_bytes: str
    """HASH key → bytes of a dead letter; .bytes: their sum; .since_ms: when letters were first dropped for their age;
    .at: where the count of letters of an older version stands."""

    paused: str
    """ZSET key → when it comes once it is resumed: due ms; below 0 so many ms later, the rest of a retry's delay; 0 at
    once."""

    idempotency: str
    """HASH id → '<mac> <key> <due ms>': what was stored for a request with an Idempotency-Key; the id and the mac are
    digests of the header and of what was sent."""

    idempotency_ends: str
    """ZSET id → end ms: until when that is kept."""

    awaiting: str
    """ZSET key → ms until which an acknowledgement of the receiver is awaited."""

    held: str
    """ZSET key → number of its line and when it came: tasks that a limit does not let begin yet. Each line has a range
    of scores (include/lines.lua). Below zero: tasks that wait for the turn of their token (include/turns.lua)."""

    lines: str
    """HASH number → '<ms> <limit>': whose line it is, and until when its rate is used up."""

    permits: str
    """ZSET key → number of the line and a time: tasks that may begin, or have begun, under a limit, until then."""

    limits: str
    """HASH limit → '<concurrency> <rate> <per ms> <is paused>': the limit that is set for a host or a `limit_key`."""

    breakers: str
    """HASH host → '<state> <number> <since ms> <gap ms> <next ms>': hosts that failed lately (include/breakers.lua)."""

    counters: str
    """HASH: scheduled, delivered, failed, died, expired, cancelled, purged, replayed, ended, dead_dropped,
    results_dropped, lost: since ever. emptied_ms: when a process saw that Redis had lost its data."""

    types: str
    """SET of the names that have an index: of types, labels, tokens and all series (task/listing.py)."""

    sweep: str
    """HASH cursor, next_ms, seen_ms, held_until_ms: where the sweep of the pending list stands, when its next step is
    due, when a worker was last heard of, and until when a gap in that holds the sweep. clock_ms: the greatest time that
    a sweep or a retry has seen; step_ms, rewind_from_ms, rewound: once the clock was set back, by how much (the last
    step first, where there are two), and where the rewind of `due` stands. limits, round_ms, round_from: when limits
    were set last, and where the round through the lines stands; salt: by which limits find their lines. turn: the line
    of a token that is next, while tasks stand in such lines."""

    results: str
    """HASH number, until_ms, bytes: which segment of summaries is written, until when, and what it holds."""

    instance: str
    """STRING: the id of the deployment, 32 hexadecimal digits, made by its first process."""

    listeners: str
    """ZSET '<machine> <port> <address>' → ms until which it is kept: on what the deployment's processes listen."""

    server: str
    """STRING, a number: this server holds this shard, and so many have a server each; only where that is so."""

    token_mark: str
    """STRING '<salt>:<hash> <host>': a mark of the last started process' token, not the token, and its machine."""

    pause_all: str
    """STRING ms: since when nothing is promoted; there only while that is so."""

    tokens: str
    """HASH id → token with rights, as JSON: the digest of its text, what it may do, until when."""

    token_uses: str
    """HASH id → ms of its last use, to the minute."""

    sign_ins: str
    """HASH digest → '<end ms> <whose> <proof>': who is signed in at the dashboard (store/sign_ins.py)."""

    alerts: str
    """HASH: `turn`, `noted`, `seen`: ms, who looks after the deployment; `is:<thing>`: what is so, and when it was told
    last; `tell:<number>`: what is to be told and not sent yet."""

    journal: str
    """STREAM of {at, id, entry}: what people changed, the newest entries (store/journal.py)."""

    workers: str
    """ZSET name → ms: when each worker has last said that it lives."""

    processes: str
    """HASH name → '<ms> <json>': what each process last said of itself, and when (store/processes.py)."""

    remains: str
    """STRING: a mark of the last purge, while the indexes may have members that it left."""

    series_listed: str
    """STRING: there only where the index of all series has each of them: some may be of a version that knew none."""

    shards: str
    """ZSET number → ms: every number of shards that there has been, and from when on it holds; in the first shard, and
    only where there was ever more than one."""

    oldest: str
    """HASH minute, counted from 1970 → ms: for how long the oldest task had been due that no worker had claimed."""

    bell: str
    """Pub/sub channel (not a key): rung when a task becomes the new head of `due`."""

    def __init__(self, tag: str, shard: int = 0) -> None:
        self.tag, self.shard = tag, shard
        self.tasks = f"{tag}:tasks"
        self.due = f"{tag}:due"
        self.queue = f"{tag}:queue"
        self.entries = f"{tag}:entries"
        self.failures = f"{tag}:failures"
        self.dead = f"{tag}:dead"
        self.dead_bytes = f"{tag}:dead_bytes"
        self.paused = f"{tag}:paused"
        self.idempotency = f"{tag}:idempotency"
        self.idempotency_ends = f"{tag}:idempotency_ends"
        self.awaiting = f"{tag}:awaiting"
        self.held = f"{tag}:held"
        self.lines = f"{tag}:lines"
        self.permits = f"{tag}:permits"
        self.limits = f"{tag}:limits"
        self.breakers = f"{tag}:breakers"
        self.counters = f"{tag}:counters"
        self.types = f"{tag}:types"
        self.sweep = f"{tag}:sweep"
        self.results = f"{tag}:results"
        self.instance = f"{tag}:instance"
        self.listeners = f"{tag}:listeners"
        self.token_mark = f"{tag}:token"
        self.server = f"{tag}:server"
        self.pause_all = f"{tag}:pause-all"
        self.tokens = f"{tag}:tokens"
        self.token_uses = f"{tag}:token-uses"
        self.sign_ins = f"{tag}:sign-ins"
        self.alerts = f"{tag}:alerts"
        self.journal = f"{tag}:journal"
        self.workers = f"{tag}:workers"
        self.processes = f"{tag}:processes"
        self.remains = f"{tag}:remains"
        self.oldest = f"{tag}:oldest"
        self.series_listed = f"{tag}:series-listed"
        self.shards = f"{tag}:shards"
        self.bell = f"{tag}:bell"

    def type_index(self, name: str) -> str:
        """ZSET key → due ms: the tasks of one type, or with one label, or all series, still to be delivered. The
        default type has none. A token has another: `owned`."""
        if name == SERIES:
            return f"{self.tag}:series"
        if name.startswith(IDS_MARK):
            return self.ids_of(name[1:])
        if name.startswith(TOKEN_MARK):
            return self.owned(name[1:])
        return f"{self.tag}:label:{name[1:]}" if name.startswith(LABEL_MARK) else f"{self.tag}:type:{name}"

    def owned(self, token_id: str) -> str:
        """HASH key → bytes of the record: the tasks of a token still to be delivered; .bytes: their sum."""
        return f"{self.tag}:owned:{token_id}"

    def ids_of(self, token_id: str) -> str:
        """HASH end ms → number, which expires: how many ids for an Idempotency-Key a token has until then."""
        return f"{self.tag}:idempotency:{token_id}"

    def segment(self, number: int) -> str:
        """HASH key → summary, which expires: a part of what is kept of finished tasks."""
        return f"{self.tag}:results:{number}"

    def minute(self, number: int) -> str:
        """HASH name → number, which expires: what happened in a minute, counted from 1970."""
        return f"{self.tag}:history:minute:{number}"

    def hour(self, number: int) -> str:
        """HASH name → number, which expires: what happened in an hour, counted from 1970."""
        return f"{self.tag}:history:hour:{number}"

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of all segments."""
        return _segments(self.tag)

    def operation(self, operation_id: str) -> str:
        """STRING '<steps> <touched> <looked at> <mark> <cursor>', which expires: how far something is that is done to
        many tasks."""
        return f"{self.tag}:operation:{operation_id}"

    def token_rate(self, token_id: str) -> str:
        """STRING ms, which expires: when the rate of all that a token has scheduled is over."""
        return f"{self.tag}:token-rate:{token_id}"

    def token_coming(self, token_id: str) -> str:
        """HASH process → '<tasks> <bytes> <until ms> <number>', which expires: what processes of the API are about to
        write for a token with limits."""
        return f"{self.tag}:token-coming:{token_id}"

    def writer(self, writer_id: str, verb: str) -> str:
        """STRING '<batch> <answer>', which expires: the last batch a writer had applied, so a resend does not run
        twice."""
        return f"{self.tag}:writer:{writer_id}:{verb}"


class SealedKeys(Keys):
    """The same, of a deployment with DATA_KEY."""

    __slots__ = ("vault",)

    def __init__(self, tag: str, vault: "Vault", shard: int = 0) -> None:
        super().__init__(tag, shard)
        self.vault = vault
