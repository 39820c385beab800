"""Docker and Compose, used by their commands as a user does; every container ends with the block that started it."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]

STOP_GRACE_S = 30
"""What compose.yaml gives a container to stop, and the Dockerfile advises."""


def run(*command: str, timeout_s: float = 60, environment: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, (
        f"{' '.join(command)[:200]}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout.strip()


def docker(*arguments: str, timeout_s: float = 60) -> str:
    """Run `docker …`; return what it printed."""
    return run("docker", *arguments, timeout_s=timeout_s)


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    id: str

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.id))[0]
        return found

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.inspect()["State"]
        return found

    @property
    def addresses(self) -> set[str]:
        """Its addresses on its networks."""
        return {network["IPAddress"] for network in self.inspect()["NetworkSettings"]["Networks"].values()}

    @property
    def log(self) -> str:
        done = subprocess.run(
            ["docker", "logs", self.id], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
        return done.stdout

    def url(self, port: int = 8080) -> str:
        """Where a published port is reached from here."""
        published = docker("port", self.id, f"{port}/tcp").splitlines()[0].rpartition(":")[2]
        return f"http://127.0.0.1:{published}"

    def python(self, source: str) -> str:
        """Run a line of Python inside; return what it printed."""
        return docker("exec", self.id, "python", "-c", source)

    async def logged(self, text: str, times: int = 1, timeout_s: float = 30) -> None:
        """Wait until a text stands in its log."""

        def has_logged() -> bool:
            log = self.log
            assert log.count(text) >= times or self.state["Running"], f"{self.state}\n{log}"
            return log.count(text) >= times

        await wait_until(has_logged, f"{text} in the log:\n{self.log}", timeout_s, every_s=0.1)

    async def started(self, times: int = 1) -> None:
        """Wait until the service in it has started, for so many times by now."""
        await self.logged('"event":"started"', times)

    async def healthy(self, expected: str = "healthy", timeout_s: float = 75) -> None:
        """Wait for a health status. The image looks every 30 seconds, unless it is told otherwise."""
        await wait_until(lambda: self.state["Health"]["Status"] == expected, expected, timeout_s, every_s=0.3)

    def stop(self) -> int:
        """Stop it as a user does; return its exit code."""
        docker("stop", "-t", str(STOP_GRACE_S), self.id, timeout_s=STOP_GRACE_S + 30)
        code: int = self.state["ExitCode"]
        return code


@contextmanager
def running(image: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
    """Run a container until the end of the block; its port 8080 is published on the loopback."""
    container = Container(docker("run", "--detach", "--publish", "127.0.0.1::8080", *options, image, *command))
    try:
        yield container
    finally:
        docker("rm", "--force", "--volumes", container.id)


@contextmanager
def volume() -> Iterator[str]:
    """A volume that goes with the block."""
    name = docker("volume", "create")
    try:
        yield name
    finally:
        docker("volume", "rm", name)


@contextmanager
def network(name: str) -> Iterator[str]:
    """A network that goes with the block."""
    docker("network", "create", name)
    try:
        yield name
    finally:
        docker("network", "rm", name)


@cache
def _compose_command() -> tuple[str, ...]:
    found = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60)
    return ("docker", "compose") if found.returncode == 0 else ("docker-compose",)


class Compose:
    """The services of a file under a project name of their own."""

    def __init__(self, project: str, folder: Path = ROOT, file: str = "compose.yaml", **variables: str) -> None:
        self.project = project
        self.file = file
        self._folder = folder
        self._environment = dict(os.environ) | variables

    def __call__(self, *arguments: str, timeout_s: float = 110) -> str:
        command = (*_compose_command(), "--file", self.file, "--project-name", self.project)
        return run(*command, *arguments, timeout_s=timeout_s, environment=self._environment, folder=self._folder)

    def containers(self, service: str) -> list[Container]:
        """The containers of a service."""
        return [Container(identifier) for identifier in self("ps", "--quiet", service).split()]
