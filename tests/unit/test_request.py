"""A webhook that was accepted can be delivered, and arrives as it was given."""

import string
from ipaddress import ip_address
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_scheduler.api.webhooks import check_webhook
from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.request import RequestBuilder
from redis_scheduler.errors import InvalidRequest
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import read_record, record_tail
from tests.support.raw_receiver import OK, answering, claim_of, says

TARGETS = {
    "": "/",
    "/": "/",
    "?": "/?",
    "/?": "/?",
    "?a=b": "/?a=b",
    "#fragment": "/",
    "/#?a": "/",
    "/?a#b#c": "/?a",
    "/%7E%41%2F%2f%zz%": "/%7E%41%2F%2f%zz%",
    "/~A": "/~A",
    "/|[]{}^`<>\"'\\": "/|[]{}^`<>\"'\\",
    "/a/../b/./c/..": "/a/../b/./c/..",
    "//a///b//": "//a///b//",
    "/a;b=c;d?e;f&g=%20+h?i": "/a;b=c;d?e;f&g=%20+h?i",
    "/a:b@c,d*!$()": "/a:b@c,d*!$()",
    "/ü?ü=€#ü": "/%C3%BC?%C3%BC=%E2%82%AC",
    "/ü%7E|/../?": "/%C3%BC%7E|/../?",
}

HOSTS = {
    "http://host": "host",
    "HTTP://Host.Example:80": "host.example",
    "https://host:443": "host",
    "https://host:80": "host:80",
    "http://host:443": "host:443",
    "http://host:": "host",
    "http://host.:81": "host:81",
    "http://a_b.example": "a_b.example",
    "http://[::1]:8080": "[::1]:8080",
    # Python 3.13 writes it with dots.
    "http://[::ffff:127.0.0.1]:8081": f"[{ip_address('::ffff:127.0.0.1')}]:8081",
    "http://bücher.example:8080": "xn--bcher-kva.example:8080",
    "https://BÜCHER.example": "xn--bcher-kva.example",
    "http://faß.example": "xn--fa-hia.example",
    "http://xn--bcher-kva.example": "xn--bcher-kva.example",
    "http://münchen。example": "xn--mnchen-3ya.example",
}


async def head_of(webhook: str) -> list[str]:
    _, request = RequestBuilder("token", "test", retries=-1).build(claim_of(webhook))
    head, _, _ = request.decode().partition("Schedule-Key: ")
    return head.split("\r\n")


COMMON = (
    b"Content-Type: application/json\r\nAuthorization: token\r\nUser-Agent: test\r\n"
    b"Schedule-Instance: 0123456789012345678901\r\nSchedule-Attempts-Most: 6\r\n"
)
SAMPLES = {
    ("http://Host.example:8080/a/../b%7E?c=d#e", b'{"a": "\xc3\xbc"}', 0): (
        ("host.example", 8080, False),
        b"POST /a/../b%7E?c=d HTTP/1.1\r\nHost: host.example:8080\r\n"
        + COMMON
        + b'Schedule-Key: key\r\nSchedule-Attempt: 1\r\nSchedule-Due: 1970-01-01T00:00:00.001Z\r\nContent-Length: 11\r\n\r\n{"a": "\xc3\xbc"}',
    ),
    ("https://bücher.example/ü?ü=€", None, 9): (
        ("xn--bcher-kva.example", 443, True),
        b"POST /%C3%BC?%C3%BC=%E2%82%AC HTTP/1.1\r\nHost: xn--bcher-kva.example\r\n"
        + COMMON
        + b"Schedule-Key: key\r\nSchedule-Attempt: 10\r\nSchedule-Due: 1970-01-01T00:00:00.001Z\r\nContent-Length: 0\r\n\r\n",
    ),
    ("http://[::1]?q", b"[]", 0): (
        ("::1", 80, False),
        b"POST /?q HTTP/1.1\r\nHost: [::1]\r\n"
        + COMMON
        + b"Schedule-Key: key\r\nSchedule-Attempt: 1\r\nSchedule-Due: 1970-01-01T00:00:00.001Z\r\nContent-Length: 2\r\n\r\n[]",
    ),
}
"""Requests to the byte: receivers may sign, log and compare them."""


