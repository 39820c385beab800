"""What the end of a task starts, and what that is told."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from redis_scheduler.task.callback import DELIVERED, DIED, EXPIRED, TOLD_BYTES, End, _kept, follow_up, told_bytes
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import NONE, Callback, Options, format_of
from redis_scheduler.task.record import UNREADABLE, Record, read_record, record_tail
from redis_scheduler.task.record_head import OPTIONS_KEPT, OPTIONS_LENGTH

HOOK, NEXT = "http://host.example/a?b=1", "http://host.example/next"
DUE_MS = 1732358400123
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def claim_of(options: Options, data: bytes | None = b'{"n": 1}', **fields: Any) -> Claim:
    record = Record(DUE_MS, HOOK, 5, None, data, options=options, origin="http://host.example", **fields)
    return Claim("1-1", "key", record, 0)


def started(callback: Callback, end: End, **fields: Any) -> tuple[int, Record]:
    """The delay and the record of what a task with this callback starts."""
    found = follow_up(claim_of(Options(on_success=callback, on_failure=callback), **fields), end)
    assert found is not None
    record = read_record(b'{"due":%d' % DUE_MS + found.tail)
    assert listing_of(record.type, record.options) == found.listed
    return found.delay_ms, record


def told(callback: Callback, end: End, **fields: Any) -> dict[str, Any]:
    """What a callback is told."""
    _, record = started(callback, end, **fields)
    content: dict[str, Any] = json.loads(record.data or b"")
    return content


WELL = End(DELIVERED, 1, None, DUE_MS + 250, 200, b"ok")


def test_a_callback_is_told_how_its_task_ended() -> None:
    assert told(Callback(webhook=NEXT), WELL) == {
        "event": "task.delivered",
        "key": "key",
        "type": "default",
        "webhook": HOOK,
        "attempts": 1,
        "status": 200,
        "error": None,
        "due": "2024-11-23T10:40:00.123Z",
        "ended": "2024-11-23T10:40:00.373Z",
        "answer": "ok",
        "data": None,
    }
    died = End(DIED, 3, "answered 500", DUE_MS, 500, b"")
    found = told(Callback(webhook=NEXT, data=Raw(b'["mine", 1.0]')), died)
    assert (found["event"], found["attempts"], found["error"], found["answer"]) == ("task.died", 3, "answered 500", "")
    assert found["data"] == ["mine", 1.0]
    assert told(Callback(webhook=NEXT), End(EXPIRED, 0, "too late", DUE_MS))["answer"] is None


@pytest.mark.parametrize(
    ("answer", "text", "encoded"),
    [
        (b"x" * TOLD_BYTES + b"y", "x" * TOLD_BYTES, None),
        ("ü".encode() + b"x" * (TOLD_BYTES - 3) + "ü".encode(), "ü" + "x" * (TOLD_BYTES - 3), None),
        (b'"\\\0\r\n', '"\\\0\r\n', None),
        (b"\xff\xfe", None, "//4="),
        (b"a\xc3b", None, "YcNi"),
    ],
)
def test_an_answer_is_told_as_text_or_in_base64(answer: bytes, text: str | None, encoded: str | None) -> None:
    found = told(Callback(webhook=NEXT), End(DELIVERED, 1, None, DUE_MS, 200, answer))
    assert (found["answer"], found.get("answer_base64")) == (text, encoded)


@pytest.mark.parametrize(
    ("data", "content", "shown"),
    [
        (b'{"n": 1}', "data", {"n": 1}),
        (None, "data", None),
        (b'"a text"', "body", "a text"),
        (b'"/+8="', "body_base64", "/+8="),
    ],
)
def test_the_content_of_the_task_is_told_to_who_wants_it(data: bytes | None, content: Any, shown: object) -> None:
    assert "task" not in told(Callback(webhook=NEXT), WELL, data=data, content=content)
    assert told(Callback(webhook=NEXT, include_data=True), WELL, data=data, content=content)["task"] == shown


def test_data_alone_is_sent_byte_for_byte() -> None:
    for callback in (
        Callback(webhook=NEXT, event=False, data=Raw(b'[ 1.50, "event"]')),
        Callback(webhook=NEXT, event=False),
    ):
        _, record = started(callback, WELL)
        _, with_options = started(msgspec.structs.replace(callback, retries=2), WELL)
        data = None if callback.data is UNSET else bytes(callback.data)
        assert (record.data, with_options.data, with_options.options) == (data, data, Options(retries=2))


def test_data_is_told_byte_for_byte() -> None:
    data = b'{"half": "\\ud83d", "number": 1.0e2, "data":{"data":1}}'
    _, record = started(Callback(webhook=NEXT, include_data=True, data=Raw(b"[ 1.50 ]")), WELL, data=data)
    assert b'"data":[ 1.50 ],"task":' + data + b"}" in (record.data or b"")


@pytest.mark.parametrize(
    ("callback", "delay_ms", "ttl"),
    [
        (Callback(webhook=NEXT), 0, 0),
        (Callback(webhook=NEXT, ttl=0.25), 250, 0.25),
        (Callback(webhook=NEXT, at="2024-11-23T11:40:00.123+01:00"), -DUE_MS, -1),
        (Callback(webhook=NEXT, at="1969-01-01T00:00:00Z"), 0, -1),
        (Callback(webhook=NEXT, at="no time, from foreign hands"), 0, -1),
    ],
)
def test_a_callback_comes_at_once_after_a_delay_or_at_a_time(callback: Callback, delay_ms: int, ttl: float) -> None:
    found, record = started(callback, WELL)
    assert (found, record.ttl, record.webhook) == (delay_ms, ttl, NEXT)


def test_a_callback_has_its_own_options_and_type_and_the_trace_of_its_task() -> None:
    inner = Callback(webhook=HOOK)
    callback = Callback(webhook=NEXT, type="mail", retries=2, headers={"X": "1"}, on_failure=inner, labels={"a": "1"})
    _, record = started(callback, WELL)
    assert record.type == "mail"
    assert record.options == Options(retries=2, headers={"X": "1"}, on_failure=inner, labels={"a": "1"})
    assert started(Callback(webhook=NEXT, type="default"), WELL)[1].type is None
    other = TRACE.replace("0af7", "1111")
    for callback, kept in ((Callback(webhook=NEXT), TRACE), (Callback(webhook=NEXT, traceparent=other), other)):
        found = follow_up(claim_of(Options(on_success=callback, traceparent=TRACE)), WELL)
        assert found is not None
        assert read_record(b'{"due":7' + found.tail).options.traceparent == kept


def test_what_follows_from_a_callback_is_kept_and_no_more_than_so_much() -> None:
    callback, large = Callback(webhook=NEXT, ttl=7), Callback(webhook=NEXT, data=Raw(b'"%b"' % (b"x" * OPTIONS_LENGTH)))
    for answer in (b"one", b"two"):
        assert told(callback, End(DELIVERED, 1, None, DUE_MS, 200, answer))["answer"] == answer.decode()
        assert len(told(large, WELL)["data"]) == OPTIONS_LENGTH
    kept = [one for one, _ in _kept.values()]
    assert [sum(one is other for one in kept) for other in (callback, large)] == [1, 0]
    for ttl in range(2 * OPTIONS_KEPT):
        assert started(Callback(webhook=NEXT, ttl=ttl), WELL)[0] == ttl * 1000
        assert len(_kept) <= OPTIONS_KEPT


def test_a_callback_by_get_sends_nothing() -> None:
    _, record = started(Callback(webhook=NEXT, method="GET"), WELL)
    assert (record.data, record.options) == (None, Options(method="GET"))


def test_an_end_without_its_callback_starts_nothing() -> None:
    callback = Callback(webhook=NEXT)
    died = End(DIED, 1, "answered 500", DUE_MS)
    assert follow_up(claim_of(NONE), WELL) is None
    assert follow_up(claim_of(Options(on_success=callback)), died) is None
    assert follow_up(claim_of(Options(on_failure=callback)), WELL) is None
    assert follow_up(Claim("1-1", "key", UNREADABLE, 0), died) is None
    assert [told_bytes(one) for one in (NONE, Options(retries=1))] == [0, 0]
    either = Options(on_success=callback), Options(on_failure=callback)
    assert [told_bytes(one) for one in either] == [TOLD_BYTES] * 2


def test_a_task_with_a_callback_needs_a_worker_that_knows_options() -> None:
    assert format_of(Options(on_success=Callback(webhook=NEXT))) == 2


def test_a_record_with_a_callback_has_its_bytes_and_no_more_than_60() -> None:
    plain = record_tail(HOOK, 5, None, b"{}")
    told_of = b'{"webhook":"http://host.example/next"}'
    tail = record_tail(HOOK, 5, None, b"{}", Options(on_success=Callback(webhook=NEXT)))
    assert len(tail) <= len(plain) + len(told_of) + 60
