"""Where deliveries may go: a verdict on a webhook's name before its look-up, and on each numeric address right before
it is dialled.

An IPv6 address that carries an IPv4 address is judged by that one, since that is where its packets go. EGRESS_DENY
comes first, then what is never let through, then EGRESS_ALLOW and the mode. Why so: docs/decisions/0038.
"""

import re
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from redis_scheduler.host import name_given

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Mode = Literal["private", "public", "any", "none"]

RULES_MOST = 1_000
"""Rules in one setting: each may be looked at for each new connection."""

VERDICTS_KEPT = 4_096

DENIED = "EGRESS_DENY"
OWN, REDIS = "the scheduler's own port", "the scheduler's Redis"

KINDS: dict[str, tuple[str, ...]] = {
    "metadata": (
        *("169.254.169.254/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
        # Of AWS also what gives keys to containers (fd00:ec2::23); of Google, Oracle and Scaleway.
        *("fd00:ec2::/32", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128"),
    ),
    "unspecified": ("0.0.0.0/8", "::/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "broadcast": ("255.255.255.255/32",),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    # Where the IPv4 address stands in one depends on the prefix of that network (RFC 8215).
    "local NAT64": ("64:ff9b:1::/48",),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "shared": ("100.64.0.0/10",),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    # IANA's registries of special-purpose addresses.
    "reserved": (
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20", "100::/64"),
    ),
    "public": ("0.0.0.0/0", "2000::/3"),
}
"""The kinds of addresses; the first that holds an address is its own. What none holds is reserved."""

_TABLE = [(ip_network(text), kind) for kind, texts in KINDS.items() for text in texts]
_NOWHERE: tuple[Network, str] = (ip_network("::/128"), "reserved")

NEVER = frozenset(("metadata", "unspecified", "link-local", "broadcast", "multicast", "local NAT64"))
"""Let through only by a rule of EGRESS_ALLOW that names them: a network within theirs."""

_PUBLIC = frozenset(("public",))
_PRIVATE = _PUBLIC | {"private", "shared", "loopback"}
LET_THROUGH: dict[str, frozenset[str]] = {
    "private": _PRIVATE,
    "public": _PUBLIC,
    "any": _PRIVATE | {"reserved"},
    "none": frozenset(),
}
"""The kinds of addresses that a mode lets through."""

_NAT64, _TRANSLATED = IPv6Network("64:ff9b::/96"), IPv6Network("::ffff:0:0:0/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_LOW = 0xFFFF_FFFF


class EgressRefused(Exception):
    """No connection may be opened. `detail` is for the log alone; `is_final`: another attempt would fare the same."""

    def __init__(self, what: str, kinds: Collection[str], is_final: bool, detail: str = "") -> None:
        super().__init__(f"egress: {what} is refused: {', '.join(sorted(kinds))}")
        self.is_final = is_final
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of EGRESS_ALLOW or EGRESS_DENY: a network, or a host name with all names below it, or neither; each with
    ports, or for all."""

    network: Network | None
    host: str
    ports: range | None

    def holds_for(self, host: str, address: Address, port: int) -> bool:
        """Whether an address of a host, which may be the address itself, is meant."""
        if self.network is not None:
            return address in self.network and (self.ports is None or port in self.ports)
        return self.names(host, port)

    def names(self, host: str, port: int) -> bool:
        """Whether it is a rule for a name or port, and means these."""
        if self.network is not None or (self.ports is not None and port not in self.ports):
            return False
        return not self.host or host == self.host or host.endswith(f".{self.host}")


_PORTS = re.compile(r"(.*?)(?::([0-9]{1,5})(?:-([0-9]{1,5}))?)?")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")
_RULES = "must be addresses, networks, host names or :ports, separated by commas, such as 10.0.0.0/8,[fd00::/8]:443"


def rules(text: str) -> tuple[Rule, ...]:
    """Return the rules of a setting; `none` is none. Raises ValueError."""
    texts = [] if text.lower() == "none" else [part for part in re.split(r"[,\s]+", text) if part]
    if len(texts) > RULES_MOST:
        raise ValueError(f"must be at most {RULES_MOST} rules")
    return tuple(map(_rule, texts))


def _rule(text: str) -> Rule:
    try:
        return Rule(ip_network(text), "", None)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{_RULES}, got {text[:60]!r}, which has bits set behind its prefix") from None
    parts = _PORTS.fullmatch(text)
    what, first, last = parts.groups() if parts else ("", None, None)
    ports = None if first is None else range(int(first), int(last or first) + 1)
    refused = ValueError(f"{_RULES}, got {text[:60]!r}")
    if ports is not None and (not ports or ports.start < 1 or ports.stop > 65_536):
        raise ValueError(f"{refused}: a port is from 1 to 65535")
    try:
        return Rule(ip_network(what[1:-1] if what.startswith("[") and what.endswith("]") else what), "", ports)
    except ValueError:
        pass
    try:
        host = name_given(what)
    except ValueError:
        raise refused from None
    # A name whose last label is a number would be an address that is written in another way.
    is_number = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2])
    if host and (_NAME.fullmatch(host) is None or ".." in host or is_number):
        raise refused
    if not host and ports is None:
        raise refused
    return Rule(None, host, ports)


def name_of(text: str) -> str:
    """Return a host as rules name it: in small letters, without the dot at its end."""
    return text.lower().rstrip(".")


@lru_cache(VERDICTS_KEPT)
def literal(host: str) -> Address | None:
    """Return the address that a host is, None of a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _carried(address: IPv6Address) -> Iterator[Address]:
    """Give the addresses to which the packets for an IPv6 address may go, if it carries others."""
    value = int(address)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    elif address in _NAT64 or address in _TRANSLATED or (value > 1 and not value >> 32):
        yield IPv4Address(value & _LOW)
    elif value >> 32 & _LOW in _ISATAP:
        yield IPv4Address(value & _LOW)
        yield address


def judged(address: Address) -> list[Address]:
    """Return the addresses that a verdict on one looks at: those that it carries, or itself."""
    return [address] if isinstance(address, IPv4Address) else list(_carried(address)) or [address]


def kind_of(address: Address) -> tuple[Network, str]:
    """Return the kind of an address, and the network that makes it so."""
    return next(((network, kind) for network, kind in _TABLE if address in network), _NOWHERE)


def _is_of_this_machine(address: Address) -> bool:
    """Whether this machine itself has the address: only then a socket can be bound to it. Nothing is sent."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as bound:
            bound.bind((str(address), 0))
    except OSError:
        return False
    return True


class Egress:
    """The guard of one process. `own_ports`: those on which processes of the deployment listen on this machine,
    whatever address of it is dialled; `own_addresses`: addresses and ports on which those of other machines do;
    `redis_peers`: the same of its Redis. All are looked at as they are at each moment."""

    def __init__(
        self,
        mode: Mode = "private",
        allow: Sequence[Rule] = (),
        deny: Sequence[Rule] = (),
        own_ports: Collection[int] = (),
        redis_peers: Iterable[tuple[str, int]] = (),
        own_addresses: Collection[tuple[str, int]] = (),
    ) -> None:
        self._kinds = LET_THROUGH[mode]
        self._allow = allow
        self._deny = deny
        self._own_ports = own_ports
        self._redis_peers = redis_peers
        self._own_addresses = own_addresses
        self._verdict = lru_cache(VERDICTS_KEPT)(self._new_verdict)

    def check_name(self, host: str, port: int) -> None:
        """Raise EgressRefused if a rule forbids the name or the port, whatever the addresses."""
        if self._deny and any(rule.names(host, port) for rule in self._deny):
            raise EgressRefused("the webhook", [DENIED], is_final=True)

    def refusal(self, host: str, address: str, port: int) -> str:
        """Return why no connection may be opened to an address of a host; nothing if it may."""
        return self._verdict(host, address, port) or self._own_verdict(address, port)

    def _new_verdict(self, host: str, text: str, port: int) -> str:
        address = literal(text)
        if address is None:
            return "no address"
        addresses = judged(address)
        for rule in self._deny:
            if any(rule.holds_for(host, one, port) for one in (address, *addresses)):
                return DENIED
        return next((kind for one in addresses if (kind := self._forbidden_kind(host, one, port))), "")

    def _forbidden_kind(self, host: str, address: Address, port: int) -> str:
        network, kind = kind_of(address)
        if kind in self._kinds:
            return ""
        for rule in self._allow:
            # What is never let through must be meant: a name or a wide network does not.
            is_meant = kind not in NEVER or (
                rule.network is not None and isinstance(rule.network, type(network)) and rule.network.subnet_of(network)  # type: ignore[arg-type]  # both of one IP version
            )
            if is_meant and rule.holds_for(host, address, port):
                return ""
        return kind

    def _own_verdict(self, text: str, port: int) -> str:
        """Not remembered: a machine's addresses change, and so do those of Redis."""
        peers = [ip_address(peer) for peer, peer_port in self._redis_peers if peer_port == port]
        others = [ip_address(other) for other, other_port in self._own_addresses if other_port == port]
        is_own = port in self._own_ports or peers or others
        if not is_own or (address := literal(text)) is None:
            return ""
        for one in judged(address):
            if any(rule.network and rule.ports and rule.holds_for("", one, port) for rule in self._allow):
                continue
            if one in others:
                return OWN
            if one in peers:
                return REDIS
            is_here = _is_of_this_machine(one)
            if is_here and port in self._own_ports:
                return OWN
            if is_here and any(map(_is_of_this_machine, peers)):
                return REDIS
        return ""


USUAL_EGRESS = Egress()
"""The guard where no other is given: as EGRESS=private, of a process without ports of its own."""
