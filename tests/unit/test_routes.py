"""The table of routes: it can be served, and docs/routes.md says the same."""

import dataclasses
import inspect
import re
from pathlib import Path

from redis_scheduler.api.auth import OPEN
from redis_scheduler.api.hosts import HostsApi
from redis_scheduler.api.journal import Auditor
from redis_scheduler.api.metrics import MetricsApi
from redis_scheduler.api.probes import Probes
from redis_scheduler.api.requests import RESERVED_KEYS
from redis_scheduler.api.routes import AUDIT_ROUTE, METRICS_ROUTE, OPEN_ROUTES, ROUTES, TASK_ROUTES, Access, Route
from redis_scheduler.store.token import ANY_TOKEN, RIGHTS, Right
from redis_scheduler.task.content import CONTENTS
from redis_scheduler.task.options import NAMES

PAGE = Path(__file__).parents[2] / "docs/routes.md"
TOKENS = Path(__file__).parents[2] / "docs/howto/tokens.md"


OWNERS: dict[str, type] = {"/metrics": MetricsApi, "/audit": Auditor}
OPEN_PATHS = ("/", "/healthz", "/openapi.json", "/readyz")


def page_rows() -> dict[tuple[str, str], tuple[str, str]]:
    """By method and path: the row's two cells."""
    rows = re.findall(r"^\| (`[A-Z]+ /.*?) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return {
        route: (asked, answered) for asked, answered in rows for route in re.findall(r"`([A-Z]+) (/[^`?]*)`", asked)
    }


def test_each_method_of_a_path_is_one_route() -> None:
    served = [(route.path, method) for route in ROUTES for method in route.methods]
    assert len(served) == len(set(served))


def test_what_is_open_is_answered_by_the_probes_alone() -> None:
    for route in ROUTES:
        of_class = OWNERS.get(route.path, Probes if route.access is Access.OPEN else HostsApi)
        assert getattr(of_class, route.handler.__name__) is route.handler, route


def test_a_handler_is_called_as_a_method_without_a_layer() -> None:
    probes = Probes.__new__(Probes)
    for route in OPEN_ROUTES:
        assert route.handler_of(probes) == getattr(probes, route.handler.__name__)


def test_each_public_coroutine_of_the_api_has_a_route() -> None:
    coroutines = {name for name, _ in inspect.getmembers(HostsApi, inspect.iscoroutinefunction) if name[0] != "_"}
    assert coroutines <= {route.handler.__name__ for route in ROUTES}


def test_what_is_open_is_a_whole_path() -> None:
    """The gate looks it up before anything has looked at the path's parts."""
    assert sorted(OPEN) == [(path, method) for path in OPEN_PATHS for method in ("GET", "HEAD")]
    assert not [path for path, _ in OPEN if "{" in path]


def test_the_page_has_these_routes() -> None:
    assert page_rows().keys() == {(route.method, route.path) for route in ROUTES}


def test_the_page_says_what_each_route_takes_and_who_may_ask() -> None:
    rows = page_rows()
    for route in ROUTES:
        asked, answered = rows[route.method, route.path]
        fields = re.findall(r"`\{(.*?)\}`", asked)
        named = route.body.__struct_fields__ if route.body else ()
        beside = (*NAMES, *CONTENTS[1:]) if "webhook" in named else ()
        usual = [name for name in named if name not in beside]
        assert fields == ([", ".join(usual)] if usual else []), route
        known = set(re.findall(r"`\?(\w+)=", asked + answered))
        assert known == set(route.parameters or ()), route
        assert ("without a token" in answered) == (route.access is Access.OPEN), route


def test_no_task_has_a_key_that_is_a_path_beside_those_of_keys() -> None:
    """Its path would lead elsewhere."""
    with_key = {route.path for route in ROUTES if "{key}" in route.path}
    others = [route.path for route in ROUTES if "{key}" not in route.path]
    hidden = {
        found[1]
        for path in with_key
        for other in others
        if (found := re.fullmatch(re.escape(path).replace(r"\{key\}", "([^/]+)"), other))
    }
    assert "groups" in hidden
    assert hidden <= set(RESERVED_KEYS)


def named(rights: Right) -> str:
    """The names of rights, as a page has them."""
    return " and ".join(f"`{name}`" for name, right in RIGHTS.items() if right & rights)


def rights_table() -> str:
    """The routes by the rights that they need, as docs/howto/tokens.md has them."""
    needed: dict[Right, list[str]] = {}
    for route in (*TASK_ROUTES, AUDIT_ROUTE, METRICS_ROUTE):
        beside = f" (and {named(route.beside[0])} {route.beside[1]})" if route.beside else ""
        needed.setdefault(route.needs, []).append(f"`{route.method} {route.path}`{beside}")
    lines = [f"| any token | {', '.join(needed.pop(ANY_TOKEN))} |"]
    lines.extend(f"| {named(needs)} | {', '.join(needed[needs])} |" for needs in sorted(needed))
    return "\n".join(lines)


def test_the_page_about_tokens_says_which_right_each_route_needs() -> None:
    text = TOKENS.read_text().split("## What needs which right")[1]
    assert rights_table() in text, f"put this into {TOKENS.name}:\n{rights_table()}"
    assert text.count("`GET /") == rights_table().count("`GET /") + len(OPEN_ROUTES)


def test_a_route_that_says_nothing_is_for_those_who_may_do_the_most() -> None:
    assert {field.name: field.default for field in dataclasses.fields(Route)}["needs"] is Right.ADMIN
