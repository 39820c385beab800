"""Tests of the image and of compose.yaml. They need Docker, so they are collected only when it is asked for:
CONTAINERS=1.
"""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.containers import gate
from tests.containers.engine import Container, docker, network, running
from tests.support.waiting import wait_until

collect_ignore_glob = [] if os.environ.get("CONTAINERS") else ["test_*.py"]

IMAGE = "redis-scheduler:test"
GATE = Path(gate.__file__).read_text()


@pytest.fixture(scope="session")
def image() -> str:
    """The image, built from the sources as they are. It is kept, so that the next build is short."""
    docker("build", "--tag", IMAGE, ".", timeout_s=500)
    return IMAGE


@pytest.fixture(scope="module")
def private_network() -> Iterator[str]:
    """A network of containers that know one another by name."""
    with network(f"redis-scheduler-test-{uuid.uuid4().hex[:8]}") as name:
        yield name


@dataclass
class Gate:
    """A receiver in a container, as it is seen from here."""

    webhook: str
    url: str
    session: aiohttp.ClientSession

    async def arrivals(self) -> list[dict[str, str]]:
        async with self.session.get(f"{self.url}/arrivals") as response:
            found: list[dict[str, str]] = await response.json()
        return found

    async def arrived(self, count: int, timeout_s: float = 30) -> list[dict[str, str]]:
        """Wait for so many arrivals."""

        async def have_arrived() -> list[dict[str, str]]:
            found = await self.arrivals()
            return found if len(found) >= count else []

        return await wait_until(have_arrived, f"{count} arrivals", timeout_s, every_s=0.05)

    async def open(self) -> None:
        """Let it answer."""
        async with self.session.post(f"{self.url}/open") as response:
            assert response.status == 200


@asynccontextmanager
async def gate_on(network_name: str, image: str) -> AsyncIterator[Gate]:
    """Run a receiver, closed, on a network of containers."""
    name = f"gate-{uuid.uuid4().hex[:8]}"
    options = ("--network", network_name, "--name", name, "--no-healthcheck", "--entrypoint", "python")
    with running(image, "-c", GATE, options=options) as container:
        async with aiohttp.ClientSession() as session:
            found = Gate(f"http://{name}:8080/hook", container.url(), session)
            await answering(container, f"{found.url}/arrivals", session)
            yield found


async def answering(container: Container, url: str, session: aiohttp.ClientSession) -> None:
    """Wait until a URL in a container answers 200."""

    async def answers() -> bool:
        assert container.state["Running"], container.log
        try:
            async with session.get(url) as response:
                return response.status == 200
        except aiohttp.ClientError:  # published, but nothing listens yet
            return False

    await wait_until(answers, f"{url} answers", 30, every_s=0.1)
