"""What the commands beside the service have in common: a client of the Redis that the settings name."""

import asyncio
import contextlib
import functools
import getpass
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from msgspec import UNSET

from redis_scheduler.errors import FolderInUse, SettingsError, StoreFull, StoreUnavailable, WrongServer
from redis_scheduler.loading import shard_count_of
from redis_scheduler.process.embedded import EmbeddedServer, redis_at
from redis_scheduler.process.sealing import keys_of
from redis_scheduler.settings import Settings
from redis_scheduler.store.answer_shape import NUMBER
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.generations import Generations, generations_of
from redis_scheduler.store.journal import TEXT_LENGTH, Journal, Note, bounded
from redis_scheduler.store.marks import replaced, servers_known
from redis_scheduler.store.shard import shard_at
from redis_scheduler.store.url import urls_of_shards

Done = TypeVar("Done")

TIMEOUT_S = 5.0
"""One send to Redis and its answer."""


@contextlib.asynccontextmanager
async def all_shards_of(
    settings: Settings, may_be_new: bool = False
) -> AsyncIterator[tuple[list[RedisClient], Generations]]:
    """Give a client of each shard that may hold tasks, and how many there are and were. The shards are those of
    REDIS_URL, or the private Redis of DATA_DIR, which runs for as long where it does not.

    With `may_be_new` the folder may be empty. Raises SettingsError, StartError, StoreUnavailable or StoreFull; an error
    of one of several shards names it.
    """
    # The error says in one line what modules would log on the way.
    logging.disable(logging.WARNING)
    shards, keys_at, serving = shard_count_of(settings), keys_of(settings), functools.partial(_serving, may_be_new)
    async with redis_at(settings, serving) as url, contextlib.AsyncExitStack() as stack:
        servers = len(urls_of_shards(url))

        async def connected(number: int, only_looks: bool = not may_be_new) -> RedisClient:
            shard = shard_at(url, number, keys_at)
            shard = shard.only_looked_at() if only_looks else shard
            return await stack.enter_async_context(shard.connected(TIMEOUT_S))

        clients = [await connected(number, only_looks=True) for number in range(servers)]
        if servers > 1:
            await _refuse_wrong(clients)
        if may_be_new:  # such a command marks the servers as those of these shards
            clients = []
        clients += [await connected(number) for number in range(len(clients), max(shards, servers))]
        generations = await generations_of(clients, shards)
        if 1 < servers < generations.most:
            raise SettingsError(
                [f"REDIS_URL: names {servers} servers, but there are {generations.most} shards: list a server for each"]
            )
        clients += [await connected(number) for number in range(len(clients), generations.most)]
        if len(clients) > 1:
            for client in clients:
                client.outage.shard = client.keys.shard
        try:
            yield clients, generations
        except StoreUnavailable as error:
            if error.shard is not None:
                error.args = (f"Shard {error.shard}: {error}",)
            raise


async def begin_deployment(client: RedisClient, settings: Settings) -> bool:
    """Begin the deployment in its first shard, where no process has yet, as a first start with these settings would:
    another number of shards comes after this one. Return whether it was to begin. Raises as a call."""
    if await client.command("EXISTS", client.keys.instance, read=NUMBER):
        return False
    await Deployment(shard_count_of(settings)).join(client)
    return True


async def _refuse_wrong(clients: Sequence[RedisClient]) -> None:
    """Raise WrongServer where one of several servers is another shard's, or new to the service in the place of one that
    it had. (A start says so, and marks it as that shard's.) Of one that is away nothing is known."""
    found = await asyncio.gather(*map(servers_known, clients), return_exceptions=True)
    for one in found:
        if isinstance(one, WrongServer) or not isinstance(one, int | StoreUnavailable | StoreFull):
            raise one
    known = {number: one for number, one in enumerate(found) if isinstance(one, int)}
    for line in replaced(known, [client.url for client in clients]):
        raise WrongServer(line)


async def in_each(
    clients: Sequence[RedisClient], do: Callable[[RedisClient], Awaitable[Done]]
) -> tuple[dict[int, Done], dict[int, StoreUnavailable]]:
    """Call `do` for each shard; return what it returned, and the errors of the shards that are away, or refuse, both by
    number. Raises StoreUnavailable where all do, and WrongServer."""
    done, away = dict[int, Done](), dict[int, StoreUnavailable]()
    for client in clients:
        try:
            done[client.keys.shard] = await do(client)
        except StoreUnavailable as error:
            if isinstance(error, WrongServer) or len(clients) == 1:
                raise
            away[client.keys.shard] = error
    if away and not done:
        raise next(iter(away.values()))
    return done, away


def say_away(away: Mapping[int, StoreUnavailable], what: str) -> None:
    """Say of which shards it was not done, since they are away."""
    for number, error in away.items():
        say(f"Shard {number} is away, and {what} ({error}).")


async def note(
    client: RedisClient, settings: Settings, what: str, on: str = "", tasks: int | None = None, **given: str
) -> None:
    """Note in the journal what somebody did by a command: on what, and with which parameters. What cannot be noted is
    done all the same."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    # The surroundings may name them in other bytes than text has.
    who = os.fsencode(f"{user}@{socket.gethostname()}").decode(errors="replace")[:TEXT_LENGTH]
    parameters, count = bounded(given) if given else UNSET, UNSET if tasks is None else tasks
    said = Note(who=who, what=what, via="command", on=on or UNSET, given=parameters, tasks=count)
    with contextlib.suppress(StoreUnavailable, StoreFull):
        await Journal(client, settings.audit_entries).note(said)


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: "1 task", "2 tasks"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Write a line of what the command is asked for. Raises OutputFailed, or `streams` does later."""
    print(text)  # noqa: T201  # the command's output


def tell(text: str) -> None:
    """Write a line beside that, for people: a program that reads the output does not find it there."""
    print(text, file=sys.stderr)  # noqa: T201  # the command's output


@contextlib.asynccontextmanager
async def _serving(may_be_new: bool, server: EmbeddedServer) -> AsyncIterator[None]:
    """Start the private Redis where it does not run."""
    if not (may_be_new or server.has_data):
        data_dir = server.data_dir.absolute()
        raise SettingsError([f"DATA_DIR={data_dir}: holds no data of a service; set DATA_DIR, or REDIS_URL"])
    # If another process has the folder, that one runs the server.
    with contextlib.suppress(FolderInUse):
        await server.start()
    yield
