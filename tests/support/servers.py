"""Real Redis servers for tests: the embedded one, or containers of the images that REDIS_IMAGES names."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis_scheduler.embedded import EmbeddedServer

EMBEDDED = "embedded"
KINDS = os.environ.get("REDIS_IMAGES", EMBEDDED).split(",")
"""What the suite runs on: `embedded`, or images such as `redis:8,valkey/valkey:8`."""


@contextmanager
def running(kind: str, folder: Path) -> Iterator[str]:
    """Run a server of one kind; yield its URL."""
    if kind == EMBEDDED:
        with _embedded(folder) as url:
            yield url
    else:
        with _container(kind) as url:
            yield url


@contextmanager
def _embedded(folder: Path) -> Iterator[str]:
    server = EmbeddedServer(folder)
    asyncio.run(server.start())
    try:
        yield server.url
    finally:
        asyncio.run(server.stop())


@contextmanager
def _container(image: str) -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = DockerContainer(image).with_exposed_ports(6379)
    container.waiting_for(LogMessageWaitStrategy("Ready to accept connections"))
    with container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
