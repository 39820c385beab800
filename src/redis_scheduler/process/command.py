"""What the commands beside the service have in common: a client of the Redis that the settings name."""

import contextlib
import functools
import getpass
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator

from msgspec import UNSET

from redis_scheduler.errors import FolderInUse, SettingsError, StoreFull, StoreUnavailable
from redis_scheduler.process.embedded import EmbeddedServer, redis_at
from redis_scheduler.process.sealing import keys_of
from redis_scheduler.settings import Settings
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.journal import TEXT_LENGTH, Journal, Note, bounded
from redis_scheduler.store.shard import Shard

TIMEOUT_S = 5.0
"""One send to Redis and its answer."""


@contextlib.asynccontextmanager
async def redis_of(settings: Settings, may_be_new: bool = False) -> AsyncIterator[RedisClient]:
    """Give a client of REDIS_URL, or of the private Redis in DATA_DIR, which runs for as long where it does not.

    With `may_be_new` the folder may be empty. Raises SettingsError, StartError, StoreUnavailable or StoreFull.
    """
    # The error says in one line what modules would log on the way.
    logging.disable(logging.WARNING)
    keys, serving = keys_of(settings), functools.partial(_serving, may_be_new)
    async with redis_at(settings, serving) as url, Shard(url, keys).connected(TIMEOUT_S) as client:
        yield client


async def note(
    client: RedisClient, settings: Settings, what: str, on: str = "", tasks: int | None = None, **given: str
) -> None:
    """Note in the journal what somebody did by a command: on what, and with which parameters. What cannot be noted is
    done all the same."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    who = f"{user}@{socket.gethostname()}"[:TEXT_LENGTH]
    parameters, count = bounded(given) if given else UNSET, UNSET if tasks is None else tasks
    said = Note(who=who, what=what, via="command", on=on or UNSET, given=parameters, tasks=count)
    with contextlib.suppress(StoreUnavailable, StoreFull):
        await Journal(client, settings.audit_entries).note(said)


def say(text: str) -> None:
    """Write a line of what the command is asked for."""
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
