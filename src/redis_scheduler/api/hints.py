"""What to do instead of giving a field that there is not."""

import re
from collections.abc import Collection

_HINTS = {
    "type is a parameter of POST /schedule (?type=NAME), and stays as it was scheduled": "type",
    "a point in time is `at`, of RFC 3339 with its offset": """at date datetime deliverat due dueat eta
        executeat notbefore runat scheduleat scheduledat scheduledfor scheduletime sendat startat time
        timestamp when""",
    "how a task repeats is `repeat`, with every or cron": """cron cronexpression every frequency interval period recurrence
        recurring repeatevery rrule schedule timezone tz""",
    "the delay is `ttl`, in seconds": "after countdown delay delayms delayseconds in seconds wait",
    "the request's method is `method`": "httpmethod verb",
    "the request's headers are `headers`": "contenttype cookies header httpheaders",
    "the query is part of `webhook`": "query",
    "the address is `webhook`": """callback callbackurl destination endpoint href link target targeturl to uri url
        webhookurl""",
    "the content is `data`": "args arguments content event input json kwargs message parameters params payload",
    "the content as a text is `body`, and bytes are `body_base64`": "bodytext bytes raw text",
    "the service makes the key, and answers with it; PUT /schedule/{key} takes one of yours": """id jobid key messageid name
        taskid uuid""",
    "a request that may come twice has the header Idempotency-Key": "deduplicationid idempotencykey",
    "many tasks are given to POST /schedules": "batch items jobs tasks",
    "how a failed attempt is repeated is said by `retries`, `retry_time` and other options": """attempts backoff
        maxattempts maxretries retry retrycount retrydelay retrypolicy""",
    "what lists find a task by is `labels`, texts by names": "label tag tags",
    "slots are a setting of the service (CONCURRENCY)": "concurrency",
    "the time-out of an attempt is `timeout`, in seconds": "timeoutms timeoutseconds",
    "the time after which no attempt is made is `expire`, in seconds (`info.expires` is when a task fires next)": """
        expires expireseconds expiry""",
    "what its end starts is `on_success` and `on_failure`, each the body of a task": """chain dependencies dependson
        errorcallback failurecallback next oncomplete onerror onfail parents successcallback then""",
    "a token is given in the Authorization header": "apiauth apikey auth authorization password token",
}
"""What to do instead, by names in other schedulers' bodies, in lower case and without `_` and `-`."""

_HINT_OF = {name: hint for hint, names in _HINTS.items() for name in names.split()}

_LIST_HINT = "what POST /schedule takes is given for each task, in the list `tasks`"
"""For the body of POST /schedules, which has no such field itself."""


def hint_of(name: str, known: Collection[str]) -> str | None:
    """Return what to do instead of giving a field of this name, where these are `known`; None if nothing is."""
    if "tasks" in known:
        return _LIST_HINT
    bare = _bare(name)
    if written := next((one for one in known if _bare(one) == bare), None):
        return f"it is written `{written}`"
    hint = _HINT_OF.get(bare)
    fields = _FIELD.findall(hint or "")
    return hint if not fields or any(field in known for field in fields) else None


_FIELD = re.compile("`([a-z0-9_]+)`")


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
