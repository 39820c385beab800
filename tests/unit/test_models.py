"""Records: what is stored is what comes back, byte for byte."""

import pytest

from redis_scheduler.models import decode_record, record_tail


def stored(webhook: str, ttl: float, type_name: str | None, data: bytes | None) -> bytes:
    """The record as a script writes it."""
    return b'{"due":1732358400123' + record_tail(webhook, ttl, type_name, data)


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"null",
        b"[]",
        b"{ }",
        b'"text"',
        b'{"b":1, "a":[ ],"n":123456789012345678901234567890}',
        b'{"data":{"data":1},"x":",\\"data\\":"}',
        '"ü日本"'.encode(),
        b"[" * 5000 + b"]" * 5000,
    ],
)
@pytest.mark.parametrize("webhook", ["http://host/", 'http://host/?q=","data":1', 'http://host/?"data":'])
@pytest.mark.parametrize("type_name", [None, "mail", ',"data":'])
def test_a_record_comes_back_as_it_went(webhook: str, type_name: str | None, data: bytes | None) -> None:
    record = decode_record(stored(webhook, 0.5, type_name, data))
    assert (record.due, record.webhook, record.ttl) == (1732358400123, webhook, 0.5)
    assert (record.type, record.data) == (type_name, data)


def test_a_whole_delay_stays_whole() -> None:
    assert b'"ttl":60' in stored("http://host/", 60, None, None)
    assert decode_record(stored("http://host/", 60, None, None)).ttl == 60


def test_a_small_record_is_near_ninety_bytes() -> None:
    assert len(stored("http://127.0.0.1:9000/", 3600, None, b'{"n":1}')) < 95
