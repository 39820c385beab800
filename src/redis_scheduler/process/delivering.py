"""What makes attempts, as the settings of a process say."""

import time
from collections.abc import Callable, Collection

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.process.credentials import credentials_of
from redis_scheduler.process.process import Process
from redis_scheduler.process.ways import egress_of, proxies_of, tls_of


def deliverer_of(
    process: Process,
    redis_peers: Collection[tuple[str, int]],
    now_ms: Callable[[], float] = lambda: time.time() * 1000,
) -> Deliverer:
    """Return it, to be entered. `redis_peers`: see Egress. `now_ms`: the time of signatures."""
    settings = process.settings
    return Deliverer(
        process.token,
        settings.timeout,
        settings.retries,
        settings.answer_bytes,
        egress_of(process, redis_peers),
        tls_of(settings),
        proxies_of(settings),
        process.credentials or credentials_of(settings, process.token),
        now_ms,
    )
