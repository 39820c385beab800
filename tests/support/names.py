"""The names of the keys in Redis, as a deployment without NAMESPACE has them."""

import os

from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.vault import Vault

SHARDS = int(os.environ.get("TESTED_SHARDS", "1"))
"""Those of the services that tests start: `TESTED_SHARDS=4 pytest …` runs them on four."""

SHARD = int(os.environ.get("TESTED_SHARD", "0"))
"""The one that tests of scripts, and of the parts of one shard, look at."""

KEYS = Keys(tag_of("", SHARD), SHARD)
"""Those of that shard. Only the first has what a deployment has once: its id, tokens, the numbers of shards."""

KEYS_OF_SHARDS = [Keys(tag_of("", shard), shard) for shard in range(SHARDS)]
"""Those of each shard."""

TEST_KEY, OTHER_KEY = b"k" * 32, b"r" * 32
VAULT = Vault([TEST_KEY, OTHER_KEY])
"""What seals, with the first key, in those tests that run with DATA_KEY; it opens what either sealed, and leaves all
else as it is."""
