"""Whoever has a token is a stranger to what others have begun: it neither goes on with it, nor is told of it."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.process.process import process_name
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.acknowledgement import acknowledgement_token
from tests.scripts import states
from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.store import Store
from tests.support.tokens import ALL_RIGHTS, make_token
from tests.support.written import written

HOOK = "http://127.0.0.1:9/"
BODY: dict[str, Any] = {"webhook": HOOK, "ttl": 60}
VERBS = [
    "/schedules/cancel?key_prefix=own:",
    "/schedules/pause?key_prefix=own:",
    "/schedules/shift?by=5&key_prefix=own:",
]


async def two(api: Client, client: RedisClient, **fields: Any) -> list[Client]:
    """Two clients that may do the same."""
    return [api.with_token(await make_token(client, *ALL_RIGHTS, **fields)) for _ in range(2)]


async def put(api: Client, *names: str) -> None:
    for name in names:
        assert (await api.call("PUT", f"/schedule/own:{name}?type=mail", json=BODY))[0] == 200


def keys_of(content: Any) -> set[str]:
    return {content["key"]} if "key" in content else set(content["data"])


@pytest.mark.parametrize("types", [(), ("mail",)])
@pytest.mark.parametrize("path", VERBS)
async def test_an_operation_is_there_only_for_the_token_that_began_it(
    path: str, types: tuple[str, ...], api: Client, client: RedisClient
) -> None:
    one, other = await two(api, client, types=types)
    await put(api, "a", "b")
    status, begun = await one.call("POST", f"{path}&operation=job")
    assert (status, begun["touched"]) == (200, 2)
    for stranger in (other, api):
        status, content = await stranger.call("POST", f"{path}&cursor=job")
        assert (status, content["code"], content["field"]) == (400, "invalid-value", "cursor")
    # The same word is another operation: what is there is touched by it, and nothing told of the first.
    await put(api, "c")
    await api.call("POST", "/schedules/resume")
    for stranger, touched in ((other, 1 if "cancel" in path else 3), (api, 0 if "cancel" in path else 3)):
        if "pause" in path:
            await api.call("POST", "/schedules/resume")
        status, content = await stranger.call("POST", f"{path}&operation=job")
        assert (status, content["touched"]) == (200, touched)
        assert (await stranger.call("POST", "/schedules/resume?operation=job"))[0] == 400
    assert await one.call("POST", f"{path}&operation=job") == (200, begun)
    assert await one.call("POST", f"{path}&cursor=job") == (200, begun)
    await api.call("POST", "/purge")


@pytest.mark.parametrize(("path", "body"), [("/schedule", BODY), ("/schedules", {"tasks": [BODY, BODY]})])
async def test_an_idempotency_key_of_another_is_neither_replayed_nor_told_of(
    path: str, body: dict[str, Any], api: Client, client: RedisClient
) -> None:
    one, other = await two(api, client)
    headers = {"Idempotency-Key": "order-17"}
    first = await one.call("POST", path, json=body, headers=headers)
    assert first[0] == 200
    changed = BODY | {"ttl": 70} if path == "/schedule" else {"tasks": [BODY]}
    for stranger in (other, api):
        # Another body under a key that was given is a 422: to others it was not.
        status, content = await stranger.call("POST", path, json=changed, headers=headers)
        assert status == 200
        assert keys_of(content).isdisjoint(keys_of(first[1]))
        assert (await stranger.call("POST", path, json=body, headers=headers))[0] == 422
    assert await one.call("POST", path, json=body, headers=headers) == first
    await api.call("POST", "/purge")


async def test_no_acknowledgement_is_forged(api: Client, client: RedisClient, raw: redis.asyncio.Redis) -> None:
    """A client knows its own token, keys, and how many attempts there were; and the word of another task of its own."""
    store = Store(client, process_name())
    token = await make_token(client, *ALL_RIGHTS)
    user = api.with_token(token)
    task, own = await states.awaiting(store), await states.awaiting(store)
    entry = own.claim.id
    forged = [acknowledgement_token(secret, task.key, task.claim.id, 0) for secret in (token, "", task.key)]
    forged += [acknowledgement_token(token, own.key, entry, 0), "x" * 10_000, "\u00e9", "0", "null", task.key]
    forged.append(urlsafe_b64encode(hmac.digest(b"", task.key.encode(), hashlib.sha256)).decode())
    before = await written(raw)
    for verb in ("done", "fail", "extend"):
        for text in forged:
            status, content = await user.call(
                "POST", f"/schedule/{task.key}/{verb}", headers={"Schedule-Ack": text.encode().decode("latin-1")}
            )
            assert (status, content["code"]) in ((409, "wrong-acknowledgement"), (400, "invalid-http")), text[:20]
    after = await written(raw)
    after.pop(KEYS.token_uses.encode())
    assert after == before
    assert await raw.zcard(KEYS.awaiting) == 2
    await api.call("POST", "/purge")


NAMES = [
    *("Schedule-Ack", "Schedule-Instance", "Schedule-Key", "webhook-signature", "Webhook-Id", "WEBHOOK-TIMESTAMP"),
    *("Schedule_Key", "Schedule.Key", "schedule!ack", "Webhook~Signature", "webhook|id", "Content.Length"),
]


@pytest.mark.parametrize("name", NAMES)
async def test_no_task_carries_what_the_service_alone_says(name: str, api: Client, client: RedisClient) -> None:
    [user, _] = await two(api, client)
    for body in (BODY | {"headers": {name: "x"}}, BODY | {"on_success": {"webhook": HOOK, "headers": {name: "x"}}}):
        status, content = await user.call("POST", "/schedule", json=body)
        assert (status, content["code"]) == (400, "invalid-value")
        assert content["field"].split(".")[-1] == "headers"


async def test_a_cursor_of_another_shows_only_what_its_own_token_may_see(api: Client, client: RedisClient) -> None:
    one = api.with_token(await make_token(client, "read", types=("mail",)))
    other = api.with_token(await make_token(client, "read", types=("news", "order")))
    for number, name in enumerate(("mail", "news", "mail", "order", "mail", "news")):
        await api.schedule(HOOK, 60 + number, f"/schedule?type={name}")
    _, page = await one.call("GET", "/schedules?limit=1")
    _, whole = await api.call("GET", "/schedules?limit=1")
    for cursor in (page["next"], whole["next"]):
        status, content = await other.call("GET", f"/schedules?cursor={cursor}")
        assert {found["info"]["type"] for found in content.get("data", [])} <= {"news", "order"}
        assert status == 200 or (status, content["field"]) == (400, "cursor")
    await api.call("POST", "/purge")
