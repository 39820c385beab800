"""compose.cluster.yaml and compose.sentinel.yaml: they deliver, and survive the kill of a master."""

import uuid
from collections.abc import Iterator

import aiohttp
import pytest

from tests.containers.conftest import answering, gate_on
from tests.containers.engine import Compose, Container, docker
from tests.support.redis_process import free_port
from tests.support.service import TOKEN, Client
from tests.support.waiting import wait_until

PASSWORD = "0123456789abcdef"
TASKS = 50
BACK_S = 60
"""What a failover takes on a machine that runs all of it: 5 s until the master is taken for dead, and the rest."""

FILES = {"cluster": 6, "sentinel": 2}
"""Each file, and how many servers it has."""


@pytest.fixture(params=FILES)
def stack(request: pytest.FixtureRequest) -> Iterator[Compose]:
    """Everything of a file, with two workers."""
    compose = Compose(
        f"redis-scheduler-{uuid.uuid4().hex[:8]}",
        file=f"compose.{request.param}.yaml",
        API_AUTH=TOKEN,
        REDIS_PASSWORD=PASSWORD,
        PORT=str(free_port()),
    )
    try:
        compose("up", "--detach", "--scale", "worker=2", timeout_s=300)
        yield compose
    finally:
        compose("down", "--volumes", "--remove-orphans", "--rmi", "local")


def master_of(stack: Compose) -> Container:
    """The server that has the keys of the first shard, and is a master."""
    for number in range(1, FILES[stack.file.split(".")[1]] + 1):
        (container,) = stack.containers(f"redis-{number}")
        if docker("exec", container.id, "redis-cli", "role").startswith("master") and docker(
            "exec", container.id, "redis-cli", "exists", "{rs:0}:queue"
        ).startswith("1"):
            return container
    raise AssertionError("no master has the first shard")


def knows_all(sentinel: Container) -> bool:
    """Whether a Sentinel knows the others, and a replica that it may promote."""
    words = docker("exec", sentinel.id, "redis-cli", "-p", "26379", "sentinel", "master", "main").split()
    known = dict(zip(words[::2], words[1::2], strict=False))
    if (known.get("num-slaves"), known.get("num-other-sentinels")) != ("1", "2"):
        return False
    return "master-link-status\nok" in docker(
        "exec", sentinel.id, "redis-cli", "-p", "26379", "sentinel", "replicas", "main"
    )


async def test_tasks_are_delivered_though_a_master_is_killed(stack: Compose, image: str) -> None:
    (api,), workers = stack.containers("api"), stack.containers("worker")
    async with aiohttp.ClientSession() as session, gate_on(f"{stack.project}_default", image) as gate:
        await gate.open()
        await answering(api, api.url(), session)
        client = Client(session, api.url())
        keys: set[str] = set()

        async def schedule() -> bool:
            status, answer = await client.call("POST", "/schedule", json={"webhook": gate.webhook, "ttl": 0, "data": 1})
            if status == 200:
                keys.add(answer["key"])
            return status == 200

        async def are_delivered() -> bool:
            return keys <= {arrival["key"] for arrival in await gate.arrivals()}

        await wait_until(schedule, "the first is accepted", BACK_S, every_s=0.1)
        for _ in range(TASKS):
            assert await schedule()
        await wait_until(are_delivered, "they are delivered", 30, every_s=0.1)
        if stack.file == "compose.sentinel.yaml":
            sentinels = [one for number in (1, 2, 3) for one in stack.containers(f"sentinel-{number}")]
            await wait_until(lambda: all(map(knows_all, sentinels)), "the Sentinels know all", 60, every_s=0.5)
        docker("kill", "--signal", "KILL", master_of(stack).id)
        before = len(keys)

        async def is_back() -> bool:
            await schedule()
            return len(keys) >= before + TASKS

        await wait_until(is_back, "schedules are accepted again", BACK_S, every_s=0.05)
        await wait_until(are_delivered, "all are delivered", BACK_S, every_s=0.1)
        for container in (api, *workers):
            assert (container.state["Running"], container.inspect()["RestartCount"]) == (True, 0)
