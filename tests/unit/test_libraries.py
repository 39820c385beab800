"""The private parts of libraries that the service uses: this fails first where a release has changed one.

Of each part it looks that it is there and takes what it is given. Then a round trip shows that the library still calls
what the service put in its place.
"""

import asyncio
import inspect
import re
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import httptools
import pytest
import redis
import uvicorn
import uvloop
from redis._parsers import _AsyncHiredisParser
from redis._parsers import hiredis as parser
from redis._parsers import socket as parser_socket
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import Said
from redis_scheduler.api.protocol import JsonHttpProtocol
from redis_scheduler.api.server import create_server, listen
from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.connection import Connection as ReceiverConnection
from redis_scheduler.delivery.connector import Connector
from redis_scheduler.resolver import Resolver
from redis_scheduler.store.answer import BoundedParser
from redis_scheduler.store.connection import AddressedConnection, LeanConnection, connect, drop_idle
from tests.support.raw_receiver import OK, answering, claim_of, says
from tests.unit.test_documents import text_of


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


def test_each_library_whose_private_parts_are_used_has_an_upper_bound() -> None:
    bounded = set(re.findall(r'^    "(\w+)\S*<[\d.]+",$', text_of("pyproject.toml"), re.MULTILINE))
    assert bounded == {"aiohttp", "httptools", "redis", "starlette", "uvicorn"}


REDIS = f"redis-py {redis.__version__}:"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (AbstractConnection, "pack_command", "self args"),
        (AbstractConnection, "send_packed_command", "self command check_health"),
        (AbstractConnection, "send_command", "self args kwargs"),
        (AbstractConnection, "disconnect", None),
        (AbstractConnection, "_connect", "self"),
        (AbstractConnection, "connect_check_health", "self check_health retry_socket_connect"),
        (AbstractConnection, "on_connect_check_health", "self check_health"),
        (AbstractConnection, "can_read", "self"),
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
        (LeanConnection, "on_connect_check_health"),
        (LeanConnection, "can_read"),
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
        expected = {"pack_command", "send_packed_command", "read_response", "on_connect_check_health", "can_read"}
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


UVICORN = f"uvicorn {uvicorn.__version__}:"
CYCLE = (
    "scope transport message_event keep_alive body more_body response_started response_complete disconnected "
    "waiting_for_100_continue flow default_headers on_response"
)
CONNECTION = (
    "loop app app_state server_state timeout_keep_alive transport flow client pipeline parser scope headers url cycle "
    "expect_100_continue"
)

SERVER = "server_state should_exit force_exit"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (HttpToolsProtocol, "__init__", "self config server_state app_state _loop"),
        (HttpToolsProtocol, "connection_made", "self transport"),
        (HttpToolsProtocol, "connection_lost", "self exc"),
        (HttpToolsProtocol, "data_received", "self data"),
        (HttpToolsProtocol, "eof_received", "self"),
        (HttpToolsProtocol, "resume_writing", "self"),
        (HttpToolsProtocol, "shutdown", "self"),
        (HttpToolsProtocol, "on_header", "self name value"),
        (HttpToolsProtocol, "on_headers_complete", "self"),
        (HttpToolsProtocol, "on_body", "self body"),
        (HttpToolsProtocol, "on_message_complete", "self"),
        (HttpToolsProtocol, "on_response_complete", "self"),
        (HttpToolsProtocol, "_start_asgi_task", "self cycle app"),
        (FlowControl, "pause_reading", "self"),
        (FlowControl, "resume_reading", "self"),
        (uvicorn.Server, "serve", "self sockets"),
        (uvicorn.Server, "shutdown", "self sockets"),
        (uvicorn.Server, "capture_signals", "self"),
    ],
)
def test_uvicorn_has_the_parts_that_are_used(owner: Any, name: str, parameters: str) -> None:
    is_as_used(UVICORN, owner, name, parameters)


async def test_uvicorns_connections_and_requests_hold_what_is_used() -> None:
    config = uvicorn.Config(nothing, lifespan="off", log_config=None)
    made = HttpToolsProtocol(config, uvicorn.server.ServerState(), {})
    made.on_message_begin()
    made.flow = FlowControl(asyncio.Transport())
    cycle = RequestResponseCycle(
        scope=made.scope,
        transport=asyncio.Transport(),
        flow=made.flow,
        logger=made.logger,
        access_logger=made.access_logger,
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=made.on_response_complete,
    )
    for owner, names in ((made, CONNECTION), (made.flow, "read_paused _transport"), (cycle, CYCLE)):
        lacking = [name for name in names.split() if not hasattr(owner, name)]
        assert not lacking, f"{UVICORN} {type(owner).__name__} has lost {lacking}"
    assert STATUS_LINE[200] == b"HTTP/1.1 200 OK\r\n", f"{UVICORN} STATUS_LINE"
    lacking = [name for name in SERVER.split() if not hasattr(uvicorn.Server(config), name)]
    assert not lacking, f"{UVICORN} Server has lost {lacking}"


