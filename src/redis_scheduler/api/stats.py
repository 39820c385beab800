"""The answer of GET /stats: the ledger's counts, and the machine's load."""

import time
from typing import Any

import psutil

from redis_scheduler.logs import rfc3339
from redis_scheduler.store.ledger import Ledger
from redis_scheduler.store.written import IDEMPOTENCY_ID_BYTES


def prime() -> None:
    """Start measuring the CPU: the first reading is for the time since this call."""
    psutil.cpu_percent()


def statistics(ledger: Ledger, idempotency_ids: int, workers: int) -> dict[str, Any]:
    """Return the ledger's counts by state and since ever, what is late and comes next, how many workers live, what is
    kept of requests with an Idempotency-Key, and CPU, memory and uptime of the machine."""
    return {
        "running_schedules": ledger.running,
        "total_redis_keys": ledger.redis_keys,
        **machine(),
        "states": states_of(ledger),
        "counters": {name: ledger.counters.get(name, 0) for name in COUNTERS},
        "ledger_balanced": ledger.is_balanced,
        "oldest_due_seconds": ledger.oldest_due_ms / 1000,
        "next_due": None if ledger.next_due_ms is None else rfc3339(ledger.next_due_ms),
        "workers": workers,
        "idempotency": {"keys": idempotency_ids, "bytes": idempotency_ids * IDEMPOTENCY_ID_BYTES},
        "all_paused_since": None if ledger.all_paused_since_ms is None else rfc3339(ledger.all_paused_since_ms),
    }


def machine() -> dict[str, Any]:
    """Return CPU, memory and uptime of the machine."""
    memory = psutil.virtual_memory()
    return {
        "cpu_usage": psutil.cpu_percent(),
        "ram_usage": f"{_gibibytes(memory.used)} of {_gibibytes(memory.total)}",
        "ram_usage_bytes": memory.used,
        "system_uptime": duration(time.time() - psutil.boot_time()),
    }


def of_shard(number: int, ledger: Ledger, seen_ms: int | None) -> dict[str, Any]:
    """Return what stands in one of several shards, and when a worker was last there (None: none for ten minutes)."""
    return {
        "shard": number,
        "running_schedules": ledger.running,
        "states": states_of(ledger),
        "ledger_balanced": ledger.is_balanced,
        "worker_seen": None if seen_ms is None else rfc3339(seen_ms),
    }


def states_of(ledger: Ledger) -> dict[str, int]:
    """Return how many tasks stand in each state, by its name."""
    return {
        "due": ledger.due,
        "queued": ledger.queued,
        "in_delivery": ledger.in_delivery,
        "waiting": ledger.waiting,
        "paused": ledger.paused,
        "awaiting": ledger.awaiting,
        "held": ledger.held,
        "dead": ledger.dead,
    }


COUNTERS = (
    "scheduled",
    "delivered",
    "failed",
    "died",
    "expired",
    "cancelled",
    "purged",
    "replayed",
    "ended",
    "dead_dropped",
    "results_dropped",
    "lost",
)


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def duration(seconds: float) -> str:
    """Return a duration as text: `3d 4h 5m 6s`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    parts = ((day, "d"), (hour, "h"), (minute, "m"), (second, "s"))
    return " ".join(f"{value}{unit}" for value, unit in parts if value) or "0s"
