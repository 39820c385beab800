"""GET /schedules with filters: each alone and together, over pages, and what is refused."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.given import quoted
from tests.support.service import Client
from tests.support.tokens import make_token


async def listed(api: Client, **filters: str) -> list[dict[str, Any]]:
    """All pages of a list."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for _ in range(100):
        status, content = await api.call("GET", "/schedules?" + urlencode(filters | cursor))
        assert status == 200, content
        found += [task["info"] for task in content["data"]]
        if content["next"] is None:
            return found
        cursor = {"cursor": content["next"]}
    raise AssertionError("a list without an end")


@pytest.fixture
async def tasks(api: Client) -> dict[str, str]:
    """Tasks that differ in one thing each: their keys by what they are."""
    return {
        "soon": await api.schedule("http://a.example/", 100),
        "late": await api.schedule("http://a.example/", 9_000),
        "mail": await api.schedule("http://a.example/", 4_000, "/schedule?type=mail"),
        "other": await api.schedule("http://B.example:8080/x", 5_000),
        "queued": await api.schedule("http://a.example/", 0),
        "series": await api.schedule("http://c.example/", 20_000, repeat={"every": 3600}),
    }


@pytest.mark.parametrize("limit", ["1", "2", "10000"])
async def test_each_filter_finds_what_is_so_and_nothing_else(limit: str, api: Client, tasks: dict[str, str]) -> None:
    assert (await api.call("POST", f"/schedule/{tasks['late']}/pause"))[0] == 200
    due = {info["key"]: info["due"] for info in await listed(api)}
    assert due.keys() == set(tasks.values())
    middle = due[tasks["other"]]
    for filters, names in (
        ({"state": "scheduled"}, {"soon", "mail", "other", "series"}),
        ({"state": "queued"}, {"queued"}),
        ({"state": "paused"}, {"late"}),
        ({"state": "in delivery"}, set()),
        ({"host": "a.example"}, {"soon", "late", "mail", "queued"}),
        ({"host": "b.example"}, {"other"}),
        ({"host": "B.EXAMPLE:8080"}, {"other"}),
        ({"host": "b.example:80"}, set()),
        ({"host": "a.example:80"}, {"soon", "late", "mail", "queued"}),
        ({"host": "a.example."}, {"soon", "late", "mail", "queued"}),
        ({"host": "#"}, set()),
        ({"key_prefix": tasks["mail"][:10]}, {"mail"}),
        ({"due_after": middle}, {"late", "other", "series"}),
        ({"due_before": middle}, {"soon", "queued", "mail"}),
        ({"due_after": due[tasks["soon"]], "due_before": middle}, {"soon", "mail"}),
        ({"type": "mail", "state": "scheduled"}, {"mail"}),
        ({"type": "default", "host": "a.example", "state": "scheduled"}, {"soon"}),
        ({"type": "mail", "host": "b.example"}, set()),
        ({"repeats": "true"}, {"series"}),
        ({"repeats": "true", "host": "a.example"}, set()),
        ({"repeats": "false", "host": "c.example"}, set()),
        ({"repeats": "false"}, {"soon", "late", "mail", "other", "queued"}),
    ):
        found = await listed(api, limit=limit, **filters)
        assert sorted(info["key"] for info in found) == sorted(tasks[name] for name in names), filters


async def test_a_page_is_full_though_most_tasks_are_not_wanted(api: Client) -> None:
    wanted = [await api.schedule("http://b.example/", 100 + 10 * number) for number in range(3)]
    for number in range(30):
        await api.schedule("http://a.example/", 100 + number)
    _, content = await api.call("GET", "/schedules?host=b.example&limit=2")
    assert [task["info"]["key"] for task in content["data"]] == wanted[:2]
    _, content = await api.call("GET", f"/schedules?host=b.example&limit=2&cursor={content['next']}")
    assert [task["info"]["key"] for task in content["data"]] == wanted[2:]


