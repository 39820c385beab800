"""REDIS_URL with several servers, Sentinels or a cluster: whose masters the shards are, and what is refused."""

import pytest

from redis_scheduler.loading import load
from redis_scheduler.process.hazards import hazards, open_doors
from redis_scheduler.settings import ALL
from redis_scheduler.store.url import ASKED_MOST, location_of, plain_urls, server_of, urls_of_shards
from tests.unit.test_url import assert_refused


@pytest.mark.parametrize(
    ("url", "count", "urls"),
    [
        ("redis://a", None, ["redis://a"]),
        ("redis://a", 3, ["redis://a"] * 3),
        ("redis+cluster://a,b", 3, ["redis+cluster://a,b"] * 3),
        ("redis://a:1/0,rediss://u:p@b/2?client_name=x", None, ["redis://a:1/0", "rediss://u:p@b/2?client_name=x"]),
        ("redis://a,redis://b,unix:///c.sock", 2, ["redis://a", "redis://b", "unix:///c.sock"]),
        ("redis://a/0,redis://a/1", None, ["redis://a/0", "redis://a/1"]),
        (
            "redis+sentinel://a,b:2/one,two?db=3",
            None,
            ["redis+sentinel://a,b:2/one?db=3", "redis+sentinel://a,b:2/two?db=3"],
        ),
        ("redis+sentinel://a/one,redis://b", None, ["redis+sentinel://a/one", "redis://b"]),
    ],
)
def test_a_url_has_a_part_for_each_shard(url: str, count: int | None, urls: list[str]) -> None:
    assert urls_of_shards(url, count) == urls
    assert load(ALL, {"redis_url": url}, {}).redis_url == url


def test_a_url_of_sentinels_says_whom_to_ask_and_for_whom() -> None:
    found = location_of(
        "redis+sentinel://u%40:p%2F@a,[::1]:2/shop-1?db=3&sentinel_username=s&sentinel_password=t%2F&socket_timeout=1"
    )
    assert (found.kind, found.asked, found.name) == ("sentinel", (("a", 26_379), ("::1", 2)), "shop-1")
    assert (found.url, found.asked_as) == ("redis://u%40:p%2F@a?db=3", ("s", "t/"))
    assert location_of("rediss+sentinel://a/x?ssl_cert_reqs=none").url == "rediss://a?ssl_cert_reqs=none"


def test_a_url_of_a_cluster_says_whom_to_ask() -> None:
    found = location_of("rediss+cluster://u:p@a,b:7001/0?client_name=me")
    assert (found.kind, found.asked, found.url) == (
        "cluster",
        (("a", 6_379), ("b", 7_001)),
        "rediss://u:p@a/0?client_name=me",
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hidden@a,redis://:hidden@a:6379/0", "names a:6379/0 twice"),
        ("redis://:hidden@a/00,redis://:hidden@a", "names a:6379/0 twice"),
        ("redis://:hidden@[::1]:1,redis://:hidden@[0::1]:1/0", "names [::1]:1/0 twice"),
        ("redis+cluster://:hidden@[::1]:1,[0:0::1]:1", "names [::1]:1 twice"),
        ("redis+sentinel://:hidden@a/one,two,one", "names the master one of a:26379 twice"),
        ("redis+cluster://:hidden@a,a:6379", "names a:6379 twice"),
        ("redis+cluster://:hidden@a,redis://b", "a cluster stands alone"),
        ("redis+cluster://:hidden@a/1", "a cluster has only database 0"),
        ("redis+cluster://:hidden@a?db=2", "a cluster has only database 0"),
        ("redis+cluster://:hidden@a?sentinel_password=hidden", "the option sentinel_password is for redis+sentinel://"),
        ("redis://:hidden@a?sentinel_password=hidden", "the option sentinel_password is for redis+sentinel:// only"),
        ("redis+sentinel://:hidden@a?db=0", "lacks the name that the Sentinels know the master by"),
        ("redis+sentinel://:hidden@a/na%20me", "lacks the name that the Sentinels know the master by"),
        ("redis+sentinel://:hidden@a/0/name", "lacks the name that the Sentinels know the master by"),
        ("redis+sentinel://:hidden@a/name?foo=hidden", "the option foo is not known"),
        ("redis+sentinel://:hidden@a/name?ssl_cert_reqs=none", "the option ssl_cert_reqs is for TLS only"),
        ("redis+sentinel://:hidden@a,/name", "must look like"),
        ("redis+sentinel://:hidden@a:99999/name", "must look like"),
        ("redis+other://:hidden@a", "must look like"),
        ("redis://:hidden@a,redis://b,", "a comma, and no blank, stands between two: redis://host,redis://other"),
        ("redis://:hidden@a, redis://b", "a comma, and no blank, stands between two: redis://host,redis://other"),
        (",".join(f"redis://:hidden@a{n}" for n in range(16)), "names 16 servers, a shard each, and there may be 15"),
        (f"redis+sentinel://:hidden@a/{','.join(f'm{n}' for n in range(16))}", "and there may be 15"),
        ("redis+cluster://:hid#den@a", "percent-encoded"),
        ("redis://:hidden@a,b", "must look like"),
        ("redis://:hidden@a,redis://:hidden@b:0", "must look like"),
        (f"redis+cluster://:hidden@{','.join(f'a{n}' for n in range(ASKED_MOST + 1))}", "names more than 32 hosts"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_repeated(url: str, said: str) -> None:
    assert_refused(url, said)


def test_sentinels_of_two_deployments_on_one_host_may_use_one_name() -> None:
    assert len(urls_of_shards("redis+sentinel://a/main,redis+sentinel://a:26380/main")) == 2


def test_no_more_shards_than_servers() -> None:
    with pytest.raises(ValueError, match="names 2 servers, a shard each, so SHARDS must be at most 2"):
        urls_of_shards("redis://a,redis://b", 3)


def test_what_does_not_hold_or_guards_nothing_is_told_of_every_form() -> None:
    for url in ("redis://127.0.0.1,redis://a", "redis+sentinel://127.0.0.1,a/x", "redis+cluster://127.0.0.1,a"):
        settings = load(ALL, {"redis_url": f"{url}?socket_timeout=1"}, {})
        assert "REDIS_URL: without effect, since the service sets them itself: socket_timeout" in hazards(settings)
        [door] = [one for one in open_doors(settings, None, False) if "REDIS_URL" in one]
        assert "without a password and TLS" in door
    safe = load(ALL, {"redis_url": "rediss+cluster://:p@a,b"}, {})
    assert not [one for one in open_doors(safe, None, False) if "REDIS_URL" in one]
    assert plain_urls("rediss+sentinel://u:p@a,b:2/x?db=1") == ["rediss://u:p@a?db=1", "rediss://u:p@b:2?db=1"]


@pytest.mark.parametrize(
    "url",
    ["redis://h:1/0?password=p@ss", "redis://:p%3Fss@h:1", "redis+sentinel://u:pass@h:1/m?sentinel_password=p@ss"],
)
def test_where_a_server_is_tells_no_secret(url: str) -> None:
    assert server_of(url) in ("h:1/0", "the master m of h:1")
