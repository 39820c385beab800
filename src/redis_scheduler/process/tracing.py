"""Spans by OpenTelemetry, over OTLP by HTTP, where TRACES_URL says so. The extra `otel` has what it needs; without
TRACES_URL nothing of it is imported."""

import asyncio
import contextlib
import importlib.util
import logging
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from redis_scheduler import __version__
from redis_scheduler.errors import SettingsError
from redis_scheduler.settings import Settings
from redis_scheduler.spans import Attributes
from redis_scheduler.stopping import stop_or_interval

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan

SEND_S = 2.0
"""A collector has so long to take some spans; a stop waits no longer for it."""

USUAL_SHARE = 0.01

MISSING = "TRACES_URL: needs the extra `otel`: pip install 'redis-scheduler[otel]'"


def check_tracing(settings: Settings) -> None:
    """Raise SettingsError if spans are wanted, and what tells of them is not installed."""
    # Other packages bring a part of it.
    if settings.traces_url is not None:
        try:
            importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
        except ModuleNotFoundError:
            raise SettingsError([MISSING]) from None


@contextlib.asynccontextmanager
async def tracing(settings: Settings) -> AsyncIterator["Tracing | None"]:
    """Give what tells of spans, None unless they are wanted; tell the last of them at the end, for SEND_S at most."""
    if settings.traces_url is None:
        yield None
        return
    provider = _provider(settings.traces_url, USUAL_SHARE if settings.traces_share is None else settings.traces_share)
    try:
        yield Tracing(provider)
    finally:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ended.set)

        # No thread of the loop, which waits for its own at its end: a look-up of the collector's name has no time-out.
        threading.Thread(target=end, name="tracing-end", daemon=True).start()
        await stop_or_interval(ended, SEND_S)


def _provider(url: str, share: float) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    # What it says of each try to reach a collector would fill the log.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=Resource.create({"service.name": "redis-scheduler", "service.version": __version__}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=url, timeout=SEND_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1_000))
    return provider


class _Begun:
    """A span of a request."""

    def __init__(self, span: "OtelSpan") -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """What makes other spans part of it; None if it was not chosen to be told."""
        context = self._span.get_span_context()
        if not context.trace_flags.sampled:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def end(self, attributes: Attributes, error: str | None) -> None:
        """Tell that it has ended."""
        _end(self._span, attributes, error, None)


class Tracing:
    """Tells a provider of spans; see spans.py."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("redis_scheduler", __version__)
        self._extract = TraceContextTextMapPropagator().extract

    def begin(self, name: str, parent: str | None) -> _Begun:
        """Begin a span of a request."""
        from opentelemetry.trace import SpanKind

        return _Begun(self._tracer.start_span(name, self._context(parent), SpanKind.SERVER))

    def attempted(self, parent: str | None, took_ms: int, attributes: Attributes, error: str | None) -> None:
        """Tell of an attempt that has ended now."""
        from opentelemetry.trace import SpanKind

        end_ns = time.time_ns()
        span = self._tracer.start_span(
            "attempt", self._context(parent), SpanKind.CLIENT, start_time=end_ns - took_ms * 1_000_000
        )
        _end(span, attributes, error, end_ns)

    def _context(self, parent: str | None) -> "Context":
        from opentelemetry.context import Context

        return self._extract({"traceparent": parent} if parent else {}, Context())


def _end(span: "OtelSpan", attributes: Attributes, error: str | None, end_ns: int | None) -> None:
    from opentelemetry.trace import StatusCode

    if span.is_recording():
        span.set_attributes(attributes)
        if error is not None:
            span.set_status(StatusCode.ERROR, error)
    span.end(end_ns)
