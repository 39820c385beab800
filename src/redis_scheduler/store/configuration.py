"""What of the server's configuration, and of the user's rights, may lose tasks or delay them."""

from redis_scheduler.store.answer_shape import of
from redis_scheduler.store.client import RedisClient

CONFIGURATION = (
    ("maxmemory-policy", "noeviction", "Redis may evict tasks"),
    ("appendonly", "yes", "a crash of Redis loses what was scheduled since its last snapshot"),
)
"""Settings of Redis, the values that they should have, and what others mean: see RELIABILITY.md."""

BELL_REFUSED = (
    "the user in REDIS_URL may not PUBLISH to {bell}: a task that is due within a second of its schedule may be "
    "that late, over N shards within N/2 s; see the smallest ACL in RELIABILITY.md"
)


async def configuration_warnings(client: RedisClient, replicas: int = 0) -> list[str]:
    """Return what of the server's configuration and the user's rights may lose tasks or delay them.

    `replicas`: so many must have what the API writes. What the user may not ask, as on managed servers, is taken to be
    right.
    """
    # Not by CONFIG, which managed servers do not permit.
    answer: bytes = await client.optional("INFO", read=of(bytes)) or b""
    info = dict(line.split(":", 1) for line in answer.decode(errors="replace").splitlines() if ":" in line)
    found = {
        "maxmemory-policy": info.get("maxmemory_policy"),
        "appendonly": {"0": "no", "1": "yes"}.get(info.get("aof_enabled", "")),
    }
    warnings = [
        f"{setting} is {found[setting]}: {meaning}; set it to {right}"
        for setting, right, meaning in CONFIGURATION
        if found[setting] not in (None, right)
    ]
    if info.get("role") == "slave":
        warnings.append(
            "this is a replica that takes writes: what it is given is lost when it follows its master again"
        )
    connected = info.get("connected_slaves", "")
    if connected.isdecimal() and int(connected) < replicas:
        warnings.append(
            f"REPLICAS={replicas}, but the master has {connected}: what the API writes is answered by 503 until it has as "
            "many"
        )
    rings = ("SPUBLISH", "PUBLISH") if client.is_cluster else ("PUBLISH",)
    if all([await client.optional(ring, client.keys.bell, "") is None for ring in rings]):
        warnings.append(BELL_REFUSED.format(bell=client.keys.bell))
    return warnings
