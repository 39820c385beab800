"""Whether an answer is one that the OpenAPI document has: every client of the tests asks for each of its answers."""

import re
from functools import cache
from urllib.parse import unquote

from redis_scheduler.api.openapi import codes_of
from redis_scheduler.api.routes import ROUTES


@cache
def _routes() -> list[tuple[re.Pattern[str], dict[str, set[str]]]]:
    """By the form of their paths, what each method is refused with; whole paths come first."""
    found: dict[str, dict[str, set[str]]] = {}
    for route in sorted(ROUTES, key=lambda route: "{" in route.path):
        for method in route.methods:
            words = {code.word for code in codes_of(route)}
            found.setdefault(route.path, {})[method] = words
    return [(re.compile(re.escape(path).replace(r"\{key\}", "[^/]+")), methods) for path, methods in found.items()]


def check_documented(method: str, path: str, status: int, code: str | None) -> None:
    """Fail if the document does not say that a request may be answered so. What no route takes has no place there."""
    path = unquote(path.partition("?")[0])
    methods = next((methods for form, methods in _routes() if form.fullmatch(path)), {})
    if method in methods and status != 200:
        assert code in methods[method], f"the OpenAPI document does not have {code} for {method} {path}"
