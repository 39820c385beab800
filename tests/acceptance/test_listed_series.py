"""GET /schedules?repeats=true: series by their next time, from an index of their own once that has all of them."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.process.doctor import UNLISTED
from redis_scheduler.store.vault import Vault
from redis_scheduler.task.listing import SERIES
from tests.acceptance.test_doctor import doctor
from tests.acceptance.test_filters import listed
from tests.scripts.states import ask
from tests.support.names import KEYS
from tests.support.service import Client, client_of, serving

HOOK = "http://shop.example/"
KEY = b"s" * 32
DATA_KEY = base64.b64encode(KEY).decode()


@pytest.fixture(params=["plain", "sealed"])
async def service(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    """An API that keeps records as they are, or sealed."""
    variables = {"DATA_KEY": DATA_KEY} if request.param == "sealed" else {}
    async with serving(tmp_path, "api", REDIS_URL=redis_url, **variables) as process, client_of(process) as client:
        yield client


async def keys(api: Client, **filters: str) -> list[str]:
    return [info["key"] for info in await listed(api, **filters)]


async def test_they_come_by_their_next_time_from_the_index(service: Client, raw: redis.asyncio.Redis) -> None:
    late = await service.schedule(HOOK, 9_000, repeat={"every": 60})
    typed = await service.schedule(HOOK, 1_000, "/schedule?type=mail", repeat={"every": 60}, labels={"order": "17"})
    paused = await service.schedule(HOOK, 5_000, repeat={"every": 60})
    other = await service.schedule(HOOK, 3_000)
    await service.call("POST", f"/schedule/{paused}/pause")
    assert await raw.get(KEYS.series_listed) == b"1"
    for limit in ("1", "2", "100"):
        assert await keys(service, repeats="true", limit=limit) == [typed, paused, late]
    assert await keys(service, repeats="true", state="paused") == [paused]
    assert await keys(service, repeats="true", type="mail") == [typed]
    assert await keys(service, repeats="true", label="order=17") == [typed]
    assert await keys(service, repeats="false") == [other]

    # A task that becomes a series, and a series that is none any more.
    for key, repeat in ((other, {"every": 60}), (late, None)):
        status, _ = await service.call("PATCH", f"/schedule/{key}", json={"repeat": repeat, "ttl": 4_000})
        assert status == 200
    assert await keys(service, repeats="true") == [typed, other, paused]
    status, done = await service.call("POST", "/schedules/cancel?repeats=true")
    assert (status, done["touched"]) == (200, 3)
    assert await keys(service) == [late]
    assert not await raw.exists(KEYS.type_index(SERIES))


async def test_series_are_not_run_by_a_filter_for_them(service: Client) -> None:
    status, content = await service.call("POST", "/schedules/run?repeats=true")
    assert (status, content["field"], content["code"]) == (400, "repeats", "contradiction")


async def as_before_the_index(raw: redis.asyncio.Redis) -> None:
    """Make of all series what a version before the index had of them."""
    vault = Vault([KEY])
    for name, record in dict(await ask(raw, "HGETALL", KEYS.tasks)).items():
        if b'"seal":' in record:
            front, tail = vault.opened(name.decode(), record).split(b",", 1)
            await raw.hset(KEYS.tasks, name, front + vault.seal_tail(name.decode(), b"," + tail, None))
    await raw.delete(KEYS.type_index(SERIES), KEYS.series_listed)
    await raw.srem(KEYS.types, SERIES)


async def test_none_of_an_earlier_version_is_missing(
    service: Client, raw: redis.asyncio.Redis, redis_url: str, request: pytest.FixtureRequest
) -> None:
    wanted = [await service.schedule(HOOK, 1_000 + number, repeat={"every": 60}) for number in range(3)]
    await service.schedule(HOOK, 500)
    await as_before_the_index(raw)
    assert await keys(service, repeats="true") == wanted
    _, first = await service.call("GET", "/schedules?repeats=true&limit=1")
    [*_, said, verdict] = await doctor(0, REDIS_URL=redis_url)
    assert (said, verdict) == (UNLISTED, "Nothing is wrong: each of 4 tasks is in its place.")

    variables = {"REDIS_URL": redis_url}
    if "sealed" in request.node.name:
        # Nobody but who opens them can say which of the sealed ones are series.
        assert UNLISTED in await doctor(0, "--repair", **variables)
        assert await raw.get(KEYS.series_listed) is None
        assert await keys(service, repeats="true") == wanted
        variables["DATA_KEY"] = DATA_KEY
    lines = await doctor(0, "--repair", **variables)
    assert sum("is missing in the index of its kind series" in line for line in lines) == len(wanted)
    assert UNLISTED not in lines
    assert await raw.zrange(KEYS.type_index(SERIES), 0, -1) == [key.encode() for key in wanted]
    assert await keys(service, repeats="true") == wanted
    # A list goes on as it began.
    status, rest = await service.call("GET", f"/schedules?repeats=true&cursor={first['next']}")
    assert (status, [one["info"]["key"] for one in rest["data"]]) == (200, wanted[1:])
    assert "Nothing is wrong" in (await doctor(0, REDIS_URL=redis_url))[-1]


async def test_those_of_all_shards_come_by_their_next_time(redis_url: str, tmp_path: Path) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url, SHARDS="3") as process, client_of(process) as api:
        wanted = {}
        for number in range(9):
            ttl = 1_000 + number * 7 % 9
            wanted[ttl] = await api.schedule(HOOK, ttl, repeat={"every": 60})
            await api.schedule(HOOK, ttl)
        by_time = [wanted[ttl] for ttl in sorted(wanted)]
        assert len({key[-1] for key in by_time}) > 1, "several shards"
        for limit in ("2", "100"):
            assert await keys(api, repeats="true", limit=limit) == by_time
