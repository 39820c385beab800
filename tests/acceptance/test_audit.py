"""Who changed what: noted in the log and in Redis, and nothing of what services do to their own tasks."""

import asyncio
import getpass
import re
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.api.journal import KEPT_WITHIN_S
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.journal import TEXT_LENGTH, Journal, Note
from tests.support.names import KEYS
from tests.support.pages import Browser
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, Process, client_of, run, serving
from tests.support.shards import scheduled_to_the_last
from tests.support.standing_still import standing_still
from tests.support.tokens import ALL_RIGHTS, id_of, make_token
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/"


async def changes(api: Client, query: str = "") -> list[dict[str, Any]]:
    status, content = await api.call("GET", f"/audit{query}")
    assert status == 200
    found: list[dict[str, Any]] = content["data"]
    return found


async def test_what_services_do_to_their_tasks_is_not_noted(api: Client, raw: redis.asyncio.Redis) -> None:
    key = await api.schedule(HOOK, 60)
    for method, path, body in (
        ("PATCH", f"/schedule/{key}", {"ttl": 50}),
        ("POST", f"/schedule/{key}/pause", None),
        ("PUT", "/schedule/own", {"webhook": HOOK, "ttl": 5}),
        ("POST", "/repeat/preview", {"repeat": {"every": 5}}),
        ("DELETE", f"/schedule/{key}", None),
    ):
        assert (await api.call(method, path, json=body))[0] == 200
    assert await changes(api) == []
    assert not await raw.exists(KEYS.journal)


async def test_what_a_redis_that_became_full_may_have_taken_a_part_of_is_noted(
    api: Client, raw: redis.asyncio.Redis, api_process: Process
) -> None:
    await api.schedule(HOOK, 60)
    await raw.config_set("maxmemory", 1)
    status, refused = await api.call("POST", "/schedules/shift?by=60")
    assert (status, "operation" in refused) == (507, True)
    assert (await api.call("POST", "/schedules/shift?by=60&dry_run=true"))[0] == 200
    assert (await api.call("PUT", "/schedule/own", json={"webhook": HOOK, "ttl": 5}))[0] == 507
    await raw.config_set("maxmemory", 0)
    await wait_until(lambda: api_process.events("change"), "the log has it")
    assert [(line["what"], line["status"]) for line in api_process.events("change")] == [("POST /schedules/shift", 507)]


async def test_what_is_done_to_many_is_noted_with_its_filter_and_how_many(api: Client, api_process: Process) -> None:
    for number in range(3):
        await api.call("PUT", f"/schedule/order:{number}", json={"webhook": HOOK, "ttl": 60})
    query = "?key_prefix=order:"
    assert (await api.call("POST", f"/schedules/pause{query}&dry_run=true"))[0] == 200
    assert (await api.call("POST", f"/schedules/pause{query}", headers={"X-Request-Id": "mine"}))[0] == 200
    assert (await api.call("PUT", "/hosts/localhost:80", json={"rate": 5}))[0] == 200
    assert (await api.call("PUT", "/hosts/localhost:80", json={"rate": -5}))[0] == 400
    assert (await api.call("POST", "/purge"))[0] == 200
    purged, limited, paused = await changes(api)
    at, request_id = paused.pop("at"), paused.pop("request_id")
    assert (len(at), request_id) == (24, "mine")
    assert paused == {
        "number": 1,
        "who": "api",
        "what": "POST /schedules/pause",
        "via": "api",
        "status": 200,
        "given": {"key_prefix": "order:"},
        "tasks": 3,
        "client": "127.0.0.1",
    }
    assert (limited["what"], limited["on"], "tasks" in limited) == ("PUT /hosts/{key}", "localhost:80", False)
    assert (purged["what"], purged["tasks"], purged["number"]) == ("POST /purge", 3, 3)

    def is_logged() -> bool:
        lines = [line for line in api_process.events("change") if line.get("request_id") == "mine"]
        return [(line["logger"], line["what"], line["tasks"]) for line in lines] == [
            ("audit", "POST /schedules/pause", 3)
        ]

    await wait_until(is_logged, "the log has the change")


async def test_a_token_with_admin_is_noted_whatever_it_changes(api: Client, client: RedisClient) -> None:
    admin, other = await make_token(client, *ALL_RIGHTS), await make_token(client, "schedule")
    for token in (admin, other):
        assert (await api.with_token(token).call("PUT", "/schedule/a", json={"webhook": HOOK, "ttl": 5}))[0] == 200
    [found] = await changes(api)
    assert (found["who"], found["what"], found["on"], found["tasks"]) == (id_of(admin), "PUT /schedule/{key}", "a", 1)
    assert found["name"]
    assert admin not in str(found)


