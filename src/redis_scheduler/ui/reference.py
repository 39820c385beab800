"""The reference of the API, made of its own document: operations, fields with rules and defaults, lines for a shell."""

import shlex
from typing import Any

import msgspec

from redis_scheduler.ui.asking import Asker
from redis_scheduler.ui.entering import Visitor


class Reference:
    """Reads the document once."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def read(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        """Return the operations by their groups, as the page shows them."""
        # The document is for everybody: no right of a token is asked for.
        found = (await self._asker.ask(Visitor(None, visitor.client), "GET", "/openapi.json")).content
        groups: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in found["tags"]}
        for path, methods in found["paths"].items():
            for method, operation in methods.items():
                groups[operation["tags"][0]].append(_shown(found["components"], path, method.upper(), operation))
        return {"groups": {name: shown for name, shown in groups.items() if shown}}


def _shown(components: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    parameters = [
        (one["name"], one["in"], one["required"], one["description"], "") for one in operation.get("parameters", ())
    ]
    answer = operation["responses"]["200"]
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "summary": operation["summary"],
        "description": operation["description"],
        "parameters": parameters,
        "fields": _fields(components, body.get("schema", {})),
        "answer": answer.get("description", ""),
        "codes": operation.get("x-codes", ()),
        "lines": _lines(path, method, operation, body.get("examples", {})),
    }


def _fields(components: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str, bool, str, str]]:
    """Return the fields of a body: name, kind, whether it must be given, what it means with its rule, its default."""
    name = schema.get("$ref", "").rpartition("/")[2]
    whole = components["schemas"].get(name, schema)
    needed = whole.get("required", ())
    return [
        (field, _kind(about), field in needed, about.get("description", ""), _default(about))
        for field, about in whole.get("properties", {}).items()
    ]


def _default(about: dict[str, Any]) -> str:
    return msgspec.json.encode(about["default"]).decode() if "default" in about else ""


def _kind(about: dict[str, Any]) -> str:
    """Return the kind of a value in a few words."""
    if "$ref" in about:
        return str(about["$ref"]).rpartition("/")[2]
    for many in ("anyOf", "oneOf"):
        if many in about:
            return " or ".join(dict.fromkeys(_kind(one) for one in about[many]))
    if "enum" in about:
        return " or ".join(map(str, about["enum"]))
    kind = about.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _lines(path: str, method: str, operation: dict[str, Any], bodies: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what to paste into a shell, of each example that succeeds."""
    answers = operation["responses"]["200"].get("content", {}).get("application/json", {}).get("examples", {})
    names = [name for name in dict.fromkeys([*bodies, *answers]) if name in answers] or [""]
    found = []
    for name in names[:3]:
        given = {
            one["name"]: one["examples"][name]["value"]
            for one in operation.get("parameters", ())
            if name in one.get("examples", {}) and one["in"] == "query"
        }
        query = "&".join(f"{key}={value}" for key, value in given.items())
        line = f'curl -X {method} "$URL{path.replace("{key}", "$KEY")}{"?" + query if query else ""}"'
        if operation["security"]:
            line += ' -H "Authorization: $TOKEN"'
        if name in bodies:
            body = msgspec.json.encode(bodies[name]["value"]).decode()
            line += f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
        found.append((name, line))
    return found
