"""What the cases that wait for leases share: workers whose leases are short where the suite is scaled down, and looks
at Redis."""

from typing import Any

import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.task.timing import DEFAULT
from tests.chaos.figures import FULL
from tests.support.engine import MODULE
from tests.support.names import KEYS

SHORT_LEASE_S, SHORT_WINDOW_S = 2.0, 3.5
SHORT = {"module": MODULE, "LEASE_MS": f"{SHORT_LEASE_S * 1000:.0f}", "WINDOW_MS": f"{SHORT_WINDOW_S * 1000:.0f}"}
"""How a worker with a short lease and window is started."""

LEASE_S = DEFAULT.lease_ms / 1000 if FULL else SHORT_LEASE_S
WINDOW_S = DEFAULT.window_ms / 1000 if FULL else SHORT_WINDOW_S
RENEWAL_S = DEFAULT.renew_interval_s if FULL else LEASE_S / 3

SHORTENED: dict[str, str] = {} if FULL else SHORT
"""How a worker is started: the service itself; scaled down, the same with a shorter lease and window."""


async def pending(raw: redis.asyncio.Redis) -> dict[str, dict[str, Any]]:
    """Return the pending entries by task: `consumer`, `time_since_delivered` and `times_delivered`."""
    entries: dict[bytes, bytes] = await raw.execute_command("HGETALL", KEYS.entries)
    task_of = {entry_id: key.decode() for key, entry_id in entries.items()}
    rows: list[dict[str, Any]] = await raw.xpending_range(KEYS.queue, keys.GROUP, "-", "+", 10_000)
    return {task_of[row["message_id"]]: row for row in rows if row["message_id"] in task_of}
