"""A failed attempt keeps nothing of its task."""

import gc
from pathlib import Path

import pytest

from redis_scheduler import resolver
from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import Record
from redis_scheduler.task.webhook import split
from tests.support.name_server import NO_SUCH_NAME, naming
from tests.support.receiver import receiving


async def test_what_a_failed_attempt_had_in_hand_is_free_without_a_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "NSSWITCH", tmp_path / "nsswitch.conf")  # the system asks its own name servers
    async with receiving() as receiver:
        refused = receiver.url
    async with receiving() as hanging:
        hanging.may_answer.clear()
        gc.collect()
        gc.disable()
        try:
            async with (
                naming(lambda name, kind: NO_SUCH_NAME) as server,
                Deliverer("test-token", timeout_s=0.5) as deliverer,
            ):
                deliverer._resolver._options["servers"] = [f"127.0.0.1:{server.port}"]
                webhooks = [
                    refused,
                    refused.replace("127.0.0.1", "localhost"),
                    "http://unknown.example/",
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
