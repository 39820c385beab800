"""The reference of the API, made of its own document: operations, fields with rules and defaults, lines for a shell,
and forms that try them."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from redis_scheduler.store.token import RIGHTS
from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Answered, Asker
from redis_scheduler.ui.entering import Visitor

BODY_MOST, ANSWER_MOST = 100_000, 20_000
"""Characters of a body that is sent from the page, and of an answer that is shown."""

NOT_NESTED = ("Callback",)
"""Its fields are those of the body that it stands in."""

Known = Mapping[str, str]
"""The settings of this process, by their variables."""


class Reference:
    """Reads the document once. `settings`: variable, value and source."""

    def __init__(self, asker: Asker, settings: Sequence[tuple[str, str, str]] = ()) -> None:
        self._asker = asker
        self._known: Known = {variable: value for variable, value, _ in settings}
        self._document: dict[str, Any] = {}

    async def _read(self, visitor: Visitor) -> dict[str, Any]:
        if not self._document:
            # The document is for everybody: no right of a token is asked for.
            self._document = (await self._asker.ask(Visitor(None, visitor.client), "GET", "/openapi.json")).content
        return self._document

    async def read(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        """Return the operations by their groups, as the page shows them."""
        found = await self._read(visitor)
        groups: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in found["tags"]}
        for path, methods in found["paths"].items():
            for method, operation in methods.items():
                shown = _shown(found["components"], path, method.upper(), operation, self._known)
                shown["may"] = _may(operation, visitor)
                groups[operation["tags"][0]].append(shown)
        return {"groups": {name: shown for name, shown in groups.items() if shown}}

    async def call(self, visitor: Visitor, name: str, fields: dict[str, str]) -> dict[str, Any]:
        """Send a request to an operation, with the rights of the visitor; return what it answered. Raises
        PageRefused."""
        document = await self._read(visitor)
        found = [
            (path, method.upper(), operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if operation["operationId"] == name
        ]
        if not found:
            raise PageRefused(404, "There is no such operation")
        [(path, method, operation)] = found
        given: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}}
        for one in operation["parameters"]:
            if text := fields.get(f"{one['in']}.{one['name']}", "").strip():
                given[one["in"]][one["name"]] = text
        key = given["path"].get("key", "")
        if "{key}" in path and (not key or "/" in key):
            raise PageRefused(400, "key: must be given, without a slash")
        body = fields.get("body", "").strip() if "requestBody" in operation else ""
        if len(body) > BODY_MOST:
            raise PageRefused(413, f"The body has more than {BODY_MOST} characters: send it from a shell")
        answered = await self._asker.ask(
            visitor, method, path.replace("{key}", key), given["query"], body.encode(), given["header"]
        )
        return {"line": f"{method} {path.replace('{key}', key)}", "status": answered.status, "text": _text(answered)}


def _text(answered: Answered) -> str:
    """Return the body of an answer, made readable."""
    try:
        text = msgspec.json.format(answered.body, indent=2).decode()
    except (ValueError, RecursionError):
        text = answered.body.decode(errors="replace")
    return text if len(text) <= ANSWER_MOST else f"{text[:ANSWER_MOST]}… ({len(text):,} characters)"


def _may(operation: dict[str, Any], visitor: Visitor) -> bool:
    """Whether the visitor has the rights that an operation needs."""
    names = [name for one in operation["security"] for name in one.get("bearer", ())]
    return all(visitor.rights & RIGHTS[name] for name in names)


def _shown(
    components: dict[str, Any], path: str, method: str, operation: dict[str, Any], known: Known
) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = body.get("examples", {})
    parameters = [
        (one["name"], one["in"], one["required"], one["description"], _default(one["schema"] | one, known))
        for one in operation.get("parameters", ())
    ]
    answer = operation["responses"]["200"]
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "summary": operation["summary"],
        "description": operation["description"],
        "parameters": parameters,
        "fields": _fields(components, body.get("schema", {}), known),
        "has_body": bool(body),
        "example": next((_pretty(one["value"]) for one in examples.values()), ""),
        "answer": answer.get("description", ""),
        "codes": operation.get("x-codes", ()),
        "lines": _lines(path, method, operation, examples),
    }


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _fields(
    components: dict[str, Any], schema: dict[str, Any], known: Known, before: str = ""
) -> list[tuple[str, str, bool, str, str]]:
    """Return the fields of a body, and those of its members: name, kind, whether it must be given, what it means with
    its rule, its default."""
    name = schema.get("$ref", "").rpartition("/")[2]
    whole = components["schemas"].get(name, schema)
    needed = whole.get("required", ())
    found = []
    for field, about in whole.get("properties", {}).items():
        found.append(
            (before + field, _kind(about), field in needed, about.get("description", ""), _default(about, known))
        )
        inner = next((one for one in _refs(about) if one.rpartition("/")[2] not in NOT_NESTED), None)
        if inner is not None and not before:
            found += _fields(components, {"$ref": inner}, known, f"{field}.")
    return found


def _refs(about: dict[str, Any]) -> list[str]:
    """Return the schemas that a field is made of."""
    parts = [about, about.get("items", {}), *about.get("anyOf", ()), *about.get("oneOf", ())]
    return [one["$ref"] for one in parts if "$ref" in one]


def _default(about: dict[str, Any], known: Known) -> str:
    """Return what counts where it is absent: the value of a setting beside its variable."""
    if "default" in about:
        return msgspec.json.encode(about["default"]).decode()
    said = str(about.get("x-default", ""))
    variable = said.partition(",")[0]
    return said.replace(variable, f"{variable} ({known[variable]})", 1) if known.get(variable) else said


def _kind(about: dict[str, Any]) -> str:
    """Return the kind of a value in a few words."""
    if "$ref" in about:
        return str(about["$ref"]).rpartition("/")[2]
    for many in ("anyOf", "oneOf"):
        if many in about:
            return " or ".join(dict.fromkeys(_kind(one) for one in about[many]))
    if "const" in about:
        return str(about["const"])
    if "enum" in about:
        return " or ".join(map(str, about["enum"]))
    kind = about.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _plain(value: Any) -> str:
    """Return a value as it stands in a query."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _lines(path: str, method: str, operation: dict[str, Any], bodies: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what to paste into a shell, of each example that succeeds."""
    answers = operation["responses"]["200"].get("content", {}).get("application/json", {}).get("examples", {})
    names = [name for name in dict.fromkeys([*bodies, *answers]) if name in answers] or [""]
    found = []
    for name in names[:3]:
        given = {
            one["name"]: _plain(one["examples"][name]["value"])
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
