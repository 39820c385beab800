"""The OpenAPI document (3.1): the table of routes and the types of bodies, as a client's tools read them.

It says nothing of its own: what a route takes stands in routes.py, what a field means in options.py or fields.py, what
an example is in examples.py.
"""

import ast
import inspect
import json
import re
from collections import Counter, defaultdict
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from redis_scheduler import __version__
from redis_scheduler.api.bodies import Document, Refused, encode_answer
from redis_scheduler.api.examples import EXAMPLES, Example
from redis_scheduler.api.fields import (
    ABSENT_PARAMETERS,
    FIELDS,
    HEADERS,
    KEYS,
    MEANINGS,
    PARAMETERS,
    Schema,
    absent,
    rule_of,
)
from redis_scheduler.api.routes import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, ROUTES, Access, Route
from redis_scheduler.errors import Code
from redis_scheduler.store.token import RIGHTS
from redis_scheduler.task import options, repeat

_REFS = "#/components/schemas/"
_TAGS = {"schedule": "Tasks", "schedules": "Many tasks", "repeat": "Tasks", "dead": "Dead letters", "hosts": "Hosts"}
_OF_BODIES = (
    *(Code.INCOMPLETE_BODY, Code.NOT_JSON, Code.NOT_AN_OBJECT, Code.TOO_DEEP, Code.UNKNOWN_FIELD, Code.MISSING_FIELD),
    *(Code.REPEATED_FIELD, Code.INVALID_VALUE, Code.CONTRADICTION, Code.BODY_TOO_LARGE, Code.UNSUPPORTED_CONTENT),
)
_OF_ALL = (
    *(Code.INVALID_HTTP, Code.BODY_TOO_SLOW, Code.OWN_DELIVERY, Code.INTERNAL_ERROR, Code.REDIS_UNAVAILABLE),
    *(Code.BUSY, Code.STOPPING, Code.UNSUPPORTED_VERSION),
)

FOR_VALID = (
    *(Code.CONTRADICTION, Code.NOTHING_TO_CHANGE, Code.MISSING_FIELD, Code.INVALID_QUERY, Code.TOO_DEEP),
    *(Code.UNREADABLE_RECORD, Code.INVALID_VALUE),
)
"""The 400s that a request may get though it is valid by the document; the last only for fields that are checked
further."""


def rendered() -> tuple[bytes, str]:
    """Return the document and its ETag."""
    body = encode_answer(document())
    return body, f'"{blake2b(body, digest_size=12).hexdigest()}"'


def document() -> Document:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    names = Counter(route.handler.__name__ for route in ROUTES)
    for route in ROUTES:
        name = route.handler.__name__
        paths[route.path][route.method.lower()] = _operation(
            route, name if names[name] == 1 else f"{name}_by_{route.method.lower()}"
        )
    valid = ", ".join(f"`{code.word}`" for code in FOR_VALID)
    return Document(
        openapi="3.1.0",
        info={
            "title": "Redis Scheduler",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "Calls a webhook after a delay. Every answer is JSON with `status`; every failure has an `error` "
            f"for people and a `code` for programs. Every answer carries the `X-Request-Id` of its request, or a new one. Whole numbers are written without a point. A request that is valid by this document may still get one of {valid}: "
            "the last for a field with `x-checked-further`, whose description has the whole rule. `x-default` says in words what counts where something is absent.",
        },
        servers=[{"url": "/"}],
        tags=[{"name": name} for name in dict.fromkeys([*_TAGS.values(), "Service"])],
        paths=paths,
        components={
            "schemas": _schemas(),
            "responses": {str(status): _refused_with(status) for status in sorted({code.status for code in Code})},
            "securitySchemes": _SECURITY,
        },
    )


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The service's token, or one with rights."},
    "bare": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "The same without a scheme."},
}


