"""The ways of deliveries: through proxies, and by TLS with what single hosts want; against real servers."""

import asyncio
import json
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.egress import Egress
from redis_scheduler.delivery.pool import REST_S
from redis_scheduler.delivery.proxy import Proxies, proxy_at
from redis_scheduler.delivery.tls import Tls
from redis_scheduler.task.outcome import Outcome
from tests.support.connect_proxy import proxying
from tests.support.raw_receiver import OK, answering, claim_of, says

CERTIFICATES = Path(__file__).parents[1] / "support/certificates"
AUTHORITY, KEY = CERTIFICATES / "test-authority.pem", CERTIFICATES / "test-key.pem"
LOCALHOST, SELF_SIGNED = CERTIFICATES / "test-localhost.pem", CERTIFICATES / "test-self-signed.pem"
NOWHERE = "http://known.to-the-proxy.invalid/path"


def context_of(certificate: Path, wants_clients: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, KEY)
    if wants_clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(AUTHORITY)
    return context


async def attempt(webhook: str, tls: Tls | None = None, proxies: Proxies | None = None) -> Outcome:
    async with Deliverer("token", 5, tls=tls, proxies=proxies) as deliverer:
        return await deliverer.attempt(claim_of(webhook))


# Proxies


async def test_a_delivery_goes_through_the_proxy_which_alone_knows_the_name() -> None:
    async with answering(says(OK)) as receiver, proxying(receiver.port) as proxy:
        outcome = await attempt(NOWHERE, proxies=Proxies(f"http://us%65r:p%40ss@127.0.0.1:{proxy.port}"))
    assert (outcome.error, outcome.status) == (None, 200)
    [head] = proxy.heads
    assert head.startswith(b"CONNECT known.to-the-proxy.invalid:80 HTTP/1.1\r\nHost: known.to-the-proxy.invalid:80\r\n")
    assert b"\r\nProxy-Authorization: Basic " + b64encode(b"user:p@ss") + b"\r\n" in head
    [request] = receiver.heads
    assert request.startswith(b"POST /path HTTP/1.1\r\nHost: known.to-the-proxy.invalid\r\n")
    assert b"Proxy-" not in request


async def test_https_is_between_the_worker_and_the_receiver() -> None:
    async with answering(says(OK), context=context_of(LOCALHOST)) as receiver, proxying(receiver.port) as proxy:
        proxies = Proxies(f"http://127.0.0.1:{proxy.port}")
        outcome = await attempt("https://localhost:444/", Tls(AUTHORITY), proxies)
        wrong = await attempt("https://elsewhere.example/", Tls(AUTHORITY), proxies)
        unknown = await attempt("https://localhost/", None, proxies)
    assert outcome.error is None
    assert proxy.lines[0] == "CONNECT localhost:444 HTTP/1.1"
    assert (wrong.error or "").startswith("the certificate is not valid: Hostname mismatch")
    assert (unknown.error or "").startswith("the certificate is not valid: ")
    assert wrong.kind == "tls"
    assert len(receiver.heads) == 1


