"""The private parts of libraries that the service uses: this fails first where a release has changed one.

Of each part it looks that it is there and takes what it is given. Then a round trip shows that the library still calls
what the service put in its place.
"""

import inspect
from typing import Any

import pytest
import redis
from redis._parsers import _AsyncHiredisParser
from redis._parsers import hiredis as parser
from redis._parsers import socket as parser_socket
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection

from redis_scheduler.resolver import Resolver
from redis_scheduler.store.answer import BoundedParser
from redis_scheduler.store.connection import AddressedConnection, LeanConnection, connect, drop_idle


def is_as_used(library: str, owner: Any, name: str, parameters: str | None = None) -> None:
    """Fail, by the part's name, where it is missing or takes other parameters."""
    __tracebackhide__ = True
    place = f"{library} {owner.__name__}.{name}"
    if not hasattr(owner, name):
        pytest.fail(f"{place} is gone")
    if parameters is not None:
        taken = " ".join(inspect.signature(getattr(owner, name)).parameters)
        if taken != parameters:
            pytest.fail(f"{place} takes ({taken}), not ({parameters})")


REDIS = f"redis-py {redis.__version__}:"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (AbstractConnection, "pack_command", "self args"),
        (AbstractConnection, "send_packed_command", "self command check_health"),
        (AbstractConnection, "send_command", "self args kwargs"),
        (AbstractConnection, "disconnect", None),
        (AbstractConnection, "_connect", "self"),
        (Connection, "_connect", "self"),
        (Connection, "_connection_arguments", "self"),
        (SSLConnection, "_connection_arguments", "self"),
        (ConnectionPool, "get_connection", None),
        (ConnectionPool, "release", "self connection"),
        (_AsyncHiredisParser, "read_response", "self disable_decoding push_request"),
        (parser, "NOT_ENOUGH_DATA", None),
        (parser_socket, "SERVER_CLOSED_CONNECTION_ERROR", None),
    ],
)
def test_redis_py_has_the_parts_that_are_used(owner: Any, name: str, parameters: str | None) -> None:
    is_as_used(REDIS, owner, name, parameters)


class Counted(Resolver):
    """Counts the look-ups."""

    lookups = 0

    async def addresses(self, name: str) -> Any:
        self.lookups += 1
        return await super().addresses(name)


async def test_redis_py_sends_and_reads_through_the_parts_that_were_put_in_their_place(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    for owner, name in (
        (LeanConnection, "pack_command"),
        (LeanConnection, "send_packed_command"),
        (AddressedConnection, "_connect"),
        (AddressedConnection, "_connection_arguments"),
        (BoundedParser, "read_response"),
    ):
        monkeypatch.setattr(owner, name, noting(seen, getattr(owner, name)))
    resolver = Counted()
    client = connect(redis_url, resolver, timeout_s=5, connect_timeout_s=5)
    try:
        pool = client.connection_pool
        for attribute in ("_available_connections", "connection_class", "connection_kwargs"):
            assert hasattr(pool, attribute), f"{REDIS} ConnectionPool.{attribute} is gone"
        assert await client.execute_command("ECHO", "caf\u00e9 \udcff") == b"caf\xc3\xa9 \xff"
        expected = {"pack_command", "send_packed_command", "read_response"}
        if not redis_url.startswith("unix:"):
            expected |= {"_connect", "_connection_arguments"}
        assert seen == expected, f"{REDIS} these are not called any more: {expected - seen}"
        assert (resolver.lookups > 0) == ("_connect" in expected)

        (connection,) = pool._available_connections
        assert (connection.is_connected, connection._writer is not None) == (True, True), REDIS
        for attribute in ("_connected", "_reader", "_stream", "_read_size"):
            assert hasattr(connection._parser, attribute), f"{REDIS} the parser's {attribute} is gone"
        await drop_idle(client)
        assert not connection.is_connected
        assert await client.execute_command("PING") == b"PONG", "answers come as they are, without callbacks"
    finally:
        await client.aclose()
        await resolver.close()


def noting(seen: set[str], part: Any) -> Any:
    """The same function, noted when it is called."""

    def noted(*arguments: Any, **named: Any) -> Any:
        seen.add(part.__name__)
        return part(*arguments, **named)

    return noted


def test_redis_py_tells_a_connection_where_it_leads() -> None:
    for kind in (Connection, SSLConnection):
        arguments = kind(host="redis.example", port=6390)._connection_arguments()
        assert {"host", "port"} <= arguments.keys(), f"{REDIS} {kind.__name__}._connection_arguments()"
        assert ("ssl" in arguments) == (kind is SSLConnection), REDIS
    assert Redis().response_callbacks, f"{REDIS} response_callbacks, which are cleared"