@pytest.mark.parametrize("given", SAMPLES)
async def test_a_request_is_the_same_to_the_byte(given: tuple[str, bytes | None, int]) -> None:
    webhook, data, attempts = given
    record = read_record(b'{"due":1' + record_tail(webhook, 0, None, data))
    origin, request = RequestBuilder("token", "test", "0123456789012345678901", 5).build(
        Claim("1-1", "key", record, attempts)
    )
    assert (origin.key, request) == SAMPLES[given]


async def test_nothing_is_sent_without_a_scheme() -> None:
    record = read_record(b'{"due":1' + record_tail("//host/", 0, None, None))
    async with Deliverer("token", 5) as deliverer:
        outcome = await deliverer.attempt(Claim("1-1", "key", record, 0))
    assert outcome.error == "ValueError"


async def test_what_an_origin_has_is_made_once() -> None:
    builder = RequestBuilder("token", "test")
    for number in range(10):
        builder.build(claim_of(f"http://host/{number}?signature={number}"))
    assert builder._origin.cache_info().misses == 1


@pytest.mark.parametrize("given", TARGETS)
async def test_a_url_arrives_as_it_was_given(given: str) -> None:
    async with answering(says(OK)) as receiver, Deliverer("token", 5) as deliverer:
        webhook = receiver.url.rstrip("/") + given
        check_webhook(webhook)
        assert (await deliverer.attempt(claim_of(webhook))).error is None
        assert receiver.lines == [f"POST {TARGETS[given]} HTTP/1.1"]


@pytest.mark.parametrize("origin", HOSTS)
@pytest.mark.parametrize("given", ["", "/%7E/a/../b|?", "?ü"])
async def test_it_does_so_on_every_host(origin: str, given: str) -> None:
    check_webhook(origin + given)
    assert await head_of(origin + given) == [
        f"POST {quote(given if given.startswith('/') else f'/{given}', safe=string.punctuation)} HTTP/1.1",
        f"Host: {HOSTS[origin]}",
        *("Content-Type: application/json", "Authorization: token", "User-Agent: test", ""),
    ]


@pytest.mark.parametrize("host", ["[fe80::1%25eth0]", "[fe80::1%eth0]:80", "[::1%25lo]"])
def test_an_address_with_a_zone_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequest, match="without a zone"):
        check_webhook(f"http://{host}/")


names = st.text("abcXYZ019-_.ü漢ß。%:[]@\\", max_size=12)
ports = st.one_of(st.just(""), st.from_regex(r":[0-9+]{0,6}", fullmatch=True))
rests = st.text("/?#%2Fa.~|[]{}\\:@;ü漢é\u0301&=\"'<>", max_size=12)


async def assert_can_be_sent_if_accepted(webhook: str) -> None:
    try:
        check_webhook(webhook)
    except InvalidRequest:
        return
    lines = await head_of(webhook)
    assert len(lines) == 6
    assert (lines[0] + lines[1]).isascii()
    method, target, version = lines[0].split(" ")
    assert (method, target[0], version) == ("POST", "/", "HTTP/1.1")
    assert " " not in lines[1].removeprefix("Host: ")


@given(st.sampled_from(["http", "https", "HTTP", "hTTps", "ftp", ""]), names, ports, rests)
async def test_what_is_accepted_can_be_sent(scheme: str, name: str, port: str, rest: str) -> None:
    await assert_can_be_sent_if_accepted(f"{scheme}://{name}{port}{rest}")


@given(st.text(max_size=20))
async def test_whatever_is_accepted_can_be_sent(rest: str) -> None:
    await assert_can_be_sent_if_accepted(f"http://{rest}")
