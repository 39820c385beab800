"""A PATCH beside another writer who changes the same task between its read and its write."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest

from redis_scheduler.api import shards
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.views import Views
from redis_scheduler.store.writes import Writes
from redis_scheduler.store.written import Change
from redis_scheduler.task.record import record_tail
from tests.support.api import api_here
from tests.support.service import Client

WEBHOOK = "http://127.0.0.1:9/"
LARGE = 100_000


class Rival:
    """Changes each task that the API has just read, `times` in all."""

    def __init__(self, clients: Sequence[RedisClient], monkeypatch: pytest.MonkeyPatch) -> None:
        self._writes = [Writes(client, "rival") for client in clients]
        self.times = self.changes = 0
        monkeypatch.setattr(Views, "tasks", self._after(Views.tasks))
        monkeypatch.setattr(Views, "task", self._after(Views.task))

    def _after(self, read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def read_and_change(views: Views, wanted: Any) -> Any:
            found = await read(views, wanted)
            for stored in found if isinstance(found, list) else [found]:
                if isinstance(stored, Stored) and self.changes < self.times:
                    await self._change(stored)
            return found

        return read_and_change

    async def _change(self, stored: Stored) -> None:
        self.changes += 1
        record = stored.record
        tail = record_tail(f"{WEBHOOK}{self.changes}", record.ttl, None, record.data)
        await self._writes[stored.shard].update([Change(stored.key, stored.raw, tail, None, record.due, None, None)])


@pytest.fixture
def rival(clients: list[RedisClient], monkeypatch: pytest.MonkeyPatch) -> Rival:
    return Rival(clients, monkeypatch)


@pytest.fixture
async def api(clients: list[RedisClient], rival: Rival) -> AsyncIterator[Client]:
    """A client of an API in this process, which has the rival beside it."""
    async with api_here(*clients) as port, aiohttp.ClientSession() as session:
        yield Client(session, f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("size", [1, LARGE], ids=["small", "large"])
async def test_a_patch_that_always_loses_says_so_and_changes_nothing(api: Client, rival: Rival, size: int) -> None:
    key = await api.schedule(WEBHOOK, 60, data="x" * size)
    rival.times = shards.UPDATE_TRIES
    async with api.session.patch(f"{api.url}/schedule/{key}", headers=api.headers, json={"data": "mine"}) as answer:
        content = await answer.json()
    assert (answer.status, content["error"]) == (
        409,
        "Others changed the task each of the 20 times that it was read: read it, and try again",
    )
    assert "Retry-After" not in answer.headers
    _, shown = await api.call("GET", f"/schedule/{key}")
    assert (shown["data"]["info"]["webhook"], shown["data"]["data"]) == (
        f"{WEBHOOK}{shards.UPDATE_TRIES}",
        "x" * size,
    )


@pytest.mark.parametrize("size", [1, LARGE], ids=["small", "large"])
async def test_a_patch_wins_once_the_other_rests(api: Client, rival: Rival, size: int) -> None:
    key = await api.schedule(WEBHOOK, 60, data="x" * size)
    rival.times = shards.UPDATE_TRIES - 1
    status, content = await api.call("PATCH", f"/schedule/{key}", json={"data": "mine"})
    assert (status, content.get("found")) == (200, "updated")
    _, shown = await api.call("GET", f"/schedule/{key}")
    assert (shown["data"]["info"]["webhook"], shown["data"]["data"]) == (f"{WEBHOOK}{rival.changes}", "mine")
    assert rival.changes == shards.UPDATE_TRIES - 1


async def test_a_patch_that_lost_fails_none_that_waits_behind_it(api: Client, rival: Rival) -> None:
    key = await api.schedule(WEBHOOK, 60)
    rival.times = shards.UPDATE_TRIES
    changes = [{"data": 1}, {"data": 2}]
    answers = await asyncio.gather(*(api.call("PATCH", f"/schedule/{key}", json=change) for change in changes))
    assert sorted(status for status, _ in answers) == [200, 409]