async def test_a_tunnel_is_kept_for_the_next_delivery() -> None:
    async with (
        answering(says(OK)) as receiver,
        proxying(receiver.port) as proxy,
        Deliverer("token", 5, proxies=Proxies(f"http://127.0.0.1:{proxy.port}")) as deliverer,
    ):
        for _ in range(3):
            assert (await deliverer.attempt(claim_of(NOWHERE))).error is None
            await asyncio.sleep(2 * REST_S)
    assert len(proxy.heads) == 1
    assert len(receiver.heads) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy answered 407"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nforbidden", "the proxy answered 403"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "the proxy's answer is not HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the proxy's answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: ", "the proxy closed the connection before it answered"),
        (b"HTTP/1.1 200 OK\r\nX: " + 20_000 * b"x", "the proxy's answer is too long"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_a_failed_attempt(answer: bytes, said: str) -> None:
    async with answering(says(OK)) as receiver, proxying(receiver.port, answer) as proxy:
        outcome = await attempt(NOWHERE, proxies=Proxies(f"http://user:secret@127.0.0.1:{proxy.port}"))
    assert (outcome.error, outcome.status, outcome.kind, outcome.is_final) == (said, None, "proxy", False)
    assert not receiver.heads


async def test_a_silent_proxy_is_left_in_time_and_one_that_is_away_is_said() -> None:
    async with proxying(9, b"") as proxy, Deliverer("t", 0.2, proxies=Proxies(f"http://127.0.0.1:{proxy.port}")) as one:
        assert (await one.attempt(claim_of(NOWHERE))).kind == "timeout"
    outcome = await attempt(NOWHERE, proxies=Proxies(f"http://127.0.0.1:{proxy.port}"))
    assert (outcome.error, outcome.kind) == ("cannot connect to the proxy", "proxy")


async def test_the_environment_says_which_hosts_go_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(says(OK)) as receiver, proxying(receiver.port) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        proxies = Proxies("environment")
        assert (await attempt(NOWHERE, proxies=proxies)).error is None
        assert (await attempt(receiver.url, proxies=proxies)).error is None
        assert len(proxy.heads) == 1
        assert len(receiver.heads) == 2
        async with Deliverer("token", 5, egress=Egress("public"), proxies=proxies) as deliverer:
            refused = await deliverer.attempt(claim_of(receiver.url))
        assert refused.error == "egress: the address is refused: loopback", "the guard is for what goes directly"


async def test_the_environment_does_not_count_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(says(OK)) as receiver:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert (await attempt(receiver.url)).error is None


@pytest.mark.parametrize(
    "text",
    ["", "proxy:3128", "https://proxy", "http://", "http://proxy:0", "http://p/x", "http://p:99999", "http://a b"],
)
def test_what_is_no_proxy_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be http://host:port, with user:password@ where "):
        proxy_at(text)


# TLS


async def test_an_authority_of_the_file_is_trusted() -> None:
    async with answering(says(OK), context=context_of(LOCALHOST)) as receiver:
        assert (await attempt(f"https://127.0.0.1:{receiver.port}/", Tls(AUTHORITY))).error is None
        assert (await attempt(f"https://127.0.0.1:{receiver.port}/")).kind == "tls"


def hosts_file(folder: Path, **hosts: dict[str, object]) -> Path:
    path = folder / "tls.json"
    path.write_text(json.dumps({name.replace("_", "."): about for name, about in hosts.items()}))
    return path


async def test_a_client_certificate_goes_to_its_host_alone(tmp_path: Path) -> None:
    (tmp_path / "client.pem").write_bytes(LOCALHOST.read_bytes())
    (tmp_path / "client.key").write_bytes(KEY.read_bytes())
    about: dict[str, object] = {"certificate": "client.pem", "key": "client.key", "ca": str(AUTHORITY)}
    context = context_of(LOCALHOST, wants_clients=True)
    async with answering(says(OK), context=context) as receiver:
        webhook = f"https://127.0.0.1:{receiver.port}/"
        with_one = await attempt(webhook, Tls(hosts_file=hosts_file(tmp_path, **{"127.0.0.1": about})))
        other = await attempt(webhook, Tls(AUTHORITY, hosts_file(tmp_path, localhost=about)))
    assert with_one.error is None
    assert other.error is not None
    assert len(receiver.heads) == 1


def test_a_host_of_the_file_is_meant_as_webhooks_name_it(tmp_path: Path) -> None:
    about: dict[str, object] = {"verify": False}
    tls = Tls(hosts_file=hosts_file(tmp_path, **{"Straße.example.": about}))
    assert tls.context_of("xn--strae-oqa.example") is not None
    assert tls.context_of("strasse.example") is None
    with pytest.raises(ValueError, match=r"a\.example:443 is no name or address of a host"):
        Tls(hosts_file=hosts_file(tmp_path, **{"a.example:443": about}))


async def test_verification_is_off_for_a_named_host_alone(tmp_path: Path) -> None:
    async with answering(says(OK), context=context_of(SELF_SIGNED)) as receiver:
        tls = Tls(hosts_file=hosts_file(tmp_path, LOCALHOST={"verify": False}))
        assert tls.unverified == ["localhost"]
        assert (await attempt(f"https://localhost:{receiver.port}/", tls)).error is None
        assert (await attempt(f"https://127.0.0.1:{receiver.port}/", tls)).kind == "tls"


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-in", str(KEY), "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    file = hosts_file(tmp_path, a_example={"certificate": str(LOCALHOST), "key": "locked.key"})
    with pytest.raises(ValueError, match=r"test-localhost\.pem with .*locked\.key cannot be read: "):
        Tls(hosts_file=file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": {"certificate": "none.pem"}}', "none.pem cannot be read: No such file or directory"),
        ('{"a": {"ca": "tls.json"}}', "tls.json cannot be read: "),
        ('{"a": {"key": "k"}}', "a: a key without a certificate"),
        ('{"a": {"ca": "c", "verify": false}}', "a: ca has no effect without verify"),
        ('{"a": {}}', "a: must have certificate, ca or verify"),
        ('{"a": {"verfiy": false}}', "verfiy"),
        ("[]", "tls.json: Expected `object`"),
        ("x" * 300_000, "is larger than 262144 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "tls.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        Tls(hosts_file=path)


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.pem cannot be read: No such file or directory"):
        Tls(tmp_path / "gone.pem")
