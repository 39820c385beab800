"""TLS to receivers: whom to trust, and what single hosts want: a client certificate, an authority of their own, or no
verification.

A file of EGRESS_TLS_FILE is a JSON object of hosts: {"partner.example": {"certificate": "c.pem", "key": "k.pem"}}.
"""

import ssl
from functools import cached_property
from pathlib import Path

import msgspec

from redis_scheduler.host import name_given

FILE_BYTES = 262_144
"""A file may not be larger."""


class HostTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one host wants. Paths of PEM files, beside the file that names them unless they are absolute. `ca`: who may
    have signed its certificate, instead of those that are trusted else."""

    certificate: str = ""
    key: str = ""
    ca: str = ""
    verify: bool = True


_decode = msgspec.json.Decoder(dict[str, HostTls]).decode


def _no_password() -> str:
    """Else OpenSSL would ask the terminal for the password of a key."""
    return ""


class Tls:
    """The contexts of connections: one for all, and one for each host of the file, made at its first connection.

    Raises ValueError with the path of what cannot be read. `ca_file`: authorities that are trusted beside the system's.
    """

    def __init__(self, ca_file: Path | None = None, hosts_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._hosts: dict[str, HostTls] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        if ca_file is not None:
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca=str(ca_file))
        if hosts_file is not None:
            folder = hosts_file.parent
            self._hosts = {_named(host): _at(folder, host, each) for host, each in _read(hosts_file).items()}
            for each in self._hosts.values():
                _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), each.ca, each.certificate, each.key)

    @property
    def unverified(self) -> list[str]:
        """The hosts whose certificates nobody looks at."""
        return sorted(host for host, each in self._hosts.items() if not each.verify)

    @cached_property
    def _common(self) -> ssl.SSLContext | None:
        """None: as aiohttp makes it."""
        return None if self._ca_file is None else _context(str(self._ca_file))

    def context_of(self, host: str) -> ssl.SSLContext | None:
        """Return the context for connections to a host; None: there is nothing special about it."""
        own = self._hosts.get(host)
        if own is None:
            return self._common
        context = self._contexts.get(host)
        if context is None:
            common = "" if self._ca_file is None else str(self._ca_file)
            context = _context(common) if not own.ca else ssl.create_default_context(cafile=own.ca)
            if not own.verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            _load(context, "", own.certificate, own.key)
            context.set_alpn_protocols(("http/1.1",))
            self._contexts[host] = context
        return context


def _context(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    _load(context, ca_file)
    return context


def _read(path: Path) -> dict[str, HostTls]:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES:
        raise ValueError(f"{path} is larger than {FILE_BYTES} bytes")
    try:
        return _decode(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def _named(host: str) -> str:
    try:
        return name_given(host)
    except ValueError:
        raise ValueError(f"{host} is no name or address of a host") from None


def _at(folder: Path, host: str, given: HostTls) -> HostTls:
    """Return what a host wants, with whole paths. Raises ValueError for what contradicts itself."""
    if given.key and not given.certificate:
        raise ValueError(f"{host}: a key without a certificate")
    if given.ca and not given.verify:
        raise ValueError(f"{host}: ca has no effect without verify")
    if given == HostTls():
        raise ValueError(f"{host}: must have certificate, ca or verify")
    paths = {name: str(folder / text) for name in ("certificate", "key", "ca") if (text := getattr(given, name))}
    return msgspec.structs.replace(given, **paths)


def _load(context: ssl.SSLContext, ca: str = "", certificate: str = "", key: str = "") -> None:
    """Load PEM files. Raises ValueError with the path of one that cannot be read."""
    try:
        if ca:
            context.load_verify_locations(ca)
        if certificate:
            context.load_cert_chain(certificate, key or None, _no_password)
    except (OSError, ValueError) as error:  # an error of OpenSSL is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "no PEM file that can be used"
        path = " with ".join(filter(None, (ca or certificate, "" if ca else key)))
        raise ValueError(f"{path} cannot be read: {reason}") from error
