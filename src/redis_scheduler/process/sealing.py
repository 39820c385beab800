"""What the settings say of keys in Redis: how they are named, and with what their content is sealed."""

from redis_scheduler.setting import keys_in
from redis_scheduler.settings import Settings
from redis_scheduler.store.keys import Keys, SealedKeys, tag_of


def keys_of(settings: Settings) -> Keys:
    """Return the keys of the deployment. Call it once a process: each vault has a key of its own to seal with."""
    tag = tag_of(settings.namespace)
    if settings.data_key is None:
        return Keys(tag)
    from redis_scheduler.store.vault import Vault  # loads a library that most deployments do not use

    return SealedKeys(tag, Vault(keys_in(settings.data_key), settings.data_plain == "refuse"))
