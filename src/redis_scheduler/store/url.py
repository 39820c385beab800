"""REDIS_URL: which of its options hold, which the service sets itself, and which are refused by name."""

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

HELD = {
    *("db", "username", "password", "client_name"),
    *("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password"),
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
    *("ssl_include_verify_flags", "ssl_exclude_verify_flags"),
}
"""These hold: they say where Redis is, who asks, and what TLS checks."""

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

_CERT_REQS = ("none", "optional", "required")


def parse(text: str) -> str:
    """Return the URL for the library, with the options that hold.

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
        or port == 0
    ):
        raise ValueError(_FORM)
    held = {name: _value(name, value, parts.scheme) for name, value in options if name not in OWN}
    address = text.partition("?")[0]
    return f"{address}?{urlencode(held)}" if held else address


def overridden(text: str) -> list[str]:
    """Return the options of a URL that have no effect, since the service sets them itself."""
    return sorted({name for name, _ in parse_qsl(urlsplit(text).query, keep_blank_values=True)} & OWN)


def unchecked(text: str) -> str:
    """Return what TLS does not check of who answers; nothing if it checks all, or there is no TLS."""
    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query))
    if parts.scheme != "rediss":
        return ""
    if options.get("ssl_cert_reqs", "").lower().removeprefix("cert_") == "none":
        return "a check of its certificate"
    return "a check of the name in its certificate" * (options.get("ssl_check_hostname", "").upper() in _FALSE)


_FALSE = ("0", "F", "FALSE", "N", "NO")
"""As the library reads an option that is true or false."""


_FORM = (
    "must look like redis://host:6379/0, rediss://host:6379/0 or unix:///path.sock, with special characters of user "
    "name and password percent-encoded"
)


def _value(name: str, value: str, scheme: str) -> str:
    if name not in HELD:
        raise ValueError(f"the option {name[:60]} is not known; known are {', '.join(sorted(HELD))}")
    if name.startswith("ssl_") and scheme != "rediss":
        raise ValueError(f"the option {name} is for rediss:// only")
    if not value:
        raise ValueError(f"the option {name} is empty")
    if name == "db" and not value.isdecimal():
        raise ValueError("the option db must be the number of a database")
    if name == "ssl_cert_reqs":
        # Celery and Python call them CERT_NONE, CERT_OPTIONAL and CERT_REQUIRED.
        value = value.lower().removeprefix("cert_")
        if value not in _CERT_REQS:
            raise ValueError(f"the option ssl_cert_reqs must be one of {', '.join(_CERT_REQS)}")
    return value


def validated(text: str) -> str:
    """Return the URL as it was given, after each of its options was tried. Raises ValueError, without a secret."""
    url = parse(text)
    # Imported here: the command's help, version and health check need no client of Redis.
    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import SSLConnection

    # Without the library's message: it may hold the password.
    try:
        connection = ConnectionPool.from_url(url).make_connection()
    except Exception:  # the library lets any error out
        raise ValueError("an option of the URL has a value that it cannot have") from None
    if isinstance(connection, SSLConnection):
        try:
            connection.ssl_context.get()
        except Exception:  # a file, OpenSSL or a password is at fault
            raise ValueError("the files or values of its ssl_ options cannot be used for TLS") from None
    return text
