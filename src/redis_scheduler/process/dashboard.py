"""The dashboard, which is imported at its first use: a start is as quick as without it.

The import takes a tenth of a second and runs in a thread of its own, so that tasks and requests go on meanwhile.
"""

import asyncio
import dataclasses
import importlib
from collections.abc import Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from redis_scheduler.process.hazards import hazards, open_doors
from redis_scheduler.settings import API, WORKER, Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from redis_scheduler.api.app import Inside
    from redis_scheduler.process.process import Process


class FirstUse:
    """Stands where the dashboard is to be, and makes it once somebody asks for a page."""

    def __init__(self, process: "Process") -> None:
        self._process = process
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

    def _make(self) -> Any:
        process, settings = self._process, self._process.settings
        about = importlib.import_module("redis_scheduler.ui.system").About(
            settings=shown(settings),
            warnings=hazards(settings, process.auth, listens=process.role != WORKER, delivers=process.role != API),
            doors=open_doors(settings, process.credentials, listens=process.role != WORKER),
            has_echo=settings.ui_echo == "on",
            delivers=process.role != API,
            base=settings.base_path,
            proxies=[ip_network(one) for one in settings.trusted_proxies.split()],
            environment=settings.environment,
        )
        return importlib.import_module("redis_scheduler.ui.dashboard").Dashboard(self._inside, about)


def shown(settings: Settings) -> Sequence[tuple[str, str, bool]]:
    """Return each setting with its value, and whether that is the default; of a secret only whether it is set."""
    rows = []
    for field in dataclasses.fields(settings):
        value, is_default = getattr(settings, field.name), getattr(settings, field.name) == field.default
        if field.metadata["is_secret"] and value:
            value = "set; it is not shown"
        rows.append((field.metadata["variable"], "" if value is None else str(value), is_default))
    return rows
