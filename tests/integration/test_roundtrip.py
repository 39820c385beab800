"""A task's way through the store, on a real Redis."""

from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.support.store import Store


async def test_a_due_task_is_promoted_claimed_and_settled(client: RedisClient, store: Store) -> None:
    key = new_task_key()
    await store.schedule([NewTask(key, 0, record_tail("http://localhost/", 0, None, b"1"), None)])
    reader = QueueReader(client, store.name)
    claims, _ = await store.load(await reader.claim(10))
    await reader.aclose()
    assert [(claim.key, claim.record.data) for claim in claims] == [(key, b"1")]
    assert await store.settle(claims) == [1]
    assert await store.settle(claims) == [0]
