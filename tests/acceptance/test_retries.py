"""Tasks that say how they are retried, on the real process."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from aiohttp import web

from tests.acceptance.test_bad_input import refused
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.waiting import wait_until

SLACK_S = 1.0
"""So much later than asked for a retry may come on a busy machine."""

RETRIES_COME_LATER = "retries come as soon as their shard is looked at: of four every two seconds"


@pytest.fixture
async def variables() -> dict[str, str]:
    """Settings of the service; a test may override them."""
    return {}


@pytest.fixture
async def service(redis_url: str, tmp_path: Path, variables: dict[str, str]) -> AsyncIterator[Client]:
    async with serving(tmp_path, REDIS_URL=redis_url, **variables) as process, client_of(process) as client:
        yield client


async def dead(service: Client, key: str) -> dict[str, Any]:
    """Wait until the task is dead; return what is shown of it."""

    async def info() -> Any:
        _, content = await service.call("GET", f"/schedule/{key}")
        return content["data"]["info"] if content["data"]["info"]["state"] == "dead" else None

    found: dict[str, Any] = await wait_until(info, "the task is dead")
    return found


def pauses(receiver: Receiver) -> list[float]:
    """The seconds between an arrival and the next."""
    return [later.at - earlier.at for earlier, later in itertools.pairwise(receiver.arrivals)]


def assert_paused(receiver: Receiver, *delays_s: float) -> None:
    """Each pause was as long as asked for, and not much longer."""
    for pause, delay_s in zip(pauses(receiver), delays_s, strict=True):
        assert delay_s - 0.01 < pause < delay_s + SLACK_S


@pytest.mark.parametrize(
    ("options", "delays_s"),
    [
        ({"retries": 2, "retry_time": 0.3}, [0.3, 0.3]),
        ({"retries": 0}, []),
        ({"retries": 3, "retry_time": 0.2, "retry_backoff": "linear", "retry_jitter": 0}, [0.2, 0.4, 0.6]),
        (
            {"retries": 4, "retry_time": 0.1, "retry_backoff": "exponential", "retry_max": 0.5, "retry_jitter": 0},
            [0.1, 0.2, 0.4, 0.5],
        ),
        ({"retry_times": [0.4, 0.1]}, [0.4, 0.1]),
        ({"retries": -1, "retry_time": 1.1, "retry_for": 3}, [1.1, 1.1]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
async def test_a_task_is_retried_as_it_says(
    options: dict[str, Any], delays_s: list[float], service: Client, receiver: Receiver
) -> None:
    receiver.status = 500
    info = await dead(service, await service.schedule(receiver.url, 0, **options))
    assert {name: info[name] for name in options} == options
    assert info["retry"] == len(delays_s) + 1
    assert_paused(receiver, *delays_s)


@pytest.mark.parametrize(
    "variables",
    [{"RETRIES": "3", "RETRY_TIME": "0.2", "RETRY_BACKOFF": "exponential", "RETRY_MAX": "0.4", "RETRY_JITTER": "0"}],
)
async def test_variables_say_it_for_all_tasks_and_a_task_for_itself(service: Client, receiver: Receiver) -> None:
    receiver.status = 500
    await dead(service, await service.schedule(receiver.url))
    assert_paused(receiver, 0.2, 0.4, 0.4)
    receiver.arrivals.clear()
    await dead(service, await service.schedule(receiver.url, retry_backoff="fixed", retries=2))
    assert_paused(receiver, 0.2, 0.2)


@pytest.mark.one_shard(RETRIES_COME_LATER)
@pytest.mark.parametrize("variables", [{"RETRY_FOR": "1", "RETRY_TIME": "0.9"}])
async def test_a_retry_that_nobody_could_make_in_time_is_not_made_at_all(
    redis_url: str, tmp_path: Path, service: Client, receiver: Receiver
) -> None:
    """The worker is away while the retry is due."""
    receiver.status = 500
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url) as process,
        client_of(process) as api,
        redis.asyncio.Redis.from_url(redis_url) as raw,
    ):
        key = await service.schedule(receiver.url)

        async def waits() -> bool:
            _, content = await api.call("GET", f"/schedule/{key}")
            return bool(content["data"]["info"]["state"] == "waiting")

        await wait_until(waits, "the retry waits", every_s=0.01)
        # A call of Redis that holds it up past the end.
        await raw.execute_command("CLIENT", "PAUSE", 1500, "ALL")
    info = await dead(service, key)
    assert (info["retry"], info["last_failure"]["status"]) == (1, 500)
    assert len(receiver.arrivals) == 1


def in_utc(seconds_from_now: float) -> str:
    return formatdate(time.time() + seconds_from_now, usegmt=True)


AN_HOUR_S = 3600


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "least_s", "most_s"),
    [
        (lambda: {"Retry-After": "2"}, 2, 2.2),
        # A date is in whole seconds.
        (lambda: {"Retry-After": in_utc(3)}, 2, 3.3),
        # This receiver's clock is an hour ahead.
        (lambda: {"Retry-After": in_utc(AN_HOUR_S + 2), "Date": in_utc(AN_HOUR_S)}, 1, 3.3),
        (lambda: {"Retry-After": "in a while"}, 0.3, 0.3),
    ],
    ids=["seconds", "date", "date of another clock", "nonsense"],
)
async def test_a_receiver_that_asks_to_wait_is_asked_again_then(
    headers: Callable[[], dict[str, str]],
    least_s: float,
    most_s: float,
    status: int,
    service: Client,
    receiver: Receiver,
) -> None:
    async def busy_first(request: web.Request) -> web.Response:
        is_first = request.headers["Schedule-Attempt"] == "1"
        return web.Response(status=status if is_first else 200, headers=headers() if is_first else {})

    receiver.behaviour = busy_first
    await service.schedule(receiver.url, 0, retry_time=0.3)
    stats = await service.drained()
    assert (stats["counters"]["failed"], stats["counters"]["delivered"]) == (1, 1)
    [pause] = pauses(receiver)
    assert least_s - 0.01 < pause < most_s + SLACK_S


@pytest.mark.parametrize("variables", [{"FINAL_STATUSES": "400-499,!429", "RETRY_TIME": "0.1", "RETRIES": "1"}])
@pytest.mark.parametrize(
    ("status", "options", "attempts"),
    [
        (404, {}, 1),
        (429, {}, 2),
        (500, {}, 2),
        (404, {"final_statuses": "none"}, 2),
        (500, {"final_statuses": "500"}, 1),
    ],
)
async def test_a_final_status_ends_a_task_at_once(
    status: int, options: dict[str, str], attempts: int, service: Client, receiver: Receiver
) -> None:
    receiver.status = status
    info = await dead(service, await service.schedule(receiver.url, 0, **options))
    assert (info["retry"], info["last_failure"]["status"], len(receiver.arrivals)) == (attempts, status, attempts)


async def test_a_receiver_may_say_that_it_wants_a_task_never_again(service: Client, receiver: Receiver) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=500, headers={"Schedule-Retry": "never"})

    receiver.behaviour = refuse
    info = await dead(service, await service.schedule(receiver.url, 0, retry_time=0.1))
    assert (info["retry"], len(receiver.arrivals)) == (1, 1)


async def test_a_change_is_checked_with_what_the_task_has_already(service: Client, receiver: Receiver) -> None:
    key = await service.schedule(receiver.url, 600, retries=3)
    status, content = await service.call("PATCH", f"/schedule/{key}", json={"retry_times": [1]})
    assert (status, content["code"], content["field"]) == (400, "contradiction", "retries")
    changed, _ = await service.call("PATCH", f"/schedule/{key}", json={"retry_times": [1], "retries": None})
    assert changed == 200
    _, content = await service.call("GET", f"/schedule/{key}")
    assert (content["data"]["info"]["retry_times"], "retries" in content["data"]["info"]) == ([1], False)


async def expired(service: Client, count: int) -> dict[str, Any]:
    """Wait until so many tasks have expired; return the statistics."""

    async def stats() -> Any:
        _, content = await service.call("GET", "/stats")
        return content["data"] if content["data"]["counters"]["expired"] == count else None

    found: dict[str, Any] = await wait_until(stats, "the tasks have expired")
    return found


async def test_a_task_that_expires_is_never_sent_after_an_outage(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as process, client_of(process) as api:
        expires = await api.schedule(receiver.url, 0.1, "/schedule?type=mail", expire=0.5)
        in_time, plain = await api.schedule(receiver.url, 0.1, expire=600), await api.schedule(receiver.url, 0.1)
        await asyncio.sleep(0.8)  # the outage of all workers: longer than the first may wait
        async with serving(tmp_path, "worker", REDIS_URL=redis_url):
            stats = await expired(api, 1)
            await wait_until(lambda: len(receiver.arrivals) == 2, "the others have come")
        assert (stats["ledger_balanced"], receiver.times_by_key) == (True, {in_time: 1, plain: 1})
        status, content = await api.call("GET", f"/schedule/{expires}")
        assert (status, content["data"]["info"]["state"]) == (200, "expired")


@pytest.mark.parametrize("variables", [{"CONCURRENCY": "1"}])
async def test_a_task_that_expires_while_it_stands_in_line_is_not_sent(service: Client, receiver: Receiver) -> None:
    receiver.delay_s = 1.5
    first = await service.schedule(receiver.url)
    await wait_until(lambda: receiver.arrivals, "the only slot is taken")
    await service.schedule(receiver.url, 0, expire=0.5)
    await expired(service, 1)
    assert receiver.times_by_key == {first: 1}


@pytest.mark.one_shard(RETRIES_COME_LATER)
async def test_a_task_expires_as_soon_as_no_attempt_can_come_in_time(service: Client, receiver: Receiver) -> None:
    receiver.status = 500
    key = await service.schedule(receiver.url, 0, expire=3.5, retry_time=2)
    stats = await expired(service, 1)
    assert (stats["counters"]["failed"], stats["counters"]["died"]) == (2, 0)
    assert receiver.times_by_key == {key: 2}


async def test_a_receiver_may_want_a_task_again_as_often_as_the_task_allows(
    service: Client, receiver: Receiver
) -> None:
    async def again(_: web.Request) -> web.Response:
        # The second time fails once: its attempts begin anew.
        return web.Response(
            status=500 if len(receiver.arrivals) == 2 else 200, headers={"Schedule-Again-In": "0.4", "X-Other": "1"}
        )

    receiver.behaviour = again
    await service.schedule(receiver.url, 0, again_most=2, retry_time=0.1, data={"again": 7})
    await wait_until(lambda: len(receiver.arrivals) == 3, "it came again")
    _, content = await service.call("GET", f"/schedule/{receiver.arrivals[0].key}")
    assert content["data"]["info"]["again"] in (1, 2)
    stats = await service.drained()
    assert [arrival.attempt for arrival in receiver.arrivals] == [1, 1, 2, 1]
    assert {arrival.body for arrival in receiver.arrivals} == {b'{"again": 7}'}
    assert_paused(receiver, 0.4, 0.1, 0.4)
    counted = {name: stats["counters"][name] for name in ("scheduled", "delivered", "failed")}
    assert (counted, stats["ledger_balanced"]) == ({"scheduled": 3, "delivered": 3, "failed": 1}, True)


async def test_a_task_that_does_not_say_so_does_not_come_again(service: Client, receiver: Receiver) -> None:
    async def again(_: web.Request) -> web.Response:
        return web.Response(headers={"Schedule-Again-In": "0"})

    receiver.behaviour = again
    for fields in ({}, {"retries": 2}):
        await service.schedule(receiver.url, 0, "/schedule", **fields)
    stats = await service.drained()
    assert (len(receiver.arrivals), stats["counters"]["delivered"]) == (2, 2)


LONG: tuple[Any, ...] = (0, -1, "1h", None, [], 1e99)
COUNTS: tuple[Any, ...] = (-2, 1.5, "3", True, None, [], {}, 1_000_001, 10**30)
BACKOFFS: tuple[Any, ...] = ("", "Linear", 2, None, "fixed\n", "ünbounded")
TIMES: tuple[Any, ...] = ([], 5, [5, -1], [None], ["5"], [1] * 101, None, {})
STATUSES: tuple[Any, ...] = ("", 410, ["410"], "4xx", "200", "!429", "410,!410", "499-400", "410\n", "4" * 999, None)
WRONG: list[tuple[dict[str, Any], str]] = [
    *[({"retries": value}, "retries") for value in COUNTS],
    *[({"retry_time": value}, "retry_time") for value in (-1, "5m", None, 1e300, 315_360_001, "\u0007", [5])],
    *[({"retry_backoff": value}, "retry_backoff") for value in BACKOFFS],
    *[({"retry_max": value, "retry_backoff": "linear"}, "retry_max") for value in (0, -1, "1", None)],
    *[({"retry_jitter": value}, "retry_jitter") for value in (-0.1, 1.1, "0", None, True)],
    *[({"retry_for": value}, "retry_for") for value in (0, -5, "1h", None)],
    *[({"retry_times": value}, "retry_times") for value in TIMES],
    *[({"again_most": value}, "again_most") for value in COUNTS],
    *[({"expire": value}, "expire") for value in LONG],
    *[({"final_statuses": value}, "final_statuses") for value in STATUSES],
    ({"retry_times": [1], "retry_time": 5}, "retry_time"),
    ({"retries": 0, "retry_jitter": 1}, "retry_jitter"),
    ({"retry_tims": [1]}, "retry_tims"),
]


@pytest.mark.parametrize(("fields", "field"), WRONG, ids=lambda value: str(value)[:40])
async def test_what_is_wrong_is_named_and_nothing_is_written(
    fields: dict[str, Any], field: str, api: Client, raw: redis.asyncio.Redis
) -> None:
    body = {"webhook": "http://127.0.0.1:9/", "ttl": 60} | fields
    status, error = await refused(api, raw, "POST", "/schedule", json=body)
    assert status == 400
    assert error.startswith(f"{field}: ")
