"""Tokens that take turns before the queue, while workers are killed between two steps of that. Case 46."""

import asyncio
import time

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.killing import killing
from tests.chaos.leases import WINDOW_S
from tests.support.names import KEYS
from tests.support.service import client_of
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

TOKENS, BATCH = 4, 200


@pytest.mark.long
@pytest.mark.case("46", "what is due at once of four tokens, in turn, workers SIGKILLed")
async def test_workers_killed_while_tokens_take_turns_lose_nothing(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count = scaled(20_000, 3_000)
    checker.receiver.delay_s = 0.05
    store = RedisClient(checker.redis_url, 5, KEYS)
    tokens = [await make_token(store, "schedule", "bulk") for _ in range(TOKENS)]
    await store.aclose()
    api = await checker.start("api")
    due_at, most_held = time.time() + scaled(15, 4), 0

    async def fill(token: str, share: int) -> None:
        async with client_of(api, token) as client:
            for _ in range(0, share, BATCH):
                sent = [checker.next(ttl=max(0.001, due_at - time.time())) for _ in range(BATCH)]
                status, answer = await client.call("POST", "/schedules", json={"tasks": [body for _, body in sent]})
                checker.learn_all(sent, status, answer)

    # Half of all is one token's.
    await asyncio.gather(*(fill(token, count // 2 if token is tokens[0] else count // 6) for token in tokens))

    async def is_drained() -> bool:
        nonlocal most_held
        most_held = max(most_held, await raw.zcard(KEYS.held))
        places = await raw.zcard(KEYS.due), await raw.zcard(KEYS.held), await raw.hlen(KEYS.entries)
        return places == (0, 0, 0)

    async with killing(checker, size=2, least=3, CONCURRENCY="50"):
        await wait_until(is_drained, "all is delivered", WINDOW_S + 90, every_s=0.05)
    figures.note(most_held=most_held)
    assert most_held > count / 4
    verdict = await checker.verdict()
    assert (verdict.arrived, verdict.dead) == (len(checker.sent), 0)
    assert await raw.hget(KEYS.sweep, "turn") is None
