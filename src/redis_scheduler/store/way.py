"""The way to the master of a shard: Sentinels, or nodes of a cluster, are asked where it is.

Not by the library's Sentinel and RedisCluster: they ask more of Redis for each command, and make connections of their
own (docs/decisions says what that costs). Here each connection asks when it connects, and is a plain one from then on.
What a server answers that is no master any more, or has lost the slot, makes the next connection ask anew.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any, Protocol

from redis.exceptions import AuthenticationError, InvalidResponse, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from redis_scheduler.logs import Events
from redis_scheduler.store.refusal import WrongPlace, is_turned_away
from redis_scheduler.store.tag import slot_of
from redis_scheduler.store.url import Address, Location, host_and_port

logger = Events(__name__)

Credentials = tuple[str | None, str | None] | None
"""User name and password; None: those that the servers are shown."""


class Ask(Protocol):
    """Sends one command to an address, over a connection of its own, and returns the answer."""

    def __call__(self, address: Address, shown: Credentials, *command: str) -> Awaitable[Any]:
        """Raises RedisError or OSError."""


OTHERS_S = 0.05
"""So long the other Sentinels may answer after the first: one that was cut off may name a master of before."""

LEARNED_MOST = 32
"""So many nodes are known besides those of REDIS_URL."""


class Way(Protocol):
    """The way to one master, which all connections of a client share."""

    address: Address | None
    """Where the master was found last; None if that may be wrong."""
    sees_role: bool
    """Whether who answers there must say that it is a master."""
    named_by: str
    """Who says where it is."""
    ask: Ask

    async def master(self) -> Address:
        """Return where the master is. Raises RedisError or OSError."""

    def forget(self, error: Exception, /) -> None:
        """Take note of an error: what is known may be wrong."""


def way_of(location: Location, tag: str, timeout_s: float) -> Way | None:
    """Return the way to where the keys of a tag are; None where the URL names the server itself."""
    if location.kind == "sentinel":
        return SentinelWay(location, timeout_s)
    return ClusterWay(location, tag, timeout_s / 3) if location.kind == "cluster" else None


class SentinelWay:
    """Asks all Sentinels at once, at each connect, and takes the answer that was agreed on last."""

    sees_role = True
    named_by = "the Sentinels"
    ask: Ask

    def __init__(self, location: Location, timeout_s: float) -> None:
        self.address: Address | None = None
        self._location = location
        self._timeout_s = timeout_s
        self._disagreed: set[Address] = set()
        self._failed: Address | None = None
        self._chosen: Address | None = None

    def forget(self, _: Exception) -> None:
        """Each connect asks anyway; but connections that are there are not to be used again."""
        self._failed = self.address or self._failed
        self.address = None

    async def master(self) -> Address:
        """Return where the master is, as the Sentinel says that has the newest epoch."""
        tasks = [asyncio.create_task(self._answer(asked)) for asked in self._location.asked]
        answered: list[asyncio.Task[tuple[int, Address]]] = []
        errors: list[BaseException] = []
        try:
            pending = set(tasks)
            while pending:
                within_s = OTHERS_S if answered else self._timeout_s
                done, pending = await asyncio.wait(pending, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                errors += (error for task in done if (error := task.exception()))
                answered += (task for task in done if task.exception() is None)
        finally:
            for task in tasks:
                task.cancel()
        if not answered:
            raise _most_telling(errors, is_late=bool(pending))
        # In the order of the URL: of answers that are as good the one counts that counted before, else the first, so
        # that all connections of all processes go to one master, also while Sentinels of two deployments are asked.
        answers = [task.result() for task in tasks if task in answered]
        found = {address for _, address in answers}
        if len(found) > 1 and found != self._disagreed:
            logger.warning("sentinels-disagree", masters=sorted(host_and_port(*one) for one in found))
        self._disagreed = found
        votes = Counter(answers)
        # A name that was just given to Sentinels has epoch 0 with all of them.
        _, self.address = max(
            votes,
            key=lambda answer: (answer[0], votes[answer], answer[1] != self._failed, answer[1] == self._chosen),
        )
        self._chosen = self.address
        return self.address

    async def _answer(self, asked: Address) -> tuple[int, Address]:
        """Return the epoch of a Sentinel's answer, and where it says that the master is."""
        place = f"the Sentinel {host_and_port(*asked)}"
        try:
            row = await self.ask(asked, self._location.asked_as, "SENTINEL", "MASTER", self._location.name)
        except AuthenticationError as error:
            raise WrongPlace(
                f"{place} says: {error}; REDIS_URL names who asks it by sentinel_username and sentinel_password"
            ) from None
        except ResponseError as error:
            if "unknown command" in str(error):
                raise WrongPlace(
                    f"{host_and_port(*asked)} is no Sentinel; for a single server REDIS_URL begins with redis://"
                ) from None
            said = (
                f"knows no master of the name {self._location.name}"
                if "No such master" in str(error)
                else f"says: {error}"
            )
            raise WrongPlace(f"{place} {said}") from None
        try:
            fields = {key.decode(): value.decode() for key, value in zip(row[::2], row[1::2], strict=True)}
            return int(fields["config-epoch"]), (fields["ip"], int(fields["port"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InvalidResponse(f"{place} gives an answer of another form") from None


def _most_telling(errors: list[BaseException], is_late: bool) -> BaseException:
    for error in errors:
        if isinstance(error, WrongPlace):
            return error
    return _unfound(f"no Sentinel answers{f': {errors[-1]}' if errors else ' in time'}", errors, is_late)


def _unfound(text: str, errors: list[BaseException], is_late: bool = False) -> RedisError:
    """Return the error where nobody says where the master is: a time-out, unless each who was asked turned the question
    away at once. With `is_late` somebody has not answered yet, whose error is not among these."""
    has_waited = is_late or not all(map(is_turned_away, errors))
    return (RedisTimeoutError if has_waited else RedisConnectionError)(text)


class ClusterWay:
    """Asks one node after the other which of them has the slot of the keys, unless that is known."""

    sees_role = False
    """A node that has not the slot says so to each command."""
    named_by = "the cluster"
    ask: Ask

    def __init__(self, location: Location, tag: str, timeout_s: float) -> None:
        self.address: Address | None = None
        self.slot = slot_of(tag[1:-1])
        self._asked = list(location.asked)
        self._most = len(self._asked) + LEARNED_MOST
        self._timeout_s = timeout_s

    def forget(self, error: Exception) -> None:
        """Go where a node says that the slot is; else ask another node next."""
        if isinstance(error, MovedError) and error.host and error.host != "?":
            self.address = error.host, int(error.port)
        elif self.address is not None:
            self.address = None
            self._ask_last(self._asked[0])

    def _ask_last(self, asked: Address) -> None:
        self._asked.remove(asked)
        self._asked.append(asked)

    async def master(self) -> Address:
        """Return where the slot is, as the first node says that answers."""
        if self.address is not None:
            return self.address
        errors: list[BaseException] = []
        for asked in list(self._asked):
            try:
                async with asyncio.timeout(self._timeout_s):
                    rows = await self.ask(asked, None, "CLUSTER", "SLOTS")
                self._learn(rows, asked)
                found = self._found(rows, asked)
            except (ResponseError, AuthenticationError) as error:
                if "cluster support disabled" in str(error):
                    raise WrongPlace(
                        f"{host_and_port(*asked)} is a single server, no node of a cluster: REDIS_URL begins with redis://"
                    ) from None
                if "unknown command" in str(error):
                    raise WrongPlace(
                        f"{host_and_port(*asked)} is no node of a cluster; for a Sentinel REDIS_URL is "
                        "redis+sentinel://host:port/name"
                    ) from None
                raise
            except (RedisError, OSError) as error:
                errors.append(error)
                self._ask_last(asked)
            else:
                self.address = self.address or found
                return self.address
        said = str(errors[-1]) or "no answer in time"
        raise _unfound(f"no node of the cluster says where slot {self.slot} is: {said}", errors)

    def _found(self, rows: Any, asked: Address) -> Address:
        for first, last, master, *_ in _rows(rows):
            if first <= self.slot <= last:
                return _address(master, asked)
        raise RedisConnectionError(f"{host_and_port(*asked)} knows no master for it")

    def _learn(self, rows: Any, asked: Address) -> None:
        """Take note of further nodes: those of REDIS_URL may be away when they are needed."""
        for _, _, *nodes in _rows(rows):
            for address in (_address(node, asked) for node in nodes):
                if address not in self._asked and len(self._asked) < self._most:
                    self._asked.append(address)


def _rows(rows: Any) -> list[Any]:
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) >= 3 for row in rows):
        raise InvalidResponse("CLUSTER SLOTS gives an answer of another form")
    return rows


def _address(node: Any, asked: Address) -> Address:
    """Return the address of a node; without a host it is that of the one that was asked."""
    try:
        host, port, *_ = node
        text = host.decode() if host else ""
        return (text if text not in ("", "?") else asked[0]), int(port)
    except (AttributeError, TypeError, ValueError):
        raise InvalidResponse("CLUSTER SLOTS gives an answer of another form") from None
