"""The names of the keys in Redis, as a deployment without NAMESPACE has them."""

from redis_scheduler.store.keys import Keys, tag_of
from redis_scheduler.store.vault import Vault

KEYS = Keys(tag_of())

TEST_KEY, OTHER_KEY = b"k" * 32, b"r" * 32
VAULT = Vault([TEST_KEY, OTHER_KEY])
"""What seals, with the first key, in those tests that run with DATA_KEY; it opens what either sealed, and leaves all
else as it is."""
