"""The egress guard: which addresses, names and ports it lets through, and what its rules may be."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from redis_scheduler.delivery.egress import KINDS, Address, Egress, EgressRefused, Mode, judged, kind_of, rules
from tests.support.egress_table import BAD, LITERALS, NAMES

LITERAL_VERDICTS = [
    (host.strip("[]"), mode, verdict)
    for host, (public, private) in LITERALS.items()
    if host.isascii()
    for mode, verdict in (("public", public), ("private", private))
    if verdict != BAD
]


@pytest.mark.parametrize(("address", "mode", "verdict"), LITERAL_VERDICTS)
def test_an_address_is_let_through_or_refused_by_its_kind(address: str, mode: Mode, verdict: str) -> None:
    assert Egress(mode).refusal(address, address, 80) == verdict


def test_the_table_of_addresses_and_names_is_long_enough() -> None:
    assert len(LITERALS) + len(NAMES) >= 60


@pytest.mark.parametrize("text", [text for texts in KINDS.values() for text in texts])
def test_each_network_of_the_table_is_looked_at(text: str) -> None:
    first = ip_address(text.partition("/")[0])
    assert kind_of(first)[1] in KINDS


@given(st.ip_addresses())
def test_whatever_is_public_is_so_for_python_too(address: Address) -> None:
    if not Egress("public").refusal(str(address), str(address), 80):
        assert all(one.is_global and not one.is_multicast for one in judged(address))


@pytest.mark.parametrize("mode", ["private", "public", "any", "none"])
@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "ff02::1", "::ffff:169.254.169.254"])
def test_no_mode_and_no_wide_rule_lets_through_what_is_never_let_through(mode: Mode, address: str) -> None:
    for allow in ("none", "0.0.0.0/0,::/0", ":80", "test", "169.254.0.0/15"):
        assert Egress(mode, rules(allow)).refusal("a.test", address, 80)
    named = {"fe80::1": "fe80::/64", "0.0.0.0": "0.0.0.0", "ff02::1": "ff02::1"}.get(address, "169.254.169.254")
    assert Egress(mode, rules(named)).refusal("a.test", address, 80) == ""


def test_reserved_addresses_are_let_through_by_any_alone() -> None:
    assert [Egress(mode).refusal("a", "198.18.0.1", 80) for mode in ("any", "private")] == ["", "reserved"]


ALLOW = "10.0.0.0/8,192.168.0.1:8443,[fd00::/16]:443,intern.test,:9000-9001"
DENY = "10.6.0.0/16,8.8.8.8:25,evil.test,odd.test:80,:6379"


@pytest.mark.parametrize(
    ("host", "address", "port", "verdict"),
    [
        ("a.test", "10.1.1.1", 80, ""),
        ("a.test", "::ffff:10.1.1.1", 80, ""),
        ("a.test", "10.6.1.1", 80, "EGRESS_DENY"),
        ("a.test", "::ffff:10.6.1.1", 80, "EGRESS_DENY"),
        ("a.test", "64:ff9b::a06:101", 80, "EGRESS_DENY"),
        ("a.test", "192.168.0.1", 8443, ""),
        ("a.test", "192.168.0.1", 443, "private"),
        ("a.test", "fd00::1", 443, ""),
        ("a.test", "fd00::1", 80, "private"),
        ("intern.test", "192.168.9.9", 80, ""),
        ("a.intern.test", "192.168.9.9", 80, ""),
        ("aintern.test", "192.168.9.9", 80, "private"),
        ("a.test", "192.168.9.9", 9001, ""),
        ("a.test", "192.168.9.9", 9002, "private"),
        ("a.test", "8.8.8.8", 25, "EGRESS_DENY"),
        ("a.test", "8.8.8.8", 26, ""),
        ("evil.test", "8.8.8.8", 80, "EGRESS_DENY"),
        ("a.evil.test", "8.8.8.8", 80, "EGRESS_DENY"),
        ("odd.test", "8.8.8.8", 80, "EGRESS_DENY"),
        ("odd.test", "8.8.8.8", 81, ""),
        ("a.test", "8.8.8.8", 6379, "EGRESS_DENY"),
        ("a.test", "no address", 80, "no address"),
    ],
)
def test_rules_deny_first_then_allow(host: str, address: str, port: int, verdict: str) -> None:
    guard = Egress("public", rules(ALLOW), rules(DENY))
    assert guard.refusal(host, address, port) == verdict


@pytest.mark.parametrize(
    ("host", "port", "is_refused"),
    [("evil.test", 80, True), ("a.evil.test", 1, True), ("a.test", 6379, True), ("odd.test", 81, False)],
)
def test_a_rule_for_a_name_or_port_needs_no_address(host: str, port: int, is_refused: bool) -> None:
    guard = Egress("public", deny=rules(DENY))
    if not is_refused:
        guard.check_name(host, port)
        return
    with pytest.raises(EgressRefused, match="egress: the webhook is refused: EGRESS_DENY") as caught:
        guard.check_name(host, port)
    assert caught.value.is_final


@pytest.mark.parametrize(("rule", "host"), [("straße.test", "xn--strae-oqa.test"), ("Evil.test.", "evil.test")])
def test_a_rule_names_hosts_in_the_letters_that_webhooks_lead_to(rule: str, host: str) -> None:
    assert URL(f"http://{rule}/").raw_host in (host, f"{host}.")
    with pytest.raises(EgressRefused):
        Egress("public", deny=rules(rule)).check_name(host, 80)


def test_nothing_but_what_is_allowed_is_let_through_in_the_mode_none() -> None:
    guard = Egress("none", rules("hooks.test:443,8.8.4.4"))
    assert guard.refusal("hooks.test", "9.9.9.9", 443) == guard.refusal("a.test", "8.8.4.4", 80) == ""
    assert guard.refusal("a.test", "9.9.9.9", 443) == guard.refusal("hooks.test", "9.9.9.9", 80) == "public"


def test_the_services_own_port_is_refused_at_each_address_of_this_machine() -> None:
    guard = Egress("any", own_ports={8080})
    for address in ("127.0.0.1", "127.1.2.3", "::ffff:127.0.0.1"):
        assert guard.refusal("a.test", address, 8080) == "the scheduler's own port"
        assert guard.refusal("a.test", address, 8081) == ""
    assert guard.refusal("a.test", "192.0.2.1", 8080) == "", "no address of this machine"


def test_the_services_own_port_is_allowed_by_a_network_with_the_port_alone() -> None:
    for allow, verdict in [("127.0.0.0/8", "the scheduler's own port"), (":8080", "the scheduler's own port")]:
        assert Egress("any", rules(allow), own_ports={8080}).refusal("a", "127.0.0.1", 8080) == verdict
    assert Egress("any", rules("127.0.0.1:8080"), own_ports={8080}).refusal("a", "127.0.0.1", 8080) == ""


def test_what_processes_on_other_machines_listen_on_is_refused() -> None:
    guard = Egress("any", rules("192.0.2.9:8080"), own_addresses={("192.0.2.5", 8080), ("192.0.2.9", 8080)})
    for address in ("192.0.2.5", "::ffff:192.0.2.5"):
        assert guard.refusal("a.test", address, 8080) == "the scheduler's own port"
    for address, port in [("192.0.2.5", 80), ("192.0.2.6", 8080), ("127.0.0.1", 8080), ("192.0.2.9", 8080)]:
        assert guard.refusal("a.test", address, port) == ""


def test_the_services_redis_is_refused_at_each_of_its_addresses() -> None:
    peers = {("192.0.2.5", 6379), ("127.0.0.1", 6380)}
    guard = Egress("any", rules("192.0.2.9"), redis_peers=peers)
    for address, port in [("192.0.2.5", 6379), ("::ffff:192.0.2.5", 6379), ("127.0.0.1", 6380), ("127.9.9.9", 6380)]:
        assert guard.refusal("a.test", address, port) == "the scheduler's Redis"
    for address, port in [("192.0.2.5", 80), ("127.0.0.1", 6379), ("192.0.2.6", 6380)]:
        assert guard.refusal("a.test", address, port) == ""
    allowing = Egress("any", rules("192.0.2.5:6379"), redis_peers=peers)
    assert allowing.refusal("a.test", "192.0.2.5", 6379) == ""
    peers.clear()
    assert guard.refusal("a.test", "127.0.0.1", 6380) == "", "it has moved"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/8", "bits set behind its prefix"),
        (":0", "a port is from 1 to 65535"),
        ("a.test:70000", "a port is from 1 to 65535"),
        (":9-8", "a port is from 1 to 65535"),
        ("2130706433", "got '2130706433'"),
        ("0x7f.0x1", "got '0x7f.0x1'"),
        ("a..test", "got 'a..test'"),
        ("*.test", "got '*.test'"),
        (".test", "got '.test'"),
        ("http://a.test", "got 'http://a.test'"),
        ("10.0.0.0/33", "got '10.0.0.0/33'"),
        (",".join(["10.0.0.1"] * 1_001), "at most 1000 rules"),
    ],
)
def test_what_is_no_rule_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        rules(text)


def test_rules_are_separated_by_commas_and_spaces() -> None:
    assert len(rules(" 10.0.0.0/8, a.test\n:80 ,")) == 3
    assert rules("none") == ()


def test_addresses_that_carry_none_are_judged_by_themselves() -> None:
    for text in ("::1", "::", "2606:4700::1", "8.8.8.8"):
        assert judged(ip_address(text)) == [ip_address(text)]
