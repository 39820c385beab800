"""What makes attempts, as the settings of a process say."""

import time
from collections.abc import Callable, Iterator, Sequence

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.process.credentials import credentials_of
from redis_scheduler.process.process import Process
from redis_scheduler.process.ways import egress_of, proxies_of, tls_of
from redis_scheduler.store.client import RedisClient


class _Peers:
    """Addresses and ports of the Redis of each shard, as they are at each moment: there may come more."""

    def __init__(self, clients: Sequence[RedisClient]) -> None:
        self._clients = clients

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for client in self._clients:
            yield from client.peers


def deliverer_of(
    process: Process,
    clients: Sequence[RedisClient],
    now_ms: Callable[[], float] = lambda: time.time() * 1000,
) -> Deliverer:
    """Return it, to be entered. `clients`: one of each shard, whose Redis is called by no delivery. `now_ms`: the time
    of signatures."""
    settings = process.settings
    return Deliverer(
        process.token,
        settings.timeout,
        settings.retries,
        settings.answer_bytes,
        egress_of(process, _Peers(clients)),
        tls_of(settings),
        proxies_of(settings),
        process.credentials or credentials_of(settings, process.token),
        now_ms,
    )
