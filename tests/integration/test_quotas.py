"""What a token may have waiting, where others are first."""

from collections.abc import Sequence

import pytest
from starlette.requests import Request

from redis_scheduler.api.callers import CALLER, Caller
from redis_scheduler.api.hosts import HostsApi
from redis_scheduler.api.idempotency import Once
from redis_scheduler.api.scheduling import PartlyWritten
from redis_scheduler.errors import Code
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.token import Right, Token
from redis_scheduler.store.tokens import Share, Tokens
from tests.integration.test_shards import body_of, content_of, request_of

ID = "0123456789"
RIGHTS = Right.SCHEDULE | Right.CANCEL | Right.REPLAY
SMALL = Caller(ID, int(RIGHTS), frozenset(), Token("small", "", ("schedule",), 1, tasks=2))
BATCH = b'{"tasks":[%b]}' % b",".join([body_of(key=key) for key in ("own:a", "own:b")])


class Overtaken(HostsApi):
    """Once a batch has asked what it needs, the first task that it is to replace is cancelled, and another comes."""

    async def _share_of_all(
        self, tasks: Sequence[NewTask], once: Once | None, caller: Caller, asked: dict[str, Share]
    ) -> Share:
        share = await super()._share_of_all(tasks, once, caller, asked)
        assert content_of(await self.cancel(asking("own:a"), {}))["key"] == "own:a"
        await self.schedule(asking(body=body_of()), {})
        return share


def asking(key: str = "", body: bytes = b"") -> Request:
    request = request_of(key, body)
    request.scope[CALLER] = SMALL
    return request


async def test_what_a_batch_has_not_left_to_replace_needs_room(client: RedisClient) -> None:
    usual, overtaken = [kind([client], f"writer-{kind.__name__}", 10_000) for kind in (HostsApi, Overtaken)]
    assert len(content_of(await usual.schedule_batch(asking(body=BATCH), {}))["data"]) == 2
    assert len(content_of(await usual.schedule_batch(asking(body=BATCH), {}))["data"]) == 2
    with pytest.raises(PartlyWritten) as caught:
        await overtaken.schedule_batch(asking(body=BATCH), {})
    assert caught.value.code is Code.TOKEN_FULL
    assert [one.outcome for one in caught.value.tasks] == ["not written", "written"]
    [waiting] = await Tokens(client).waiting([ID])
    assert waiting.tasks == 2
