"""What deliveries show: which settings say it, what is refused, and that no error or value of the kind is repeated."""

from pathlib import Path

import pytest
from msgspec import UNSET, UnsetType

from redis_scheduler.delivery.credentials import Credentials, Secret, SecretMissing, derived_token
from redis_scheduler.delivery.request import RequestBuilder
from redis_scheduler.errors import SettingsError
from redis_scheduler.loading import load
from redis_scheduler.process.credentials import credentials_of
from redis_scheduler.settings import ALL, Settings
from redis_scheduler.task.alert import ALERT_PLACE, ALERT_TYPE
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import Record
from redis_scheduler.task.webhook import parts_of
from tests.support.raw_receiver import claim_of


@pytest.mark.parametrize(
    ("settings", "carried"),
    [
        (Settings(), derived_token("token")),
        (Settings(api_auth="token"), "token"),
        (Settings(api_auth="token", delivery_auth="derived"), derived_token("token")),
        (Settings(delivery_auth="api"), "token"),
        (Settings(api_auth="token", delivery_auth="none"), ""),
        (Settings(api_auth="token", delivery_auth="secret:shop"), "Bearer of-the-shop"),
    ],
)
async def test_settings_say_what_is_carried(settings: Settings, carried: str) -> None:
    credentials = credentials_of(settings, "token", {"SECRET_SHOP": "Bearer of-the-shop"})
    assert credentials.authorization == carried
    _, request = RequestBuilder("token", "agent", credentials=credentials).build(claim_of("http://h/"))
    lines = [line for line in request.decode().split("\r\n") if line.startswith("Authorization")]
    assert lines == ([f"Authorization: {carried}"] if carried else [])


def test_the_derived_token_is_of_the_first_of_two() -> None:
    assert derived_token("new old") == derived_token("new") != derived_token("old")
    assert len(derived_token("new")) == 43


@pytest.mark.parametrize("text", ["apis", "secret", "secret:", "secret:a-b", "secret:ü", "none:x"])
def test_what_deliveries_cannot_carry_is_one_line(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ALL, {}, {"DELIVERY_AUTH": text})
    rule = "must be api, derived, none, or secret:NAME with the name of a secret"
    assert caught.value.problems == [f"DELIVERY_AUTH={text}: {rule}"]


def test_deliveries_to_everybody_want_a_word_about_the_token() -> None:
    with pytest.raises(SettingsError, match=r"^EGRESS=public: .* set DELIVERY_AUTH"):
        load(ALL, {}, {"API_AUTH": "t", "EGRESS": "public"})
    for given in ({"API_AUTH": "t", "DELIVERY_AUTH": "api"}, {}):
        load(ALL, {}, {"EGRESS": "public", **given})


FILE = """
# of the shop
shop = Bearer a=b
shop.hosts = Shop.example  *.shop.example
mail=pass word
"""


