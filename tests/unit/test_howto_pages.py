"""What a page of docs/howto shows is compared as its README says."""

import pytest

from tests.support.howto import Block, expected, has_request, is_as_shown, only_reads, prints_as_shown, start_variables

RECEIVED = """9000
----
POST /a?b=1
Host: 127.0.0.1
Schedule-Key: abc

{"a":1}
----
POST /c
Host: 127.0.0.1

"""


@pytest.mark.parametrize(
    ("value", "shown", "same"),
    [
        ({"a": 1, "b": 2}, '{"a": 1}', True),
        ({"b": 2}, '{"a": 1}', False),
        ({"a": 1}, '{"a": true}', False),
        ({"a": True}, '{"a": 1}', False),
        ({"a": [1, 2, 3]}, '{"a": [1, …]}', True),
        ({"a": [1, 2, 3]}, '{"a": [1, 2]}', False),
        ({"a": {"b": []}}, '{"a": …}', True),
        ({"a": 1, "c": 2}, '{"a": 1, …}', True),
        ("2026-01-01", '"2026-…"', True),
        ("2025-01-01", '"2026-…"', False),
        ("an … in a text", '"an … in a text"', True),
        (None, "null", True),
        (0, "null", False),
    ],
)
def test_a_value_is_as_shown(value: object, shown: str, same: bool) -> None:
    (wanted,) = expected(shown)
    assert is_as_shown(value, wanted) is same


def test_answers_are_compared_one_by_one() -> None:
    assert prints_as_shown('{"a":1}\n{"b":2}\n', Block("json", '{"a": 1}\n{\n  "b": 2\n}\n', 1))
    assert not prints_as_shown('{"a":1}\n', Block("json", '{"a": 1}\n{"b": 2}\n', 1))
    assert not prints_as_shown('{"a":1}\nTrouble\n', Block("json", '{"a": 1}\n', 1))
    assert prints_as_shown("a 12 b\nc\n", Block("text", "a … b\nc\n", 1))
    assert not prints_as_shown("a 12 b\nc\n", Block("text", "a … b\n", 1))


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        ("POST /a?b=1\n", True),
        ("POST /a\n", False),
        ('POST /a?b=1\nschedule-key: …\n\n{"a":1}\n', True),
        ('POST /a?b=1\n\n{"a":2}\n', False),
        ("POST /c\nSchedule-Key: …\n", False),
    ],
)
def test_a_request_is_as_shown(shown: str, same: bool) -> None:
    assert has_request(RECEIVED, shown) is same


def test_only_what_reads_is_run_again() -> None:
    assert only_reads(Block("sh", "api $URL/stats\n", 1))
    for text in ("api $URL/schedule -d '{}'", "api -X DELETE $URL/schedule/a", "redis-scheduler export"):
        assert not only_reads(Block("sh", text, 1))


def test_a_page_may_start_the_service_its_own_way() -> None:
    assert start_variables("a\n```console\nRETRIES=0 RETRY_TIME=1 redis-scheduler\n```\n") == {
        "RETRIES": "0",
        "RETRY_TIME": "1",
    }
    assert start_variables("```console\nredis-scheduler health\n```\n") == {}
