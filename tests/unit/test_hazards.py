"""Open doors: each that settings leave open is told in one line, by the processes that it concerns, and no other."""

import dataclasses
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.delivery.credentials import Credentials, Secret
from redis_scheduler.delivery.signature import Signatures
from redis_scheduler.loading import load
from redis_scheduler.process.hazards import hazards, open_doors
from redis_scheduler.settings import ALL, Settings

KEY = b64encode(bytes(32)).decode()
CLOSED = Settings(
    api_auth="t",
    delivery_auth="derived",
    egress="public",
    host="127.0.0.1",
    host_rate=100,
    breaker_failures=20,
    token_tasks=1_000,
    data_key=KEY,
    data_plain="refuse",
    redis_url="rediss://:word@redis.example:6379",
)
SIGNED = Credentials(signatures=Signatures(of_types={"mail": ()}))
UNBOUND = Credentials(secrets={"a": Secret("x"), "b": Secret("x", ("h",))}, signatures=SIGNED.signatures)

DELIVERS, LISTENS = {"all", "worker"}, {"all", "api"}


def doors(settings: Settings, role: str = "all", credentials: Credentials = SIGNED) -> list[str]:
    """The variables that the lines of a role's process name."""
    lines = open_doors(settings, credentials if role in DELIVERS else None, role in LISTENS)
    assert all(line.endswith(")") and ". " not in line and len(line) < 120 for line in lines)
    return [line.rpartition("(")[2].rstrip(")") for line in lines]


@pytest.mark.parametrize("role", ["all", "api", "worker"])
def test_a_service_that_closes_them_has_no_open_door(role: str) -> None:
    assert doors(CLOSED, role) == []


LIMITS = "HOST_CONCURRENCY, HOST_RATE"


@pytest.mark.parametrize(
    ("change", "door", "roles"),
    [
        ({"delivery_auth": "api"}, "DELIVERY_AUTH", DELIVERS),
        ({"delivery_auth": None}, "DELIVERY_AUTH", DELIVERS),
        ({"egress": "private"}, "EGRESS", DELIVERS),
        ({"egress": "any"}, "EGRESS", DELIVERS),
        ({"egress_proxy": "http://127.0.0.1:3128"}, "EGRESS_PROXY", DELIVERS),
        ({"host_rate": 0}, LIMITS, DELIVERS),
        ({"breaker_failures": 0}, "BREAKER_FAILURES", DELIVERS),
        ({"cors_origins": "https://shop.example"}, "CORS_ORIGINS", LISTENS),
        ({"trusted_proxies": "127.0.0.1 0.0.0.0/0"}, "TRUSTED_PROXIES", LISTENS),
        ({"trusted_proxies": "::/0"}, "TRUSTED_PROXIES", LISTENS),
        ({"api_metrics": "open"}, "API_METRICS", LISTENS),
        ({"host": None}, "HOST", LISTENS),
        ({"host": "0.0.0.0"}, "HOST", LISTENS),
        ({"host": "10.0.0.1"}, "HOST", LISTENS),
        ({"memory_reserve": 0}, "MEMORY_RESERVE", LISTENS),
        ({"token_tasks": 0}, "TOKEN_TASKS", LISTENS),
        ({"data_key": None, "data_plain": "read"}, "DATA_KEY", DELIVERS | LISTENS),
        ({"data_plain": "read"}, "DATA_PLAIN", DELIVERS | LISTENS),
        ({"redis_url": "redis://redis.example"}, "REDIS_URL", DELIVERS | LISTENS),
    ],
)
def test_a_door_is_told_by_the_processes_that_it_concerns(change: dict[str, Any], door: str, roles: set[str]) -> None:
    settings = dataclasses.replace(CLOSED, **change)
    for role in ("all", "api", "worker"):
        assert doors(settings, role) == [door] * (role in roles)


def test_what_deliveries_show_may_leave_doors_open() -> None:
    assert doors(CLOSED, credentials=Credentials()) == ["WEBHOOK_SECRET"]
    assert doors(CLOSED, credentials=UNBOUND) == ["SECRET_…_HOSTS"]
    assert "any host: a (" in open_doors(CLOSED, UNBOUND, listens=True)[0]


