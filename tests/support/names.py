"""The names of the keys in Redis, as a deployment without NAMESPACE has them."""

from redis_scheduler.store.keys import Keys, tag_of

KEYS = Keys(tag_of())
