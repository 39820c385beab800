"""One attempt over HTTP: send a task's request to its webhook, and say how it went. Knows nothing of Redis.

2xx is success. Anything else is a failed attempt: another status, a redirect (never followed), a time-out, a connection
error. At most ANSWER_BYTES of an answer are read, and nothing is decompressed.
"""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp

from redis_scheduler import __version__
from redis_scheduler.delivery.connection import KEPT_BYTES, AnswerError, Connection, ConnectionClosed
from redis_scheduler.delivery.connector import Connector, Names, Opening
from redis_scheduler.delivery.credentials import Credentials, SecretMissing
from redis_scheduler.delivery.echoes import without_secrets
from redis_scheduler.delivery.egress import USUAL_EGRESS, Egress, EgressRefused
from redis_scheduler.delivery.pool import Pool
from redis_scheduler.delivery.proxy import Proxies, ProxyError
from redis_scheduler.delivery.request import Origin, RequestBuilder
from redis_scheduler.delivery.tls import Tls
from redis_scheduler.resolver import Resolver
from redis_scheduler.task.alert import ALERT_TYPE
from redis_scheduler.task.callback import told_bytes
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.options import NONE
from redis_scheduler.task.outcome import NO_PHASES, Outcome, Phases
from redis_scheduler.task.policy import retries

AGENT = f"redis-scheduler/{__version__}"

ERROR_LENGTH = 200
"""So many characters of an error are kept with a failed task."""

LOCAL_FAULTS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, socket.EAI_SYSTEM}

RESEND_WITHIN_S = 0.1
"""A connection that was closed before the write breaks within this time, as soon as the packets have crossed."""

REST_OF_REQUEST_S = 4.0
"""If a receiver answers before the request is sent whole, the rest may follow for so long."""


