"""How the command's own process starts (signals, token, port, health, Redis) and ends, in the reverse order.

Within it runs a Service (service.py), or a Supervisor (supervisor.py) whose children run a Service each.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from redis_scheduler.errors import StartError, StoreFull, StoreUnavailable, WrongServer
from redis_scheduler.logs import Events
from redis_scheduler.process import health
from redis_scheduler.process.announcement import announce
from redis_scheduler.process.credentials import credentials_of
from redis_scheduler.process.embedded import EmbeddedServer, redis_at
from redis_scheduler.process.hazards import UNLIMITED, hazards, open_doors
from redis_scheduler.process.imports import import_parts
from redis_scheduler.process.process import Process
from redis_scheduler.process.token import kept_token
from redis_scheduler.process.tracing import check_tracing
from redis_scheduler.process.ways import announce_ways, check_ways
from redis_scheduler.settings import API, WORKER, Settings
from redis_scheduler.stopping import finished, setting_on
from redis_scheduler.store.answer_shape import NUMBER
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.configuration import configuration_warnings
from redis_scheduler.store.generations import generations_of
from redis_scheduler.store.marks import replaced, servers_known
from redis_scheduler.store.memory import memory_of
from redis_scheduler.store.neighbour import neighbours
from redis_scheduler.store.url import urls_of_shards

logger = Events(__name__)

API_TIMEOUT_S = 0.9
"""One send to Redis for a request: after two of them, within 2 s, a client gets its 503."""


@contextlib.asynccontextmanager
async def started(role: str, settings: Settings) -> AsyncIterator[Process]:
    """Start the command's process; all that it took and started ends with the block.

    Raises StartError or SettingsError.
    """
    process = Process(role, settings)
    process.listen_for_signals()
    if settings.processes == 1:
        import_parts(role)  # before the log says `started`, so that the process serves from then on
    process.auth = settings.api_auth or kept_token(settings.data_dir)
    # What is wrong with them is said before anything starts.
    process.credentials = None if role == API else credentials_of(settings, process.token)
    listens = role != WORKER or settings.metrics_port is not None
    for hazard in hazards(settings, process.auth, listens, delivers=role != API):
        logger.warning("hazard", warning=hazard)
    check_tracing(settings)
    if role != API:
        check_ways(settings)
    with contextlib.ExitStack() as listeners:
        if listens:
            from redis_scheduler.api.server import listen

            if role != WORKER:
                process.listener = listeners.enter_context(listen(settings.listen_host, settings.port))
            if settings.metrics_port is not None:
                listener = listen(settings.listen_host, settings.metrics_port, "METRICS_PORT")
                process.metrics_listener = listeners.enter_context(listener)
        # Health first: the private Redis may take long to load its data.
        async with (
            health.beating(lambda: process.is_well()),
            redis_at(settings, functools.partial(_serving, process)) as process.redis_url,
        ):
            if not process.stop.is_set():
                if role != API:
                    announce_ways(settings)
                for door in open_doors(settings, process.credentials, listens):
                    logger.info("open-door", door=door)
                announce(role, settings, process.token, process.listener, process.metrics_listener)
            await refuse_swapped(process)
            yield process
    logger.info("stopped")


async def refuse_swapped(process: Process) -> None:
    """Raise StartError where REDIS_URL names several servers, and one of them holds another shard than the one that it
    has there, or one is missing. Of what is away nothing is known yet."""
    urls = urls_of_shards(process.redis_url)
    if len(urls) == 1:
        return
    # First all are looked at, at once, since some may be silent: a wrong list leaves no mark at any.
    looks = [_look_at_server(process, number, only_looks=True) for number in range(len(urls))]
    found = await asyncio.gather(*looks, return_exceptions=True)
    seen = dict[int, _Seen]()
    for number, one in enumerate(found):
        if isinstance(one, BaseException):
            raise one
        if one is not None:
            seen[number] = one
    for line in replaced({number: one.known for number, one in seen.items()}, urls):
        logger.warning("hazard", warning=line)
    for number in seen:
        try:
            await _look_at_server(process, number, only_looks=False)
        except StartError:
            # The list has a new server by two names: what was written there for the first one goes.
            for marked in range(number):
                if marked in seen and (names := seen[marked].lacking):
                    await _take_back(process, marked, names)
            raise


async def _take_back(process: Process, number: int, names: Sequence[str]) -> None:
    """Remove the keys that this start has written at the server of a shard, if it still answers."""
    async with process.shard_at(number).connected(API_TIMEOUT_S) as client:
        with contextlib.suppress(StoreUnavailable, StoreFull):
            await client.command("UNLINK", *names)


class _Seen(NamedTuple):
    """What a look at a server has found: which keys of a first mark it lacks, and how many servers its mark tells
    of."""

    lacking: Sequence[str]
    known: int


async def _look_at_server(process: Process, number: int, only_looks: bool) -> _Seen | None:
    """Mark the server of a shard as this shard's, or only look; return None if it does not answer. Raises
    StartError."""
    shard, outage, count = process.shard_at(number), process.outage_at(number), process.listed
    if only_looks:
        shard = shard.only_looked_at()
    outage.must_check = outage.is_start = True
    async with shard.connected(API_TIMEOUT_S, outage) as client:
        try:
            await client.ensure_checked()
            if not only_looks:
                return None
            names = (client.keys.server, client.keys.series_listed)
            lacking = [name for name in names if not await client.command("EXISTS", name, read=NUMBER)]
            most, known = (await generations_of([client], process.shards)).most, await servers_known(client)
        except WrongServer as error:
            raise StartError(str(error)) from None
        except (StoreUnavailable, StoreFull):
            return None
        finally:
            outage.is_start = False
    if most > count:
        raise StartError(f"REDIS_URL: names {count} servers, but there are {most} shards: list a server for each")
    return _Seen(lacking, known)


@contextlib.asynccontextmanager
async def _serving(process: Process, server: EmbeddedServer) -> AsyncIterator[None]:
    """Start the private Redis and keep it running within the block. A stop while it loads its data ends it."""
    if await finished(server.start(), process.stop):
        fields = {"server": server.description, "data": str(process.settings.data_dir.absolute())}
        logger.info("embedded-redis", **fields)
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(ended), name="embedded-redis")
        try:
            yield
        finally:
            ended.set()


async def prepare_redis(process: Process, warns: bool, number: int = 0) -> None:
    """Once the Redis of a shard serves, make the consumer group; with `warns`, say what in its configuration or its
    keys may do harm."""
    done = asyncio.Event()
    where = {"shard": number} if process.listed > 1 else {}

    async def check(client: RedisClient) -> None:
        await client.ensure_checked()
        # Now, and not when it is first needed: Redis may be full by then and refuse it.
        await client.create_group()
        for warning in await configuration_warnings(client, replicas) if warns else ():
            if process.is_new(f"{number} {warning}"):
                logger.warning("redis-configuration", warning=warning, **where)
        # A private Redis has no neighbours, and a limit.
        if warns and process.settings.redis_url:
            for warning in await neighbours(client, process.auth) if number == 0 else ():
                logger.warning("hazard", warning=warning)
            memory = await memory_of(client)
            is_unlimited = process.role != WORKER and memory is not None and not memory.most_bytes
            if is_unlimited and process.is_new(UNLIMITED):
                logger.info("open-door", door=UNLIMITED)
        done.set()

    shard, outage = process.shard_at(number), process.outage_at(number)
    replicas = 0 if process.role == WORKER else process.settings.replicas
    async with shard.connected(API_TIMEOUT_S, outage, replicas=replicas) as client, setting_on(process.stop, done):
        await outage.loop(done, functools.partial(check, client))
