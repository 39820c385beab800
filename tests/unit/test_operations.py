"""How an operation on many tasks ends where something fails between its steps."""

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from redis_scheduler.api.exclusive import Exclusive
from redis_scheduler.api.operations import OperationsApi, stepped
from redis_scheduler.api.steps import Rest
from redis_scheduler.errors import Code, RequestRefused, SchedulerError, StoreFull, StoreUnavailable
from redis_scheduler.store.filters import ANY
from redis_scheduler.store.written import Operation

AWAY = StoreUnavailable("away")
FULL = StoreFull("full")
BUSY = RequestRefused(Code.BUSY, "wait")
NOT_ALLOWED = RequestRefused(Code.CONTRADICTION, "no")


def api_of(count: int) -> Any:
    """An API of so many shards that are there."""
    api: Any = object.__new__(OperationsApi)
    api._one_bulk = Exclusive()
    api._rest = Rest()

    async def shards() -> list[SimpleNamespace]:
        return [SimpleNamespace(number=number, is_away=False) for number in range(count)]

    api._places = SimpleNamespace(all=shards, count=count)
    return api


async def operated(api: Any, error: SchedulerError, good_steps: int, **given: str) -> dict[str, Any]:
    """Let an operation without an end fail after so many steps of each request; its answer."""
    left = good_steps

    async def take(_calls: object, _operation_id: str, operation: Operation) -> Operation:
        nonlocal left
        if not left:
            raise error
        left -= 1
        return stepped(operation, 2, 3, "onward")

    request = Request({"type": "http", "client": None, "path": "/schedules/shift"})
    answer = await api._operated(request, given, "shifted", ANY, "by 1", take)
    found: dict[str, Any] = json.loads(answer.body)
    return found


@pytest.mark.parametrize("error", [AWAY, BUSY, FULL])
@pytest.mark.parametrize("count", [1, 2])
async def test_what_was_done_before_an_error_is_answered_with_the_id_to_go_on(
    error: SchedulerError, count: int
) -> None:
    answer = await operated(api_of(count), error, 2)
    assert (answer["status"], answer["touched"], answer["looked_at"]) == (200, 4, 6)
    assert answer["next"] == answer["operation"] != ""


@pytest.mark.parametrize(("error", "status"), [(AWAY, 503), (FULL, 507)])
async def test_a_first_step_that_may_have_been_taken_is_answered_with_the_id_to_go_on(
    error: SchedulerError, status: int
) -> None:
    answer = await operated(api_of(1), error, 0)
    assert (answer["status"], len(answer["operation"])) == (status, 22)


@pytest.mark.parametrize(
    ("error", "good_steps", "given"),
    [(AWAY, 0, {"dry_run": "true"}), (BUSY, 0, {}), (NOT_ALLOWED, 2, {}), (AWAY, 2, {"dry_run": "true"})],
)
async def test_an_error_that_leaves_nothing_to_answer_is_raised(
    error: SchedulerError, good_steps: int, given: dict[str, str]
) -> None:
    with pytest.raises(type(error), match=str(error)):
        await operated(api_of(1), error, good_steps, **given)


async def test_one_that_waits_too_long_for_its_first_turn_is_refused() -> None:
    api = api_of(1)
    async with api._one_bulk.held(), asyncio.timeout(10):
        with pytest.raises(RequestRefused, match="wait for one another"):
            await operated(api, AWAY, 9)


async def test_one_that_waits_too_long_for_its_next_turn_answers_what_it_did() -> None:
    api, has_begun = api_of(1), asyncio.Event()

    async def take(_calls: object, _operation_id: str, operation: Operation) -> Operation:
        has_begun.set()
        await asyncio.sleep(0.01)
        return stepped(operation, 2, 3, "onward")

    request = Request({"type": "http", "client": None})
    asking = asyncio.create_task(api._operated(request, {}, "shifted", ANY, "by 1", take))
    await has_begun.wait()
    async with api._one_bulk.held(), asyncio.timeout(10):
        answer = json.loads((await asking).body)
    assert (answer["status"], answer["touched"], answer["next"]) == (200, 2, answer["operation"])


async def test_a_rest_is_as_long_as_the_work_before_it() -> None:
    rest, began_s = Rest(), time.thread_time()
    while time.thread_time() - began_s < 0.02:
        pass
    rested_from_s = time.monotonic()
    await rest()
    assert time.monotonic() - rested_from_s >= 0.02
