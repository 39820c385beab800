"""Hazards: what settings allow, though it may harm their user."""

from ipaddress import ip_address, ip_network
from urllib.parse import parse_qsl, urlsplit

from redis_scheduler.delivery.credentials import Credentials
from redis_scheduler.delivery.proxy import ENVIRONMENT
from redis_scheduler.settings import Settings
from redis_scheduler.store import url as redis_url

TOKEN_LENGTH = 16
"""So many random characters cannot be guessed: some 95 bits."""

UNLIMITED = "whoever may schedule may fill the memory of Redis' machine (maxmemory of Redis)"
"""The door of a Redis that is not the private one, which always has a limit."""


def hazards(settings: Settings, token: str = "", listens: bool = False, delivers: bool = False) -> list[str]:
    """Return a warning for each pair of settings that is allowed but harms its user.

    `token` is the one in use, set or made, or two with a space between; `listens` says whether the process has an API
    or METRICS_PORT, `delivers` whether it has workers.
    """
    found = []
    if names := redis_url.overridden(settings.redis_url or ""):
        found.append(f"REDIS_URL: without effect, since the service sets them itself: {', '.join(names)}")
    if settings.shutdown_grace < settings.timeout:
        found.append(
            f"SHUTDOWN_GRACE={settings.shutdown_grace:g} is shorter than TIMEOUT={settings.timeout:g}: "
            "a delivery that is cut off by a stop is made again"
        )
    if listens and min(map(len, token.split(" "))) < TOKEN_LENGTH and not _is_loopback(settings.listen_host):
        found.append(
            f"API_AUTH is shorter than {TOKEN_LENGTH} characters, and the service listens on {settings.listen_host} where "
            "whoever can reach it may guess the token; make a longer one, such as with `openssl rand -hex 16`"
        )
    if delivers and settings.carried == "api":
        found.append(
            "DELIVERY_AUTH=api: each delivery carries the API's token, so whoever gets one can read, change and delete "
            "every task; set DELIVERY_AUTH=derived, and compare with `redis-scheduler token --delivery` in receivers"
        )
    return found


def open_doors(settings: Settings, credentials: Credentials | None, listens: bool) -> list[str]:
    """Return what settings leave open that others close: no harm where receivers, schedulers and networks are trusted.
    docs/threat-model.md says what each is about.

    `credentials`: what deliveries show, None where the process makes none; `listens`: whether it has an API or
    METRICS_PORT.
    """
    doors = [] if credentials is None else _doors_of_deliveries(settings, credentials)
    if listens and not _is_loopback(settings.listen_host):
        doors.append(f"the service has no TLS of its own and listens on {settings.listen_host} (HOST)")
    if listens and settings.cors_origins:
        doors.append("browsers may ask from pages of other origins (CORS_ORIGINS)")
    if listens and any(not ip_network(one).prefixlen for one in settings.trusted_proxies.split()):
        doors.append("whoever asks says by X-Forwarded from where it asks (TRUSTED_PROXIES)")
    if listens and settings.api_metrics == "open":
        doors.append("whoever reaches /metrics reads how much there is to do (API_METRICS)")
    if listens and not settings.token_tasks:
        doors.append(
            "a token without --tasks delays all others by what is due at once, and may fill Redis (TOKEN_TASKS)"
        )
    if listens and not settings.memory_reserve:
        doors.append("new tasks may fill Redis to the last byte (MEMORY_RESERVE)")
    if settings.data_key is None:
        doors.append("whoever reads Redis reads webhooks, headers, data and answers (DATA_KEY)")
    elif settings.data_plain == "read":
        doors.append("a record in Redis that is not sealed is delivered, whoever wrote it (DATA_PLAIN)")
    lacking = [found for url in redis_url.plain_urls(settings.redis_url or "") if (found := _lacking(url))]
    if lacking:
        without = " and ".join(dict.fromkeys(one for found in lacking for one in found))
        doors.append(f"Redis is on another machine, and is used without {without} (REDIS_URL)")
    return doors


def _doors_of_deliveries(settings: Settings, credentials: Credentials) -> list[str]:
    doors = []
    if settings.carried == "api":
        doors.append("receivers get the API's token (DELIVERY_AUTH)")
    if credentials.signatures is None:
        doors.append("deliveries are not signed (WEBHOOK_SECRET)")
    if unbound := sorted(name for name, secret in credentials.secrets.items() if not secret.hosts):
        doors.append(f"secrets that tasks may send to any host: {', '.join(unbound[:20])} (SECRET_…_HOSTS)")
    if settings.egress in ("private", "any") and settings.egress_proxy in (None, ENVIRONMENT):
        doors.append("deliveries reach addresses of private networks and of this machine (EGRESS)")
    if settings.egress_proxy:
        doors.append("what a proxy reaches, deliveries through it reach (EGRESS_PROXY)")
    if not (settings.host_concurrency or settings.host_rate):
        doors.append("tasks may flood a host (HOST_CONCURRENCY, HOST_RATE)")
    if not settings.breaker_failures:
        doors.append("a host that only fails gets each attempt of each task (BREAKER_FAILURES)")
    return doors


def _lacking(url: str) -> list[str]:
    """Return what guards no connection to a Redis of another machine."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme not in ("redis", "rediss") or _is_loopback(parts.hostname or "localhost"):
        return []
    is_known = parts.password or options.keys() & {"password", "ssl_certfile"}
    unchecked = redis_url.unchecked(url)
    return ["a password"] * (not is_known) + ["TLS"] * (parts.scheme == "redis") + [unchecked] * bool(unchecked)


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name other than localhost may stand for any address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