async def test_with_audit_api_all_that_the_own_token_changes_is_noted(tmp_path: Path, redis_url: str) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, AUDIT_API="on") as process,
        client_of(process) as api,
    ):
        key = await api.schedule(HOOK, 60)
        assert (await api.call("PATCH", f"/schedule/{key}", json={"ttl": 50}))[0] == 200
        assert (await api.call("PATCH", f"/schedule/{key}", json={"ttl": -50}))[0] == 400
        assert (await api.call("GET", f"/schedule/{key}"))[0] == 200
        assert (await api.call("DELETE", f"/schedule/{key}"))[0] == 200
        assert [(one["who"], one["via"], one["what"], one.get("on"), one["tasks"]) for one in await changes(api)] == [
            ("api", "api", "DELETE /schedule/{key}", key, 1),
            ("api", "api", "PATCH /schedule/{key}", key, 1),
            ("api", "api", "POST /schedule", None, 1),
        ]


async def test_what_is_done_at_the_dashboard_is_noted_whoever_is_signed_in(api: Client) -> None:
    key = await api.schedule(HOOK, 900)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        person = Browser(session, api.url)
        assert (await person.sign_in(TOKEN)).status == 303
        await person.get(f"/ui/task/{key}")
        await person.post(f"/ui/do/cancel/{key}", Sec_Fetch_Site="same-origin", X_Request_Id="of-a-person")
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 404
    [found] = await changes(api)
    assert (found["who"], found["via"], found["what"], found["on"], found["request_id"]) == (
        "api",
        "dashboard",
        "DELETE /schedule/{key}",
        key,
        "of-a-person",
    )


async def test_what_comes_through_a_proxy_is_noted_with_its_request_and_who_asked_it(
    tmp_path: Path, redis_url: str
) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, TRUSTED_PROXIES="127.0.0.1") as process,
        client_of(process) as api,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        key = await api.schedule(HOOK, 900)
        person = Browser(session, api.url)
        await person.sign_in(TOKEN)
        said = {"X_Forwarded_For": "192.0.2.1", "X_Request_Id": "of-the-proxy", "Sec_Fetch_Site": "same-origin"}
        await person.post(f"/ui/do/cancel/{key}", None, **said)
        [found] = await changes(api)
        assert (found["client"], found["request_id"]) == ("192.0.2.1", "of-the-proxy")


async def test_a_token_that_is_kept_to_types_sees_none(api: Client, client: RedisClient) -> None:
    kept = api.with_token(await make_token(client, *ALL_RIGHTS, types=("mail",)))
    status, content = await kept.call("GET", "/audit")
    assert (status, content["code"]) == (403, "other-type")


async def test_pages_lead_through_all_of_them(api: Client, client: RedisClient) -> None:
    journal = Journal(client, 7)
    for number in range(9):
        assert await journal.note(Note(who="api", what=f"test {number}", via="command")) == number + 1
    found, query = [], "?limit=3"
    for _ in range(5):
        _, content = await api.call("GET", f"/audit{query}")
        found += [one["what"] for one in content["data"]]
        if content["next"] is None:
            break
        query = f"?limit=3&cursor={content['next']}"
    # The last seven are kept; their numbers tell that two were dropped.
    assert found == [f"test {number}" for number in range(8, 1, -1)]
    assert [one["number"] for one in await changes(api)] == list(range(9, 2, -1))
    for bad in ("cursor=x", "cursor=0", "cursor=1-1", "limit=0", "limit=x"):
        assert (await api.call("GET", f"/audit?{bad}"))[0] == 400
    assert await Journal(client, 0).note(Note(who="api", what="none", via="command")) == 0
    assert await changes(api) == []