async def test_with_filters_a_page_says_how_many_tasks_it_looked_at(api: Client, client: RedisClient) -> None:
    for host, path in (("a", ""), ("a", "?type=mail"), ("b", "?type=mail")):
        await api.schedule(f"http://{host}.example/", 900, f"/schedule{path}")
    for query, looked_at in (("host=b.example", 3), ("host=b.example&type=mail", 2), ("key_prefix=none", 3)):
        assert (await api.call("GET", f"/schedules?{query}"))[1]["looked_at"] == looked_at
    assert (await api.call("GET", "/dead?host=b.example"))[1]["looked_at"] == 0
    for path in ("/schedules", "/schedules?type=mail", "/dead"):
        assert "looked_at" not in (await api.call("GET", path))[1], "it has all that it looked at"
    narrow = await make_token(client, "read", types=("mail", "other"))
    _, content = await api.call("GET", "/schedules?host=b.example", headers={"Authorization": narrow})
    assert len(content["data"]) == 1
    assert "looked_at" not in content, "how many there are of other types is not told"


@pytest.mark.parametrize(
    ("query", "field", "code", "told"),
    [
        ("state=dead", "state", "invalid-value", "must be one of scheduled, deferred"),
        ("state=", "state", "invalid-value", "must be given once, and not empty"),
        ("host=a/b", "host", "invalid-value", "must be the host of webhooks"),
        ("host=" + "x" * 301, "host", "invalid-value", "must be the host of webhooks"),
        ("host=%00", "host", "invalid-value", "must be the host of webhooks"),
        ("key_prefix=a.b", "key_prefix", "invalid-value", "must be the beginning of a key"),
        ("due_after=tomorrow", "due_after", "invalid-value", "must be an RFC 3339 time"),
        ("due_before=2030-01-01T00:00:00", "due_before", "invalid-value", "must be an RFC 3339 time"),
        (
            "due_after=2030-01-01T00:00:00Z&due_before=2030-01-01T00:00:00Z",
            "due_before",
            "contradiction",
            'in between, got "2030-01-01T00:00:00Z"',
        ),
        (
            "lable=a",
            "lable",
            "unknown-parameter",
            "known: type, state, host, key_prefix, due_after, due_before, label, repeats",
        ),
        ("label=order", "label", "invalid-value", "must be name=value"),
        ("label=order=", "label", "invalid-value", "must be name=value"),
        ("label==17", "label", "invalid-value", "must be name=value"),
        ("label=a%20b=17", "label", "invalid-value", "must be name=value"),
        ("label=a=%0A", "label", "invalid-value", "must be name=value"),
        ("label=a=1&label=a=2", "label", "invalid-value", "must be given once"),
        ("repeats=yes", "repeats", "invalid-value", 'must be true or false, got "yes"'),
    ],
)
async def test_a_wrong_filter_is_refused(query: str, field: str, code: str, told: str, api: Client) -> None:
    status, content = await api.call("GET", f"/schedules?{query}")
    assert (status, content["field"], content["code"]) == (400, field, code)
    assert told in content["error"]
    if code != "unknown-parameter":
        given = [quoted(value) for name, value in parse_qsl(query, keep_blank_values=True) if name == field]
        assert content["error"].endswith(f", got {' and '.join(given)}")


async def test_a_plus_in_a_time_needs_no_escape(api: Client) -> None:
    status, _ = await api.call("GET", "/schedules?due_after=2030-01-01T00:00:00+01:00")
    assert status == 200


async def test_pages_together_looked_at_each_task_once(api: Client) -> None:
    for number in range(4):
        for name in ("other", "wanted"):
            body = {"webhook": "http://a.example/", "ttl": 900 + number}
            assert (await api.call("PUT", f"/schedule/{name}:{number}", json=body))[0] == 200
    query, found, looked_at = "/schedules?key_prefix=wanted&limit=1", list[str](), 0
    cursor = ""
    while cursor is not None:
        _, content = await api.call("GET", f"{query}&cursor={cursor}" if cursor else query)
        found += [task["info"]["key"] for task in content["data"]]
        looked_at, cursor = looked_at + content["looked_at"], content["next"]
    assert (found, looked_at) == ([f"wanted:{number}" for number in range(4)], 8)
