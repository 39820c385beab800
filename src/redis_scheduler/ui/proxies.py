"""What a proxy that is trusted says of a request: which host and scheme the browser asked, and from where."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import Scope

from redis_scheduler.api.request_ids import REQUEST_ID
from redis_scheduler.host import is_address

Network = IPv4Network | IPv6Network


def as_asked(scope: Scope, trusted: Sequence[Network]) -> Scope:
    """Return the request as the browser made it, if it came through a proxy that is trusted; else as it came."""
    client = scope.get("client")
    if not trusted or client is None or not _is_in(client[0], trusted):
        return scope
    said = {name: value for name, value in scope["headers"] if name.startswith(b"x-forwarded-")}
    host = _last(said.get(b"x-forwarded-host", b""))
    headers = [(name, value) for name, value in scope["headers"] if not host or name != b"host"]
    found: Scope = {
        "type": scope["type"],
        **{name: scope[name] for name in scope if name in _KEPT},
        "headers": headers + ([(b"host", host.encode("latin-1"))] if host else []),
        "scheme": _last(said.get(b"x-forwarded-proto", b"")) or scope.get("scheme", "http"),
    }
    # The last one that no trusted proxy is: what stands before it, anybody may have written.
    for address in reversed(said.get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
        if not is_address(address.strip()):
            break
        found["client"] = (address.strip(), 0)
        if not _is_in(address.strip(), trusted):
            break
    return found


_KEPT = ("http_version", "method", "path", "raw_path", "query_string", "client", "server", "state", REQUEST_ID)


def _last(value: bytes) -> str:
    return value.decode("latin-1").rpartition(",")[2].strip()


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)
