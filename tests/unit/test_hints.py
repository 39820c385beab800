"""What is said of a field that there is not names only fields that there are."""

import pytest

from redis_scheduler.api.bodies import PreviewRequest, ScheduleRequest
from redis_scheduler.api.hints import hint_of

BODY, PREVIEW = ScheduleRequest.__struct_fields__, PreviewRequest.__struct_fields__


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("when", BODY, "a point in time is `at`, of RFC 3339 with its offset"),
        ("at", PREVIEW, None),
        ("cron", PREVIEW, "how a task repeats is `repeat`, with every or cron"),
        ("expires", ("expire",), "`expire`, in seconds (`info.expires` is when a task fires next)"),
        ("expires", ("ttl",), None),
        ("Time_Out", BODY, "it is written `timeout`"),
        ("concurrency", PREVIEW, "slots are a setting of the service (CONCURRENCY)"),
        ("color", BODY, None),
    ],
)
def test_a_hint_names_what_is_known(name: str, known: tuple[str, ...], hint: str | None) -> None:
    found = hint_of(name, known)
    assert (found is None) == (hint is None)
    assert (found or "").endswith(hint or "")
