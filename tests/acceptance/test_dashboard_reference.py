"""The reference in the dashboard: what each field means and what counts where it is absent, and forms that try each
operation with the rights of who is signed in."""

import json
import re

import aiohttp
import pytest

from redis_scheduler.api.bodies import ScheduleRequest
from redis_scheduler.api.openapi import rendered
from redis_scheduler.api.routes import ROUTES
from redis_scheduler.store.client import RedisClient
from tests.support.pages import Browser
from tests.support.service import Client
from tests.support.strange_texts import TEXTS
from tests.support.tokens import make_token

HOOK = "http://127.0.0.1:9/hook"
HTMX = {"HX_Request": "true", "Sec_Fetch_Site": "same-origin"}


async def test_the_reference_has_each_route_and_each_field(admin: Browser, api: Client) -> None:
    page = await admin.get("/ui/reference")
    for route in ROUTES:
        assert f"<code>{route.method} {route.path}</code>" in page.html
    for name in ScheduleRequest.__struct_fields__:
        assert f"<code>{name}</code>" in page.html


def test_whatever_may_be_absent_says_what_counts_then() -> None:
    document = json.loads(rendered()[0])
    schemas = document["components"]["schemas"]
    bodies = ("ScheduleRequest", "UpdateRequest", "BatchItem", "Callback", "Repeat", "LimitRequest", "PreviewRequest")
    said = [
        ("default" in about or about.get("x-default"), f"{body}.{name}")
        for body in bodies
        for name, about in schemas[body]["properties"].items()
        if name not in schemas[body].get("required", ())
    ]
    said += [
        ("default" in one["schema"] or one.get("x-default"), f"{path} {one['name']}")
        for path, methods in document["paths"].items()
        for operation in methods.values()
        for one in operation["parameters"]
        if not one["required"]
    ]
    assert len(said) > 150
    assert [name for is_said, name in said if not is_said] == []
    assert schemas["ScheduleRequest"]["properties"]["retries"]["x-default"] == "RETRIES"
    assert schemas["UpdateRequest"]["properties"]["retries"]["x-default"] == "as it is"


async def test_defaults_stand_with_the_values_of_settings(admin: Browser) -> None:
    page = await admin.get("/ui/reference")
    for text in ("RETRIES (5)", "TIMEOUT (10", "repeat.cron", "tasks.key", "the first page", "it does not repeat"):
        assert text in page.text, text
    assert page.html.count("<code>on_success</code>") == page.html.count("<code>on_failure</code>") > 1


def form_of(page: str, name: str) -> str:
    found = re.search(rf'<form class="try"[^>]*action="/ui/call/{name}".*?</form>', page, re.DOTALL)
    return found[0] if found else ""


async def test_each_operation_can_be_tried(admin: Browser, api: Client) -> None:
    page = (await admin.get("/ui/reference")).html
    names = re.findall(r'hx-post="/ui/call/([a-z_]+)"', page)
    document = json.loads(rendered()[0])
    assert sorted(names) == sorted(
        one["operationId"] for all_of in document["paths"].values() for one in all_of.values()
    )
    assert 'name="path.key"' in form_of(page, "get")
    assert 'name="query.dry_run" value="true"' in form_of(page, "cancel_many")
    body = json.dumps({"webhook": HOOK, "ttl": 900, "data": "<b>"})
    fields = {"body": body, "query.type": "mail", "header.Idempotency-Key": "one"}
    said = await admin.post("/ui/call/schedule", fields, **HTMX)
    assert "POST /schedule: 200" in said.text
    [key] = re.findall(r'"key": "([^"]+)"', said.text)
    assert key in (await admin.post("/ui/call/schedule", fields, **HTMX)).text, "the header was sent"
    assert (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["type"] == "mail"
    said = await admin.post("/ui/call/get", {"path.key": key}, **HTMX)
    assert f"GET /schedule/{key}: 200" in said.text
    assert '"data": "<b>"' in said.text
    assert "<b>" not in said.html
    said = await admin.post("/ui/call/schedule", {"body": "{"}, **HTMX)
    assert "POST /schedule: 400" in said.text
    assert "http_server_request" in (await admin.post("/ui/call/metrics", {}, **HTMX)).text
    page_of_its_own = await admin.post("/ui/call/get", {"path.key": key})
    assert (page_of_its_own.status, "Back to the reference" in page_of_its_own.text) == (200, True)


@pytest.mark.parametrize("key", ["", "../purge", "a/b"])
async def test_no_other_path_is_reached(key: str, admin: Browser, api: Client) -> None:
    await api.schedule(HOOK, ttl=900)
    for name in ("cancel", "run"):
        assert (await admin.post(f"/ui/call/{name}", {"path.key": key}, **HTMX)).status == 400
    assert (await admin.post("/ui/call/nothing", {}, **HTMX)).status == 404
    assert (await api.stats())["running_schedules"] == 1


@pytest.mark.parametrize("text", TEXTS)
async def test_what_is_sent_and_answered_is_shown_as_text(text: str, admin: Browser) -> None:
    for fields in ({"path.key": text.replace("/", "")}, {"path.key": "x", "header.If-Match": text}):
        page = await admin.post("/ui/call/cancel", fields, **HTMX)
        assert page.status in (200, 400)
        assert not re.search(r"<(?!/?(p|pre)\b)", page.html)


async def test_what_is_tried_has_the_rights_of_who_tries(
    browser: Browser, api: Client, client: RedisClient, session: aiohttp.ClientSession
) -> None:
    key = await api.schedule(HOOK, ttl=900)
    reader = Browser(session, api.url)
    assert (await reader.post("/ui/call/purge_by_post", {}, **HTMX)).status == 401
    await reader.sign_in(await make_token(client, "read"))
    page = await reader.get("/ui/reference")
    assert form_of(page.html, "get")
    assert not form_of(page.html, "cancel")
    assert "sign in with a token that has its rights" in page.text
    for name in ("cancel", "purge_by_post", "stats"):
        assert ": 403" in (await reader.post(f"/ui/call/{name}", {"path.key": key}, **HTMX)).text, name
    assert (await reader.post("/ui/call/get", {"path.key": key}, Origin="https://evil.example")).status == 403
    await reader.sign_in(await make_token(client, "read", types=("mail",)))
    for name in ("root", "health", "readiness", "openapi"):
        assert ": 200" in (await reader.post(f"/ui/call/{name}", {}, **HTMX)).text, name
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 200
