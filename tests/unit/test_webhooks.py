"""Webhooks: a verdict goes by the origin, whatever follows it, and what is remembered of origins is bounded."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redis_scheduler.api import webhooks
from redis_scheduler.api.webhooks import ORIGIN_LENGTH, check_webhook
from redis_scheduler.errors import InvalidRequest
from redis_scheduler.task.webhook import WEBHOOK_LENGTH

known = webhooks._origin_problem


def clear() -> None:
    webhooks._problem.cache_clear()
    known.cache_clear()


def verdict(webhook: str) -> str | None:
    try:
        check_webhook(webhook)
    except InvalidRequest as error:
        return str(error).removeprefix("webhook: ")
    return None


def verdict_of_the_whole(webhook: str) -> str | None:
    """Look at the whole URL, and not at its origin."""
    if len(webhook) > WEBHOOK_LENGTH or not webhook.isprintable() or " " in webhook:
        return verdict(webhook)
    return webhooks._url_problem(webhook) or None


SCHEMES = ["http://", "https://", "HTTP://", "ftp://", "://", "//", "http:/", "http:", "a?://", "#://", "1http://", ""]
AUTHORITIES = [
    "host",
    "a.example:80",
    "a:080",
    "a:99999",
    "user:password@host",
    "[::1]",
    "[::1",
    "[fe80::1%25lo]",
    "a\u2100",
    "",
]
odd = st.text("abz019.:@%[]\\-_/?#&=~+;,|{}^`<>\"'$()*! \t\n\0é漢\u2100\u0301\ud800", max_size=12)
targets = st.one_of(st.just(""), st.builds("{}{}".format, st.sampled_from("/?#"), odd))


@settings(max_examples=1_000, deadline=None)
@example("http://host", "/%zz?a=//user@[::1#x://")
@given(st.builds("{}{}{}".format, st.sampled_from(SCHEMES), st.sampled_from(AUTHORITIES), odd), targets)
def test_a_url_is_judged_by_its_origin_as_it_would_be_by_all_of_it(start: str, target: str) -> None:
    for _ in range(2):  # what is remembered is answered the same
        assert verdict(start + target) == verdict_of_the_whole(start + target)


def test_webhooks_of_one_host_are_one_look() -> None:
    clear()
    for number in range(100):
        check_webhook(f"http://host/{number}?signature={number}")
        assert verdict(f"ftp://host/{number}") == 'must be an absolute http or https URL, got the scheme "ftp"'
    assert known.cache_info().misses == 2


@pytest.mark.parametrize(
    "webhook",
    ["http://host/" + WEBHOOK_LENGTH * "x", f"http://{ORIGIN_LENGTH * 'x'}/", "host/" + 200 * "x", "http://ho\0st"],
)
def test_nothing_long_and_nothing_without_an_origin_is_remembered(webhook: str) -> None:
    clear()
    assert verdict(webhook) is not None
    assert known.cache_info().currsize == 0


def test_a_webhook_that_is_too_long_is_not_remembered() -> None:
    webhooks._problem.cache_clear()
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="at most 4096 characters"):
            check_webhook("http://host/" + "x" * WEBHOOK_LENGTH)
    assert webhooks._problem.cache_info().currsize == 0


def test_a_webhook_is_checked_once() -> None:
    webhooks._problem.cache_clear()
    for _ in range(2):
        check_webhook("http://host/")
        with pytest.raises(InvalidRequest, match="must be an absolute"):
            check_webhook("ftp://host/")
    assert webhooks._problem.cache_info().misses == 2


def test_the_longest_host_is_remembered() -> None:
    clear()
    longest = ".".join([63 * "a", 63 * "b", 63 * "c", 61 * "d"]) + "."
    check_webhook(f"https://{longest}:65535/")
    assert known.cache_info().currsize == 1
    with pytest.raises(InvalidRequest, match="a host name or address that can exist"):
        check_webhook(f"https://{longest[:-1]}d/")  # one letter too many, though no longer with its final dot


@pytest.mark.parametrize("host", ["host", "127.0.0.1", "[::1]", "bücher.example", "01.example"])
@pytest.mark.parametrize("port", ["080", "0080", "00", "08443"])
def test_a_port_has_no_leading_zeros(host: str, port: str) -> None:
    with pytest.raises(InvalidRequest, match=f'port from 1 to 65535, without leading zeros, got "{port}"'):
        check_webhook(f"http://{host}:{port}/")
    check_webhook(f"http://{host}:{port.lstrip('0') or 80}/")
    check_webhook(f"http://{host}/0:{port}?:{port}")
