"""The paths of the API lead where Starlette's own router leads them."""

import pytest
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from redis_scheduler.api.app import Paths
from redis_scheduler.api.routes import ROUTES

TEMPLATES = [*dict.fromkeys(route.path for route in ROUTES)]


class Noted:
    """Notes in the scope that it was called."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        scope["noted"] = self._name


NOTED = {path: Noted(path) for path in TEMPLATES}
OURS = Paths(NOTED, Noted("none"))
THEIRS = Router([Route(path, app) for path, app in NOTED.items()], redirect_slashes=False, default=Noted("none"))

PATHS = [path.replace("{key}", key) for path in TEMPLATES for key in ("abc", "a b", "é", "groups", "{key}", "", "a/b")]
ODD = ["", "*", "//", "///", "/schedule//pause", "schedule/abc", "/schedule/abc/pause/x", "/none/abc", "/{key}/abc"]


@pytest.mark.parametrize("path", [*PATHS, *(f"{path}/" for path in PATHS), *(f"/{path}" for path in PATHS), *ODD])
async def test_a_path_leads_where_a_router_of_patterns_leads(path: str) -> None:
    found = []
    for app in (OURS, THEIRS):
        scope: Scope = {"type": "http", "path": path, "method": "GET", "headers": [], "root_path": ""}
        await app(scope, None, None)  # type: ignore[arg-type]  # they are passed on unused
        is_found = scope["noted"] != "none"
        found.append((scope["noted"], scope.get("path_params") if "{key}" in scope["noted"] and is_found else None))
    assert found[0] == found[1]
