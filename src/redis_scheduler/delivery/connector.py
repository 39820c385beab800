"""Opens connections to receivers, by aiohttp's connector: TCP and TLS, the addresses of a name tried one after another.

Builds on parts of aiohttp that are not public, and a new release may change them: ClientRequest, and of TCPConnector
_factory, _create_connection, _resolve_host, _get_ssl_context, _wrap_create_connection and _wrap_existing_connection.
tests/unit/test_libraries.py looks at each.
"""

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from redis_scheduler.delivery.connection import KEPT_BYTES, Connection
from redis_scheduler.delivery.egress import USUAL_EGRESS, Egress, EgressRefused, literal, name_of
from redis_scheduler.delivery.proxy import Proxies, Proxy, ProxyError, Tunnel
from redis_scheduler.delivery.tls import Tls
from redis_scheduler.resolver import Resolver

NO_TIMEOUTS = aiohttp.ClientTimeout()
"""No time-outs of single phases: an attempt has one in all."""


class Names(AbstractResolver):
    """The service's resolver, in the form that the connector takes."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name. Raises OSError."""
        addresses = await self._resolver.addresses(host)
        return [ResolveResult(hostname=host, host=at, port=port, family=family, proto=0, flags=0) for at in addresses]

    async def close(self) -> None:
        """Do nothing: the resolver is closed by its owner."""


Destination = aiohttp.ClientRequest
"""A receiver, as `Connector.open` is asked for it."""


def destination(url: URL) -> Destination:
    """Return where a URL leads, for any number of connections. Needs a running loop; raises ValueError."""
    return Destination("POST", url, loop=asyncio.get_running_loop())


class Opening(list[aiohttp.tracing.Trace]):
    """When a connection was opened, in `time.monotonic` seconds: its look-up began and ended, and it was there; 0 for
    what has not come to pass.

    It stands in the place of aiohttp's traces, of which it has none, so that the look-up is given it.
    """

    def __init__(self) -> None:
        self.began_at = time.monotonic()
        self.looked_up_at = self.connected_at = 0.0