async def test_numbers_go_on_where_the_user_may_not_ask_for_the_last(
    redis_url: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await raw.execute_command(
        "ACL", "SETUSER", "less", "on", ">less", "~*", "&*", "+@all", "-xinfo", "+xinfo|consumers"
    )
    less = RedisClient(redis_url.replace("redis://", "redis://less:less@", 1), 3, KEYS)
    try:
        journal = Journal(less, 3)
        assert await journal.page(5, None) == ([], None)
        for number in range(6):
            assert await journal.note(Note(who="api", what=f"test {number}", via="command")) == number + 1
        found, following = await journal.page(2, None)
        assert ([one.number for one in found], following) == ([6, 5], 5)
        assert await Journal(client, 3).note(Note(who="api", what="with the right", via="command")) == 7
    finally:
        await less.aclose()
        await raw.execute_command("ACL", "DELUSER", "less")


async def test_what_is_sent_twice_is_noted_once(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    from redis_scheduler.store.answer_shape import NUMBER
    from redis_scheduler.store.journal import NOTE

    for _ in range(3):
        assert await client.run(NOTE.bind(client.keys, id="one", entry=b"{}", most=5), NUMBER) == 1
    assert await raw.xlen(KEYS.journal) == 1


async def test_other_hands_in_it_are_passed_over(api: Client, client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await raw.xadd(KEYS.journal, {"a": "b"}, "5-0")
    await raw.xadd(KEYS.journal, {"at": "x", "id": "1", "entry": "{"}, "5-7")
    await raw.xadd(KEYS.journal, {"at": "1", "id": "1", "entry": '{"who":1}'}, "6-1")
    await Journal(client, 10).note(Note(who="api", what="mine", via="command"))
    assert [one["what"] for one in await changes(api)] == ["mine"]


async def test_a_change_is_made_though_it_cannot_be_kept(
    api: Client, api_process: Process, raw: redis.asyncio.Redis
) -> None:
    await raw.set(KEYS.journal, "foreign")
    try:
        assert (await api.call("POST", "/purge"))[0] == 200
        await wait_until(lambda: api_process.events("change-not-kept"), "the log has it")
    finally:
        await raw.delete(KEYS.journal)


@pytest.mark.parametrize("path", ["/schedules/cancel?label=a=" + "x" * 64, "/schedules/cancel?host=" + "h" * 299])
async def test_an_entry_is_small(api: Client, raw: redis.asyncio.Redis, path: str) -> None:
    assert (await api.call("POST", path))[0] == 200
    rows: Any = await raw.xrange(KEYS.journal)
    [(_, fields)] = rows
    assert len(fields[b"entry"]) < 4 * TEXT_LENGTH
    assert TOKEN.encode() not in fields[b"entry"]


async def test_commands_are_noted_with_who_gave_them(api: Client, redis_url: str) -> None:
    for command in (
        ["token", "create", "--name", "shop", "--can", "read,schedule"],
        ["token", "list"],
        ["token", "revoke", "0123456789"],
        ["pause-all"],
        ["resume-all"],
        ["doctor", "--repair"],
        ["doctor"],
    ):
        await asyncio.to_thread(run, *command, REDIS_URL=redis_url)
    noted = [(one["via"], one["what"], one.get("given")) for one in await changes(api)]
    assert noted == [
        ("command", "doctor --repair", None),
        ("command", "resume-all", None),
        ("command", "pause-all", None),
        ("command", "token create", {"name": "shop", "can": "schedule,read"}),
    ]
    [*_, made] = await changes(api)
    assert made["who"].partition("@")[0] == getpass.getuser()
    assert re.fullmatch("[0-9a-f]{10}", made["on"])


async def test_an_answer_that_knows_of_an_outage_does_not_wait_for_its_note(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "redis") as server,
        serving(tmp_path, "api", REDIS_URL=server.url) as process,
        client_of(process) as api,
    ):
        assert (await api.call("POST", "/purge"))[0] == 200
        async with standing_still(server.pid):
            assert (await api.call("POST", "/purge"))[0] == 503
        [line] = await wait_until(lambda: process.events("change-not-kept"), "the log has it") or []
        assert line["error"] == "Redis is not available"  # it was known, and not asked again
        last = process.events("change")[-1]
        assert (last["what"], last["status"], "tasks" in last) == ("POST /purge", 503, False)


async def test_an_answer_does_not_wait_for_a_note_while_the_first_shard_is_away(tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        url = f"{one.url},{other.url}"
        async with serving(tmp_path, "api", REDIS_URL=url, AUDIT_API="on") as process, client_of(process) as api:
            key = (await scheduled_to_the_last(api, HOOK, 2, 3_600))[-1]

            async def changed_within_s() -> float:
                began = time.monotonic()
                assert (await api.call("PATCH", f"/schedule/{key}", json={"ttl": 7_200}))[0] == 200
                return time.monotonic() - began

            async with standing_still(one.pid):
                assert await changed_within_s() < 2, "an answer of the silent one is waited for for 3 s"
                await wait_until(lambda: process.events("redis-away"), "it is known", timeout_s=20)
                assert min([await changed_within_s() for _ in range(10)]) < KEPT_WITHIN_S

            def are_logged() -> bool:
                told = [line["what"] for line in process.events("change")]
                return told[-4:] == ["PATCH /schedule/{key}"] * 4

            await wait_until(are_logged, "the log has them")

            async def is_kept() -> bool:
                await changed_within_s()
                return len((await api.call("GET", "/audit"))[1].get("data", ())) > 0

            await wait_until(is_kept, "changes are kept again", timeout_s=20)
