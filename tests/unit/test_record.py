"""Records: what is stored is what comes back, byte for byte."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_scheduler.task import webhook as webhooks
from redis_scheduler.task.record import UNREADABLE, Record, decode_record, newer_error, read_record, record_tail
from redis_scheduler.task.webhook import WEBHOOK_LENGTH


def stored(webhook: str, ttl: float, type_name: str | None, data: bytes | None) -> bytes:
    """The record as a script writes it."""
    return b'{"due":1732358400123' + record_tail(webhook, ttl, type_name, data)


_PIECES = [
    "http:",
    "https:",
    "//",
    "/",
    "?",
    "#",
    "[",
    "]",
    "@",
    "a",
    ":80",
    " ",
    "\t",
    "\n",
    "\0",
    "é",
    "\u2100",
    "%",
    "::1",
    "\\",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join), st.booleans())
def test_a_record_is_read_where_its_webhook_has_a_host_and_no_character_that_the_api_refuses(
    rest: str, is_http: bool
) -> None:
    webhook = "http://" + rest if is_http else rest
    try:
        is_possible = bool(urlsplit(webhook).netloc) and webhook.isprintable() and " " not in webhook
    except ValueError:
        is_possible = False
    for _ in range(2):  # what is known is answered the same
        assert (read_record(stored(webhook, 1, None, b"1")) is not UNREADABLE) == is_possible


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


NEWER = {
    "behind the others": (
        b'"webhook":"http://host/","ttl":5,"type":"mail","novelty":3',
        Record(7, "http://host/", 5, "mail"),
    ),
    "before the others": (b'"novelty":{"most":3},"webhook":"http://host/","ttl":0.5', Record(7, "http://host/", 0.5)),
    "in place of the others": (b'"at":"2030-01-01T00:00:00Z"', Record(7, "", 0)),
    "beside others of another kind": (b'"at":1,"webhook":["http://host/"],"ttl":null,"type":3', Record(7, "", 0)),
}


@pytest.mark.parametrize("data", [None, b"null", b'{"data":1,"x":",\\"data\\":"}', b"[" * 60 + b"]" * 60])
@pytest.mark.parametrize("name", NEWER)
def test_a_record_with_a_member_of_a_newer_version_is_told_from_one_that_is_none(name: str, data: bytes | None) -> None:
    members, known = NEWER[name]
    record = read_record(b'{"due":7,' + members + (b',"data":' + data if data is not None else b"") + b"}")
    assert (record.due, record.webhook, record.ttl, record.type) == (known.due, known.webhook, known.ttl, known.type)
    assert record.data == data
    assert record.unknown in ("novelty", "at")


MEMBERS = b',"webhook":"http://host/","ttl":5,"z":{"a":"b","data":"c"}'


@pytest.mark.parametrize("length", [len(MEMBERS), len(MEMBERS) - 1, 10**9 - 1])
@pytest.mark.parametrize("data", [None, b'{"n":1}', b'",\\"data\\":"'])
def test_a_member_named_data_within_another_does_not_hide_that_it_is_newer(length: int, data: bytes | None) -> None:
    end = b"}" if data is None else b',"data":%b}' % data
    record = read_record(b'{"due":7,"head":%d%b%b' % (length, MEMBERS, end))
    assert (record.unknown, record.webhook, record.data) == ("z", "http://host/", data)


def test_data_that_cannot_be_parsed_does_not_hide_it_either() -> None:
    record = read_record(b'{"due":7,"head":%d%b,"data":%b}' % (len(MEMBERS), MEMBERS, b"[" * 9_999 + b"]" * 9_999))
    assert (record.unknown, record.webhook, len(record.data or b"")) == ("z", "http://host/", 19_998)


def test_data_that_cannot_be_parsed_does_not_hide_that_it_is_newer() -> None:
    record = read_record(
        b'{"due":7,"webhook":"http://host/","ttl":5,"z":0,"data":' + b"[" * 9_999 + b"]" * 9_999 + b"}"
    )
    assert (record.unknown, record.data) == ("z", None)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b'"text"',
        b'{"due":7}',
        b'{"due":7,"webhook":"http://host/"}',
        b'{"due":7,"webhook":1,"ttl":1}',
        b'{"webhook":"http://host/","ttl":5,"z":0}',
        b'{"due":"7","webhook":"http://host/","ttl":5,"z":0}',
        b'{"due":-1,"webhook":"http://host/","ttl":5,"z":0}',
        b'{"due":7,"webhook":"http://host/","ttl":5,"z":',
        b'{"z":' + b"[" * 9_999 + b"]" * 9_999 + b',"due":7}',
        b'{"due":7,"webhook":"http://host/","ttl":5,"z":\xff}',
    ],
)
def test_what_is_no_record_of_any_version_is_unreadable(stored: bytes) -> None:
    assert read_record(stored) is UNREADABLE


def test_the_name_of_an_unknown_member_is_shown_without_harm() -> None:
    assert newer_error("headers") == "written by a newer version: its member headers is not known here"
    assert newer_error("\x1b[2J" + "x" * 1_000).isprintable()
    assert len(newer_error("\x9b" * 1_000)) < 400


@pytest.mark.parametrize("character", ["\0", "\r\n", "\n", "\t", " ", "\x7f", "\u2028", "\u00a0"])
@pytest.mark.parametrize(
    "place", ["http://{}/", "http://host{}/", "http://host/{}x", "http://host/x{}", "http://host/?{}"]
)
def test_a_webhook_that_could_end_a_line_of_the_request_is_unreadable(place: str, character: str) -> None:
    assert read_record(stored(place.format(character), 5, None, None)) is UNREADABLE


def test_a_webhook_of_other_letters_is_read() -> None:
    assert read_record(stored("http://bücher.example/日本", 5, None, None)).webhook == "http://bücher.example/日本"


LONGEST = "http://host/" + "x" * (WEBHOOK_LENGTH - 12)


def test_a_webhook_longer_than_the_api_takes_is_read_and_not_remembered() -> None:
    assert read_record(stored(LONGEST, 0, None, None)).target == LONGEST.removeprefix("http://host")
    assert webhooks._last == LONGEST
    longer = f"{LONGEST}x"
    assert read_record(stored(longer, 0, None, None)).target == longer.removeprefix("http://host")
    assert webhooks._last == LONGEST


@pytest.mark.parametrize("form", ["http://{}/", "http://{}", "{}://host/", "http://host?{}", "http://{}@host/"])
def test_no_more_of_a_webhook_is_a_host_than_the_api_takes_at_all(form: str) -> None:
    """Everything that remembers hosts is bounded by their number."""
    webhooks._origins.clear()
    slashes = form.count("/")
    longest = form.format("x" * (WEBHOOK_LENGTH - len(form.format("")) + slashes))
    assert read_record(stored(longest, 0, None, None)) is not UNREADABLE
    for number in range(10):
        longer = stored(longest.replace("x", f"x{number}", 1), 0, None, None)
        assert read_record(longer) is UNREADABLE
    assert len(webhooks._origins) == 1
