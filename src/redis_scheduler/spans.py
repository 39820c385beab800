"""What traces are told of: that a request schedules, and that an attempt was made. process/tracing.py is one who
tells; nobody else knows of OpenTelemetry."""

from collections.abc import Mapping
from typing import Protocol

Attributes = Mapping[str, str | int]


class Span(Protocol):
    """Something that has begun."""

    @property
    def traceparent(self) -> str | None:
        """What makes other spans part of it; None if it was not chosen to be told."""

    def end(self, attributes: Attributes, error: str | None) -> None:
        """Tell that it has ended."""


class Tracer(Protocol):
    """Tells of spans. `parent` is a traceparent, or None."""

    def begin(self, name: str, parent: str | None) -> Span:
        """Begin a span of a request."""

    def attempted(self, parent: str | None, took_ms: int, attributes: Attributes, error: str | None) -> None:
        """Tell of an attempt that has ended now."""
