"""Each answer carries the id of its request, and the log has it where it is about one."""

import asyncio
import re

import pytest

from tests.acceptance.test_strangers import answer_to, request
from tests.support.service import Client, Process
from tests.support.waiting import wait_until

MADE = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")
TAKEN = ["a", "7f9c24e8-3b1f-4f0e-9a52-0c1d5b2b9a11", "Root=1-67891233-abcdef012345678912345678", "x" * 128]
NOT_TAKEN = ["", "x" * 129, "a b", 'a"b', "a,b", "é", "<b>", "a;b"]


async def id_of(api: Client, path: str = "/stats", **headers: str) -> str:
    async with api.session.get(api.url + path, headers={**api.headers, **headers}) as response:
        [found] = response.headers.getall("X-Request-Id")
        return found


@pytest.mark.parametrize("given", TAKEN)
async def test_an_id_that_was_given_comes_back(api: Client, given: str) -> None:
    assert await id_of(api, **{"X-Request-Id": given}) == given


@pytest.mark.parametrize("given", NOT_TAKEN)
async def test_what_can_be_no_id_is_passed_over(api: Client, given: str) -> None:
    assert MADE.fullmatch(await id_of(api, **{"X-Request-Id": given}))


async def test_each_request_has_another_also_on_one_connection(api: Client) -> None:
    paths = ["/", "/stats", "/nowhere", "/schedule/none", "/openapi.json"]
    found = [await id_of(api, path) for path in paths]
    found += await asyncio.gather(*(id_of(api) for _ in range(20)))
    found.append(await id_of(api, Authorization="wrong"))
    assert all(map(MADE.fullmatch, found))
    assert len(set(found)) == len(found)
    assert await id_of(api, **{"X-Request-Id": "mine"}) == "mine"
    assert await id_of(api) != "mine"


async def test_requests_behind_one_another_keep_their_own(api: Client, api_process: Process) -> None:
    port = (await api_process.started())["port"]
    both = b"".join(request("GET", "/", [f"X-Request-Id: {name}"], b"") for name in ("first", "second"))
    answer = await answer_to(port, both.replace(b"Connection: close\r\n", b"", 1))
    assert re.findall(rb"(?i)x-request-id: (\w+)\r\n", answer) == [b"first", b"second"]


async def test_the_log_has_it(api: Client, api_process: Process) -> None:
    assert (await api.call("POST", "/purge", headers={"X-Request-Id": "who-did-this"}))[0] == 200
    purged = await wait_until(lambda: api_process.events("purged"), "the purge is in the log")
    assert purged[-1]["request_id"] == "who-did-this"
