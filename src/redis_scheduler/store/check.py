"""What is asked of Redis before the first call, and after each error: whether it serves all that the service needs, and
is the server of this shard.

Where each shard has a server of its own, each server keeps which shard it is, and of how many. So addresses that were
swapped, doubled or left out are refused by name before anything is written.
"""

import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import InvalidResponse, NoPermissionError, RedisError, ResponseError

from redis_scheduler.errors import WrongServer
from redis_scheduler.store.answer_shape import as_it_is
from redis_scheduler.store.keys import GROUP, Keys
from redis_scheduler.store.refusal import refused_calls
from redis_scheduler.store.script import Script
from redis_scheduler.store.url import host_and_port

_CHECK = Script("check")
_MARK, _NEW, _CLUSTER = "SERVER", "NEW", "CLUSTER"
"""The words by which the script tells of the mark, and that there was no service before."""

_MARKED = re.compile(r"([0-9]{1,3}) ([0-9]{1,3})")

OF_CLUSTER = (
    "Redis is a node of a cluster, and REDIS_URL names it as a single server: it must be redis+cluster://host:port, or "
    "rediss+cluster:// with TLS"
)

Execute = Callable[..., Awaitable[Any]]
"""Sends one command."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of REDIS_URL: one for each shard, or a single one for all. `keys`: of each shard that there may be,
    since a server may hold one that REDIS_URL does not list."""

    count: int
    keys: Sequence[Keys]
    only_looks: bool = False
    """The check leaves no mark: the list may be wrong, or the client only reads."""


async def refusal_of(keys: Keys, execute: Execute, evaluate: Execute, servers: Servers | None) -> str | None:
    """Return what keeps the service from working here; None if nothing does. Raises WrongServer, RedisError or
    OSError.

    `evaluate` runs a script. `servers`: None where nobody can have left a mark, as in a cluster.
    """
    # Redis may know the script already, and would not need EVAL for it; but it will for the next one.
    one = await execute("EVAL", "return 1", 0)
    of_nobody = {
        "writer": keys.writer("", "check"),
        "type_index": keys.type_index(""),
        "minute": keys.minute(0),
    }
    answer = await evaluate(_CHECK.bind(keys, **of_nobody, group=GROUP), as_it_is)
    is_table = isinstance(answer, list) and len(answer) % 3 == 0 and all(isinstance(text, bytes) for text in answer)
    if one != 1 or not is_table:
        raise InvalidResponse("not what a script returns")
    texts = [text.decode(errors="replace") for text in answer]
    rows = list(zip(texts[::3], texts[1::3], texts[2::3], strict=True))
    mark = next((text for command, _, text in rows if command == _MARK), None)
    if refused := refused_calls([row for row in rows if row[0] not in (_MARK, _CLUSTER)]):
        return refused
    is_node = any(row[0] == _CLUSTER for row in rows)
    if is_node and servers is not None and await _knows_cluster(execute):
        return OF_CLUSTER
    if misplaced := await _misplaced(keys, execute, mark, servers):
        raise WrongServer(misplaced)
    if any(row[0] == _NEW for row in rows) and not (servers and servers.only_looks):
        # A first task may come before the first join.
        with contextlib.suppress(ResponseError):  # a full Redis does without
            await execute("SET", keys.series_listed, 1, "NX")
    return None


async def _knows_cluster(execute: Execute) -> bool:
    """Whether a node of a cluster is asked itself: a proxy that hides the cluster knows no CLUSTER, and serves as one
    server does."""
    try:
        await execute("CLUSTER", "MYID")
    except NoPermissionError:
        return True
    except ResponseError:
        return False
    return True


async def _misplaced(keys: Keys, execute: Execute, mark: str | None, servers: Servers | None) -> str | None:
    found = _MARKED.fullmatch(mark or "")
    before, most = map(int, found.groups()) if found else (0, 0)
    if servers is None or servers.count == 1:
        # Until others schedule to the second server, one that does not know it does no harm.
        if most >= 2:
            return _of_several(f"this is one of {before} servers, a shard each", keys)
        if servers is None or before or await _exists(execute, keys.queue):
            return None
        other = await _marked(keys, execute, servers)
        return _of_several(f"this server holds shard {other.shard} of several servers", other) if other else None
    if before > servers.count:
        return f"there have been {before} servers, a shard each, and REDIS_URL lists {servers.count}: list all, in their order"
    if said := await _of_another(keys, execute, servers, is_new=not before):
        return said
    if before < servers.count and not servers.only_looks:
        with contextlib.suppress(ResponseError):  # a full Redis does without
            await execute("SET", keys.server, servers.count)
        if not before and (said := await _of_another(keys, execute, servers, is_new=False)):
            await execute("UNLINK", keys.server)
            return said
    return None


def _of_several(said: str, marked: Keys) -> str:
    return (
        f"{said}: REDIS_URL must list all of them, in their order (if it is to be the only one from now on, delete the key "
        f"{marked.server})"
    )


async def _of_another(keys: Keys, execute: Execute, servers: Servers, is_new: bool) -> str | None:
    """Return what tells that the server is another shard's: its mark; where it is new to this one, also its queue."""
    is_new = is_new and not await _exists(execute, keys.queue)
    other = await _marked(keys, execute, servers, has_queue=is_new)
    if other is None:
        return None
    return (
        f"this server holds shard {other.shard}, and REDIS_URL names it for shard {keys.shard}: list each server once, in "
        "the order in which they were before, and new ones last (if it never served that shard, delete its key "
        f"{other.server})"
    )


async def _marked(keys: Keys, execute: Execute, servers: Servers, has_queue: bool = False) -> Keys | None:
    """Return the keys of the first other shard whose mark the server has; or with `has_queue`, whose queue."""
    for other in servers.keys:
        if other.shard != keys.shard and await _exists(execute, other.server, *((other.queue,) if has_queue else ())):
            return other
    return None


async def _exists(execute: Execute, *names: str) -> bool:
    try:
        return any([await execute("EXISTS", name) for name in names])
    except ResponseError:  # the user may reach the keys of one shard alone
        return False


async def place(execute: Execute) -> str:
    """Return what REDIS_URL leads to if it is no master and Redis says so; else nothing."""
    with contextlib.suppress(RedisError, OSError):
        match await execute("ROLE"):
            case [b"sentinel", *_]:
                return "; this is a Sentinel: REDIS_URL must be redis+sentinel://host:port/name"
            case [b"slave", bytes(host), port, *_]:
                return f"; this is a replica of {host_and_port(host.decode(errors='replace'), port)}"
    return ""
