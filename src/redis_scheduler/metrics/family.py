"""Each metric: its name, what kind it is, its labels, and what it means. Nothing else is told.

What is counted by each process adds up over all of them. What stands in Redis is told by each process alike: so its
queries take the `max`, as its help says.
"""

from typing import NamedTuple

PREFIX = "redis_scheduler_"

BOUNDS_NS = tuple(
    round(ms * 1_000_000)
    for ms in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000)
)
"""The upper bounds of the buckets of every histogram: 0.5 ms to 60 s."""

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Family(NamedTuple):
    """One metric. The name of a counter ends with `_total`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


_EACH = "told by each process alike: take max by (state)"

LATENESS = Family(
    f"{PREFIX}lateness_seconds", HISTOGRAM, "Start of the first attempt less the due time, to the millisecond."
)
ATTEMPT_DURATION = Family(
    f"{PREFIX}attempt_duration_seconds", HISTOGRAM, "How long attempts lasted, to the millisecond."
)
ATTEMPTS = Family(
    f"{PREFIX}attempts_total",
    COUNTER,
    "Attempts by what they came to: the class of the status, or the fault where there was no answer.",
    ("outcome",),
)
DIED = Family(
    f"{PREFIX}died_total",
    COUNTER,
    "Tasks that this process gave up, by the outcome of the last attempt, or why none was made.",
    ("reason",),
)
HOST_ATTEMPTS = Family(
    f"{PREFIX}host_attempts_total",
    COUNTER,
    "Attempts by host and by what they came to, of the busiest METRICS_HOSTS; other: of all others.",
    ("host", "outcome"),
)
SLOTS = Family(f"{PREFIX}slots", GAUGE, "Slots for attempts, of this process and its siblings.", ("state",))
REDIS_ERRORS = Family(
    f"{PREFIX}redis_errors_total", COUNTER, "Calls of Redis that failed, by what was the matter.", ("kind",)
)
REDIS_CALLS = Family(
    f"{PREFIX}redis_call_seconds", HISTOGRAM, "How long Redis took to answer each script, with the way.", ("script",)
)
REQUESTS = Family(
    "http_server_request_duration_seconds",
    HISTOGRAM,
    "How long requests to the API lasted; those that no route took have an empty route.",
    ("route", "method", "code"),
)
BUILD = Family(f"{PREFIX}build_info", GAUGE, "1, with the version.", ("version",))

REDIS_UP = Family(
    f"{PREFIX}redis_up", GAUGE, "1 if Redis answered when it was asked for the numbers of a shard, else 0.", ("shard",)
)
TASKS = Family(f"{PREFIX}tasks", GAUGE, f"Tasks by where they stand; {_EACH}.", ("state", "shard"))
OLDEST_DUE = Family(
    f"{PREFIX}oldest_due_seconds",
    GAUGE,
    "For how long the first task has been due that no worker has claimed; told by each process alike: take max.",
    ("shard",),
)
NEXT_DUE = Family(
    f"{PREFIX}next_due_timestamp_seconds",
    GAUGE,
    "When the first task is due that waits, in seconds since 1970; absent where none waits; take min.",
    ("shard",),
)
WORKERS = Family(
    f"{PREFIX}workers",
    GAUGE,
    "Workers seen lately in the shard that has the fewest; told by each process alike: take max.",
)
ALL_PAUSED = Family(f"{PREFIX}all_paused", GAUGE, "1 while nothing is promoted or claimed, else 0; take max.")
MISSING = Family(
    f"{PREFIX}ledger_missing",
    GAUGE,
    "Tasks that came in and stand nowhere, or below 0: that are there too often; 0 where all is well; take max.",
)
SCHEDULED = Family(f"{PREFIX}scheduled_total", COUNTER, "Tasks scheduled since ever, as /stats counts them; take max.")
DELIVERED = Family(f"{PREFIX}delivered_total", COUNTER, "Tasks delivered since ever, as /stats counts them; take max.")
EXPIRED = Family(f"{PREFIX}expired_total", COUNTER, "Tasks expired since ever, as /stats counts them; take max.")
LEDGER = Family(
    f"{PREFIX}ledger_total", COUNTER, "Each counter of /stats, since ever; take max by (counter).", ("counter",)
)
BREAKERS = Family(
    f"{PREFIX}breakers", GAUGE, f"Hosts whose breaker is not closed: open, or closing; {_EACH}.", ("state", "shard")
)
MEMORY = Family(f"{PREFIX}redis_memory_bytes", GAUGE, "Memory that Redis uses, as it counts for its limit; take max.")
MEMORY_MOST = Family(f"{PREFIX}redis_memory_limit_bytes", GAUGE, "maxmemory of Redis; 0: none; take max.")

COUNTED = (LATENESS, ATTEMPT_DURATION, ATTEMPTS, HOST_ATTEMPTS, DIED, SLOTS, REDIS_ERRORS, REDIS_CALLS, REQUESTS)
"""What processes count; it adds up."""

STANDING = (
    *(REDIS_UP, TASKS, OLDEST_DUE, NEXT_DUE, WORKERS, ALL_PAUSED, MISSING, SCHEDULED, DELIVERED, EXPIRED, LEDGER),
    *(BREAKERS, MEMORY, MEMORY_MOST),
)
"""What stands in Redis; each process tells the same."""

FAMILIES = (BUILD, *COUNTED, *STANDING)
