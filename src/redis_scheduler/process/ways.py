"""The ways that deliveries take, as the settings say: what the guard lets through, proxies, TLS.

A process reads files and environment once: its start checks them and tells of them, and its worker goes by the same.
"""

from collections.abc import Iterable
from functools import lru_cache

from redis_scheduler.delivery.egress import KINDS, LET_THROUGH, Egress, rules
from redis_scheduler.delivery.proxy import ENVIRONMENT, Proxies
from redis_scheduler.delivery.tls import Tls
from redis_scheduler.errors import SettingsError
from redis_scheduler.logs import Events
from redis_scheduler.process.process import Process
from redis_scheduler.settings import Settings

logger = Events(__name__)


def egress_of(process: Process, redis_peers: Iterable[tuple[str, int]]) -> Egress:
    """Return the guard. `redis_peers`: see Egress."""
    settings, listeners = process.settings, process.deployment.listeners
    allow, deny = rules(settings.egress_allow), rules(settings.egress_deny)
    return Egress(settings.egress, allow, deny, listeners.ports, redis_peers, listeners.addresses)


@lru_cache(1)
def tls_of(settings: Settings) -> Tls | None:
    """Return whom deliveries trust; None: the settings name no file. Raises SettingsError if a file cannot be used."""
    if settings.egress_ca_file is None and settings.egress_tls_file is None:
        return None
    try:
        return Tls(settings.egress_ca_file, settings.egress_tls_file)
    except ValueError as error:
        names = [name for name in ("egress_ca_file", "egress_tls_file") if getattr(settings, name)]
        raise SettingsError([f"{' or '.join(names).upper()}: {error}"]) from error


@lru_cache(1)
def proxies_of(settings: Settings) -> Proxies | None:
    """Return the proxies; None: there are none. Raises SettingsError for one of the environment that is no URL."""
    if settings.egress_proxy is None:
        return None
    try:
        proxies = Proxies(settings.egress_proxy)
    except ValueError as error:
        raise SettingsError([f"EGRESS_PROXY={ENVIRONMENT}: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY {error}"]) from error
    if not proxies.is_used:
        raise SettingsError([f"EGRESS_PROXY={ENVIRONMENT}: HTTP_PROXY, HTTPS_PROXY and ALL_PROXY are not set"])
    return proxies


def check_ways(settings: Settings) -> None:
    """Raise SettingsError if files or the environment do not hold what the settings say of them."""
    tls_of(settings)
    proxies_of(settings)


def announce_ways(settings: Settings) -> None:
    """Say where deliveries may go, and which hosts nobody verifies."""
    tls, proxies = tls_of(settings), proxies_of(settings)
    fields: dict[str, object] = {}
    if proxies is not None:
        fields["proxy"] = proxies.shown
    if settings.egress_proxy is None or settings.egress_proxy == ENVIRONMENT:
        let_through = ", ".join(kind for kind in KINDS if kind in LET_THROUGH[settings.egress]) or "nothing"
        fields |= {"mode": settings.egress, "lets_through": let_through}
        fields |= {"allow": settings.egress_allow, "deny": settings.egress_deny}
    logger.info("egress", **fields)
    if tls is not None and tls.unverified:
        hosts = ", ".join(tls.unverified)
        warning = f"EGRESS_TLS_FILE: whoever is between this machine and {hosts} can read and change deliveries"
        logger.warning("hazard", warning=f"{warning}, since the certificate is not verified")
