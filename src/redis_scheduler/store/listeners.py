"""On what the processes of a deployment listen, as each tells the others through Redis: no delivery may go there.

An address alone does not say whose it is: 127.0.0.1 is that of each machine. So each stands with its machine. On the
own machine a port counts, whatever address of the machine is dialled; of another machine the address with the port.
"""

import hashlib
import re
import socket
from collections.abc import Collection, Iterable
from functools import cache
from ipaddress import ip_address
from pathlib import Path

LISTENERS_MOST = 256
"""Addresses that Redis keeps; beyond it those that were told first are forgotten."""

LISTENED_MOST = 16
"""Addresses that one process tells."""

LISTENER_TTL_MS = 30_000
"""For so long Redis keeps an address; each process tells its own every few seconds. In a shard where it does so less
often, it is kept longer."""

_LISTENER = re.compile(rb"([0-9a-f]{16}) ([0-9]{1,5}) ([0-9a-fA-F:.]{2,45})")


@cache
def machine() -> str:
    """Return the digest of what this machine, or this container's network, shares with no other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        told = f"{boot} {Path('/proc/self/ns/net').readlink()}"
    except OSError:  # no Linux
        told = socket.gethostname()
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _address_towards(peer: tuple[str, int]) -> str | None:
    """Return the address that this machine has towards a peer. Nothing is sent."""
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.connect(peer)
            return str(sender.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


def _is_its_own(address: str) -> bool:
    """Whether an address means another machine on each machine, or is none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return True
    return parsed.is_loopback or parsed.is_unspecified


class Listeners:
    """Those of this process, and of the others as Redis told them last. `redis_peers`: addresses and ports of Redis, as
    they are at each moment."""

    def __init__(self) -> None:
        self.own: list[tuple[str, int]] = []
        """Address and port of each socket that this process listens on."""
        self.redis_peers: Collection[tuple[str, int]] = ()
        self.ports: set[int] = set()
        """Ports on which processes of this machine listen."""
        self.addresses: set[tuple[str, int]] = set()
        """Addresses and ports on which those of other machines do."""

    def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Note on what this process listens."""
        for listener in sockets:
            address, port = listener.getsockname()[:2]
            self.own.append((str(address).partition("%")[0], int(port)))
        self.ports.update(port for _, port in self.own)

    def reached_at(self, port: int) -> str | None:
        """Return an address and a port of this process at which others may reach it, as a rule names them; for a socket
        on all addresses, the one that this machine has towards Redis. None: it does not listen there."""
        own = [text.split(" ")[2] for text in self.told() if text.split(" ")[1] == str(port)]
        if not own:
            return None
        # A Redis without an address, on a Unix socket, is on this machine, and so are all who use it.
        address = next((one for one in own if not ip_address(one).is_unspecified), "127.0.0.1")
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def told(self) -> list[str]:
        """Return what Redis is to keep: for a socket on all addresses, those that this machine has towards Redis."""
        found = dict[str, None]()
        for address, port in self.own:
            addresses = [address]
            if ip_address(address).is_unspecified:
                addresses += filter(None, map(_address_towards, list(self.redis_peers)))
            found.update(dict.fromkeys(f"{machine()} {port} {one}" for one in addresses))
        return list(found)[:LISTENED_MOST]

    def hear(self, texts: Iterable[bytes]) -> None:
        """Take what all processes listen on."""
        ports, addresses = {port for _, port in self.own}, set[tuple[str, int]]()
        for found in filter(None, map(_LISTENER.fullmatch, texts)):
            whose, port, address = found[1].decode(), int(found[2]), found[3].decode()
            if whose == machine():
                ports.add(port)
            elif not _is_its_own(address):
                addresses.add((address, port))
        self.ports.intersection_update(ports)
        self.ports.update(ports)
        self.addresses.intersection_update(addresses)
        self.addresses.update(addresses)
