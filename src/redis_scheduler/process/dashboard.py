"""The dashboard, which is imported at its first use: a start is as quick as without it.

The import takes a tenth of a second and runs in a thread of its own, so that tasks and requests go on meanwhile.
"""

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from redis_scheduler.api.app import Inside


class FirstUse:
    """Stands where the dashboard is to be, and makes it once somebody asks for a page."""

    def __init__(self, inside: "Inside") -> None:
        self._inside = inside
        self._making: asyncio.Future[ASGIApp] | None = None

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if self._making is None:
            self._making = asyncio.ensure_future(asyncio.to_thread(self._make))
        await (await asyncio.shield(self._making))(scope, receive, send)

    def _make(self) -> "ASGIApp":
        module: Any = importlib.import_module("redis_scheduler.ui.dashboard")
        dashboard: ASGIApp = module.Dashboard(self._inside)
        return dashboard
