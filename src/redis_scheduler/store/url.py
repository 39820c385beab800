"""REDIS_URL: where the shards' servers are, which of its options hold, which the service sets itself, and which are
refused by name.

Four forms: one server; several with commas between, a shard each; `redis+sentinel://host,host/name,name`, the masters
of these names, as the Sentinels know them, a shard each; `redis+cluster://host,host`, a Redis Cluster. With
`rediss+sentinel` and `rediss+cluster` all of them are spoken to by TLS.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis_scheduler.task.key import SHARDS_MOST

HELD = {
    *("db", "username", "password", "client_name"),
    *("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password"),
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
    *("ssl_include_verify_flags", "ssl_exclude_verify_flags"),
}
"""These hold: they say where Redis is, who asks, and what TLS checks."""

OF_SENTINELS = {"sentinel_username", "sentinel_password"}
"""These hold for Sentinels: who asks them. (User name and password of the URL are for the servers that they watch.)"""

OWN = {
    *("decode_responses", "encoding", "encoding_errors", "protocol", "legacy_responses"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size", "timeout"),
    *(
        "retry_on_timeout",
        "retry_on_error",
        "retry",
        "max_connections",
        "health_check_interval",
        "single_connection_client",
    ),
}
"""These have no effect: reading, time-outs, resends and connections are the service's. Other programs may need them."""

ASKED_MOST = 32
"""So many Sentinels, or nodes of a cluster, may a URL name."""

Address = tuple[str, int]
"""A host and a port."""


def host_and_port(host: str, port: int) -> str:
    """Return both in one text, the same for every spelling of an address."""
    with contextlib.suppress(ValueError):
        host = str(ip_address(host))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_CERT_REQS = ("none", "optional", "required")
_NEXT = re.compile(r",(?=[a-z+]+://)")
_FOLLOWED = re.compile(r"(rediss?)\+(sentinel|cluster)://(?:([^@/?#]*)@)?([^@/?#]*)(/[^?#]*)?(?:\?([^#]*))?")
_NAMES = re.compile(r"/[A-Za-z0-9._-]+(,[A-Za-z0-9._-]+)*")
_PORTS = {"sentinel": 26_379, "cluster": 6_379}


@dataclass(frozen=True, slots=True)
class Location:
    """Where the Redis of a shard is, as its URL says."""

    url: str
    """For the library: of the server, or of the first that is asked for it."""
    kind: Literal["server", "sentinel", "cluster"] = "server"
    asked: tuple[Address, ...] = ()
    """Who is asked where the server is."""
    name: str = ""
    """Of the master, as Sentinels know it."""
    asked_as: tuple[str | None, str | None] = (None, None)
    """User name and password for Sentinels."""


def urls_of_shards(text: str, count: int | None = None) -> list[str]:
    """Return the URL of each shard, by REDIS_URL and the number of shards: None where that is not set.

    Servers of their own that the URL names have a shard each. Else all shards have the same URL. Raises ValueError
    where both contradict each other, a server is named twice, or there are more than may be.
    """
    urls = [one for part in _NEXT.split(text) for one in _masters(part)]
    if len(urls) == 1:
        return urls * (count or 1)
    if any(location_of(one).kind == "cluster" for one in urls):
        raise ValueError("a cluster stands alone: SHARDS says how many shards are spread over its masters")
    _refuse_twice(map(server_of, urls))
    if len(urls) > SHARDS_MOST:
        raise ValueError(f"names {len(urls)} servers, a shard each, and there may be {SHARDS_MOST}")
    if count is not None and count > len(urls):
        raise ValueError(f"names {len(urls)} servers, a shard each, so SHARDS must be at most {len(urls)}")
    return urls


