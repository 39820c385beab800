"""Fixtures: an API process on the session's Redis, a client of it, and browsers at its dashboard."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.workers import format_suffix
from redis_scheduler.task.options import RECORD_FORMAT
from tests.support.audit import plain
from tests.support.names import KEYS, SHARDS
from tests.support.pages import Browser
from tests.support.receiver import Receiver, receiving
from tests.support.service import TOKEN, Client, Process, client_of
from tests.support.store import Store
from tests.support.waiting import wait_until


@pytest.fixture
def store(client: RedisClient) -> Store:
    """Both halves of the store, as a worker whose name says that it reads all records: the API, which may look at any
    moment, refuses options beside one that does not."""
    return Store(client, f"worker-a{format_suffix(RECORD_FORMAT)}")


@pytest.fixture(scope="module")
def api_process(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A `redis-scheduler api` that lives as long as the module; nothing delivers."""
    folder: Path = tmp_path_factory.mktemp("api")

    async def start() -> Process:
        async with plain(redis_server) as raw:
            await raw.flushall()
            given = {"REDIS_URL": redis_server, "API_AUTH": TOKEN, "MAX_BODY": "9000", "RESULT_TTL": "0"}
            process = Process(folder, "api", **given, SHARDS=str(SHARDS))
            # Its first contact writes the group, and its start a mark; whatever it writes from then on was asked for.
            written = (KEYS.queue, KEYS.token_mark)

            async def has_met_redis() -> bool:
                return bool(await raw.exists(*written) == len(written))

            await wait_until(has_met_redis, "the API has met Redis", timeout_s=20)
        return process

    process = asyncio.run(start())
    try:
        yield process
    finally:
        asyncio.run(process.stop())


@pytest.fixture
async def api(api_process: Process, redis_url: str) -> AsyncIterator[Client]:
    """A user of the API, on an empty Redis."""
    async with client_of(api_process) as client:
        yield client


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """What browsers send by."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as found:
        yield found


@pytest.fixture
async def browser(api: Client, session: aiohttp.ClientSession) -> Browser:
    """Nobody is signed in."""
    return Browser(session, api.url)


@pytest.fixture
async def admin(browser: Browser) -> Browser:
    """Signed in by the service's own token."""
    assert (await browser.sign_in(TOKEN)).status == 303
    return browser


@pytest.fixture
async def alerted() -> AsyncIterator[Receiver]:
    """What ALERT_WEBHOOK names."""
    async with receiving() as receiver:
        yield receiver