class Deliverer:
    """Attempts deliveries. An async context manager: it holds the connections to receivers.

    `token`: the API's, of which acknowledgements are made; without `credentials` requests show it, too.
    `retries`: RETRIES, where the task's own options do not say it. Unless it is 0, a request that a kept connection
    lost before any answer is sent once more in the same attempt. `answer_bytes`: so much is kept of the answer to a
    failed attempt, or KEPT_BYTES if that is more. `egress`: where deliveries may go. `credentials`: what requests show.
    `now_ms`: the time of signatures.
    """

    def __init__(
        self,
        token: str,
        timeout_s: float,
        retries: int = 0,
        answer_bytes: int = 0,
        egress: Egress = USUAL_EGRESS,
        tls: Tls | None = None,
        proxies: Proxies | None = None,
        credentials: Credentials | None = None,
        now_ms: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self._now_ms = now_ms
        self._timeout_s = timeout_s
        self._retries = retries
        self._kept_bytes = max(answer_bytes, KEPT_BYTES)
        self._ways = egress, tls, proxies
        self.on_resent: Callable[[Claim, str], None] | None = None
        """Called when a request is sent once more, with the error of the connection that lost it."""
        self._token = token
        self._credentials = credentials or Credentials(token)
        self._builder = RequestBuilder(token, AGENT, "", retries, self._credentials, self._now_ms)
        self._pool = Pool()
        self._resolver: Resolver
        self._connector: Connector

    async def __aenter__(self) -> Self:
        self._resolver = Resolver()
        self._connector = Connector(self._kept_bytes, *self._ways, resolver=Names(self._resolver))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()
        await self._connector.close()
        await self._resolver.close()

    def carry(self, instance: str) -> None:
        """Let each request from now on carry the id of the deployment."""
        self._builder = RequestBuilder(self._token, AGENT, instance, self._retries, self._credentials, self._now_ms)

    async def attempt(self, claim: Claim) -> Outcome:
        """Make one attempt; every way it can fail is an outcome."""
        started = time.monotonic()
        options = claim.record.options
        timeout_s, wanted_bytes = options.timeout or self._timeout_s, 0 if options is NONE else told_bytes(options)
        error: str | None = None
        fault, is_local = "", False
        detail, is_final, is_impatient = "", False, False
        connection: Connection | None = None
        opening: Opening | None = None
        try:
            origin, request = self._builder.build(claim)
            connection = self._pool.take(origin.key)
            if connection is None or not await self._is_answered_on_kept(
                connection, request, claim, origin, wanted_bytes, timeout_s
            ):
                connection = None
                opening = Opening()
                async with asyncio.timeout(started + timeout_s - time.monotonic()):
                    connection = await self._connector.open(origin.destination, opening)
                    await connection.send(request, wanted_bytes)
            if not 200 <= (connection.status or 0) < 300:
                error = f"answered {connection.status}"
        except TimeoutError as problem:
            _let_go(problem)
            has_begun = connection is not None and connection.status is not None
            error = "the answer did not end in time" if has_begun else f"no answer within {timeout_s:g} s"
            fault, is_impatient = "timeout", timeout_s < self._timeout_s
            if opening is not None and not opening.looked_up_at:  # the receiver was not asked yet
                error, fault = f"the name was not looked up within {timeout_s:g} s", "lookup"
        except Exception as problem:  # any error that a receiver or a URL can cause is a failed attempt
            error, fault = _described(problem), _fault_of(problem)
            detail, is_final = _detail_of(problem), isinstance(problem, EgressRefused) and problem.is_final
            is_local = isinstance(problem, OSError) and problem.errno in LOCAL_FAULTS
            _let_go(problem)
        finally:
            if connection is not None:
                self._give_back(origin, connection)
        ended = time.monotonic()
        elapsed_ms = round((ended - started) * 1000)
        phases = NO_PHASES if error is None else _phases(started, ended, connection, opening)
        if connection is None:
            return Outcome(
                error, None, elapsed_ms, is_local, b"", {}, phases, fault, is_final, detail, is_impatient, started
            )
        answer = connection.body_start
        if answer:  # it is kept, logged and shown
            secrets = self._credentials.shown_in(options.headers or {})
            if claim.record.type == ALERT_TYPE:
                secrets += self._credentials.shown_by_alerts()
            answer = without_secrets(answer, secrets)
        status, headers = connection.status, connection.headers
        # Without names of arguments, which would take as long as all else here.
        return Outcome(
            error, status, elapsed_ms, is_local, answer, headers, phases, fault, False, "", is_impatient, started
        )

    async def _is_answered_on_kept(
        self,
        connection: Connection,
        request: bytes,
        claim: Claim,
        origin: Origin,
        wanted_bytes: int,
        timeout_s: float,
    ) -> bool:
        """Send on a kept connection. Return False if the request must be sent once more: the connection seems to have
        been closed before the request arrived (docs/decisions/0001-kept-connections.md)."""
        sent_at = time.monotonic()
        # A timer of its own: asyncio's time-out costs 3 µs more, a twentieth of a delivery.
        timer = asyncio.get_running_loop().call_later(timeout_s, connection.time_out)
        try:
            await connection.send(request, wanted_bytes)
        except (ConnectionClosed, OSError) as problem:
            if connection.received or isinstance(problem, TimeoutError):
                raise
            self._pool.learn_of_close(origin.key, connection)
            if not retries(claim.record.options, self._retries) or time.monotonic() - sent_at > RESEND_WITHIN_S:
                raise
            connection.abort()
            if self.on_resent is not None:
                self.on_resent(claim, _described(problem))
            _let_go(problem)
            return False
        finally:
            timer.cancel()
        return True

    def _give_back(self, origin: Origin, connection: Connection) -> None:
        if connection.has_answered and connection.is_sending:
            # Answered before the request was sent whole: the rest has some time to follow, with no other behind it.
            connection.close_in_order(REST_OF_REQUEST_S)
        else:
            self._pool.give_back(origin.key, connection)


def _phases(started: float, ended: float, connection: Connection | None, opening: Opening | None) -> Phases:
    lookup_s = connect_s = first_byte_s = 0.0
    if opening is not None:
        lookup_s = (opening.looked_up_at or ended) - opening.began_at
        if opening.looked_up_at:
            connect_s = (opening.connected_at or ended) - opening.looked_up_at
    if connection is not None and not 200 <= (connection.status or 0) < 300:
        sent_at = opening.connected_at if opening is not None else started
        first_byte_s = (ended if connection.status is None else connection.head_at) - sent_at
    return Phases(round(lookup_s * 1000), round(connect_s * 1000), round(first_byte_s * 1000))


def _let_go(problem: BaseException) -> None:
    """Drop the frames of an error, and of those behind it.

    One holds the claim, whose data would stay in memory until the next collection of garbage.
    """
    behind: BaseException | None = problem
    while behind is not None:
        behind.__traceback__ = None
        behind = behind.__cause__ or behind.__context__


def _described(problem: Exception) -> str:
    """Return an error's text as it may be kept, logged and shown: nothing that the receiver sent, no query of the URL,
    no address of a name."""
    if isinstance(problem, AnswerError | EgressRefused | ProxyError | SecretMissing):
        return str(problem)[:ERROR_LENGTH]
    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        reason = problem.certificate_error
        return f"the certificate is not valid: {getattr(reason, 'verify_message', reason)}"[:ERROR_LENGTH]
    if isinstance(problem, aiohttp.ClientConnectorSSLError):
        return f"no TLS connection: {getattr(problem.os_error, 'reason', problem.os_error)}"[:ERROR_LENGTH]
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return f"cannot look up {problem.host}: {problem.strerror}"[:ERROR_LENGTH]
    if isinstance(problem, aiohttp.ClientConnectorError):
        number = problem.os_error.errno
        return f"cannot connect: {os.strerror(number) if number else 'no address of the name answers'}"
    if isinstance(problem, OSError):
        return f"{type(problem).__name__}: {problem}"[:ERROR_LENGTH]
    return type(problem).__name__


def _detail_of(problem: Exception) -> str:
    """Return what only the log says of an error: addresses."""
    if isinstance(problem, EgressRefused):
        return problem.detail[:ERROR_LENGTH]
    return str(problem)[:ERROR_LENGTH] if isinstance(problem, aiohttp.ClientConnectorError) else ""


def _fault_of(problem: Exception) -> str:
    """Return what an error is, as the history counts it (outcome.py)."""
    if isinstance(problem, AnswerError):
        return "answer"
    if isinstance(problem, EgressRefused):
        return "egress"
    if isinstance(problem, ProxyError):
        return "proxy"
    if isinstance(problem, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "tls"
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return "lookup"
    return "connect" if isinstance(problem, OSError) else "request"
