"""REDIS_URL: what holds, what is overridden, what is refused; and no secret in what is said."""

from pathlib import Path

import pytest

from redis_scheduler.errors import SettingsError
from redis_scheduler.loading import load
from redis_scheduler.process.hazards import hazards
from redis_scheduler.settings import ALL
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.url import HELD, OWN, overridden, parse
from tests.support.names import KEYS

CERTIFICATES = Path(__file__).parents[1] / "support/certificates"
CA = CERTIFICATES / "test-authority.pem"


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("redis://host", "redis://host"),
        ("redis://host:1/2?decode_responses=True&protocol=3", "redis://host:1/2"),
        ("redis://host?socket_timeout=1&db=3&max_connections=2", "redis://host?db=3"),
        ("redis://a%40b:c%2Fd%3F@host/0?client_name=my+app", "redis://a%40b:c%2Fd%3F@host/0?client_name=my+app"),
        ("rediss://host?ssl_cert_reqs=CERT_NONE", "rediss://host?ssl_cert_reqs=none"),
        ("rediss://host?ssl_cert_reqs=CERT_REQUIRED", "rediss://host?ssl_cert_reqs=required"),
        ("unix:///a.sock?db=2&encoding=latin-1", "unix:///a.sock?db=2"),
        ("unix://user:password@/a.sock", "unix://user:password@/a.sock"),
    ],
)
def test_what_makes_sense_holds_and_what_would_break_the_service_is_left_out(url: str, parsed: str) -> None:
    assert parse(url) == parsed
    assert load(ALL, {"redis_url": url}, {}).redis_url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hidden@host?foo=hidden", "the option foo is not known; known are client_name, db"),
        ("redis://:hidden@host?ssl_ca_cert=hidden", "the option ssl_ca_cert is not known"),
        ("redis://:hidden@host?host=hidden", "the option host is not known"),
        ("redis://:hidden@host?ssl_cert_reqs=none", "the option ssl_cert_reqs is for rediss:// only"),
        (
            "rediss://:hidden@host?ssl_cert_reqs=hidden",
            "the option ssl_cert_reqs must be one of none, optional, required",
        ),
        ("rediss://:hidden@host?ssl_ca_certs=/hidden.pem", "its ssl_ options cannot be used for TLS"),
        ("rediss://:hidden@host?ssl_ciphers=hidden", "its ssl_ options cannot be used for TLS"),
        ("rediss://:hidden@host?ssl_min_version=hidden", "a value that it cannot have"),
        ("redis://:hidden@host?db=hidden", "the option db must be the number"),
        ("redis://:hidden@host?client_name=", "the option client_name is empty"),
        ("redis://:hid#den@host/0", "special characters of user name and password percent-encoded"),
        ("redis://:hid/den@host/0", "percent-encoded"),
        ("redis://:hidden@host:0/0", "must look like"),
        ("redis://[hidden/0", "must look like"),
        ("redis+sentinel://:hidden@host/0", "must look like"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_repeated(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ALL, {"redis_url": url}, {})
    [problem] = caught.value.problems
    assert problem.startswith("REDIS_URL: ")
    assert said in problem
    assert "hid" not in problem


def test_what_does_not_hold_is_a_hazard_that_names_it() -> None:
    settings = load(ALL, {"redis_url": "redis://:hidden@host?socket_timeout=1&decode_responses=1&db=2"}, {})
    [hazard] = hazards(settings)
    assert hazard == "REDIS_URL: without effect, since the service sets them itself: decode_responses, socket_timeout"
    assert overridden("redis://host?db=2") == []
    assert not hazards(load(ALL, {}, {}))
    assert not HELD & OWN


async def test_the_library_is_given_what_holds_and_what_the_service_needs() -> None:
    url = f"rediss://a%40b:c%2Fd@host:7/3?{'&'.join(f'{name}=1' for name in sorted(OWN))}&client_name=me&ssl_ca_certs={CA}"
    client = RedisClient(url, 0.5, KEYS)
    try:
        given = client._redis.connection_pool.connection_kwargs
    finally:
        await client.aclose()
    assert (given["username"], given["password"], given["host"], given["port"], given["db"]) == (
        "a@b",
        "c/d",
        "host",
        7,
        3,
    )
    assert (given["client_name"], given["ssl_ca_certs"], given["protocol"], given["socket_timeout"]) == (
        "me",
        str(CA),
        2,
        0.5,
    )
    assert not given.get("decode_responses")
    assert not given.get("health_check_interval")
    assert given.get("encoding", "utf-8") == "utf-8"