def _operation(route: Route[Any], name: str) -> dict[str, Any]:
    summary = " ".join((route.handler.__doc__ or "").partition(": ")[2].split())
    rights = [name for name, right in RIGHTS.items() if right & route.needs]
    notes = [f"Needs the right{'s' * (len(rights) > 1)} {' and '.join(rights)}."] if rights else []
    if route.beside is not None:
        notes.append(f"Needs {str(route.beside[0].name).lower()}, too, {route.beside[1]}.")
    examples = [one for one in EXAMPLES.get((route.method, route.path), ()) if one.status == 200]
    codes = codes_of(route)
    found: dict[str, Any] = {
        "operationId": name,
        "tags": [_TAGS.get(route.path.split("/")[1], "Service")],
        "summary": summary[:1].upper() + summary[1:],
        "description": " ".join(notes),
        "security": [] if route.access is Access.OPEN else [{"bearer": rights}, {"bare": rights}],
        "parameters": _parameters(route, examples),
        "responses": {"200": _answer(route, examples)}
        | (
            {"304": {"description": "It is the one whose ETag `If-None-Match` names."}}
            if route.answer is Document
            else {}
        )
        | {
            str(status): {"$ref": f"#/components/responses/{status}"}
            for status in sorted({one.status for one in codes})
        },
        "x-codes": sorted(code.word for code in codes),
    }
    if route.body is not None:
        content = {"schema": {"$ref": _REFS + route.body.__name__}}
        shown = {one.says: {"value": one.body} for one in examples if one.body is not None}
        is_needed = route.path != "/dead/{key}/replay"
        found["requestBody"] = {"required": is_needed, "content": {"application/json": content | {"examples": shown}}}
    return found


def _parameters(route: Route[Any], examples: list[Example]) -> list[dict[str, Any]]:
    named = [("query", name, *PARAMETERS[name]) for name in route.parameters or ()]
    headers = [*(route.headers or ()), *(name for name in route.required if name in HEADERS)]
    named += [("header", name, *HEADERS[name]) for name in headers]
    if "{key}" in route.path:
        kind = "host" if route.path.startswith("/hosts") else "own" if route.method == "PUT" else "task"
        named.insert(0, ("path", "key", *KEYS[kind]))
    found = []
    for place, name, says, schema in named:
        read = str if schema.get("type", "string") == "string" else json.loads
        shown = {one.says: {"value": read(one.given[name])} for one in examples if name in one.given}
        is_needed = place == "path" or name in route.required
        entry = {"name": name, "in": place, "required": is_needed, "description": says, "schema": schema}
        if not is_needed and "default" not in schema:
            is_filter = name != "type" or route.body is None
            entry["x-default"] = ABSENT_PARAMETERS.get(name, "all") if is_filter else "default"
        found.append(entry | ({"examples": shown} if shown else {}))
    return found


def _answer(route: Route[Any], examples: list[Example]) -> dict[str, Any]:
    if not issubclass(route.answer, msgspec.Struct):
        text = {"schema": {"type": "string"}}
        return {"description": "Text.", "content": {"text/plain": text, "application/openmetrics-text": text}}
    content: Schema = {"schema": {"$ref": _REFS + route.answer.__name__}}
    if shown := {one.says: {"value": one.answer} for one in examples}:
        content["examples"] = shown
    says = inspect.cleandoc(route.answer.__doc__ or "")
    return {"description": says, "content": {"application/json": content}}


def codes_of(route: Route[Any]) -> set[Code]:
    """Return every code with which a request to this route may be refused."""
    found = {*_OF_ALL, *route.refused}
    if route.access is Access.TOKEN:
        found |= {Code.UNAUTHORIZED, Code.MISSING_RIGHT, Code.OTHER_TYPE}
    if route.parameters is not None:
        found |= {Code.INVALID_QUERY, Code.UNKNOWN_PARAMETER, Code.INVALID_VALUE}
        found |= {Code.CONTRADICTION} if "due_before" in route.parameters else set()
    if route.headers is not None:
        found.add(Code.UNSERVED_HEADER)
    if {IF_MATCH, IF_NONE_MATCH} & {*(route.headers or ())}:
        found |= {Code.PRECONDITION_FAILED, Code.CONTRADICTION}
    if IDEMPOTENCY_KEY in (route.headers or ()):
        found |= {Code.IDEMPOTENCY_KEY_REUSED, Code.IDEMPOTENCY_FULL, Code.REPEATED_FIELD}
    if route.required:
        found.add(Code.MISSING_FIELD)
    if route.body is not None:
        found |= {*_OF_BODIES}
    elif route.method != "GET":
        found |= {Code.UNEXPECTED_BODY, Code.INCOMPLETE_BODY}
    if route.method != "GET":
        found.add(Code.REDIS_FULL)
    if route.path.startswith("/dead/{key}"):
        found.add(Code.LETTER_NOT_FOUND)
    elif route.path.startswith("/schedule/{key}") and route.method != "PUT":
        found.add(Code.TASK_NOT_FOUND)
    return found


