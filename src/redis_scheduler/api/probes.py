"""What a process tells of itself: that it lives, whether it is ready, and whether a request is its deployment's own."""

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.answers import answer, error_answer, kept_answer
from redis_scheduler.api.bodies import Ready, Said
from redis_scheduler.api.headers import headers_of
from redis_scheduler.errors import Code, StoreFull, StoreUnavailable
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment

READY_WITHIN_S = 1.5
"""A probe waits so long for a Redis that hangs: its own time-out is a few seconds."""


class Probes:
    """The handlers of the routes that are open to all, and the gate's question.

    However often they ask, Redis is asked as seldom as `refresh` does. `deployments`: what is known of it in
    each shard; `clients`: one of each. `document`: gives the OpenAPI document of all routes, with its ETag.
    """

    def __init__(
        self,
        deployments: Sequence[Deployment],
        clients: Sequence[RedisClient],
        is_stopping: Callable[[], bool],
        document: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._deployments = deployments
        self._clients = clients
        self._is_stopping = is_stopping
        self._document = document
        self._kept: tuple[bytes, str] | None = None

    async def root(self, _request: Request, _given: Mapping[str, str]) -> Response:
        """GET /: open to all."""
        return answer(Said("Scheduler service is running."))

    async def health(self, _request: Request, _given: Mapping[str, str]) -> Response:
        """GET /healthz: open to all. Its answer shows that the event loop lives."""
        return answer(Said("ok"))

    async def readiness(self, _request: Request, _given: Mapping[str, str]) -> Response:
        """GET /readyz: whether Redis answers, of several shards that of one (new tasks go there), and the process is
        not stopping. It is open to all, so it does not tell why. While nothing is promoted it says so, and is ready
        all the same: it takes tasks."""
        try:
            if not self._is_stopping():
                async with asyncio.timeout(READY_WITHIN_S):
                    await self._refresh()
                since_ms = min(
                    (each.all_paused_since_ms for each in self._deployments if each.all_paused_since_ms is not None),
                    default=None,
                )
                return answer(Ready("ok", UNSET if since_ms is None else rfc3339(since_ms)))
        except (StoreUnavailable, StoreFull, TimeoutError):
            pass
        return error_answer(Code.NOT_READY, "Not ready")

    async def openapi(self, request: Request, _given: Mapping[str, str]) -> Response:
        """GET /openapi.json: this document, open to all."""
        if self._kept is None:  # it takes 40 ms: others go on meanwhile
            self._kept = await asyncio.to_thread(self._document)
        return kept_answer(*self._kept, headers_of(request.scope).get(b"if-none-match", b""))

    async def is_own(self, instances: list[bytes]) -> bool:
        """Whether one of these headers has the deployment's own id. Raises StoreUnavailable while the id is not
        known."""
        if self._names_own(instances):
            return True
        # Redis may have been flushed since: then the first process that joined has made a new id.
        await self._deployments[0].refresh(self._clients[0])  # deliveries carry the id of the first shard
        return self._names_own(instances)

    async def _refresh(self) -> None:
        """Return once one shard has answered. Raises StoreUnavailable, or StoreFull, if none does."""
        clients = list(self._clients)
        if len(clients) == 1:
            await self._deployments[0].refresh(clients[0])
            return
        asked = zip(self._deployments, clients, strict=False)
        left = {asyncio.create_task(deployment.refresh(client), name="refresh") for deployment, client in asked}
        for task in left:
            # Nobody waits for what comes later.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            if not all(task.exception() for task in done):
                return
        await done.pop()

    def _names_own(self, instances: list[bytes]) -> bool:
        own = [deployment.id.encode() for deployment in self._deployments if deployment.id]
        # A proxy may put several headers into one.
        named = [part.strip() for given in instances for part in given.split(b",")]
        return any(hmac.compare_digest(part, one) for part in named for one in own)
