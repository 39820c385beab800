"""Signatures: as the reference package checks them, by the secrets that settings name, and nothing else is taken."""

import base64
import time
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook, WebhookVerificationError

from redis_scheduler.delivery.credentials import Credentials
from redis_scheduler.delivery.request import RequestBuilder
from redis_scheduler.delivery.signature import Signatures, signers
from redis_scheduler.errors import SettingsError
from redis_scheduler.loading import load
from redis_scheduler.process.credentials import credentials_of, signatures_of
from redis_scheduler.settings import ALL, Settings
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import read_record, record_tail


def secret_of(number: int, size: int = 24) -> str:
    return f"whsec_{base64.b64encode(bytes([number]) * size).decode()}"


NEW, OLD, OTHER = secret_of(1), secret_of(2), secret_of(3)
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
KEY = f"whsk_{base64.b64encode(b'k' * 32 + PRIVATE.public_key().public_bytes_raw()).decode()}"


def sent(signatures: Signatures | None, webhook: str = "http://host/", type_name: str | None = None) -> dict[str, str]:
    """The headers of a request whose body is `{"a":"é"}`."""
    record = read_record(b'{"due":1' + record_tail(webhook, 0, type_name, '{"a":"é"}'.encode()))
    builder = RequestBuilder("token", "agent", "", 0, Credentials("token", {}, signatures))
    _, request = builder.build(Claim("1-1", "order:17", record, 0))
    head, _, body = request.decode().partition("\r\n\r\n")
    assert body == '{"a":"é"}'
    return dict(line.split(": ", 1) for line in head.split("\r\n")[1:])


async def test_the_reference_package_takes_a_signature_of_each_current_secret() -> None:
    headers = sent(Signatures(signers(f"{NEW} {OLD}")))
    assert headers["webhook-id"] == "order:17"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    for secret in (NEW, OLD):
        assert Webhook(secret).verify('{"a":"é"}', headers) == {"a": "é"}
    for secret, body in ((OTHER, '{"a":"é"}'), (NEW, '{"a":"e"}')):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)


@pytest.mark.parametrize("size", [32, 64])
async def test_a_signature_by_ed25519_is_checked_by_the_public_key(size: int) -> None:
    key = f"whsk_{base64.b64encode((b'k' * 32 + PRIVATE.public_key().public_bytes_raw())[:size]).decode()}"
    headers = sent(Signatures(signers(f"{key} {NEW}")))
    first, second = headers["webhook-signature"].split(" ")
    assert first.startswith("v1a,")
    assert second.startswith("v1,")
    content = f'order:17.{headers["webhook-timestamp"]}.{{"a":"é"}}'.encode()
    PRIVATE.public_key().verify(base64.b64decode(first[4:]), content)
    with pytest.raises(InvalidSignature):
        PRIVATE.public_key().verify(base64.b64decode(first[4:]), content + b" ")
    Webhook(NEW).verify('{"a":"é"}', headers)


def test_public_keys_are_told_with_whom_they_are_for(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(f"host:shop.example={KEY}\ntype:mail={NEW} {KEY}\ntype:order={NEW}\n")
    public = f"whpk_{base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()}"
    for settings, expected in (
        (Settings(webhook_secret=f"{NEW} {KEY}"), [public]),
        (Settings(webhook_secret=NEW), []),
        (
            Settings(webhook_secret=KEY, webhook_secrets_file=tmp_path / "secrets"),
            [public, f"host:shop.example={public}", f"type:mail={public}"],
        ),
    ):
        signatures = signatures_of(settings)
        assert signatures is not None
        assert list(signatures.public_keys()) == expected


async def test_without_a_secret_nothing_is_said() -> None:
    for signatures in (None, Signatures(of_types={"mail": signers(NEW)})):
        assert not [name for name in sent(signatures) if name.startswith("webhook-")]


async def test_the_secret_of_a_host_comes_first_then_that_of_a_type(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"# by receiver\nhost:Shop.example = {OTHER}\nhost:Straße.example.={OTHER}\n\ntype:mail={OLD}\n")
    signatures = credentials_of(Settings(webhook_secret=NEW, webhook_secrets_file=file), "t", {}).signatures
    for webhook, type_name, secret in (
        ("https://SHOP.example.:8443/a", "mail", OTHER),
        ("https://straße.example/", "mail", OTHER),
        ("http://host/", "mail", OLD),
        ("http://host/", None, NEW),
    ):
        Webhook(secret).verify('{"a":"é"}', sent(signatures, webhook, type_name))


@pytest.mark.parametrize(
    "text",
    [
        "hidden",
        "whsec_hidden!",
        secret_of(1, 23),
        secret_of(1, 65),
        "whsec_",
        f"{NEW},{OLD}",
        "whsk_aGlkZGVu",
        f"whsk_{base64.b64encode(b'hidden--' * 8).decode()}",
        " ".join([NEW] * 9),
        f"whpk_{base64.b64encode(b'k' * 32).decode()}",
    ],
)
def test_what_is_no_secret_is_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ALL, {}, {"WEBHOOK_SECRET": text})
    (problem,) = caught.value.problems
    assert problem.startswith("WEBHOOK_SECRET: must be secrets with spaces between: whsec_ and 24 to 64 bytes")
    assert text.split("_")[-1] not in problem or text == "whsec_"
    (tmp_path / "secrets").write_text(f"type:a={text}")
    with pytest.raises(SettingsError, match=r"WEBHOOK_SECRETS_FILE=.*: line 1: must be secrets"):
        credentials_of(Settings(webhook_secrets_file=tmp_path / "secrets"), "t", {})


@pytest.mark.parametrize(
    "line", ["mail=x", "host:=x", "hosts:a=x", "x", f"host:a={NEW}\nhost:A.={NEW}", "host:a:443=x"]
)
def test_a_line_that_names_neither_host_nor_type_is_told(line: str, tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(line)
    with pytest.raises(SettingsError, match=r": line [12]: must be host:name=secrets or type:name=secrets, each name"):
        credentials_of(Settings(webhook_secrets_file=tmp_path / "secrets"), "t", {})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^WEBHOOK_SECRETS_FILE=.*: cannot be read: No such file"):
        credentials_of(Settings(webhook_secrets_file=tmp_path / "none"), "t", {})