class Connector(aiohttp.TCPConnector):
    """Opens connections where the guard lets them go, or through a proxy, which decides then; they are kept in a pool
    of our own. `kept_bytes`: see Connection."""

    def __init__(
        self,
        kept_bytes: int = KEPT_BYTES,
        egress: Egress = USUAL_EGRESS,
        tls: Tls | None = None,
        proxies: Proxies | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._egress = egress
        self._tls = tls
        self._proxies = proxies
        self._tunnels = aiohttp.TCPConnector(**options)
        self._tunnels._factory = Tunnel  # type: ignore[assignment]  # ours in place of aiohttp's
        factory: Callable[[], Connection] = functools.partial(Connection, kept_bytes)
        self._factory = factory  # type: ignore[assignment]  # ours in place of aiohttp's

    async def open(self, to: Destination, opening: Opening) -> Connection:
        """Return a new connection, and note when. Raises OSError, EgressRefused or ProxyError."""
        if self._proxies is not None and (proxy := self._proxies.of(to.url)) is not None:
            opening.looked_up_at = opening.began_at  # the proxy looks names up
            connection = await self._open_through(proxy, to)
        else:
            host, port = to.url.raw_host or "", to.port or 0
            self._egress.check_name(name_of(host), port)
            if to.is_ssl() or "%" in host or literal(host) is None:
                connection = cast(Connection, await self._create_connection(to, opening, NO_TIMEOUTS))
            else:
                connection = await self._open_at(host, port, to, opening)
        opening.connected_at = time.monotonic()
        return connection

    async def _open_at(self, address: str, port: int, to: Destination, opening: Opening) -> Connection:
        """Return a new connection to an address, without TLS and look-up: aiohttp's way there takes 14 us longer."""
        opening.looked_up_at = opening.began_at
        _, connection = await self._wrap_create_connection(
            self._factory, addr_infos=[((address, port),)], req=to, timeout=NO_TIMEOUTS, ssl=None
        )
        return cast(Connection, connection)

    async def _open_through(self, proxy: Proxy, to: Destination) -> Connection:
        """Return a new connection through a proxy. Raises ProxyError, or an error of TLS as aiohttp has them."""
        try:
            tunnel = cast(Tunnel, await self._tunnels._create_connection(destination(proxy.url), [], NO_TIMEOUTS))
        except OSError as error:
            raise ProxyError("cannot connect to the proxy") from error
        transport, host = cast(asyncio.Transport, tunnel.transport), to.url.raw_host or ""
        try:
            await tunnel.ask(proxy.request(host, to.port or 0))
            connection = cast(Connection, self._factory())
            if (context := self._get_ssl_context(to)) is None:
                transport.set_protocol(connection)
            else:
                transport = await _with_tls(transport, connection, context, to)
            connection.connection_made(transport)
        except BaseException:
            transport.abort()
            raise
        return connection

    def _get_ssl_context(self, req: Destination) -> ssl.SSLContext | None:
        """Return the context of a connection; None for http."""
        own = None if self._tls is None or not req.is_ssl() else self._tls.context_of(name_of(req.url.raw_host or ""))
        return own or super()._get_ssl_context(req)

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close what is being opened."""
        await super().close(abort_ssl=abort_ssl)
        await self._tunnels.close(abort_ssl=abort_ssl)

    async def _resolve_host(
        self, host: str, port: int, traces: Sequence[aiohttp.tracing.Trace] | None = None
    ) -> list[ResolveResult]:
        is_over = True
        try:
            return await super()._resolve_host(host, port, traces)
        except asyncio.CancelledError:
            is_over = False
            raise
        finally:
            if isinstance(traces, Opening) and is_over:  # of an address nothing is looked up, however long this took
                traces.looked_up_at = time.monotonic() if literal(host) is None else traces.began_at

    async def _wrap_create_connection(self, *args: Any, addr_infos: list[Any], req: Destination, **options: Any) -> Any:
        """Connect to the addresses in turn, or to the only one: those that the guard lets through.

        Literals and answers of name servers come here alike, and no name is looked up behind this.
        """
        self._keep_let_through(addr_infos, name_of(req.url.raw_host or ""))
        if len(addr_infos) > 1 or options["ssl"]:
            return await super()._wrap_create_connection(*args, addr_infos=addr_infos, req=req, **options)
        # One address needs no race: the event loop's own call takes half the time.
        [(*_, (address, port, *_))] = addr_infos
        try:
            return await self._wrap_existing_connection(*args, address, port, req=req, **options)
        except aiohttp.ClientConnectorError as error:
            # As the loop says it of a socket: without this the address would be in no log.
            text = f"Connect call failed {(address, port)}: {error.strerror}"
            raise aiohttp.ClientConnectorError(req.connection_key, OSError(error.errno, text)) from error

    def _keep_let_through(self, addr_infos: list[Any], host: str) -> None:
        """Drop the addresses that the guard refuses. Raises EgressRefused if there is no other."""
        refused = {at[0]: kind for *_, at in addr_infos if (kind := self._egress.refusal(host, at[0], at[1]))}
        if not refused:
            return
        addr_infos[:] = [info for info in addr_infos if info[-1][0] not in refused]
        if not addr_infos:
            is_literal = literal(host) is not None
            what = "the address" if is_literal else "every address of the name"
            detail = ", ".join(f"{address} ({kind})" for address, kind in refused.items())
            raise EgressRefused(what, set(refused.values()), is_literal, detail)


async def _with_tls(
    transport: asyncio.Transport, connection: Connection, context: ssl.SSLContext, to: Destination
) -> asyncio.Transport:
    """Begin TLS on a connection that stands. Raises aiohttp's errors."""
    host = (to.url.raw_host or "").rstrip(".")
    try:
        secured = await asyncio.get_running_loop().start_tls(transport, connection, context, server_hostname=host)
    except ssl.CertificateError as error:
        raise aiohttp.ClientConnectorCertificateError(to.connection_key, error) from error
    except ssl.SSLError as error:
        raise aiohttp.ClientConnectorSSLError(to.connection_key, error) from error
    return cast(asyncio.Transport, secured)
