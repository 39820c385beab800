"""Hash tags: what the names of all keys of a shard begin with, so that they stand in one hash slot."""

import binascii
from functools import lru_cache
from itertools import count

from redis_scheduler.task.key import SHARDS_MOST

SLOTS = 16_384
"""Hash slots of a Redis Cluster."""

_BEHIND = range(128, 384)
"""So many slots behind the wanted one a tag's may be. Of all such ranges this spreads the tags of a deployment without
NAMESPACE best, over 1 to 15 masters."""


def tag_of(namespace: str = "", shard: int = 0) -> str:
    """Return the hash tag of a shard's keys. Deployments with different NAMESPACE settings have no key in common.

    Slots of a cluster stand on its masters in ranges. So shard 1 is to be half of all slots away from shard 0, 2 and 3
    a quarter and three, and so on: the number in the tag is the least with which it is.
    """
    if not 0 <= shard < SHARDS_MOST:
        raise ValueError(f"there is no shard {shard}")
    return _tag(namespace, shard)


@lru_cache(SHARDS_MOST)
def _tag(namespace: str, shard: int) -> str:
    name = f"rs.{namespace}" if namespace else "rs"
    if shard == 0:
        return f"{{{name}:0}}"
    sixteenths = int(f"{shard:04b}"[::-1], 2)
    wanted = slot_of(f"{name}:0") + sixteenths * SLOTS // 16
    number = next(number for number in count(1) if (slot_of(f"{name}:{number}") - wanted) % SLOTS in _BEHIND)
    return f"{{{name}:{number}}}"


def slot_of(tag: str) -> int:
    """Return the hash slot of a tag, given without its braces."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS
