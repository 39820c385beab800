"""Tokens with rights: each route asks for those of the table, whatever is wrong with a token is told, and known tokens
go on for a while without Redis."""

import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.api.callers import FRESH_S
from redis_scheduler.api.limits import Limits
from redis_scheduler.api.routes import AUDIT_ROUTE, METRICS_ROUTE, TASK_ROUTES, Route
from redis_scheduler.process.process import process_name
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.token import RIGHTS
from redis_scheduler.store.tokens import Tokens
from tests.scripts import states
from tests.support.api import api_here
from tests.support.names import KEYS
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client, client_of, serving
from tests.support.shards import IN_THE_FIRST
from tests.support.store import Store
from tests.support.tokens import ALL_RIGHTS, held_back, id_of, make_token, revoke
from tests.support.waiting import wait_until

ROUTES = [pytest.param(route, id=f"{route.method} {route.path}") for route in (*TASK_ROUTES, AUDIT_ROUTE)]
GUARDED = [
    pytest.param(route, id=f"{route.method} {route.path}")
    for route in (*TASK_ROUTES, AUDIT_ROUTE, METRICS_ROUTE)
    if route.needs
]


async def asked(api: Client, route: Route[Any], token: str | None) -> tuple[int, Any]:
    """Ask for a route as a client with this token; nothing of the request makes sense but the path."""
    path = route.path.replace("{key}", "none")
    before = dict(api.headers)
    api.headers = {} if token is None else {"Authorization": token}
    try:
        return await api.call(route.method, path)
    finally:
        api.headers = before


@pytest.mark.parametrize("route", ROUTES)
async def test_a_route_is_for_nobody_without_a_token_that_counts(
    route: Route[Any], api: Client, client: RedisClient
) -> None:
    expired = await make_token(client, *ALL_RIGHTS, expires=2)
    revoked = await make_token(client, *ALL_RIGHTS)
    await revoke(client, revoked)
    genuine = await make_token(client, *ALL_RIGHTS)
    forged = genuine[:-8] + "A" * 8
    of_later = await make_token(client, *ALL_RIGHTS)
    await client.command(
        "HSET", KEYS.tokens, id_of(of_later), b'{"name":"n","digest":"","can":[],"made":1,"tomorrow":1}'
    )
    wrong = [None, "", "wrong", "rs_", f"rs_{'0' * 10}_{'A' * 43}", f"Bearer  {forged}", forged, revoked, of_later]
    for token in wrong:
        status, content = await asked(api, route, token)
        assert (status, content["code"]) == (401, "unauthorized"), token
    status, content = await asked(api, route, expired)
    assert (status, content["code"]) == (401, "unauthorized")
    assert "has expired" in content["error"]
    assert expired not in content["error"]


@pytest.mark.parametrize("route", GUARDED)
async def test_a_route_needs_each_of_its_rights(route: Route[Any], api: Client, client: RedisClient) -> None:
    needed = {name for name, right in RIGHTS.items() if right & route.needs}
    for missing in needed:
        token = await make_token(client, *(set(ALL_RIGHTS) - {missing}))
        status, content = await asked(api, route, token)
        assert (status, content["code"], content["field"]) == (403, "missing-right", "Authorization")
        assert content["error"].endswith(f": {missing}")


@pytest.mark.parametrize("route", ROUTES)
async def test_a_route_needs_no_other_right(route: Route[Any], api: Client, client: RedisClient) -> None:
    token = await make_token(client, *(name for name, right in RIGHTS.items() if right & route.needs))
    for text in (token, f"Bearer {token}"):
        status, _ = await asked(api, route, text)
        assert status not in (401, 403)


