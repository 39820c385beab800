"""How much memory a Redis may use, and how much of it is used."""

from collections.abc import Iterable
from dataclasses import dataclass

from redis_scheduler.errors import StoreFull
from redis_scheduler.store.answer_shape import of
from redis_scheduler.store.client import RedisClient

WARN_SHARE = 0.8
"""Once Redis uses this share of its memory, the service warns: in the log, by an alert, on the first page. (So does the
rule for Prometheus: deploy/prometheus/rules.yml.)"""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, as Redis counts them when it refuses writes. `most_bytes` is its `maxmemory`; 0: no limit."""

    used_bytes: int
    most_bytes: int

    @property
    def share(self) -> float:
        """What is used of the limit, from 0; 0 without a limit."""
        return self.used_bytes / self.most_bytes if self.most_bytes else 0.0


UNKNOWN = Memory(0, 0)
"""What a Redis that may not be asked is taken to have, where something depends on it."""


async def memory_of(client: RedisClient) -> Memory | None:
    """Return what Redis says of its memory; None if the user may not ask. Raises StoreUnavailable."""
    answer: bytes = await client.optional("INFO", "memory", read=of(bytes)) or b""
    found = dict(line.split(":", 1) for line in answer.decode(errors="replace").splitlines() if ":" in line)
    try:
        # What Redis holds for its replicas and its file does not count when it refuses a write.
        used_bytes = int(found["used_memory"]) - int(found["mem_not_counted_for_evict"])
        return Memory(used_bytes, int(found["maxmemory"]))
    except (KeyError, ValueError):
        return None


def fullest(found: Iterable[Memory | None]) -> Memory:
    """Return that of which the largest share is used, of those that are known."""
    return max((memory for memory in found if memory), key=lambda memory: memory.share, default=UNKNOWN)


def refuse_beyond(memory: Memory, reserve: float) -> None:
    """Raise StoreFull if so little is left that nothing new may come: `reserve` is that share."""
    if memory.share > 1 - reserve:
        raise StoreFull(
            f"Redis uses {memory.share:.0%} of the memory that it may: the rest is kept for the tasks that are there "
            "(MEMORY_RESERVE)"
        )
