"""Hazards: what settings allow, though it may harm their user."""

from ipaddress import ip_address

from redis_scheduler.delivery.credentials import Credentials
from redis_scheduler.settings import Settings
from redis_scheduler.store import url as redis_url

TOKEN_LENGTH = 16
"""So many random characters cannot be guessed: some 95 bits."""


def hazards(settings: Settings, token: str = "", listens: bool = False, delivers: bool = False) -> list[str]:
    """Return a warning for each pair of settings that is allowed but harms its user.

    `token` is the one in use, set or made, or two with a space between; `listens` says whether the process has an API,
    `delivers` whether it has workers.
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
            f"API_AUTH is shorter than {TOKEN_LENGTH} characters, and the API listens on {settings.listen_host} where "
            "whoever can reach it may guess the token; make a longer one, such as with `openssl rand -hex 16`"
        )
    if delivers and settings.carried == "api":
        found.append(
            "DELIVERY_AUTH=api: each delivery carries the API's token, so whoever gets one can read, change and delete "
            "every task; set DELIVERY_AUTH=derived, and compare with `redis-scheduler token --delivery` in receivers"
        )
    return found


def open_doors(settings: Settings, credentials: Credentials) -> list[str]:
    """Return what the settings of a worker leave open that others close: no harm where receivers and schedulers are
    trusted. docs/threat-model.md says what each is about."""
    doors = []
    if settings.carried == "api":
        doors.append("receivers get the API's token (DELIVERY_AUTH)")
    if credentials.signatures is None:
        doors.append("deliveries are not signed (WEBHOOK_SECRET)")
    if unbound := sorted(name for name, secret in credentials.secrets.items() if not secret.hosts):
        doors.append(f"secrets that tasks may send to any host: {', '.join(unbound[:20])} (SECRET_…_HOSTS)")
    if settings.egress in ("private", "any") and not settings.egress_proxy:
        doors.append("deliveries reach addresses of private networks and of this machine (EGRESS)")
    return doors


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name other than localhost may stand for any address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