def location_of(url: str) -> Location:
    """Return what one shard's URL says. Raises ValueError, without a secret."""
    if not re.match(r"[a-z]*\+", url):
        return Location(parse(url))
    found = _FOLLOWED.fullmatch(url)
    if found is None:
        raise ValueError(_FORM)
    scheme, kind, user, hosts, path, query = found.groups()
    is_sentinel = kind == "sentinel"
    if is_sentinel and not _NAMES.fullmatch(path or ""):
        raise ValueError(
            "lacks the name that the Sentinels know the master by, or has one of other characters than letters, digits, "
            "., _ and -: redis+sentinel://host:26379,host2:26379/name?db=0"
        )
    options = parse_qsl(query or "", keep_blank_values=True)
    as_given = {name: value for name, value in options if is_sentinel and name in OF_SENTINELS}
    of_servers = urlencode([(name, value) for name, value in options if name not in as_given])
    prefix = f"{user}@" if user else ""
    plain = [
        parse(f"{scheme}://{prefix}{host}{'' if is_sentinel else path or ''}{'?' * bool(of_servers)}{of_servers}")
        for host in hosts.split(",")
    ]
    if not is_sentinel and _database(plain[0]) not in ("", "0"):
        raise ValueError("a cluster has only database 0")
    asked = [_address(one, _PORTS[kind]) for one in plain]
    if len(asked) > ASKED_MOST:
        raise ValueError(f"names more than {ASKED_MOST} hosts to ask")
    _refuse_twice(host_and_port(*one) for one in asked)
    as_whom = as_given.get("sentinel_username"), as_given.get("sentinel_password")
    if not is_sentinel:
        return Location(plain[0], "cluster", tuple(asked))
    return Location(plain[0], "sentinel", tuple(asked), (path or "")[1:], as_whom)


def _masters(url: str) -> list[str]:
    """Return the URLs of all masters that one of Sentinels names."""
    found = _FOLLOWED.fullmatch(url)
    if found is None or found[2] != "sentinel" or not found[5]:
        return [url]
    start, end = found.span(5)
    return [f"{url[:start]}/{name}{url[end:]}" for name in found[5][1:].split(",")]


def _address(plain: str, port: int) -> Address:
    parts = urlsplit(plain)
    if not parts.hostname:
        raise ValueError(_FORM)
    return unquote(parts.hostname), parts.port or port


def _database(plain: str) -> str:
    parts = urlsplit(plain)
    return dict(parse_qsl(parts.query)).get("db", "" if parts.scheme == "unix" else parts.path[1:])


def server_of(url: str) -> str:
    """Return what tells the server of a shard's URL from others: where it is, without a secret."""
    location = location_of(url)
    if location.kind == "sentinel":
        return f"the master {location.name} of {host_and_port(*location.asked[0])}"
    parts = urlsplit(location.url)
    if parts.scheme == "unix":
        return f"{parts.path}, database {int(_database(location.url) or 0)},"
    return f"{host_and_port(*_address(location.url, 6_379))}/{int(_database(location.url) or 0)}"


def _refuse_twice(names: Iterable[str]) -> None:
    seen = set[str]()
    for name in names:
        if name in seen:
            raise ValueError(f"names {name} twice")
        seen.add(name)


def plain_urls(text: str) -> list[str]:
    """Return each server, Sentinel and node that REDIS_URL names as the URL of a single server, with all options."""
    found = []
    for url in _NEXT.split(text):
        if parts := _FOLLOWED.fullmatch(url):
            scheme, _, user, hosts, _, query = parts.groups()
            found += [f"{scheme}://{f'{user}@' if user else ''}{host}?{query or ''}" for host in hosts.split(",")]
        else:
            found.append(url)
    return found


