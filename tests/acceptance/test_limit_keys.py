"""A token names only the limit keys that it was given, by whatever route: it uses up no limit of another, and passes by
no pause, rate or breaker of a host."""

from typing import Any

import pytest

from redis_scheduler.process.process import process_name
from redis_scheduler.store.client import RedisClient
from tests.scripts import states
from tests.support.service import Client
from tests.support.store import Store
from tests.support.tokens import make_token

BODY: dict[str, Any] = {"webhook": "http://127.0.0.1:9/", "ttl": 60}
OTHERS = ["b", "ab", "a.b", "a-b", "A", "b:a"]
OWN = ["a", "a:1", "a:b:c"]
RIGHTS = ("schedule", "read", "replay")


async def task(api: Client, **options: Any) -> str:
    return str((await api.call("POST", "/schedule", json=BODY | options))[1]["key"])


async def asked(user: Client, api: Client, client: RedisClient, how: str, options: dict[str, Any]) -> tuple[int, Any]:
    """Give a task these options by one of the ways there are."""
    match how:
        case "schedule":
            return await user.call("POST", "/schedule", json=BODY | options)
        case "once":
            headers = {"Idempotency-Key": "k"}
            return await user.call("POST", "/schedule", json=BODY | options, headers=headers)
        case "batch":
            return await user.call("POST", "/schedules", json={"tasks": [BODY, BODY | options]})
        case "batch of own keys":
            return await user.call("POST", "/schedules", json={"tasks": [BODY | options | {"key": "own:1"}]})
        case "put":
            return await user.call("PUT", "/schedule/own:2", json=BODY | options)
        case "patch":
            return await user.call("PATCH", f"/schedule/{await task(api)}", json=options)
        case "replay":
            dead = await states.dead(Store(client, process_name()))
            return await user.call("POST", f"/dead/{dead.key}/replay", json=options | {"ttl": 60})
    raise LookupError(how)


WAYS = ["schedule", "once", "batch", "batch of own keys", "put", "patch", "replay"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_a_token_names_no_limit_key_but_its_own(how: str, depth: int, api: Client, client: RedisClient) -> None:
    def options(limit_key: str) -> dict[str, Any]:
        found: dict[str, Any] = {"limit_key": limit_key}
        for _ in range(depth):
            found = {"on_success": {"webhook": BODY["webhook"]} | found}
        return found

    field = "on_success." * depth + "limit_key"
    bare = api.with_token(await make_token(client, *RIGHTS))
    user = api.with_token(await make_token(client, *RIGHTS, limit_keys=("a",)))
    refused = [(bare, key) for key in OWN[:1]] + [(user, key) for key in (OTHERS if depth == 0 else OTHERS[:1])]
    for one, key in refused:
        status, content = await asked(one, api, client, how, options(key))
        assert (status, content["code"], content["field"]) == (403, "other-limit-key", field), key
        assert "--limit-keys" in content["error"]
    for key in OWN:
        status, content = await asked(user, api, client, how, options(key))
        assert status == 200, content
        await api.call("POST", "/purge")


@pytest.mark.parametrize("how", WAYS)
async def test_who_may_change_limits_names_any_limit_key(how: str, api: Client, client: RedisClient) -> None:
    admin = api.with_token(await make_token(client, *RIGHTS, "admin"))
    for user in (api, admin):
        assert (await asked(user, api, client, how, {"limit_key": "b"}))[0] == 200
        await api.call("POST", "/purge")


async def test_an_admin_of_some_types_names_only_its_own(api: Client, client: RedisClient) -> None:
    token = await make_token(client, "schedule", "admin", types=("mail",), limit_keys=("a",))
    user = api.with_token(token)
    for key, wanted in (("a", 200), ("b", 403)):
        assert (await user.call("POST", "/schedule?type=mail", json=BODY | {"limit_key": key}))[0] == wanted
    await api.call("POST", "/purge")


@pytest.mark.parametrize("how", ["patch", "replay"])
async def test_no_other_webhook_is_brought_under_a_limit_key_of_another(
    how: str, api: Client, client: RedisClient
) -> None:
    user = api.with_token(await make_token(client, *RIGHTS, limit_keys=("a",)))
    for key, wanted in (("a", 200), ("b", 403)):
        path = f"/schedule/{await task(api, limit_key=key)}"
        if how == "replay":
            dead = await states.dead(Store(client, process_name()))
            assert (await api.call("PATCH", f"/schedule/{dead.key}", json={"limit_key": key}))[0] == 200
            path = f"/dead/{dead.key}/replay"
        method = "PATCH" if how == "patch" else "POST"
        status, content = await user.call(method, path, json={"webhook": "http://127.0.0.1:8/", "ttl": 60})
        assert (status, content.get("field")) == (wanted, "limit_key" if wanted == 403 else None)
        # Anything else may be changed, and the limit of its host is nobody's alone.
        if wanted == 403:
            for change in ({"data": 1}, {"webhook": "http://127.0.0.1:8/", "limit_key": None}):
                status, content = await user.call(
                    "PATCH", path.removesuffix("/replay").replace("dead", "schedule"), json=change
                )
                assert status == 200, content
    await api.call("POST", "/purge")