def test_secrets_come_from_a_file_and_from_variables(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(FILE)
    (tmp_path / "token").write_text("of a file\n")
    environment = {
        "SECRET_CRM": "crm",
        "SECRET_CRM_HOSTS": "crm.example ::1",
        "SECRET_ERP_FILE": str(tmp_path / "token"),
        "SECRET_": "",
        "SECRET_A-B": "another program's",
        "SECRETS": "another program's",
    }
    found = credentials_of(Settings(secrets_file=tmp_path / "secrets"), "t", environment).secrets
    assert found == {
        "shop": Secret("Bearer a=b", ("shop.example", "*.shop.example")),
        "mail": Secret("pass word"),
        "crm": Secret("crm", ("crm.example", "::1")),
        "erp": Secret("of a file"),
    }
    assert "crm'" not in repr(found["crm"])
    assert "a=b" not in repr(found)


@pytest.mark.parametrize(
    ("lines", "environment", "said"),
    [
        ("hidden", {}, "{file}: line 1: must be name=value"),
        ("a=", {}, "{file}: line 1: must be name=value"),
        ("A=hidden", {}, "{file}: line 1: the name must be 1 to 64 small letters, digits and _"),
        ("a=hidden\na=hidden", {}, "{file}: line 2: a is set twice, here and by {file}: line 1"),
        ("a=hidden\x7f", {}, "{file}: line 1: must be visible characters of Latin-1, with spaces only inside"),
        ("a=hiddenł", {}, "{file}: line 1: must be visible characters of Latin-1, with spaces only inside"),
        ("a=" + "hidden" * 700, {}, "{file}: line 1: must be at most 4096 characters"),
        ("a.hosts=h", {}, "{file}: line 1: the secret a is not set"),
        (
            "a=hidden\na.hosts=a,b",
            {},
            "{file}: line 2: must be names of hosts, or *. and the end of names, separated by spaces",
        ),
        ("a=hidden", {"SECRET_A": "hidden"}, "SECRET_A: a is set twice, here and by {file}: line 1"),
        ("a=1", {"SECRET_B": "hidden\n"}, "SECRET_B: must be visible characters of Latin-1, with spaces only inside"),
        ("a=1", {"SECRET_B_FILE": "/none"}, "SECRET_B_FILE=/none: cannot be read: No such file or directory"),
        ("\n".join(f"a{n}=hidden" for n in range(1001)), {}, "SECRETS_FILE: there may be 1000 secrets, got 1001"),
    ],
)
def test_a_secret_that_cannot_be_one_is_named_and_not_shown(
    lines: str, environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "secrets"
    file.write_text(lines)
    with pytest.raises(SettingsError) as caught:
        credentials_of(Settings(secrets_file=file), "t", environment)
    assert caught.value.problems == [said.format(file=f"SECRETS_FILE={file}")]
    assert "hidden" not in str(caught.value)


def test_deliveries_carry_a_secret_that_is_set_and_may_go_to_all() -> None:
    for environment, said in (
        ({}, "is not set: set SECRET_SHOP"),
        ({"SECRET_SHOP": "é"}, "must be ASCII characters"),
        ({"SECRET_SHOP": "x", "SECRET_SHOP_HOSTS": "shop.example"}, "is for some hosts only, this is for all"),
    ):
        with pytest.raises(SettingsError) as caught:
            credentials_of(Settings(delivery_auth="secret:shop"), "t", environment)
        assert caught.value.problems == [f"DELIVERY_AUTH=secret:shop: the secret shop {said}"]


CREDENTIALS = Credentials(
    "token", {"shop": Secret("of-the-shop", ("shop.example", "*.shop.example")), "any": Secret("naïve")}
)


def request_of(headers: dict[str, str], webhook: str = "http://host/") -> str:
    claim = claim_of(webhook)
    record = claim.record
    claim.record = Record(
        1, record.webhook, 0, origin=record.origin, target=record.target, options=Options(headers=headers)
    )
    _, request = RequestBuilder("token", "agent", credentials=CREDENTIALS).build(claim)
    return request.decode("latin-1")


async def test_a_secret_is_put_in_where_it_is_named() -> None:
    request = request_of({"Authorization": "Basic ${secret:any}", "X": "${secret:any}${secret:any}"})
    assert "Authorization: Basic naïve\r\n" in request
    assert "X: naïvenaïve\r\n" in request
    assert "Authorization: token" not in request


@pytest.mark.parametrize(
    ("webhook", "may"),
    [
        ("http://shop.example/", True),
        ("https://SHOP.example.:8443/", True),
        ("http://a.b.shop.example/", True),
        ("http://myshop.example/", False),
        ("http://shop.example.evil.example/", False),
        ("http://evil.example/shop.example", False),
        ("http://127.0.0.1/", False),
    ],
)
async def test_a_secret_goes_only_to_its_hosts(webhook: str, may: bool) -> None:
    headers = {"X": "${secret:shop}"}
    if may:
        assert "X: of-the-shop\r\n" in request_of(headers, webhook)
    else:
        with pytest.raises(SecretMissing, match=r"^the secret shop may not be sent to this host$"):
            request_of(headers, webhook)


async def test_a_secret_that_is_not_set_is_named() -> None:
    with pytest.raises(SecretMissing, match=r"^the secret other is not set$"):
        request_of({"X": "${secret:other}"})


@pytest.mark.parametrize("headers", [UNSET, {"Authorization": ""}])
@pytest.mark.parametrize("type_name", [None, "mail", ALERT_TYPE])
async def test_only_an_alert_goes_where_alerts_go(type_name: str | None, headers: dict[str, str] | UnsetType) -> None:
    credentials = Credentials("token", alert_webhook="https://chat.example/services/a-secret?x=ü")
    options = NONE if headers is UNSET else Options(headers=headers)
    claim = claim_of(ALERT_PLACE)
    origin, target = parts_of(ALERT_PLACE)
    claim.record = Record(1, ALERT_PLACE, 0, type_name, origin=origin, target=target, options=options)
    where, request = RequestBuilder("token", "agent", credentials=credentials).build(claim)
    is_alert = type_name == ALERT_TYPE and options is not NONE
    assert where.key == (("chat.example" if is_alert else "alert-webhook.invalid"), 443, True)
    assert request.split(b" ")[1] == (b"/services/a-secret?x=%C3%BC" if is_alert else b"/")


def test_what_an_alert_shows_is_taken_out_of_answers() -> None:
    credentials = Credentials("token", alert_webhook="https://chat.example/services/T0/a-secret-text?key=another-one")
    shown = credentials.shown_by_alerts()
    assert shown == ("/services/T0/a-secret-text?key=another-one", "services", "a-secret-text", "another-one")
    assert Credentials("token").shown_by_alerts() == ()
