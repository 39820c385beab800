"""A failed attempt keeps nothing of its task."""

import gc

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import Record
from redis_scheduler.task.webhook import split
from tests.support.receiver import receiving


async def test_what_a_failed_attempt_had_in_hand_is_free_without_a_collection() -> None:
    async with receiving() as receiver:
        refused = receiver.url
    async with receiving() as hanging:
        hanging.may_answer.clear()
        gc.collect()
        gc.disable()
        try:
            async with Deliverer("test-token", timeout_s=0.5) as deliverer:
                webhooks = [
                    refused,
                    refused.replace("127.0.0.1", "localhost"),
                    "http://host.invalid/",
                    "http://127.0.0.1:1/",
                ]
                webhooks += [hanging.url, hanging.url.replace("http:", "https:"), "http://[::1]:1/"]
                for webhook in webhooks:
                    for number in range(3):
                        record = Record(0, webhook, 0, None, b"1", None, *split(webhook))
                        outcome = await deliverer.attempt(Claim(f"{number}-0", "key", record, 0))
                        assert outcome.error
            del record
            hanging.may_answer.set()
            assert [found for found in gc.get_objects() if isinstance(found, Claim)] == []
        finally:
            gc.enable()
