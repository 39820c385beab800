"""Two shards against a small model, in any order: own keys, ids and new tasks, while one shard becomes two, and one
again.

What each transition does within a shard is tried against tests/support/model.py; here it is which shard has a task, and
which are looked in. Tasks that stand in a shard in which nobody looks are delivered, listed, and told by the audit.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis.asyncio
from hypothesis import strategies
from hypothesis.configuration import set_hypothesis_home_dir

from redis_scheduler.api.hosts import HostsApi
from redis_scheduler.errors import StoreUnavailable, TaskNotFound
from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.generations import Generations
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.views import Views
from redis_scheduler.task.kept import DEFAULT as KEPT
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.integration.test_shards import WEBHOOK, all_pages, body_of, content_of, request_of
from tests.scripts.states import Task as Claimed
from tests.scripts.states import failed
from tests.support.audit import plain
from tests.support.shards_model import PHASES, Model
from tests.support.steps import DELIVERED
from tests.support.store import Store

SHARDS = 2
NAMES = [f"order-{number}" for number in range(6)]
IDS = 3
EXAMPLES, STEPS = 25, 30

SHOWN = {"later": ["scheduled"], "now": ["scheduled", "queued"]}
"""As what the API shows a task that is due later, or now: what is due by a change is queued by the timer."""

VERBS = [
    "put",
    "put",
    "put",
    "schedule",
    "schedule",
    "once",
    "once",
    "update",
    "cancel",
    "deliver",
    "bury",
    "grow",
    "grow",
    "stray",
    "purge",
]

WANTED = {
    *("put created", "put updated", "put revived", "put unknown", "once stored", "once again", "once unknown"),
    *("found behind", "gone", "stray", "stray found", "stray delivered", "moved"),
}
"""What a run must have come to; else it proves nothing of it."""


class Example:
    """One sequence of steps, each done to the API and to the model."""

    def __init__(self, clients: list[RedisClient], raw: redis.asyncio.Redis, taken: set[str]) -> None:
        self.clients, self.raw, self.taken = clients, raw, taken
        self.stores = [Store(client, "worker-a", kept=KEPT) for client in clients]
        self.model = Model()
        self.generations = Generations.of(1)
        self.api = HostsApi(clients, f"writer-{time.monotonic_ns()}", 10_000, token="t", generations=self.generations)
        self.made: list[str] = []
        """Keys of all tasks that there were."""

    async def take(self, verb: str, which: int, is_due: bool) -> None:
        self._tell()
        await getattr(self, f"_{verb}")(which, is_due)
        await self._compare()

    async def _put(self, which: int, is_due: bool) -> None:
        key, model = NAMES[which % len(NAMES)], self.model
        place, call = model.place_of(key), self.api.put(request_of(key, body_of(0 if is_due else 600)), {})
        if place is None and not model.is_open:
            with pytest.raises(StoreUnavailable, match="is changing"):
                await call
            self.taken.add("put unknown")
            return
        assert content_of(await call)["created"] == (place is None)
        self.taken.add(
            "put created" if place is None else "put revived" if model.standing[place] == "dead" else "put updated"
        )
        if place is None and any(one == key for _, one in model.ended if (_, one) not in model.standing):
            self.taken.add("moved")
        if place is not None and place[0] != model.hashed(key, model.numbers[0]):
            self.taken.add("found behind")
        model.standing[place or (model.hashed(key, model.numbers[0]), key)] = "now" if is_due else "later"
        self.made.append(key)

    async def _schedule(self, which: int, is_due: bool) -> None:
        key = content_of(await self.api.schedule(request_of(body=body_of(0 if is_due else 600)), {}))["key"]
        self._note_new(key, is_due)

    def _note_new(self, key: str, is_due: bool) -> None:
        shard = self.model.looked_in(key)[0]
        assert shard < self.generations.used
        self.model.standing[shard, key] = "now" if is_due else "later"
        self.made.append(key)

    async def _once(self, which: int, _: bool) -> None:
        number, model = which % IDS, self.model
        call = self.api.schedule(request_of(body=body_of(), idempotency_key=f"id-{number}"), {})
        if not model.is_open and number not in model.ids:
            with pytest.raises(StoreUnavailable, match="is changing"):
                await call
            self.taken.add("once unknown")
            return
        key = content_of(await call)["key"]
        self.taken.add("once again" if number in model.ids else "once stored")
        if number not in model.ids:
            self._note_new(key, is_due=False)
        assert model.ids.setdefault(number, key) == key

    def _chosen(self, which: int) -> str:
        return self.made[which % len(self.made)] if self.made else "nothing"

    async def _update(self, which: int, is_due: bool) -> None:
        await self._change(which, "update", b'{"ttl":0}' if is_due else b'{"ttl":700}', "now" if is_due else "later")

    async def _cancel(self, which: int, _: bool) -> None:
        await self._change(which, "cancel", b"", "cancelled")

    async def _change(self, which: int, verb: str, body: bytes, state: str) -> None:
        key, model = self._chosen(which), self.model
        place = model.place_of(key)
        if place is not None and model.standing[place] == "dead":
            return
        call = getattr(self.api, verb)(request_of(key, body), {})
        if place is None:
            with pytest.raises(TaskNotFound):
                await call
            self.taken.add("gone")
            return
        await call
        if state == "cancelled":
            del model.standing[place]
            model.ended[place] = state
        else:
            model.standing[place] = state

    async def _deliver(self, which: int, _: bool) -> None:
        await self._end(which % SHARDS, "delivered")

    async def _bury(self, which: int, _: bool) -> None:
        await self._end(which % SHARDS, "dead")

    async def _end(self, shard: int, state: str) -> None:
        """A worker takes all that is due in a shard, whoever looks for it there."""
        store = self.stores[shard]
        await store.promote(100)
        claims = (await store.claim(100)).claims
        if any((shard, claim.key) in self.model.strays for claim in claims):
            self.taken.add("stray delivered")
        assert self.model.end(shard, state) == len(claims)
        for claim in claims:
            claim.result = DELIVERED
        if state == "dead" and claims:
            assert await store.bury(failed(*(Claimed(claim.key, claim) for claim in claims))) == [1] * len(claims)
        elif claims:
            assert await store.settle(claims) == [1] * len(claims)

    async def _grow(self, _: int, __: bool) -> None:
        self.model.grow()
        self._tell()

    def _tell(self) -> None:
        """Redis tells the numbers of shards, and from when on they hold: anew for each step, so that none of them comes
        to hold on a busy machine."""
        numbers, ahead_ms = PHASES[self.model.phase]
        told = [f"{number} {1_000_000 - at}" for at, number in enumerate(numbers)]
        told[0] = f"{numbers[0]} {1_000_000 + ahead_ms}"
        self.generations.hear(time.monotonic(), ",".join(["1000000", *told]).encode())
        self.generations.use(self.model.numbers[0])

    async def _stray(self, which: int, is_due: bool) -> None:
        """A task comes to the second shard by other hands, also where no rule leads to it."""
        key = f"stray-{which}" if which % 2 else new_task_key()
        if (1, key) in self.model.standing:
            return
        ttl_ms = 0 if is_due else 600_000
        tail = record_tail(WEBHOOK, ttl_ms / 1000, None, b"1")
        await self.stores[1].schedule([NewTask(key, ttl_ms, tail, None)])
        self.model.standing[1, key] = "now" if is_due else "later"
        self.taken.add("stray" if (1, key) in self.model.strays else "stray found")
        self.made.append(key)

    async def _purge(self, *_: Any) -> None:
        seen = max(self.model.numbers)
        await self.api.purge(request_of(), {})
        for places in (self.model.standing, self.model.ended):
            for place in [place for place in places if place[0] < seen]:
                del places[place]
        self.model.ids.clear()

    async def _compare(self) -> None:
        model = self.model
        for number, client in enumerate(self.clients):
            there = await self.raw.hkeys(client.keys.tasks)
            assert {*there} == {key.encode() for shard, key in model.standing if shard == number}
            assert (await Views(client).ledger()).is_balanced
            found = [(one.kind, one.subject) async for one in audit(client, True, numbers=self.generations.numbers)]
            strays = {("wrong shard", key) for shard, key in model.strays if shard == number}
            assert {*found} == strays
            assert len(found) == len(strays)
        for key in {*self.made}:
            expected = model.state_of(key)
            assert await self._state_of(key) in SHOWN.get(expected or "", [expected]), key
        seen = range(max(model.numbers))
        running = [key for (shard, key), state in model.standing.items() if shard in seen and state != "dead"]
        assert sorted(one["info"]["key"] for one in await all_pages(self.api.list, limit="3")) == sorted(running)

    async def _state_of(self, key: str) -> str | None:
        try:
            found = content_of(await self.api.get(request_of(key), {}))
        except TaskNotFound:
            return None
        return str(found["data"]["info"]["state"])


@pytest.fixture
def hypothesis_home(tmp_path: Path) -> Iterator[None]:
    """Hypothesis leaves nothing here."""
    set_hypothesis_home_dir(tmp_path / "hypothesis")
    yield
    set_hypothesis_home_dir(None)


@pytest.mark.long
@pytest.mark.usefixtures("hypothesis_home")
def test_in_any_order_each_task_is_found_by_its_key_while_one_shard_becomes_two(
    redis_url: str, runner: asyncio.Runner
) -> None:
    taken = set[str]()
    steps = strategies.tuples(strategies.sampled_from(VERBS), strategies.integers(0, 9), strategies.booleans())

    async def run(sequence: list[tuple[str, int, bool]]) -> None:
        clients = [Shard(redis_url, Keys(tag_of("", number), number)).client(5) for number in range(SHARDS)]
        raw = plain(redis_url)
        try:
            await raw.flushall()
            example = Example(clients, raw, taken)
            for step in sequence:
                await example.take(*step)
        finally:
            for client in clients:
                await client.aclose()
            await raw.aclose()

    @hypothesis.seed(1)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(strategies.lists(steps, min_size=STEPS, max_size=STEPS))
    def examples(sequence: list[tuple[str, int, bool]]) -> None:
        runner.run(run(sequence))

    examples()
    assert taken >= WANTED, f"never taken: {WANTED - taken}"
