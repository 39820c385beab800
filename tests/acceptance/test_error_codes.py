"""Each error says by a stable word what is wrong, and by a field's name where."""

import io
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.task.given import SHOWN_LENGTH
from tests.support.service import Client
from tests.support.shards import keys_of

HOOK = "http://127.0.0.1:9/"
GOOD = {"webhook": HOOK, "ttl": 60}
JSON = {"Content-Type": "application/json"}
LONG = "x" * 100
DEEP = b'{"webhook":"http://127.0.0.1:9/","ttl":1,"data":%s}' % (b"[" * 180 + b"]" * 180)

CASES: list[tuple[str, str, dict[str, Any], str, str | None]] = [
    ("POST", "/schedule", {"data": b"", "headers": JSON}, "not-json", None),
    ("POST", "/schedule", {"data": b"{", "headers": JSON}, "not-json", None),
    ("POST", "/schedule", {"data": b"\xff\xfe{", "headers": JSON}, "not-json", None),
    ("POST", "/schedule", {"json": [GOOD]}, "not-an-object", None),
    ("POST", "/schedule", {"data": b"[" * 200 + b"]" * 200, "headers": JSON}, "not-an-object", None),
    ("POST", "/schedule", {"data": DEEP, "headers": JSON}, "too-deep", None),
    ("POST", "/schedule", {"json": GOOD | {"color": 1}}, "unknown-field", "color"),
    ("POST", "/schedule", {"json": GOOD | {"": 1}}, "unknown-field", ""),
    ("POST", "/schedule", {"json": GOOD | {LONG: 1}}, "unknown-field", LONG[:SHOWN_LENGTH] + "…"),
    ("POST", "/schedule", {"json": {"webhook": HOOK}}, "missing-field", "ttl"),
    ("POST", "/schedule", {"json": {"ttl": 1}}, "missing-field", "webhook"),
    ("POST", "/schedule", {"data": b'{"ttl":1,"ttl":2}', "headers": JSON}, "repeated-field", "ttl"),
    ("POST", "/schedule", {"json": GOOD | {"ttl": "5m"}}, "invalid-value", "ttl"),
    ("POST", "/schedule", {"json": GOOD | {"ttl": -1}}, "invalid-value", "ttl"),
    ("POST", "/schedule", {"json": GOOD | {"at": "2200-01-31T09:00:00Z"}}, "contradiction", "at"),
    ("POST", "/schedule", {"json": {"webhook": HOOK, "at": "2200-01-31"}}, "invalid-value", "at"),
    ("POST", "/schedule", {"json": GOOD | {"webhook": "ftp://h/"}}, "invalid-value", "webhook"),
    ("POST", "/schedule", {"json": GOOD | {"webhook": f"http://h/{'x' * 5_000}"}}, "invalid-value", "webhook"),
    ("POST", f"/schedule?type={LONG}x", {"json": GOOD}, "invalid-value", "type"),
    ("POST", "/schedule?type=", {"json": GOOD}, "invalid-value", "type"),
    ("POST", "/schedule?ttl=5", {"json": GOOD}, "unknown-parameter", "ttl"),
    ("POST", f"/schedule?{'a=1&' * 30}", {"json": GOOD}, "invalid-query", None),
    ("GET", "/schedules?type=%ff", {}, "invalid-query", None),
    ("GET", "/schedules?limit=0", {}, "invalid-value", "limit"),
    ("GET", "/schedules?cursor=x", {}, "invalid-value", "cursor"),
    ("PATCH", "/schedule/none", {"json": {}}, "nothing-to-change", None),
    ("PATCH", "/schedule/none", {"json": {"ttl": 1}}, "task-not-found", None),
    ("GET", "/schedule/no.key", {}, "task-not-found", None),
    ("GET", "/dead/none", {}, "dead-letter-not-found", None),
    ("POST", "/dead/none/replay", {"json": {}}, "dead-letter-not-found", None),
    ("GET", "/dead?cursor=x", {}, "invalid-value", "cursor"),
    ("POST", "/purge", {"json": {"type": "mail"}}, "unexpected-body", None),
    ("POST", "/purge", {"headers": {"If-Match": "*"}}, "unserved-header", "If-Match"),
    ("GET", "/dead?state=dead", {}, "unknown-parameter", "state"),
    ("GET", "/nowhere", {}, "path-not-found", None),
    ("PUT", "/schedules", {}, "method-not-allowed", None),
    ("POST", "/schedule", {"data": io.BytesIO(bytes(1_048_577)), "headers": JSON}, "body-too-large", None),
    (
        "POST",
        "/schedule",
        {"data": "{}", "headers": {"Content-Type": "text/csv"}},
        "unsupported-content",
        "Content-Type",
    ),
    (
        "POST",
        "/schedule",
        {"data": "{}", "headers": JSON | {"Content-Encoding": "br"}},
        "unsupported-content",
        "Content-Encoding",
    ),
    ("GET", "/stats", {"headers": {"Authorization": "wrong"}}, "unauthorized", "Authorization"),
    ("GET", "/stats", {"headers": {"Host": "a b"}}, "invalid-http", "Host"),
]


@pytest.mark.parametrize(("method", "path", "given", "code", "field"), CASES)
async def test_an_error_has_its_code_and_names_its_field(
    api: Client, method: str, path: str, given: dict[str, Any], code: str, field: str | None
) -> None:
    _, content = await api.call(method, path, **given)
    assert (content["code"], content.get("field")) == (code, field), content


async def test_a_record_that_cannot_be_changed_has_its_code(api: Client, raw: redis.asyncio.Redis) -> None:
    for record, code in ((b"{}", "unreadable-record"), (b'{"due":1,"color":1}', "newer-record")):
        key = await api.schedule(HOOK, 60)
        await raw.hset((await keys_of(raw, key)).tasks, key, record)
        _, content = await api.call("PATCH", f"/schedule/{key}", json={"ttl": 1})
        assert content["code"] == code, content
        await api.call("DELETE", f"/schedule/{key}")
