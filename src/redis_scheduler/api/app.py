"""The application: the handlers at their paths, behind the gate."""

from collections.abc import Callable, Sequence
from typing import Any

from starlette.routing import Route as PathRoute
from starlette.routing import Router
from starlette.types import ASGIApp

from redis_scheduler.api.auth import Gate
from redis_scheduler.api.endpoint import Endpoint
from redis_scheduler.api.limits import DEFAULT as DEFAULT_LIMITS
from redis_scheduler.api.limits import Limits
from redis_scheduler.api.many import ManyApi
from redis_scheduler.api.probes import Probes
from redis_scheduler.api.routes import OPEN_ROUTES, TASK_ROUTES, Handler, Route
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.task.timing import DEFAULT, Timing


def create_app(
    clients: Sequence[RedisClient],
    name: str,
    token: str,
    max_body: int,
    deployments: Sequence[Deployment],
    is_stopping: Callable[[], bool] = lambda: False,
    timing: Timing = DEFAULT,
    limits: Limits = DEFAULT_LIMITS,
) -> ASGIApp:
    """Return the application.

    `clients`, `deployments`: one of each shard. `name` is this process's id as a writer, new at every start.
    """
    api = ManyApi(clients, name, max_body, timing, limits, token)
    probes = Probes(list(zip(deployments, clients, strict=True)), is_stopping)
    at: dict[str, dict[Route[Any], Handler]] = {}
    handlers: list[tuple[Route[Any], Handler]] = [(route, route.handler_of(api)) for route in TASK_ROUTES]
    handlers += [(route, route.handler_of(probes)) for route in OPEN_ROUTES]
    for route, handler in handlers:
        at.setdefault(route.path, {})[route] = handler
    paths = [PathRoute(path, Endpoint(of_path)) for path, of_path in at.items()]
    # No redirects to a path with or without a slash: they would answer without JSON.
    return Gate(Router(paths, redirect_slashes=False, default=Endpoint({})), token, probes.is_own, limits)
