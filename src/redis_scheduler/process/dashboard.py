"""The dashboard, which is imported at its first use: a start is as quick as without it.

The import takes a tenth of a second and runs in a thread of its own, so that tasks and requests go on meanwhile.
"""

import asyncio
import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from redis_scheduler.loading import host_limit_of, sources
from redis_scheduler.process.hazards import hazards, open_doors
from redis_scheduler.settings import API, WORKER, Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from redis_scheduler.api.app import Inside
    from redis_scheduler.process.process import Process

IN_DATA_DIR = "DATA_DIR"
MADE = {"redis_url": "a private Redis", "api_auth": "made at the first start; it is not shown"}
"""Where what is not given is made, and kept."""


class FirstUse:
    """Stands where the dashboard is to be, and makes it once somebody asks for a page."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._sources = sources(process.settings)  # now: a file may be another one later
        self._inside: Inside | None = None
        self._making: asyncio.Future[Any] | None = None

    def inside(self, inside: "Inside") -> "ASGIApp":
        """Stand in this API."""
        self._inside = inside
        return self.answer

    async def answer(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if self._making is None:
            self._making = asyncio.ensure_future(asyncio.to_thread(self._make))
        await (await asyncio.shield(self._making))(scope, receive, send)

    def close(self) -> None:
        """End what was begun."""
        if self._making is not None and self._making.done() and not self._making.exception():
            self._making.result().close()

    def _reached_at(self) -> str | None:
        listener = self._process.listener
        port = 0 if listener is None else listener.getsockname()[1]
        return self._process.deployment.listeners.reached_at(port)

    def _make(self) -> Any:
        process, settings = self._process, self._process.settings
        about = importlib.import_module("redis_scheduler.ui.system").About(
            settings=shown(settings, self._sources),
            warnings=hazards(settings, process.auth, listens=process.role != WORKER, delivers=process.role != API),
            doors=open_doors(settings, process.credentials, listens=process.role != WORKER),
            has_echo=settings.ui_echo == "on",
            delivers=process.role != API,
            reached_at=self._reached_at,
            base=settings.base_path,
            proxies=[ip_network(one) for one in settings.trusted_proxies.split()],
            environment=settings.environment,
            replicas=settings.replicas,
            limit=host_limit_of(settings),
            tell_look=process.report.tell_look,
        )
        return importlib.import_module("redis_scheduler.ui.dashboard").Dashboard(self._inside, about)


def shown(settings: Settings, found: Mapping[str, str]) -> Sequence[tuple[str, str, str]]:
    """Return each setting with its value and where it comes from; of a secret only whether it is set. `found`: where
    those come from that were given."""
    rows = []
    for field in dataclasses.fields(settings):
        variable, value = field.metadata["variable"], getattr(settings, field.name)
        source = found.get(variable) or (IN_DATA_DIR if field.name in MADE else "default")
        if source == IN_DATA_DIR:
            value = MADE[field.name]
        elif field.metadata["is_secret"] and value:
            value = "set; it is not shown"
        elif value is None:
            value = field.metadata["default"]
        rows.append((variable, f"{value:.10g}" if isinstance(value, float) else str(value), source))
    return rows