def parse(text: str) -> str:
    """Return the URL of a single server for the library, with the options that hold.

    Raises ValueError that names the option, and never repeats what may be a secret.
    """
    try:
        parts = urlsplit(text)
        options = parse_qsl(parts.query, keep_blank_values=True)
        port = parts.port
    except ValueError:
        raise ValueError(_FORM) from None
    # Else the library takes another path for database 0, no path for a socket without a name, and ignores what stands
    # behind #.
    path = r"/.+" if parts.scheme == "unix" else r"(/[0-9]*)?"
    if (
        parts.scheme not in ("redis", "rediss", "unix")
        or not re.fullmatch(path, parts.path)
        or parts.fragment
        or not text.startswith(parts.scheme)
        or re.search(r"[,\s]", parts.hostname or "")
        or re.search(r"[\r\n\t]", text)  # Python takes them out
        or (parts.scheme == "unix" and parts.hostname)  # the library takes the path behind it
        or port == 0
    ):
        raise ValueError(_FORM)
    if "@" in unquote(parts.query) and not {name for name, _ in options} <= HELD | OWN | OF_SENTINELS:
        raise ValueError(_FORM)  # what stands behind ? is the rest of a password
    held = {name: _value(name, value, parts.scheme) for name, value in options if name not in OWN}
    address = text.partition("?")[0]
    return f"{address}?{urlencode(held)}" if held else address


def overridden(text: str) -> list[str]:
    """Return the options of a URL that have no effect, since the service sets them itself."""
    options = (name for url in plain_urls(text) for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True))
    return sorted(set(options) & OWN)


def unchecked(text: str) -> str:
    """Return what TLS does not check of who answers; nothing if it checks all, or there is no TLS."""
    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query))
    if parts.scheme != "rediss":
        return ""
    if options.get("ssl_cert_reqs", "").lower().removeprefix("cert_") == "none":
        return "a check of its certificate"
    return "a check of the name in its certificate" * (options.get("ssl_check_hostname", "").upper() in _FALSE)


_TRUE, _FALSE = ("1", "T", "TRUE", "Y", "YES"), ("0", "F", "FALSE", "N", "NO")
"""As the library reads an option that is true or false; anything else would be true."""


_FORM = (
    "must look like redis://host:6379/0, rediss://host:6379/0, unix:///path.sock, redis+sentinel://host:26379/name or "
    "redis+cluster://host:6379, with special characters of user name and password percent-encoded; of several servers a "
    "comma, and no blank, stands between two: redis://host,redis://other"
)


def _value(name: str, value: str, scheme: str) -> str:
    if name in OF_SENTINELS:
        raise ValueError(f"the option {name} is for redis+sentinel:// only")
    if name not in HELD:
        raise ValueError(f"the option {name[:60]} is not known; known are {', '.join(sorted(HELD))}")
    if name.startswith("ssl_") and scheme != "rediss":
        raise ValueError(f"the option {name} is for TLS only, as in rediss://")
    if not value:
        raise ValueError(f"the option {name} is empty")
    if name == "db" and not re.fullmatch(r"[0-9]+", value):
        raise ValueError("the option db must be the number of a database")
    if name == "ssl_check_hostname" and value.upper() not in (*_TRUE, *_FALSE):
        raise ValueError("the option ssl_check_hostname must be true or false")
    if name == "ssl_cert_reqs":
        # Celery and Python call them CERT_NONE, CERT_OPTIONAL and CERT_REQUIRED.
        value = value.lower().removeprefix("cert_")
        if value not in _CERT_REQS:
            raise ValueError(f"the option ssl_cert_reqs must be one of {', '.join(_CERT_REQS)}")
    return value


def validated(text: str) -> str:
    """Return the URL as it was given, after each of its options was tried. Raises ValueError, without a secret."""
    locations = [location_of(url) for url in urls_of_shards(text)]
    # Imported here: the command's help, version and health check need no client of Redis.
    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import SSLConnection

    for location in locations:
        # Without the library's message: it may hold the password.
        try:
            connection = ConnectionPool.from_url(location.url).make_connection()
        except Exception:  # the library lets any error out
            raise ValueError("an option of the URL has a value that it cannot have") from None
        if isinstance(connection, SSLConnection):
            try:
                connection.ssl_context.get()
            except Exception:  # a file, OpenSSL or a password is at fault
                raise ValueError("the files or values of its ssl_ options cannot be used for TLS") from None
    return text
