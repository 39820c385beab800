"""A webhook's origin and target are what urlsplit finds in it, as it was given."""

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redis_scheduler.task.record import read_record, record_tail
from redis_scheduler.task.webhook import split

starts = st.sampled_from(
    ["http://", "HTTPS://", "//", "", "http:", "http:/", "a+b.c://", "1http://", "a?://", "://", "#"]
)
rests = st.text("aB1.:@%[]\\/?#&=;|é漢\u2100", max_size=12)


@pytest.mark.parametrize(
    ("webhook", "parts"),
    [
        ("http://host", ("http://host", "")),
        ("HTTP://Host:80/a%2F/../b?c=http://d/?#e?f", ("HTTP://Host:80", "/a%2F/../b?c=http://d/?")),
        ("https://[::1]:8443?a#b#c", ("https://[::1]:8443", "?a")),
        ("http://host#/a?b", ("http://host", "")),
        ("//host/a", ("//host", "/a")),
        ("http:/host/a", ("", "")),
        ("host/a//b", ("", "")),
        ("", ("", "")),
    ],
)
def test_the_parts_of_a_webhook(webhook: str, parts: tuple[str, str]) -> None:
    assert split(webhook) == parts


@settings(max_examples=1_000, deadline=None)
@example("//", "host:80//a?b#c")
@given(starts, rests)
def test_the_parts_are_what_urlsplit_finds(start: str, rest: str) -> None:
    webhook = start + rest
    try:
        found = urlsplit(webhook)
    except ValueError:
        return
    origin, target = split(webhook)
    if found.netloc:
        assert origin.partition("//")[2] == found.netloc
        assert origin.partition(":")[0].lower() == found.scheme or not found.scheme
        assert webhook.partition("#")[0] == origin + target
    # The second time it is remembered.
    for _ in range(2):
        read = read_record(b'{"due":1' + record_tail(webhook, 1, None, None))
        assert (read.origin, read.target) == ((origin, target) if found.netloc else ("", ""))