def _refused_with(status: int) -> dict[str, Any]:
    """Return the answers with a status, of all routes."""
    words = [code.word for code in Code if code.status == status]
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": words}}}
    content: Schema = {"schema": {"allOf": [{"$ref": f"{_REFS}Refused"}, narrowed]}}
    if shown := {one.says: {"value": one.answer} for of in EXAMPLES.values() for one in of if one.status == status}:
        content["examples"] = shown
    return {"description": ", ".join(words), "content": {"application/json": content}}


def _schemas() -> dict[str, Schema]:
    requests = [route.body for route in ROUTES if route.body is not None]
    answers = [route.answer for route in ROUTES if issubclass(route.answer, msgspec.Struct)]
    kinds = [*dict.fromkeys([*requests, *answers, Refused])]
    _, found = msgspec.json.schema_components(kinds, ref_template=_REFS + "{name}")
    schemas = {name: _plain(schema) for name, schema in found.items()}
    said = MEANINGS | _meanings(options.__file__, "Options") | _meanings(repeat.__file__, "Repeat")
    for name in _within(schemas, {kind.__name__ for kind in requests}):
        properties = schemas[name]["properties"]
        for field, schema in properties.items():
            told = properties[field] = _told(field, schema, said)
            if "default" not in told and field not in schemas[name].get("required", ()):
                told["x-default"] = absent(name, field, said.get(field, ""))
    schemas["Refused"]["properties"]["code"] = {"enum": [code.word for code in Code]}
    return schemas


def _told(name: str, schema: Schema, said: dict[str, str]) -> Schema:
    """Return a field of a request with its bounds, what it means, and its rule."""
    may_be_null = {"type": "null"} in schema.get("anyOf", ())
    if may_be_null and len(schema["anyOf"]) == 2:
        [schema] = [one for one in schema["anyOf"] if one != {"type": "null"}]
    if "anyOf" in FIELDS.get(name, ()) or FIELDS.get(name, {}).get("type") == "number":
        schema = {}
    schema = schema | FIELDS.get(name, {})
    if may_be_null:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return schema | {"description": said.get(name, "") + rule_of(name)}


def _plain(schema: Any) -> Any:
    """Return a schema as every tool reads it: patterns of ECMAScript, one kind of number, no broken lines."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _plain(one) for name, one in schema.items()}
    if "pattern" in found and isinstance(found["pattern"], str):
        found["pattern"] = found["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(found.get("description"), str):
        found["description"] = inspect.cleandoc(found["description"])
    if kinds := found.get("anyOf"):
        if any(kind.get("type") == "number" for kind in kinds):
            kinds = [kind for kind in kinds if kind.get("type") != "integer"]
        found = found | {"anyOf": kinds} if len(kinds) > 1 else {**found, **kinds[0]}
        if len(kinds) == 1:
            del found["anyOf"]
    return found


def _within(schemas: dict[str, Schema], names: set[str]) -> set[str]:
    """Return the names of schemas, and of all that stand in them."""
    inside = {name for one in names for name in re.findall(_REFS + r"(\w+)", json.dumps(schemas[one]))}
    return names if inside <= names else _within(schemas, names | inside)


def _meanings(file: str, kind: str) -> dict[str, str]:
    """Return what stands below each field of a class."""
    [lines] = [
        one.body for one in ast.parse(Path(file).read_text()).body if isinstance(one, ast.ClassDef) and one.name == kind
    ]
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in pairwise(lines)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }
