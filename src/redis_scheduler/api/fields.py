"""What the types of bodies leave open: fields and parameters as JSON Schema (2020-12), with what they mean.

A field with `x-checked-further` has a rule that no schema can say whole; its description says it, and an error does.
"""

import re
from typing import Any

from redis_scheduler.api.batch_requests import BATCH_MOST
from redis_scheduler.api.diagnosis import RULES, TYPE_LENGTH
from redis_scheduler.api.idempotency import KEY_LENGTH
from redis_scheduler.api.pace import RATE_LEAST, RATE_MOST
from redis_scheduler.api.requests import RESERVED_KEYS
from redis_scheduler.host import HOST_LENGTH
from redis_scheduler.store.filters import LISTED
from redis_scheduler.store.views import PAGE_LIMIT
from redis_scheduler.task.due import TIME_LENGTH
from redis_scheduler.task.header import HEADERS_MOST
from redis_scheduler.task.key import OWN_KEY_LENGTH, SHARDS_MOST
from redis_scheduler.task.label import LABELS_MOST, NAME_LENGTH, VALUE_LENGTH
from redis_scheduler.task.options import SHORTEST_S
from redis_scheduler.task.repeat import CRON_LENGTH
from redis_scheduler.task.timing import TEN_YEARS_S
from redis_scheduler.task.webhook import WEBHOOK_LENGTH

Schema = dict[str, Any]

FURTHER: Schema = {"x-checked-further": True}


def _text(most: int, pattern: str = "", **more: Any) -> Schema:
    found: Schema = {"type": "string", "minLength": 1, "maxLength": most, **more}
    return found | {"pattern": pattern} if pattern else found


