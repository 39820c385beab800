"""Strangers who try to smuggle requests into those of others, through proxies that share their connections."""

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest
import redis.asyncio

from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.support.names import KEYS
from tests.support.reverse_proxies import PROXIES, is_missing, reverse_proxy
from tests.support.smuggling import send_as_stranger, smuggling_pair, smuggling_requests

STRANGERS = 4
"""At each proxy, one request after another each."""

RATE = 100
"""Tasks a second that clients schedule through each proxy."""


@pytest.mark.case("24", "proxies with smugglers among their clients, under load")
async def test_smugglers_change_nothing_that_others_ask_for(
    checker: Checker, figures: Figures, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    kinds = [kind for kind in PROXIES if not is_missing(kind)]
    if not kinds:
        pytest.skip("neither nginx nor haproxy is installed")
    api = await checker.start("api")
    await checker.start("worker")
    service = (await api.started())["port"]
    attempts = itertools.count()

    async def smuggle(port: int, gap: int) -> None:
        requests, pair = smuggling_requests(gap), smuggling_pair(gap)
        for request in itertools.cycle([*requests, *pair * 10]):
            await send_as_stranger(port, request)
            next(attempts)

    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for number, kind in enumerate(kinds):
            folder = tmp_path / f"proxy-{number}"
            folder.mkdir()
            ports.append(await stack.enter_async_context(reverse_proxy(kind, folder, service)))
        strangers = [
            asyncio.create_task(smuggle(port, 100 * gap)) for port, gap in itertools.product(ports, range(STRANGERS))
        ]
        count = RATE * scaled(15, 3)
        await asyncio.gather(
            *(checker.load(api, count, ttl=lambda at: at % 3, rate=RATE, clients=4, port=port) for port in ports)
        )
        for stranger in strangers:
            stranger.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)
    figures.note(proxies=len(kinds), smuggling_attempts=next(attempts))
    await checker.drained()
    for changed in ("purged", "cancelled", "replayed"):
        assert not int(await raw.hget(KEYS.counters, changed) or 0), changed
    verdict = await checker.verdict()
    assert verdict.unknown == verdict.refused == 0, "each client had its own answer"
