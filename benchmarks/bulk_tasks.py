"""The tasks and dead letters that much is done to at once, in bulk.py and moving.py: how many are alike in what."""

import random

from benchmarks import harness
from redis_scheduler.process.process import process_name
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.moves import Moved, Moves
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.failure import LastFailure, encode_failure
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.timing import DEFAULT
from tests.support.names import KEYS

DAY_S = 86_400
TYPES, HOSTS, OWN_KEYS, LABELS, ERRORS = 10, 100, 10, 100, 10
"""Of so many tasks one has each type, each host, a key of its own, each label, and the rarer error."""

RARER, USUAL = "timed out", "answered 503"
"""How dead letters died."""

DIED_DAYS = 20
"""They died in so many days, one as likely as the other."""


async def fill(redis: harness.Redis, count: int) -> None:
    """Enter the tasks."""
    chance = random.Random(0)

    def task(number: int) -> NewTask:
        ttl = round(DAY_S * (1 + chance.random()), 3)
        key = f"own:{number}" if number % OWN_KEYS == 0 else new_task_key()
        name = f"type{number % TYPES}"
        webhook = f"http://host{number // TYPES % HOSTS}.example/orders/{number}"
        data, options = b'{"order": "%08d", "status": "shipped"}' % number, Options(labels=_labels(number))
        tail = record_tail(webhook, ttl, name, data, options)
        return NewTask(key, round(1000 * ttl), tail, listing_of(name, options, None))

    await harness.seed(redis.url, count, task)


def _labels(number: int) -> dict[str, str]:
    return {"order": str(number % LABELS)}


async def fill_dead(redis: harness.Redis, count: int, now: float) -> None:
    """Enter as many dead letters."""
    chance = random.Random(0)

    def letter(number: int) -> Moved:
        name, options = f"type{number % TYPES}", Options(labels=_labels(number))
        webhook = f"http://host{number // TYPES % HOSTS}.example/orders/{number}"
        tail = record_tail(webhook, 1, name, b'{"order": "%08d"}' % number, options)
        died_ms = round(1000 * (now - chance.random() * DIED_DAYS * DAY_S))
        failure = encode_failure(LastFailure(RARER if number % ERRORS == 0 else USUAL, 30))
        return Moved(new_task_key(), died_ms, tail, "dead", died_ms, b"1 " + failure, listing_of(name, options, None))

    client = RedisClient(redis.url, harness.SEED_TIMEOUT_S, KEYS)
    try:
        moves = Moves(client, process_name())
        for first in range(0, count, DEFAULT.batch_limit):
            await moves.restore([letter(number) for number in range(first, min(first + DEFAULT.batch_limit, count))])
    finally:
        await client.aclose()
