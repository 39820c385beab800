"""A record with options is read by its parts: as if it were parsed whole, whatever other hands did to it."""

import contextlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redis_scheduler.delivery.request import OWN_MOST, RequestBuilder
from redis_scheduler.task import record as records
from redis_scheduler.task import record_head as heads
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.content import CONTENTS, Content
from redis_scheduler.task.header import HEADERS_BYTES
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import Record, read_record, record_tail
from redis_scheduler.task.record_head import OPTIONS_KEPT, OPTIONS_LENGTH, Repetition
from redis_scheduler.task.repeat import Occurrence, Progress, Repeat

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KEY = "xPynG8TE_wQjDQmPDXLSLA"
HEADERS = {"traceparent": TRACE, "data": '","data":é', "occurrence": ',"occurrence":{"series":"a","number":1}'}

WEBHOOKS = st.sampled_from(["http://host/", "https://host.example:80/a?b", 'http://host/?q=","data":1', "http://hö/ü"])
COMPUTED = (3.1234567890123457, 0.00012345678901234567, 315_359_999.1234567)
TTLS = st.sampled_from([0, 60, 0.5, 1e-7, 315_360_000, -1, 2.5, *COMPUTED])
TYPES = st.sampled_from([None, "mail", "ü", ',"traceparent":"'])
DATA = st.sampled_from([None, b"1", b'{"data":1,"x":",\\"data\\":"}', b'"a"'])
REPETITIONS: st.SearchStrategy[Repetition | None] = st.sampled_from(
    [None, Occurrence(KEY, 4), Occurrence("k" * 300, 4), Progress(), Progress(3, 1, KEY)]
)
TOKENS = st.sampled_from([None, "0123456789"])
OPTIONS = st.builds(
    Options,
    traceparent=st.sampled_from([TRACE]),
    method=st.sampled_from(["POST", "PUT"]),
    headers=st.sampled_from([HEADERS, {"X-A": "1"}]),
    retries=st.sampled_from([0, 8]),
    repeat=st.sampled_from([Repeat(every=5), Repeat(cron="0 9 * * *", tz="Europe/Berlin")]),
    timeout=st.sampled_from([1, 2.5]),
) | st.sampled_from([NONE, Options(traceparent=TRACE), Options(ack=True)])


def stored(
    webhook: str = "http://host/",
    ttl: float = 60,
    type_name: str | None = None,
    data: bytes | None = b"1",
    options: Options = NONE,
    content: Content = "data",
    repetition: Repetition | None = None,
    again: int = 0,
    token: str | None = None,
) -> bytes:
    text = record_tail(webhook, ttl, type_name, data, options, content, repetition, token)
    return b'{"due":1732358400123%b%b' % (b',"again":%d' % again if again else b"", text)


RECORDS = st.builds(
    stored, WEBHOOKS, TTLS, TYPES, DATA, OPTIONS, st.sampled_from(CONTENTS), REPETITIONS, st.integers(0, 12), TOKENS
)


def read(read_by: Any, raw: bytes) -> Record | None:
    """Return the record; None if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        return read_by(raw)  # type: ignore[no-any-return]
    return None


@settings(max_examples=500, deadline=None)
@given(RECORDS)
def test_a_record_is_read_by_its_parts_as_by_its_whole(raw: bytes) -> None:
    if b'"head":' in raw:
        assert read(records._decode_usual, raw) in (None, records._decode_any(raw))
        assert records.decode_record(raw) == records._decode_any(raw)


@pytest.mark.parametrize("ttl", COMPUTED)
def test_a_ttl_with_all_its_digits_is_read_by_parts_too(ttl: float) -> None:
    raw = stored(ttl=ttl, options=Options(ack=True))
    found = records._decode_usual(raw)
    assert found is not None
    assert found.ttl == ttl
    assert found == records._decode_any(raw)


PIECES = st.sampled_from(
    [
        *(b"", b'"', b"\\", b",", b"}", b"{", b"0", b"-", b".", b"e9", b"\n", b"\xff", b',"z":1', b',"head":1'),
        *(
            b',"type":"a"',
            b',"token":"0123456789"',
            b',"token":"Z"',
            b',"retries":1',
            b',"occurrence":{"series":"a","number":1}',
        ),
        b',"traceparent":"%b"' % TRACE.encode(),
    ]
)


@settings(max_examples=600, deadline=None)
@example(stored(options=Options(ack=True)), 19, 1, b"0", True)
@given(RECORDS, st.integers(0, 600), st.integers(0, 3), PIECES, st.booleans())
def test_whatever_other_hands_put_into_a_record_it_means_the_same(
    raw: bytes, place: int, removed: int, piece: bytes, keeps_length: bool
) -> None:
    changed = raw[:place] + piece + raw[place + removed :]
    if keeps_length and (found := heads._HEAD_LENGTH.match(changed)):
        length = int(found[1]) + len(changed) - len(raw)
        changed = changed[: found.start(1)] + b"%d" % max(0, length) + changed[found.end(1) :]
    by_parts = read(records._decode_usual, changed)
    assert by_parts is None or by_parts == records._decode_any(changed)


def test_tasks_that_differ_in_trace_webhook_and_mark_share_the_object_of_their_headers() -> None:
    read = [
        read_record(
            stored(
                f"http://host/{n}",
                n,
                options=Options(traceparent=TRACE.replace("0af", f"{n:03}"), headers=HEADERS),
                repetition=Occurrence(KEY, n) if n % 2 else None,
            )
        )
        for n in range(1, 9)
    ]
    assert len({id(record.options.headers) for record in read}) == 1
    assert [record.options.traceparent for record in read] == [TRACE.replace("0af", f"{n:03}") for n in range(1, 9)]


def test_what_is_remembered_of_options_is_bounded() -> None:
    heads._kept_options.cache_clear()
    for number in range(OPTIONS_KEPT + 10):
        assert read_record(stored(options=Options(retries=number))).options == Options(retries=number)
    assert heads._kept_options.cache_info().currsize == OPTIONS_KEPT
    heads._kept_options.cache_clear()
    long = Options(headers={"X": "x" * OPTIONS_LENGTH})
    assert read_record(stored(options=long)).options == long
    assert heads._kept_options.cache_info().currsize == 0


async def test_each_request_has_the_headers_of_its_own_task_and_few_are_kept() -> None:
    builder = RequestBuilder("token", "agent")
    for number in range(3 * OWN_MOST):
        headers = {"X-Number": f"{number}"} if number % 100 else {"X": "x" * 3 * HEADERS_BYTES}
        record = read_record(stored(options=Options(headers=headers)))
        for _ in range(2):  # the second time its lines may be kept
            _, request = builder.build(Claim("1-1", "key", record, 0))
            assert (b"\r\nX-Number: %d\r\n" % number in request) == bool(number % 100)
    assert 0 < len(builder._own) <= OWN_MOST
    assert not any("xxx" in own.lines for own in builder._own.values())
