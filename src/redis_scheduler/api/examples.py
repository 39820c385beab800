"""Examples of requests and their answers, for the OpenAPI document. A test sends them in this order."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Example:
    """A request and its answer. says: what it does; given: path, parameters and headers by name."""

    says: str
    answer: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    status: int = 200


_HOOK = "https://shop.example/orders"
_AT, _DUE = "2099-01-31T09:00:00+01:00", "2099-01-31T08:00:00.000Z"
_MADE = "q6Xh2nUfT0yGm3W9vRk1sA"
_OF_ORDERS = {"key_prefix": "order:", "dry_run": "true"}
_DEAD = {"host": "shop.example", "dry_run": "true"}


def _many(says: str, verb: str, touched: int, looked_at: int, given: dict[str, str]) -> Example:
    counted = {"touched": touched, "looked_at": looked_at, "next": None, "dry_run": True}
    return Example(says, {"status": 200, "data": verb, **counted}, given)


def _found(says: str, key: str, state: str, **given: str) -> Example:
    return Example(says, {"status": 200, "data": key, "key": key, "found": state}, {"key": key, **given})


_INFO = {
    "key": "order:17",
    "ttl": None,
    "retry": 0,
    "webhook": _HOOK,
    "expires": _DUE,
    "state": "scheduled",
    "due": _DUE,
    "type": "default",
    "at": _DUE,
    "has_data": True,
}
_FAILURE = {"error": "HTTP 500", "elapsed_ms": 3, "status": 500}
_DIED = {
    "key": "order:19",
    "ttl": 0,
    "retry": 1,
    "webhook": _HOOK,
    "expires": None,
    "state": "dead",
    "due": _DUE,
    "type": "default",
    "has_data": False,
    "last_failure": _FAILURE,
}
_LIMITED = {"host": "shop.example:443", "concurrency": 4, "rate": 10, "per": 1, "paused": False}
_HOST = {"key": "shop.example:443"}

EXAMPLES: dict[tuple[str, str], tuple[Example, ...]] = {
    ("GET", "/"): (Example("is it there", {"status": 200, "data": "Scheduler service is running."}),),
    ("GET", "/healthz"): (Example("does it live", {"status": 200, "data": "ok"}),),
    ("GET", "/readyz"): (Example("is it ready", {"status": 200, "data": "ok"}),),
    ("POST", "/schedule"): (
        Example(
            "in a minute",
            {"status": 200, "data": _MADE, "key": _MADE, "due": _DUE},
            {"type": "mail", "Idempotency-Key": "order-17-mail"},
            {"webhook": _HOOK, "ttl": 60, "data": {"order": 17}},
        ),
        Example(
            "every weekday at nine",
            {"status": 200, "data": _MADE, "key": _MADE, "due": _DUE},
            {},
            {"webhook": _HOOK, "repeat": {"cron": "0 9 * * 1-5", "tz": "Europe/Berlin"}},
        ),
        Example(
            "with retries of its own",
            {"status": 200, "data": _MADE, "key": _MADE, "due": _DUE},
            {},
            {"webhook": _HOOK, "ttl": 5, "retries": 10, "retry_backoff": "exponential", "labels": {"order": "17"}},
        ),
        Example(
            "a ttl that is none",
            {
                "status": 400,
                "error": 'ttl: must be a number of seconds from 0 to 315360000 (ten years), got "5m"',
                "code": "invalid-value",
                "field": "ttl",
            },
            {},
            {"webhook": _HOOK, "ttl": "5m"},
            400,
        ),
    ),
    ("PUT", "/schedule/{key}"): (
        Example(
            "under a key of its own",
            {"status": 200, "data": "order:17", "key": "order:17", "due": _DUE, "created": True},
            {"key": "order:17"},
            {"webhook": _HOOK, "at": _AT, "data": {"order": 17}},
        ),
    ),
    ("POST", "/schedules"): (
        Example(
            "two at once",
            {
                "status": 200,
                "data": ["order:18", _MADE],
                "tasks": [{"key": "order:18", "due": _DUE}, {"key": _MADE, "due": _DUE}],
            },
            {},
            {"tasks": [{"webhook": _HOOK, "ttl": 3600, "key": "order:18"}, {"webhook": _HOOK, "ttl": 60}]},
        ),
    ),
    ("GET", "/schedule/{key}"): (
        Example(
            "one task",
            {"status": 200, "data": {"info": {**_INFO, "waits_for": f"its time, {_DUE}"}, "data": {"order": 17}}},
            {"key": "order:17"},
        ),
    ),
    ("GET", "/schedules"): (
        Example(
            "those of an order",
            {"status": 200, "data": [{"info": _INFO, "data": {"order": 17}}], "next": None, "looked_at": 6},
            {"key_prefix": "order:17", "limit": "10"},
        ),
    ),
    ("PATCH", "/schedule/{key}"): (
        Example(
            "other data, and the usual retries again",
            {"status": 200, "data": "order:17", "key": "order:17", "due": _DUE, "found": "updated"},
            {"key": "order:17", "If-Match": "*"},
            {"data": {"order": 17, "is_paid": True}, "retries": None},
        ),
    ),
    ("POST", "/schedule/{key}/pause"): (_found("keep it back", "order:17", "scheduled"),),
    ("POST", "/schedule/{key}/resume"): (_found("let it come again", "order:17", "paused"),),
    ("POST", "/schedules/pause"): (_many("count what would be paused", "paused", 2, 6, _OF_ORDERS),),
    ("POST", "/schedules/resume"): (_many("count what would be resumed", "resumed", 0, 0, _OF_ORDERS),),
    ("POST", "/schedules/run"): (_many("count what would run", "run", 2, 6, _OF_ORDERS),),
    ("POST", "/schedules/shift"): (
        _many("count what would be shifted", "shifted", 2, 6, {**_OF_ORDERS, "by": "3600"}),
    ),
    ("POST", "/schedules/cancel"): (_many("count what would be cancelled", "cancelled", 2, 6, _OF_ORDERS),),
    ("POST", "/schedule/{key}/run"): (_found("now", "order:18", "scheduled"),),
    ("POST", "/schedule/{key}/extend"): (
        _found("it goes on", "order:20", "awaiting", **{"Schedule-Ack": "1700000000000-0.0.5Yk0"}),
    ),
    ("POST", "/schedule/{key}/done"): (
        _found("it is done", "order:20", "awaiting", **{"Schedule-Ack": "1700000000000-0.0.5Yk0"}),
    ),
    ("POST", "/schedule/{key}/fail"): (
        _found("it has failed", "order:21", "awaiting", **{"Schedule-Ack": "1700000000000-0.0.5Yk0"}),
    ),
    ("GET", "/dead"): (
        Example("of a host", {"status": 200, "data": [{"info": _DIED, "data": None}], "next": None}, {"limit": "1"}),
    ),
    ("GET", "/dead/groups"): (
        Example(
            "what died, by host and error",
            {
                "status": 200,
                "data": [
                    {"host": "shop.example:443", "error": "HTTP 500", "count": 1, "newest": "order:19", "died": _DUE}
                ],
                "others": 0,
                "looked_at": 1,
                "dead": 1,
                "complete": True,
            },
            {"host": "shop.example"},
        ),
    ),
    ("GET", "/dead/{key}"): (
        Example(
            "one dead letter",
            {"status": 200, "data": {"info": {**_DIED, "attempts": [_FAILURE]}, "data": None}},
            {"key": "order:19"},
        ),
    ),
    ("POST", "/dead/replay"): (_many("count what would be replayed", "replayed", 1, 1, _DEAD),),
    ("POST", "/dead/delete"): (_many("count what would be deleted", "deleted", 1, 1, _DEAD),),
    ("POST", "/dead/{key}/replay"): (
        Example(
            "bring it back in a minute",
            {"status": 200, "data": "order:19", "key": "order:19", "due": _DUE, "found": "replayed"},
            {"key": "order:19"},
            {"ttl": 60},
        ),
    ),
    ("DELETE", "/dead/{key}"): (
        Example("delete it", {"status": 200, "data": "deleted", "key": "order:22"}, {"key": "order:22"}),
    ),
    ("POST", "/repeat/preview"): (
        Example(
            "the next two times",
            {"status": 200, "data": [_DUE, _DUE]},
            {},
            {"repeat": {"cron": "0 9 * * 1-5", "tz": "Europe/Berlin"}, "n": 2},
        ),
    ),
    ("PUT", "/hosts/{key}"): (
        Example(
            "four at once, ten a second",
            {"status": 200, "data": {**_LIMITED, "held": 0, "running": 0}},
            _HOST,
            {"concurrency": 4, "rate": 10},
        ),
    ),
    ("GET", "/hosts/{key}"): (
        Example("one host", {"status": 200, "data": {**_LIMITED, "held": 0, "running": 0}}, _HOST),
    ),
    ("GET", "/hosts"): (
        Example("all", {"status": 200, "data": [{**_LIMITED, "held": 0, "running": 0}], "more": False}),
    ),
    ("DELETE", "/hosts/{key}"): (
        Example(
            "no limit of its own",
            {"status": 200, "data": {"host": "shop.example:443", "paused": False, "held": 0, "running": 0}},
            _HOST,
        ),
    ),
    ("GET", "/audit"): (
        Example(
            "the last change",
            {
                "status": 200,
                "data": [
                    {
                        "at": _DUE,
                        "number": 6,
                        "who": "api",
                        "what": "DELETE /hosts/{key}",
                        "via": "api",
                        "status": 200,
                        "on": "shop.example:443",
                        "client": "127.0.0.1",
                        "request_id": "5f0c9a1b2c3d-1f",
                    }
                ],
                "next": "6",
            },
            {"limit": "1"},
        ),
    ),
    ("GET", "/stats"): (Example("figures", {"status": 200, "data": {"running_schedules": 4, "cpu_usage": 3.1}}),),
    ("DELETE", "/schedule/{key}"): (
        Example("take it out", {"status": 200, "data": "cancelled", "key": "order:17"}, {"key": "order:17"}),
    ),
    ("DELETE", "/schedules"): (Example("delete everything", {"status": 200, "data": 7}),),
    ("POST", "/purge"): (Example("delete everything", {"status": 200, "data": 0}),),
}
