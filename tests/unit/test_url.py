"""REDIS_URL: what holds, what is overridden, what is refused; and no secret in what is said."""

import ssl
from pathlib import Path

import pytest
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import SSLConnection

from redis_scheduler.errors import SettingsError
from redis_scheduler.loading import load
from redis_scheduler.process.hazards import hazards
from redis_scheduler.settings import ALL
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.url import HELD, OWN, overridden, parse, unchecked
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
        ("redis://:hidden@host?ssl_cert_reqs=none", "the option ssl_cert_reqs is for TLS only, as in rediss://"),
        (
            "rediss://:hidden@host?ssl_cert_reqs=hidden",
            "the option ssl_cert_reqs must be one of none, optional, required",
        ),
        ("rediss://:hidden@host?ssl_check_hostname=hidden", "the option ssl_check_hostname must be true or false"),
        ("unix://tmp/hidden.sock", "must look like"),
        ("rediss://:hidden@host?ssl_ca_certs=/hidden.pem", "its ssl_ options cannot be used for TLS"),
        ("rediss://:hidden@host?ssl_ciphers=hidden", "its ssl_ options cannot be used for TLS"),
        ("rediss://:hidden@host?ssl_min_version=hidden", "a value that it cannot have"),
        ("redis://:hidden@host?db=hidden", "the option db must be the number"),
        ("redis://:hidden@host?client_name=", "the option client_name is empty"),
        ("redis://:hid#den@host/0", "special characters of user name and password percent-encoded"),
        ("redis://:hid/den@host/0", "percent-encoded"),
        ("redis://:hidden@host:0/0", "must look like"),
        ("redis://[hidden/0", "must look like"),
        ("redis+sentinels://:hidden@host/0", "must look like"),
        ("redis://user:1?hidden@host/0", "percent-encoded"),
        ("redis://:1?hid=den@host", "percent-encoded"),
        ("redis+cluster://:1?hidden@host", "percent-encoded"),
        ("REDIS://:hidden@host", "must look like"),
        ("UNIX:///hidden.sock", "must look like"),
        ("redis://:hidden@host ", "and no blank"),
        ("redis://:hidden@ho\nst", "must look like"),
        ("redis://:hidden@host?db=\u0663", "the option db must be the number"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_repeated(url: str, said: str) -> None:
    assert_refused(url, said)


def assert_refused(url: str, said: str) -> None:
    """REDIS_URL is refused with these words, which repeat nothing of a secret that begins with `hid`."""
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


@pytest.mark.parametrize("checks", ["", "ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs=optional"])
@pytest.mark.parametrize("name", ["", *(f"ssl_check_hostname={value}" for value in ("0", "false", "No", "1", "true"))])
def test_what_tls_does_not_check_is_told_as_the_library_reads_it(checks: str, name: str) -> None:
    url = f"rediss://host?{'&'.join(filter(None, (checks, name)))}"
    made = ConnectionPool.from_url(parse(url)).make_connection()
    assert isinstance(made, SSLConnection)
    context = made.ssl_context.get()
    if context.check_hostname:
        assert unchecked(url) == ""
    else:
        is_certificate_checked = context.verify_mode != ssl.CERT_NONE
        assert unchecked(url) == f"a check of {'the name in ' * is_certificate_checked}its certificate"


def test_without_tls_nothing_is_told_of_its_checks() -> None:
    assert unchecked("redis://host") == unchecked("unix:///run/redis.sock") == ""
