"""The hosts of receivers: their names, and how many are remembered."""

import pytest

from redis_scheduler import host
from redis_scheduler.engine import hosts as engine_hosts
from redis_scheduler.engine.hosts import Hosts
from redis_scheduler.task.webhook import split


def host_of(webhook: str) -> str:
    origin, _ = split(webhook)
    return host.host_of(origin)


def test_hosts_that_nothing_came_for_lately_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_hosts, "HOSTS_MOST", 10)
    known = Hosts([0, 0, 0, 0])
    busy, often, once = known.of("http://busy"), known.of("http://often"), known.of("http://once")
    busy.running = 1
    for number in range(100):
        known.of(f"http://host-{number}")
        assert known.of("http://often") is often
        assert len(known._newer) + len(known._older) <= 11
    assert known.of("http://busy") is busy
    assert known.of("http://once") is not once


SPELLINGS = [
    ["http://example.com/a/b", "HTTP://Example.COM", "http://example.com.:80/", "http://example.com?x=http://other/"],
    ["https://example.com:443", "https://EXAMPLE.com./x", "https://example.com#x"],
    ["https://Example.COM:8443", "http://example.com:8443/", "http://example.com.:08443"],
    ["http://127.0.0.1:0080", "http://127.0.0.1", "http://[::ffff:127.0.0.1]", "http://[::FFFF:7f00:1]:80/"],
    ["http://127.0.0.1:80", "http://127.1/", "http://0x7f000001/", "http://2130706433", "http://127.0.0.1./"],
    ["http://[::1]:80/", "http://[0:0::0:1]", "http://[0000:0000:0000:0000:0000:0000:0000:0001]:00080"],
    ["https://bücher.example", "https://BÜCHER.example:443", "https://xn--bcher-kva.example./"],
    ["http://user:secret@host/", "http://host"],
    ["http://[::1", "HTTP://[::1/"],
    ["http://host:99999/", "http://HOST:99999"],
]


@pytest.mark.parametrize("spellings", SPELLINGS, ids=lambda spellings: spellings[0])
def test_a_host_is_one_however_it_is_written(spellings: list[str]) -> None:
    assert len({host_of(webhook) for webhook in spellings}) == 1


def test_hosts_are_told_apart() -> None:
    names = [*("a", "a:8080", "b", "a.example", "127.0.0.1", "127.0.0.2", "[::1]", "[::2]", "[fe80::1%25lo]")]
    urls = [
        f"{scheme}://{host}/" for scheme in ("http", "https") for host in names if scheme == "http" or ":8" not in host
    ]
    assert len({host_of(url) for url in urls}) == len(urls)


def test_a_host_is_named_as_it_is_reached() -> None:
    assert host_of("http://Example.com/x") == "example.com:80"
    assert host_of("https://[::1]/x") == "[::1]:443"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Example.com", "example.com"),
        ("example.com.:443", "example.com:443"),
        ("example.com:80", "example.com:80"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.1", "127.0.0.1"),
        ("[0::1]", "[::1]"),
        ("[0::1]:9", "[::1]:9"),
        *((text, None) for text in ("", "#", ":80", "a/b", "u@a", "a:x", "a:99999", "[::1", "::1", "\n", "a" * 301)),
    ],
)
def test_a_host_is_named_by_others_with_its_port_or_without(given: str, name: str | None) -> None:
    assert host.host_named(given) == name


@pytest.mark.parametrize(
    "webhook", ["http://\0/", "http://a\0b:80/", "http://\ud800/", "http://\r\n/", "http:///", "http://%00/"]
)
def test_a_host_that_is_none_is_a_host_like_any_other(webhook: str) -> None:
    assert host_of(webhook)
