"""A network of the loopback alone, in which every address leads back to this machine, and its traffic is seen.

`python -m tests.support.loopback_only <module>` runs a module there. What it dials arrives, whatever the address; so
that nothing was sent to an address is a finding, and nothing ever leaves the machine.
"""

import functools
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from ipaddress import ip_address

APART = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-n", "-m"]
WAYS = [
    ["ip", "link", "set", "lo", "up"],
    ["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo"],
    ["ip", "-6", "route", "add", "local", "::/0", "dev", "lo"],
]
RESOLV_CONF = "/etc/resolv.conf"
ALL_PROTOCOLS = 3
IPV4, IPV6, TCP = 0x0800, 0x86DD, 6


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module there."""
    return [*APART, sys.executable, "-W", "error", "-m", __name__, module, *arguments]


@functools.cache
def why_not() -> str:
    """Why there can be no such network here; nothing if there can."""
    try:
        done = subprocess.run(command("platform"), capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return f"a network of its own needs util-linux: {error}"
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return f"no network of its own can be made here: {said[-1]}" if done.returncode else ""


def main() -> None:
    """Make the ways, name this machine's own name server, and become the module."""
    for way in WAYS:
        subprocess.run(way, check=True)
    with tempfile.NamedTemporaryFile("w", prefix="rs-resolv-") as file:
        file.write("nameserver 127.0.0.1\n")
        file.flush()
        subprocess.run(["mount", "--bind", file.name, RESOLV_CONF], check=True)
        # What is mounted stays, without its name.
    os.execv(sys.executable, [sys.executable, "-W", "error", "-m", *sys.argv[1:]])


class Watch:
    """Notes where TCP packets go: address and port."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.1)
        self._has_ended = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._has_ended.is_set():
            try:
                frame = self._socket.recv(65_536)
            except TimeoutError:
                continue
            (kind,) = struct.unpack_from("!H", frame, 12)
            if kind == IPV4 and frame[23] == TCP:
                at, address = 14 + (frame[14] & 15) * 4, frame[30:34]
            elif kind == IPV6 and frame[20] == TCP:
                at, address = 54, frame[38:54]
            else:
                continue
            self.seen.add((str(ip_address(address)), int.from_bytes(frame[at + 2 : at + 4], "big")))
        self._socket.close()

    def close(self) -> None:
        """Note no more."""
        self._has_ended.set()


if __name__ == "__main__":
    main()
