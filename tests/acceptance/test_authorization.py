"""What receivers get in Authorization: the API's token only where that is wanted, and secrets that nobody else sees."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.delivery.credentials import derived_token
from redis_scheduler.store.client import RedisClient
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, Process, client_of, run, serving
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

WARNING = "DELIVERY_AUTH=api: each delivery carries the API's token"


async def carried(client: Client, receiver: Receiver) -> str | None:
    """What a delivery carries."""
    await client.schedule(receiver.url)
    await client.drained()
    return receiver.arrivals[-1].headers.get("Authorization")


def doors(process: Process) -> list[str]:
    """What the lines of a start name, in their order."""
    return [event["door"].rpartition("(")[2] for event in process.events("open-door")]


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_the_derived_token_is_shown_by_a_command_and_refused_by_the_api(
    processes: str, redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    variables = {"REDIS_URL": redis_url, "PROCESSES": processes, "DELIVERY_AUTH": "derived"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        token = await carried(client, receiver)
        assert token is not None
        for refused in (token, f"Bearer {token}"):
            assert (await client.call("GET", "/stats", headers={"Authorization": refused}))[0] == 401
        assert token not in process.log
        limits = ["HOST_CONCURRENCY, HOST_RATE)", "BREAKER_FAILURES)"]
        wanted = ["WEBHOOK_SECRET)", "EGRESS)", *limits, "HOST)", "TOKEN_TASKS)", "DATA_KEY)", "maxmemory of Redis)"]
        await wait_until(lambda: doors(process) == wanted, "they are told, once by all processes together")
        assert not [event for event in process.events("hazard") if WARNING in event["warning"]]
    shown = run("token", "--delivery", API_AUTH=TOKEN, DELIVERY_AUTH="derived")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"{token}\n", "")


async def test_a_made_token_never_leaves(tmp_path: Path, receiver: Receiver) -> None:
    process = Process(tmp_path, PROCESSES="2")
    try:
        await process.started()
        made = (tmp_path / "data" / "token").read_text().strip()
        async with client_of(process, made) as client:
            token = await carried(client, receiver)
        shown = run("token", "--delivery", DATA_DIR=str(tmp_path / "data"))
        assert token == shown.stdout.strip() != made
    finally:
        await process.stop()


async def test_a_token_that_was_set_goes_to_receivers_with_a_warning_at_each_start(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    for variables in ({}, {"DELIVERY_AUTH": "API"}):
        async with serving(tmp_path, REDIS_URL=redis_url, **variables) as process, client_of(process) as client:
            assert await carried(client, receiver) == TOKEN
            assert [WARNING in event["warning"] for event in process.events("hazard")].count(True) == 1
    shown = run("token", "--delivery", API_AUTH=TOKEN)
    assert shown.stderr == "redis-scheduler: DELIVERY_AUTH is api: deliveries carry this only with derived\n"
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as process:
        await wait_until(
            lambda: doors(process) == ["HOST)", "TOKEN_TASKS)", "DATA_KEY)", "maxmemory of Redis)"], "they are told"
        )
        assert not [event for event in process.events("hazard") if WARNING in event["warning"]]


async def test_what_a_token_with_rights_sends_never_carries_that_of_the_api(
    redis_url: str, client: RedisClient, receiver: Receiver, tmp_path: Path
) -> None:
    """Else whoever may schedule would get it, and could do everything."""
    hook = receiver.url
    async with (
        serving(tmp_path, REDIS_URL=redis_url, RETRIES="0", LOG_LEVEL="debug") as process,
        client_of(process) as api,
    ):
        user = api.with_token(await make_token(client, "schedule", "replay"))
        for fields in (
            {},
            {"data": 1},
            {"method": "GET"},
            {"on_success": {"webhook": hook}},
            {"repeat": {"every": 60}},
        ):
            await user.schedule(hook, **fields)
        await wait_until(lambda: len(receiver.arrivals) >= 6, "all came")
        assert {arrival.headers["Authorization"] for arrival in receiver.arrivals} == {derived_token(TOKEN)}

        # Nor does what such a token makes lead to where it wants.
        receiver.arrivals.clear()
        for change in ({"webhook": hook}, {"on_success": {"webhook": hook}}, {"on_failure": {"webhook": hook}}):
            key = await api.schedule("http://127.0.0.1:9/" if "on_failure" in change else hook, 600)
            assert (await user.call("PATCH", f"/schedule/{key}", json=change | {"ttl": 0}))[0] == 200
        await wait_until(lambda: len(receiver.arrivals) >= 4, "all came")
        dead = await api.schedule("http://127.0.0.1:9/")

        async def has_died() -> bool:
            return (await api.call("GET", f"/dead/{dead}"))[0] == 200

        await wait_until(has_died, "it is dead")
        assert (await user.call("POST", f"/dead/{dead}/replay", json={"webhook": hook}))[0] == 200
        await wait_until(lambda: len(receiver.arrivals) >= 5, "it came")
        assert {arrival.headers["Authorization"] for arrival in receiver.arrivals} == {derived_token(TOKEN)}
        assert derived_token(TOKEN) not in process.log


def test_there_is_nothing_to_show_without_a_token(tmp_path: Path) -> None:
    shown = run("token", "--delivery", DATA_DIR=str(tmp_path / "none"))
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.endswith("does not exist: start the service first\n")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments", [(), ("--delivery", "list"), ("--delivery", "--public-key"), ("--public-key", "list")]
)
def test_the_command_wants_to_know_what_to_do(arguments: tuple[str, ...]) -> None:
    shown = run("token", *arguments)
    line = "redis-scheduler: token: say one of create, list, revoke, rotate, --delivery or --public-key\n"
    assert (shown.returncode, shown.stdout, shown.stderr) == (2, "", line)


@pytest.mark.parametrize(("mode", "expected"), [("none", None), ("secret:shop", "Bearer of-the-shop")])
async def test_deliveries_carry_nothing_or_a_secret(
    mode: str, expected: str | None, redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    variables = {"DELIVERY_AUTH": mode, "SECRET_SHOP": "Bearer of-the-shop", "PROCESSES": "2"}
    async with serving(tmp_path, REDIS_URL=redis_url, **variables) as process, client_of(process) as client:
        assert await carried(client, receiver) == expected


@pytest.mark.parametrize("role", [(), ("worker",)])
def test_a_secret_that_is_missing_at_the_start_is_one_line(role: tuple[str, ...]) -> None:
    result = run(*role, API_AUTH=TOKEN, DELIVERY_AUTH="secret:shop", REDIS_URL="redis://127.0.0.1:1")
    line = "redis-scheduler: DELIVERY_AUTH=secret:shop: the secret shop is not set: set SECRET_SHOP\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", line)


HIDDEN = "f3c9/a+b=of-the-shop"
ESCAPED = "".join(f"%{byte:02x}" for byte in HIDDEN.encode())


async def all_of(raw: redis.asyncio.Redis) -> AsyncIterator[bytes]:
    """Every key of Redis, with its value as it would be copied."""
    async for key in raw.scan_iter():
        yield key
        kind = await raw.type(key)
        if kind == b"string":
            yield repr(await raw.get(key)).encode()
        elif kind == b"hash":
            yield repr(await raw.hgetall(key)).encode()
        elif kind == b"stream":
            yield repr(await raw.xrange(key)).encode()
        elif kind == b"zset":
            yield repr(await raw.zrange(key, 0, -1)).encode()


async def test_a_secret_stands_with_the_workers_alone(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    async def echo(request: web.Request) -> web.Response:
        said = f"{dict(request.headers)} {json.dumps(request.headers['X-Key'])} {ESCAPED} {HIDDEN.upper()}"
        return web.Response(status=500, text=said + request.headers["X-Key"][:12])

    receiver.behaviour = echo
    (tmp_path / "secrets").write_text(f"shop={HIDDEN}\n")
    variables = {"SECRETS_FILE": str(tmp_path / "secrets"), "LOG_LEVEL": "debug", "PROCESSES": "2"}
    async with (
        serving(tmp_path, REDIS_URL=redis_url, RETRIES="0", RESULT_TTL="60", **variables) as process,
        client_of(process) as client,
    ):
        key = await client.schedule(
            receiver.url,
            headers={"X-Key": "${secret:shop}"},
            on_failure={"webhook": "http://127.0.0.1:9/", "ttl": 600, "headers": {"Y": "${secret:shop}"}},
        )
        await wait_until(lambda: raw.zscore(KEYS.dead, key), "it is dead")
        assert receiver.arrivals[0].headers["X-Key"] == HIDDEN
        _, shown = await client.call("GET", f"/schedule/{key}")
        assert shown["data"]["info"]["headers"] == {"X-Key": "${secret:shop}"}
        said = [json.dumps(await client.call("GET", path)) for path in (f"/schedule/{key}", "/schedules", "/dead")]
        assert "'X-Key': '***'" in said[0]
        said += [repr(value) async for value in all_of(raw)]
        said += [process.log, run("export", REDIS_URL=redis_url, DATA_DIR=str(tmp_path)).stdout]
        assert any("${secret:shop}" in text for text in said[3:])
    # Not even the half of it, with which the answer ended.
    assert [text for text in said for part in ("f3c9", "of-the-shop", ESCAPED[:12]) if part in text.lower()] == []


async def test_an_attempt_without_its_secret_fails_and_names_it(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    variables = {"REDIS_URL": redis_url, "RETRIES": "20", "RETRY_TIME": "1"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        key = await client.schedule(receiver.url, headers={"X-Key": "${secret:shop}"})
        bound = await client.schedule(receiver.url, headers={"X-Key": "${secret:crm}"}, retries=0)

        async def error_of(key: str) -> str:
            _, shown = await client.call("GET", f"/schedule/{key}")
            return str((shown["data"]["info"]["last_failure"] or {}).get("error"))

        await wait_until(lambda: raw.zscore(KEYS.dead, bound), "it is dead")
        assert await error_of(bound) == "the secret crm is not set"

        async def has_failed() -> bool:
            return await error_of(key) == "the secret shop is not set"

        await wait_until(has_failed, "it has failed")
    assert not receiver.arrivals
    # A worker that has it delivers what waited for it, only where it may.
    variables |= {"SECRET_SHOP": HIDDEN, "SECRET_CRM": "crm", "SECRET_CRM_HOSTS": "crm.example"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        await client.call("POST", f"/dead/{bound}/replay", json={"retries": 0})
        await wait_until(lambda: receiver.arrivals, "it came")
        assert receiver.arrivals[0].headers["X-Key"] == HIDDEN
        await wait_until(lambda: raw.zscore(KEYS.dead, bound), "it is dead again")
        assert await error_of(bound) == "the secret crm may not be sent to this host"
        assert {arrival.key for arrival in receiver.arrivals} == {key}


@pytest.mark.parametrize("value", ["${secret:}", "${secret:Shop}", "a ${secret:shop", "${secret:shop}${secret:a-b}"])
async def test_what_names_no_secret_is_refused(value: str, api: Client) -> None:
    body = {"webhook": "http://127.0.0.1:9/", "ttl": 60, "headers": {"X": value}}
    status, content = await api.call("POST", "/schedule", json=body)
    rule = "must name a secret as ${secret:NAME}, NAME of 1 to 64 small letters, digits and _"
    assert (status, content["field"]) == (400, "headers")
    assert content["error"].startswith(f"headers: X {rule}")
