"""What the settings say of keys in Redis: how they are named, and with what their content is sealed."""

from collections.abc import Callable

from redis_scheduler.rule import keys_in
from redis_scheduler.settings import Settings
from redis_scheduler.store.keys import Keys, SealedKeys
from redis_scheduler.store.tag import tag_of


def keys_of(settings: Settings) -> Callable[[int], Keys]:
    """Return what gives the keys of a shard. Call it once a process: each vault has a key of its own to seal with."""
    if settings.data_key is None:
        return lambda shard: Keys(tag_of(settings.namespace, shard), shard)
    from redis_scheduler.store.vault import Vault  # loads a library that most deployments do not use

    vault = Vault(keys_in(settings.data_key), settings.data_plain == "refuse")
    return lambda shard: SealedKeys(tag_of(settings.namespace, shard), vault, shard)
