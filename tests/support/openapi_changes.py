"""What of an OpenAPI document would break who goes by an earlier one: the routes, what they take, what they answer.

`python -m tests.support.openapi_changes` keeps the document of this version, for all later ones to be held against;
it refuses if that would break who goes by the one that was kept. Texts and examples are left out: they may change.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[1] / "samples/openapi.json"
TEXTS = ("description", "summary", "examples", "tags", "info", "servers")

LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def without_texts(document: Any, is_named: bool = False) -> Any:
    """The document without what may change; `is_named`: the members have names of their own, such as fields."""
    if isinstance(document, list):
        return [without_texts(one) for one in document]
    if not isinstance(document, dict):
        return document
    return {
        name: without_texts(one, name in ("properties", "paths", "schemas", "responses"))
        for name, one in document.items()
        if is_named or name not in TEXTS
    }


def lacks(kept: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Return what a document has that the kept one lacks, by its path, such as `components.schemas.Info.required.due`:
    nobody would see it taken away again."""
    return sorted(set(_members(document)) - set(_members(kept)))


def _members(part: Any, where: str = "") -> Iterator[str]:
    """Name each member of a document; those of a list by their names, or by what they are."""
    if isinstance(part, list):
        part = {str(one.get("name", number) if isinstance(one, dict) else one): one for number, one in enumerate(part)}
    if isinstance(part, dict):
        for name, one in part.items():
            yield f"{where}{name}"
            yield from _members(one, f"{where}{name}.")


def breaks(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Every change that breaks something, in a few words."""
    return list(_of_paths(before, after))


def _of_paths(before: Any, after: Any) -> Iterator[str]:
    for path, methods in before["paths"].items():
        for method, old in methods.items():
            where, new = f"{method.upper()} {path}", after["paths"].get(path, {}).get(method)
            if new is None:
                yield f"{where}: is removed"
                continue
            if new["operationId"] != old["operationId"]:
                yield f"{where}: is called {new['operationId']}, no longer {old['operationId']}"
            yield from _of_rights(where, old["security"], new["security"])
            yield from _of_parameters(where, old["parameters"], new["parameters"])
            yield from _of_body(where, _Pair(before, after), old.get("requestBody"), new.get("requestBody"))
            yield from _of_answers(where, _Pair(before, after), old["responses"], new["responses"])


class _Pair:
    """Both documents, and the schemas of them that were compared."""

    def __init__(self, before: Any, after: Any) -> None:
        self._before, self._after = before, after
        self._seen: set[str] = set()

    def compared(self, where: str, old: Any, new: Any, is_sent: bool) -> Iterator[str]:
        """Compare schemas; `is_sent`: of what a client sends, which may be wider, and else of what it gets."""
        if "$ref" in old:
            if old["$ref"] in self._seen:
                return
            self._seen.add(old["$ref"])
        old, new = _resolved(self._before, old), _resolved(self._after, new)
        yield from _narrowed(where, old, new, is_sent)
        for name, field in old.get("properties", {}).items():
            if name not in new.get("properties", {}):
                yield f"{where}.{name}: is removed"
            else:
                yield from self.compared(f"{where}.{name}", field, new["properties"][name], is_sent)
        was, is_now = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(is_now - was if is_sent else (was - is_now) & new.get("properties", {}).keys()):
            yield f"{where}.{name}: {'must be given' if is_sent else 'may be absent'}"
        if "items" in old:
            yield from self.compared(f"{where}[]", old["items"], new.get("items", {}), is_sent)
        yield from self._of_kinds(where, old.get("anyOf"), new.get("anyOf"), is_sent)

    def _of_kinds(self, where: str, old: Any, new: Any, is_sent: bool) -> Iterator[str]:
        if old is None or new is None:
            return
        for number, kind in enumerate(old if is_sent else new):
            pairs = [(kind, one) for one in new] if is_sent else [(one, kind) for one in old]
            if all([*self.compared(where, one, other, is_sent)] for one, other in pairs):
                yield f"{where}: its kind {number} is {'no longer taken' if is_sent else 'new'}"


def _resolved(document: Any, schema: Any) -> Any:
    if "$ref" not in schema:
        return schema
    found = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _narrowed(where: str, old: Any, new: Any, is_sent: bool) -> Iterator[str]:
    if old.get("type") != new.get("type") and "anyOf" not in new:
        yield f"{where}: is {new.get('type')}, no longer {old.get('type')}"
    if is_sent and (lost := [one for one in old.get("enum", ()) if "enum" in new and one not in new["enum"]]):
        yield f"{where}: does not take {lost}"
    if is_sent and "enum" in new and "enum" not in old:
        yield f"{where}: takes only {new['enum']}"
    if not is_sent:
        return
    for names, sign in ((LEAST, 1), (MOST, -1)):
        for name in names:
            if name in new and (name not in old or (new[name] - old[name]) * sign > 0):
                yield f"{where}: its {name} is {new[name]}"
    if new.get("pattern", old.get("pattern")) != old.get("pattern"):
        yield f"{where}: has another pattern"


def _of_rights(where: str, old: Any, new: Any) -> Iterator[str]:
    if not old and new:
        yield f"{where}: needs a token"
    elif old and new and (more := set(new[0]["bearer"]) - set(old[0]["bearer"])):
        yield f"{where}: needs the rights {sorted(more)}"


def _of_parameters(where: str, old: Any, new: Any) -> Iterator[str]:
    known = {(one["in"], one["name"]): one for one in old}
    found = {(one["in"], one["name"]): one for one in new}
    for place, name in sorted(known.keys() - found.keys()):
        yield f"{where}: the {place} parameter {name} is removed"
    for key, one in found.items():
        if one["required"] and not (key in known and known[key]["required"]):
            yield f"{where}: the {key[0]} parameter {key[1]} must be given"
        if key in known:
            yield from _narrowed(f"{where}: {key[1]}", known[key]["schema"], one["schema"], True)


def _of_body(where: str, pair: _Pair, old: Any, new: Any) -> Iterator[str]:
    if old is None:
        if new is not None and new["required"]:
            yield f"{where}: must have a body"
        return
    if new is None:
        yield f"{where}: takes no body"
        return
    if new["required"] and not old["required"]:
        yield f"{where}: must have a body"
    before, after = (one["content"]["application/json"]["schema"] for one in (old, new))
    yield from pair.compared(where, before, after, True)


def _of_answers(where: str, pair: _Pair, old: Any, new: Any) -> Iterator[str]:
    for kind, content in old["200"]["content"].items():
        if kind not in new["200"]["content"]:
            yield f"{where}: does not answer {kind}"
        else:
            yield from pair.compared(f"{where} 200", content["schema"], new["200"]["content"][kind]["schema"], False)


if __name__ == "__main__":
    from redis_scheduler.api.openapi import rendered

    document = without_texts(json.loads(rendered()[0]))
    if found := breaks(json.loads(SAMPLE.read_text()), document):
        sys.exit("\n".join(["It breaks who goes by the document that is kept:", *found]))
    SAMPLE.write_text(json.dumps(document, indent=1) + "\n")