@pytest.mark.parametrize("way", ["PUT", "batch"])
async def test_who_may_not_replay_puts_nothing_in_the_place_of_a_dead_task(
    way: str, api: Client, client: RedisClient
) -> None:
    """Its dead letter would be gone, and the task be sent anew."""
    body = {"webhook": "http://127.0.0.1:9/", "ttl": 60}
    key, store = IN_THE_FIRST, Store(client, process_name())
    assert (await api.call("PUT", f"/schedule/{key}", json=body | {"ttl": 0}))[0] == 200

    async def is_promoted() -> bool:
        return (await store.promote(most_claims=0)).moved == 1

    await wait_until(is_promoted, "its millisecond is over")
    [claim] = await states.claimed(store, 1)
    assert await store.bury(states.failed(states.Task(key, claim, None))) == [1]

    async def put(user: Client) -> tuple[int, Any]:
        if way == "PUT":
            return await user.call("PUT", f"/schedule/{key}", json=body)
        return await user.call("POST", "/schedules", json={"tasks": [body | {"key": key}]})

    before = await api.call("GET", f"/dead/{key}")
    user = api.with_token(await make_token(client, "schedule", "cancel", "admin"))
    status, content = await put(user)
    assert (status, content["code"]) == (403, "missing-right")
    assert content["error"].endswith(": replay")
    assert await api.call("GET", f"/dead/{key}") == before
    user = api.with_token(await make_token(client, "schedule", "replay"))
    assert (await put(user))[0] == 200
    assert (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["state"] == "scheduled"
    await api.call("POST", "/purge")


async def test_a_second_authorization_is_refused(api: Client, client: RedisClient) -> None:
    token = await make_token(client, "read")
    async with api.session.get(
        f"{api.url}/schedules", headers=[("Authorization", token), ("Authorization", token)]
    ) as response:
        assert response.status == 401


async def test_a_revoked_token_is_refused_within_a_second_and_a_half(api: Client, client: RedisClient) -> None:
    token = await make_token(client, "read")
    user = api.with_token(token)
    assert (await user.call("GET", "/schedules"))[0] == 200
    await revoke(client, token)
    revoked_at = asked_at = last_at = time.monotonic()

    async def is_refused() -> bool:
        nonlocal asked_at, last_at
        last_at, asked_at = asked_at, time.monotonic()
        return (await user.call("GET", "/schedules"))[0] == 401

    await wait_until(is_refused, "the token is refused")
    assert last_at - revoked_at < 1.5, "what was asked later was refused"


@pytest.mark.parametrize("end", ["revoked", "expired"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/schedule", b'{"webhook": "http://127.0.0.1:9/", "ttl": 900}'),
        ("POST", "/schedules", b'{"tasks": [{"webhook": "http://127.0.0.1:9/", "ttl": 900}]}'),
        ("PUT", "/schedule/own", b'{"webhook": "http://127.0.0.1:9/", "ttl": 900}'),
        ("PUT", "/hosts/127.0.0.1:9", b'{"paused": true}'),
        ("POST", "/purge", b"{}"),
    ],
)
async def test_a_token_that_ends_while_a_body_comes_changes_nothing(
    end: str, method: str, path: str, body: bytes, api: Client, client: RedisClient
) -> None:
    """Else whoever holds requests back could go on for as long as a body may take."""
    key = await api.schedule("http://127.0.0.1:9/", ttl=900)
    lasts: dict[str, Any] = {"expires": redis_ms(await client.command("TIME")) + 800} if end == "expired" else {}
    token = await make_token(client, *ALL_RIGHTS, **lasts)

    async def end_it() -> None:
        if end == "revoked":
            await revoke(client, token)

    user, headers = api.with_token(token), {"Content-Type": "application/json"}
    data = held_back(body[:1], body[1:], end_it, FRESH_S)
    status, content = await user.call(method, path, data=data, headers=headers)
    assert (status, content["code"], content["field"]) == (401, "unauthorized", "Authorization")
    assert [task["info"]["key"] for task in (await api.call("GET", "/schedules"))[1]["data"]] == [key]
    assert (await api.call("GET", "/hosts"))[1]["data"] == []


async def test_a_rotated_token_has_two_texts_for_a_while(api: Client, client: RedisClient) -> None:
    before = await make_token(client, "read")
    [kept] = await Tokens(client).all()
    assert kept.token is not None
    after = before[:-4] + "NEW_"
    for until_ms, status in ((2**52, 200), (5, 401)):
        rotated = type(kept.token)(
            "n",
            _digest(after),
            ("read",),
            1,
            before=_digest(before),
            before_until=until_ms,
        )
        [kept] = await Tokens(client).all()
        await Tokens(client).write(kept.id, kept.raw, rotated)

        async def has_noticed(status: int = status) -> bool:
            found = [(await api.with_token(text).call("GET", "/schedules"))[0] for text in (before, after)]
            return found == [status, 200]

        await wait_until(has_noticed, "both texts are what they are to be")


def _digest(text: str) -> str:
    from redis_scheduler.store.token import digest_of

    return digest_of(text.encode())


async def test_the_use_of_a_token_is_noted(api: Client, client: RedisClient) -> None:
    token, unused = await make_token(client, "read"), await make_token(client, "read")
    assert (await asked(api, TASK_ROUTES[0], unused[:-1]))[0] == 401
    await api.with_token(token).call("GET", "/schedules")

    async def is_noted() -> bool:
        return [kept.id for kept in await Tokens(client).all() if kept.used_ms] == [id_of(token)]

    await wait_until(is_noted, "the use is noted")


async def test_two_requests_with_one_idempotency_key_of_two_tokens_do_not_meet(
    api: Client, client: RedisClient
) -> None:
    keys = set()
    for token in [await make_token(client, "schedule"), await make_token(client, "schedule")]:
        user = api.with_token(token)
        for _ in range(2):
            status, content = await user.call(
                "POST",
                "/schedule",
                json={"webhook": "http://127.0.0.1:9/", "ttl": 60},
                headers={"Idempotency-Key": "k"},
            )
            assert status == 200
            keys.add(content["key"])
    assert len(keys) == 2


async def test_known_tokens_go_on_for_the_grace_while_redis_is_away(tmp_path: Path) -> None:
    server = RedisProcess(tmp_path / "redis")
    await server.start()
    client = RedisClient(server.url, 0.3, KEYS)
    async with api_here(client, limits=Limits(token_grace_s=3)) as port:
        token, other = await make_token(client, "metrics"), await make_token(client, "read")
        async with _user(port, token) as user:
            assert (await user.call("GET", "/stats"))[0] == 200
            await server.kill()

            async def answered(text: str) -> tuple[int, str]:
                user.headers = {"Authorization": text}
                status, content = await user.call("GET", "/schedules")
                return status, content["code"]

            # The right to read is looked at once the token is known.
            assert await answered(token) == (403, "missing-right")
            assert await answered(other) == (503, "redis-unavailable")
            assert await answered(token[:-4] + "AAAA") == (401, "unauthorized")

            async def is_over() -> bool:
                return await answered(token) == (503, "redis-unavailable")

            await wait_until(is_over, "the grace is over")
            await server.start()

            async def is_back() -> bool:
                return await answered(token) == (403, "missing-right")

            await wait_until(is_back, "the token is known again")
    await client.aclose()
    await server.stop()


async def test_known_tokens_go_on_in_other_shards_while_that_of_the_tokens_is_away(tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        client = RedisClient(one.url, 0.3, KEYS)
        known, unknown = [await make_token(client, "schedule", "read") for _ in range(2)]
        await client.aclose()
        async with (
            serving(tmp_path, "api", REDIS_URL=f"{one.url},{other.url}", TOKEN_GRACE="30") as process,
            client_of(process, known) as user,
        ):
            assert (await user.call("POST", "/repeat/preview", json={"repeat": {"every": 5}}))[0] == 200
            await one.kill()
            task = {"webhook": "http://127.0.0.1:9/", "ttl": 600}

            async def scheduled() -> str | None:
                """The batch that meets the shard's death is a 503: sent elsewhere it could come twice."""
                status, content = await user.call("POST", "/schedule", json=task)
                return content["key"] if status == 200 else None

            keys = [await wait_until(scheduled, "a task is scheduled in the other shard") for _ in range(4)]
            found = [(await user.call("GET", f"/schedule/{key}"))[0] for key in keys]
            assert found == [200] * 4
            user.headers = {"Authorization": unknown}
            status, content = await user.call("POST", "/schedule", json={"webhook": "http://127.0.0.1:9/", "ttl": 1})
            assert (status, content["code"]) == (503, "redis-unavailable")


async def test_a_token_with_limits_schedules_while_another_shard_is_away(tmp_path: Path) -> None:
    """What it had waiting there goes on to count."""
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        async with aclosing(RedisClient(one.url, 1, KEYS)) as client:
            few, rated = await make_token(client, "schedule", tasks=6), await make_token(client, "schedule", rate=100.0)
        async with (
            serving(tmp_path, "api", REDIS_URL=f"{one.url},{other.url}") as process,
            client_of(process, few) as user,
            client_of(process, rated) as other_user,
        ):
            for _ in range(4):  # two in each shard
                await user.schedule("http://127.0.0.1:9/", 600)
            await other.kill()
            task = {"webhook": "http://127.0.0.1:9/", "ttl": 600}

            async def scheduled(client: Client = other_user) -> bool:
                """The batch that meets the shard's death is a 503."""
                return (await client.call("POST", "/schedule", json=task))[0] == 200

            for _ in range(4):
                await wait_until(scheduled, "a task of the token with a rate alone")
            for _ in range(2):
                await wait_until(lambda: scheduled(user), "a task of the other")
            # It was asked for before the last was written there.
            said = [await user.call("POST", "/schedule", json=task) for _ in range(2)]
            assert said[1][1]["code"] == "token-full"


def _user(port: int, token: str) -> Any:
    import contextlib

    import aiohttp

    @contextlib.asynccontextmanager
    async def user() -> Any:
        async with aiohttp.ClientSession() as session:
            yield Client(session, f"http://127.0.0.1:{port}", token)

    return user()


async def test_two_tokens_of_the_service_count_while_they_are_changed(redis_url: str, tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, API_AUTH="the-new-one the-old-one", PROCESSES="2") as process,
        client_of(process) as user,
    ):
        for token, status in (("the-new-one", 200), ("the-old-one", 200), ("the-new-one the-old-one", 401), ("", 401)):
            user.headers = {"Authorization": token}
            assert (await user.call("GET", "/stats"))[0] == status, token


@pytest.mark.parametrize(("path", "code"), [("/stats", "missing-right"), ("/schedules?type=news", "other-type")])
async def test_what_a_token_may_not_ask_for_is_counted_and_logged_as_refused(
    path: str, code: str, redis_url: str, client: RedisClient, tmp_path: Path
) -> None:
    token = await make_token(client, "read", types=("mail",))
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url) as process,
        client_of(process, token) as user,
    ):
        assert (await user.call("GET", "/schedules"))[0] == 200
        assert process.events("refused") == []
        status, content = await user.call("GET", path)
        assert (status, content["code"]) == (403, code)
        [told] = await wait_until(lambda: process.events("refused"), "it is logged")
        assert (told["requests"], told["client"]) == (1, "127.0.0.1")
        assert token not in process.log