_KEY = _text(OWN_KEY_LENGTH, "^[A-Za-z0-9_:-]+$")
_TIME: Schema = {"type": "string", "format": "date-time", "maxLength": TIME_LENGTH}
_TYPE = _text(TYPE_LENGTH) | FURTHER
_SECONDS: Schema = {"type": "number", "minimum": SHORTEST_S, "maximum": TEN_YEARS_S}
_OR_0: Schema = {"anyOf": [{"const": 0}, _SECONDS]}
_LIMIT = "[A-Za-z0-9][A-Za-z0-9._~:-]{0,127}"
_HOST = _text(300, f"^(@{_LIMIT}|[A-Za-z0-9._-]+:[1-9][0-9]{{0,4}}|\\[[0-9A-Fa-f:.]+\\]:[1-9][0-9]{{0,4}})$") | FURTHER
_WEBHOOK = _text(WEBHOOK_LENGTH, r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@\\]+([/?#][^\s]*)?$", format="uri") | FURTHER

FIELDS: dict[str, Schema] = {
    "webhook": _WEBHOOK,
    "ttl": {"type": "number", "minimum": 0, "maximum": TEN_YEARS_S},
    "at": _TIME,
    "type": _TYPE,
    "key": _KEY | FURTHER,
    "tasks": {"minItems": 1, "maxItems": BATCH_MOST},
    "body_base64": {
        "type": "string",
        "contentEncoding": "base64",
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    },
    "headers": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": HEADERS_MOST,
        "propertyNames": {"pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
        "additionalProperties": {"type": "string", "pattern": "^([!-~¡-ÿ]([ -~\\u00a0-ÿ]*[!-~¡-ÿ])?)?$"},
        **FURTHER,
    },
    "labels": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": LABELS_MOST,
        "propertyNames": {"pattern": f"^[A-Za-z0-9_.-]{{1,{NAME_LENGTH}}}$"},
        "additionalProperties": _text(VALUE_LENGTH),
        **FURTHER,
    },
    "retry_time": _OR_0,
    "retry_max": _SECONDS,
    "retry_for": _SECONDS,
    "expire": _SECONDS,
    "timeout": _SECONDS | {"maximum": 86_400} | FURTHER,
    "ack_within": _SECONDS | {"maximum": 7 * 86_400},
    "retry_times": {"type": "array", "items": _OR_0, "minItems": 1, "maxItems": 100},
    "final_statuses": FURTHER,
    "every": {"type": "number", "minimum": 1, "maximum": TEN_YEARS_S, **FURTHER},
    "cron": {"type": "string", "maxLength": CRON_LENGTH, "format": "cron", **FURTHER},
    "tz": {"type": "string", "format": "time-zone", **FURTHER},
    "until": _TIME | FURTHER,
    "times": FURTHER,
}
"""Of the bodies of requests, beside what their types say."""

MEANINGS = {
    "webhook": "Where the task is delivered.",
    "ttl": "Seconds until it is due. A task has a ttl, or a time, or it repeats.",
    "at": "When it is due, instead of a ttl; a time that is past is due now.",
    "data": "Any JSON, which is sent byte for byte; absent: an empty body.",
    "body": "A text that is sent instead of data.",
    "body_base64": "Bytes that are sent instead of data.",
    "type": "A name under which tasks are listed; absent: `default`.",
    "key": "The task's own key; absent: the service makes one.",
    "tasks": "All or none of them is taken.",
    "n": "How many times are asked for.",
    "repeat": "The rule.",
    "include_data": "Whether the data of the task that ended is told, too.",
    "event": "Whether it is told how the task ended; false sends `data` alone.",
    "concurrency": "Attempts at once, by all workers together.",
    "rate": "Attempts in `per` seconds, by all workers together.",
    "per": "Seconds in which so many attempts may begin.",
    "paused": "Whether none begins.",
}
"""What the fields of requests mean that are no options."""

ABSENT = {
    "ttl": "none: give ttl, at or repeat",
    "at": "none: give ttl, at or repeat",
    "data": "nothing is sent",
    "body": "data is sent",
    "body_base64": "data is sent",
    "type": "default",
    "key": "the service makes one",
    "headers": "none",
    "labels": "none",
    "retry_times": "by retries, retry_time and retry_backoff",
    "repeat": "it does not repeat",
    "limit_key": "the limit of its host",
    "on_success": "nothing starts",
    "on_failure": "nothing starts",
    "every": "give every or cron",
    "cron": "give every or cron",
    "tz": "UTC",
    "times": "without end",
    "until": "without end",
    "concurrency": "HOST_CONCURRENCY",
    "rate": "HOST_RATE",
    "per": "1",
    "paused": "false",
}
"""What counts where a field is absent that is no option with a `Default:` of its own (options.py)."""

ABSENT_IN = {"Callback": {"ttl": "due at once", "at": "due at once", "data": "null is told"}}
"""The same, where a body has its own."""

ABSENT_PARAMETERS = {
    "cursor": "the first page",
    "operation": "none: it cannot be sent again",
    "rate": "all at once",
    "If-Match": "whatever stands there",
    "If-None-Match": "whatever stands there",
    "Idempotency-Key": "each request makes a task",
}
"""The same of parameters and headers; of a filter that is absent: all."""

PARAMETERS: dict[str, tuple[str, Schema]] = {
    "type": ("Tasks of this type.", _TYPE),
    "state": ("Tasks in this state.", {"enum": list(LISTED)}),
    "host": (
        "Tasks whose webhook leads to this host, with or without its port.",
        _text(HOST_LENGTH, r"^[^/\s]+$") | FURTHER,
    ),
    "key_prefix": ("Tasks whose key begins so.", _KEY),
    "due_after": ("Tasks that are, or were, due at this time or later.", _TIME),
    "due_before": ("Tasks that are, or were, due before this time.", _TIME),
    "died_before": ("Dead letters that died before this time.", _TIME),
    "label": (
        "Tasks with this label, `name=value`.",
        _text(NAME_LENGTH + 1 + VALUE_LENGTH) | FURTHER,
    ),
    "repeats": ("Series, or tasks that are none.", {"type": "boolean"}),
    "error": ("Dead letters with this last error, as `GET /dead/groups` names it.", _text(1_000)),
    "shard": (
        "Tasks of this shard alone; absent: of all.",
        {"type": "integer", "minimum": 0, "maximum": SHARDS_MOST - 1, **FURTHER},
    ),
    "limit": ("At most so many.", {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": PAGE_LIMIT}),
    "cursor": ("The `next` of the answer before.", _text(1_000) | FURTHER),
    "dry_run": ("Only count.", {"type": "boolean", "default": False}),
    "operation": ("An id of your own, with which the request may be sent again.", _text(64, "^[A-Za-z0-9_-]+$")),
    "rate": (
        "So many tasks a second; absent: all at once.",
        {"type": "number", "minimum": RATE_LEAST, "maximum": RATE_MOST},
    ),
    "by": (
        "Seconds later, or earlier if below 0; at most three decimals.",
        {"type": "number", "minimum": -TEN_YEARS_S, "maximum": TEN_YEARS_S, **FURTHER},
    ),
}
"""Of queries."""

HEADERS: dict[str, tuple[str, Schema]] = {
    "If-Match": ("ETags of which the task must have one, or `*`.", _text(4_096) | FURTHER),
    "If-None-Match": ("`*`: there must be no such task.", {"const": "*"}),
    "Idempotency-Key": (
        "With the same, a request that is sent again gets the first answer.",
        _text(KEY_LENGTH, "^[!-~]+$"),
    ),
    "Schedule-Ack": ("What the delivery carried.", _text(256, "^[!-~]+$")),
}
"""Of requests."""

KEYS: dict[str, tuple[str, Schema]] = {
    "own": ("A key that the caller makes.", _KEY | {"not": {"enum": list(RESERVED_KEYS)}}),
    "host": ("A host with its port, or `@` and a limit_key.", _HOST),
    "task": ("The key of a task.", _KEY),
}
"""The part of a path that varies."""


def rule_of(name: str) -> str:
    """Return what a field must be, as a sentence; nothing where there is no rule."""
    return f" It {RULES[name].rstrip('.')}." if name in RULES else ""


def absent(body: str, name: str, meaning: str) -> str:
    """Return what counts where a field of a body is absent, in words."""
    if body == "UpdateRequest":
        return "as it is"
    if (said := ABSENT_IN.get(body, {}).get(name)) is not None:
        return said
    default = re.search(r"Default: (.+?)\.(?= [A-Z]|$)", meaning)
    return default[1] if default else ABSENT.get(name, "")