@pytest.mark.parametrize(
    ("token", "host", "listens", "warns"),
    [
        ("x" * 15, "0.0.0.0", True, True),
        (f"{'x' * 32} short", "10.0.0.1", True, True),
        ("x" * 16, "0.0.0.0", True, False),
        ("x" * 15, "127.0.0.1", True, False),
        ("x" * 15, "::ffff:127.0.0.1", True, False),
        ("x" * 15, "localhost", True, False),
        ("x" * 15, "0.0.0.0", False, False),
    ],
)
def test_a_token_that_strangers_may_guess_is_a_hazard(token: str, host: str, listens: bool, warns: bool) -> None:
    found = hazards(dataclasses.replace(CLOSED, host=host), token, listens=listens)
    assert [line[: len("API_AUTH is shorter")] for line in found] == ["API_AUTH is shorter"] * warns
    assert all(token not in line for line in found)


@pytest.mark.parametrize("change", [{"host_concurrency": 1}, {"host_rate": 1}])
def test_each_limit_of_hosts_closes_their_door(change: dict[str, Any]) -> None:
    assert doors(dataclasses.replace(CLOSED, **{"host_rate": 0, **change})) == []


@pytest.mark.parametrize(
    ("url", "lacking"),
    [
        (None, None),
        ("unix:///run/redis.sock", None),
        ("redis://127.0.0.1:6379/0", None),
        ("redis://localhost", None),
        ("redis://[::1]:6379", None),
        ("redis:///3", None),
        ("redis://10.0.0.1", "a password and TLS"),
        ("redis://user@redis", "a password and TLS"),
        ("redis://user:word@redis", "TLS"),
        ("redis://redis?password=word", "TLS"),
        ("rediss://redis", "a password"),
        ("rediss://:word@redis", None),
        ("rediss://redis?ssl_certfile=/client.pem", None),
        ("rediss://:word@redis?ssl_cert_reqs=required&ssl_check_hostname=True", None),
        ("rediss://:word@redis?ssl_cert_reqs=CERT_NONE", "a check of its certificate"),
        ("rediss://redis?ssl_cert_reqs=none", "a password and a check of its certificate"),
        ("rediss://:word@redis?ssl_check_hostname=false", "a check of the name in its certificate"),
        ("rediss://:word@127.0.0.1?ssl_cert_reqs=none", None),
    ],
)
def test_a_redis_of_another_machine_wants_a_password_and_tls(url: str | None, lacking: str | None) -> None:
    found = open_doors(dataclasses.replace(CLOSED, redis_url=url), SIGNED, listens=True)
    assert found == (
        [] if lacking is None else [f"Redis is on another machine, and is used without {lacking} (REDIS_URL)"]
    )


ROOT = Path(__file__).parents[2]


def test_the_threat_model_names_what_closes_each_door() -> None:
    text = (ROOT / "docs/threat-model.md").read_text()
    all_open = Settings(
        delivery_auth="api",
        memory_reserve=0,
        redis_url="redis://redis.example",
        host="::",
        egress_proxy="environment",
        cors_origins="https://shop.example",
        trusted_proxies="0.0.0.0/0",
        api_metrics="open",
    )
    unsealed = dataclasses.replace(all_open, data_key=KEY)
    unbound = Credentials(secrets=UNBOUND.secrets)
    found = {name for settings in (all_open, unsealed) for name in doors(settings, credentials=unbound)}
    assert len(found) == 16
    assert [name for names in found for name in names.split(", ") if f"`{name}" not in text] == []


@pytest.mark.parametrize("page", ["docs/threat-model.md", "docs/howto/tokens.md"])
def test_pages_say_that_a_token_without_a_share_pushes_out_what_others_have(page: str) -> None:
    [said] = [
        part
        for part in re.split(r"\n(?=[-|#]|\n)", (ROOT / page).read_text())
        if "push out" in part and "can fill Redis" in part
    ]
    assert {
        word for word in ("`--tasks`", "`MEMORY_RESERVE`", "dead letters and summaries") if word not in said
    } == set()


def test_what_is_open_unless_settings_say_otherwise() -> None:
    usual = doors(load(ALL, {}, {}), credentials=Credentials())
    assert usual == ["WEBHOOK_SECRET", "EGRESS", LIMITS, "BREAKER_FAILURES", "TOKEN_TASKS", "DATA_KEY"]
