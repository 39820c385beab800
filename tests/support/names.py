"""The names of the keys in Redis, as a deployment without NAMESPACE has them."""

from redis_scheduler.store.keys import Keys, tag_of
from redis_scheduler.store.vault import Vault

KEYS = Keys(tag_of())

TEST_KEY = b"k" * 32
VAULT = Vault([TEST_KEY])
"""What seals in those tests that run with DATA_KEY; it opens what it sealed, and leaves all else as it is."""