async def nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """An application that is not asked."""


async def test_uvicorn_serves_by_the_parts_that_were_put_in_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    parts = [
        "data_received",
        "on_header",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "_start_asgi_task",
        "on_response_complete",
    ]
    for name in parts:
        monkeypatch.setattr(JsonHttpProtocol, name, noting(seen, getattr(JsonHttpProtocol, name)))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer(Said("ok"))(scope, receive, send)

    listener = listen("127.0.0.1", 0)
    server = create_server(application, grace_s=1)
    stop, hurry = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(10):
        tasks.create_task(server.run_until(stop, hurry, listener))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1" * 2)
        answers = b"".join([await reader.readuntil(b"}\n") for _ in range(2)])
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2, answers
        assert seen == set(parts), f"{UVICORN} these are not called any more: {set(parts) - seen}"
        assert server.servers, f"{UVICORN} Server.servers has no listener"
        assert len(server.server_state.connections) == 1, f"{UVICORN} ServerState.connections has not the one there is"
        stop.set()
        hurry.set()
        assert await reader.read() == b""
        writer.close()


AIOHTTP = f"aiohttp {aiohttp.__version__}:"


async def test_aiohttp_has_the_parts_that_are_used() -> None:
    is_as_used(AIOHTTP, aiohttp.TCPConnector, "_create_connection", "self req traces timeout")
    is_as_used(AIOHTTP, aiohttp.TCPConnector, "_resolve_host", "self host port traces")
    options = "req timeout client_error kwargs"
    is_as_used(AIOHTTP, aiohttp.TCPConnector, "_wrap_create_connection", f"self args addr_infos {options}")
    is_as_used(AIOHTTP, aiohttp.TCPConnector, "_wrap_existing_connection", f"self args {options}")
    is_as_used(AIOHTTP, aiohttp.TCPConnector, "_get_ssl_context", "self req")
    taken = inspect.signature(aiohttp.ClientRequest).parameters
    assert list(taken)[:2] == ["method", "url"], f"{AIOHTTP} ClientRequest takes {list(taken)}"
    assert "loop" in taken, f"{AIOHTTP} ClientRequest takes no loop any more"
    async with aiohttp.TCPConnector() as connector:
        assert hasattr(connector, "_factory"), f"{AIOHTTP} TCPConnector._factory is gone"


async def test_aiohttp_opens_the_connections_that_were_put_in_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    used = ("_create_connection", "_resolve_host", "_wrap_create_connection", "_wrap_existing_connection")
    for name in used:
        monkeypatch.setattr(Connector, name, noting(seen, getattr(Connector, name)))
    async with answering(says(OK)) as receiver, Deliverer("token", 5) as deliverer:
        # An address needs but the last two, and a name with several addresses all but the last.
        for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost")):
            assert (await deliverer.attempt(claim_of(url))).error is None, AIOHTTP
        kinds = {type(connection) for connection in deliverer._pool._idle}
    assert seen == set(used), AIOHTTP
    assert kinds == {ReceiverConnection}, f"{AIOHTTP} TCPConnector._factory makes no connections any more"


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_an_event_loop_sends_small_requests_at_once(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Whether it sets TCP_NODELAY: the service does not."""

    async def is_set() -> list[bool]:
        async with answering(says(OK)) as receiver, Deliverer("token", 5) as deliverer:
            await deliverer.attempt(claim_of(receiver.url))
            sockets = [kept.transport.get_extra_info("socket") for kept in deliverer._pool._idle if kept.transport]
            return [bool(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) for one in sockets]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(is_set()) == [True]


def test_httptools_is_as_lenient_as_it_is_told() -> None:
    parser = httptools.HttpRequestParser(SimpleNamespace())
    try:
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        parser.set_dangerous_leniencies(lenient_keep_alive=True)
    except (AttributeError, TypeError) as error:
        pytest.fail(f"httptools {httptools.__version__}: set_dangerous_leniencies: {error}")
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    parser.feed_data(head + head)


def test_httptools_reads_what_old_servers_send_as_it_is_told() -> None:
    body: list[bytes] = []
    parser = httptools.HttpResponseParser(SimpleNamespace(on_body=body.append))
    try:
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
    except (AttributeError, TypeError) as error:
        pytest.fail(f"httptools {httptools.__version__}: set_dangerous_leniencies: {error}")
    parser.feed_data(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nX: \x01\n\n1 \r\na\r\n0\r\n\r\n")
    assert (parser.get_status_code(), body) == (200, [b"a"])
