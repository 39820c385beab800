"""GET /metrics: what the processes of this supervisor have counted, and what stands in Redis."""

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler import __version__
from redis_scheduler.api.answers import text_answer
from redis_scheduler.api.stats import COUNTERS, states_of
from redis_scheduler.metrics import family
from redis_scheduler.metrics.meter import Key, Meter
from redis_scheduler.metrics.snapshots import Snapshots, total
from redis_scheduler.metrics.text import OPEN, PLAIN, text_of, wants_open
from redis_scheduler.store.glance import Glance, ShardSeen
from redis_scheduler.store.ledger import total as ledger_of

WITHIN_S = 1.0
"""For so long the answer waits for a shard; then it lacks what stands there."""


class MetricsApi:
    """The handler of /metrics. `snapshots`: what the siblings of this process have counted."""

    def __init__(self, glance: Glance, meter: Meter, snapshots: Snapshots | None = None) -> None:
        self._glance = glance
        self._meter = meter
        self._snapshots = snapshots

    async def metrics(self, request: Request, _given: Mapping[str, str]) -> Response:
        """GET /metrics: in OpenMetrics where `Accept` wants it. Without a shard it lacks what stands there, and what is
        of all shards."""
        seen = await self._glance.look_at_each(WITHIN_S)
        is_open = wants_open(request.headers.get("accept", ""))
        text = text_of(family.FAMILIES, self._counted() | _standing(seen), is_open)
        return text_answer(text, OPEN if is_open else PLAIN)

    def _counted(self) -> dict[Key, Sequence[float]]:
        numbers, others = self._meter.read(), []
        if self._snapshots is not None:
            # What is told here a sibling must know that is asked next: else counters would go back.
            self._snapshots.write(numbers)
            others = self._snapshots.others()
        return {(family.BUILD.name, __version__): (1,), **total([numbers, *others])}


def _standing(seen: Sequence[ShardSeen | None]) -> dict[Key, Sequence[float]]:
    """Return what stands in the shards that answered, and in all of them only where all did: no sum is of a part."""
    found: dict[Key, float] = {}
    for number, shard in enumerate(seen):
        found[family.REDIS_UP.name, str(number)] = int(shard is not None)
        if shard is None:
            continue
        for state, count in states_of(shard.ledger).items():
            found[family.TASKS.name, state, str(number)] = count
        for state, count in shard.ledger.breakers.items():
            found[family.BREAKERS.name, state, str(number)] = count
        found[family.OLDEST_DUE.name, str(number)] = shard.ledger.oldest_due_ms / 1000
        if shard.ledger.next_due_ms is not None:
            found[family.NEXT_DUE.name, str(number)] = shard.ledger.next_due_ms / 1000
    shards = [shard for shard in seen if shard is not None]
    if len(shards) < len(seen):
        return _numbers(found)
    ledger = ledger_of([shard.ledger for shard in shards])
    counters = {name: ledger.counters.get(name, 0) for name in COUNTERS}
    for name, count in counters.items():
        found[family.LEDGER.name, name] = count
    for one, name in ((family.SCHEDULED, "scheduled"), (family.DELIVERED, "delivered"), (family.EXPIRED, "expired")):
        found[one.name,] = counters[name]
    found[family.WORKERS.name,] = min(shard.workers for shard in shards)
    found[family.ALL_PAUSED.name,] = int(ledger.all_paused_since_ms is not None)
    found[family.MISSING.name,] = ledger.missing
    servers = {shard.ledger.server: shard.memory for shard in shards}.values()  # shards may have one in common
    known = [memory for memory in servers if memory is not None]
    if len(known) == len(servers):
        found[family.MEMORY.name,] = sum(memory.used_bytes for memory in known)
        found[family.MEMORY_MOST.name,] = sum(memory.most_bytes for memory in known)
    return _numbers(found)


def _numbers(found: Mapping[Key, float]) -> dict[Key, Sequence[float]]:
    return {key: (number,) for key, number in found.items()}
