"""The image: what is in it, and the all-in-one service that it runs by default."""

import asyncio
import json
import time

import aiohttp
import pytest

import redis_scheduler
from redis_scheduler.process.health import BEAT_MISSED_S
from tests.containers.conftest import answering, gate_on
from tests.containers.engine import STOP_GRACE_S, docker, running, volume
from tests.support.service import TOKEN, Client

WITH_TOKEN = ("--env", f"API_AUTH={TOKEN}")
OFTEN = ("--health-interval", "1s", "--health-retries", "1")
MEGABYTE = 1_000_000
USER = "10001:10001"
SERVICE = "import psutil; psutil.Process(1).children()[0]"


def _size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def test_the_image_is_its_base_and_little_more(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    size, base = _size(image), _size("python:3.13-slim")
    with capsys.disabled():
        print(f"\nimage: {size / MEGABYTE:.0f} MB, of which python:3.13-slim {base / MEGABYTE:.0f} MB")
    assert size - base < 80 * MEGABYTE


def test_the_image_says_how_it_is_to_be_run(image: str) -> None:
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert config["User"] == USER
    assert config["Entrypoint"] == ["tini", "--", "redis-scheduler"]
    assert not config["Cmd"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert list(config["Volumes"]) == ["/data"]
    assert config["Healthcheck"]["Test"] == ["CMD", "redis-scheduler", "health"]


def test_the_version_is_that_of_the_sources(image: str) -> None:
    assert docker("run", "--rm", image, "--version") == f"redis-scheduler {redis_scheduler.__version__}"


def test_the_image_holds_no_compiler_and_its_environment_no_pip(image: str) -> None:
    script = "id -u; command -v gcc cc make; python -m pip --version; find /venv -writable -not -type l; ls -A /data"
    with running(image, "-c", f"{{ {script}; }} 2>&1; true", options=("--entrypoint", "sh")) as container:
        docker("wait", container.id)
        assert container.log.split("\n")[:-1] == ["10001", "/venv/bin/python: No module named pip"]


async def test_the_default_command_serves_on_the_port_that_is_set(image: str) -> None:
    options = (*WITH_TOKEN, "--env", "PORT=9123", "--publish", "127.0.0.1::9123")
    with running(image, options=options) as container:
        async with aiohttp.ClientSession() as session:
            url = container.url(9123)
            await answering(container, url, session)
            assert (await Client(session, url).call("GET", "/"))[1]["data"] == "Scheduler service is running."


async def test_without_a_token_only_the_container_reaches_it_and_the_log_says_what_to_set(image: str) -> None:
    with running(image) as container:
        await container.started()
        await container.logged("nobody outside this container reaches: set API_AUTH")
        fetch = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8080').read().decode())"
        assert json.loads(container.python(fetch))["status"] == 200
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(container.url())
        assert "curl" not in container.log


@pytest.mark.parametrize(("owner", "bits", "said"), [(0, 0o755, "chown 10001"), (10_001, 0o777, "chmod go-w")])
def test_a_folder_of_the_host_that_is_not_its_own_is_one_line_that_says_what_to_do(
    owner: int, bits: int, said: str, image: str
) -> None:
    with volume() as name:
        options = ("--user", "0", "--volume", f"{name}:/data", "--entrypoint", "sh")
        # Into an empty volume the engine would copy what the image has there, its owner too.
        script = f"touch /data/file; chown {owner} /data; chmod {bits:o} /data"
        with running(image, "-c", script, options=options) as container:
            docker("wait", container.id)
        with running(image, options=(*WITH_TOKEN, "--volume", f"{name}:/data")) as container:
            docker("wait", container.id)
            assert container.state["ExitCode"] == 1
            (line,) = [line for line in container.log.splitlines() if not line.startswith("{")]
            assert line.startswith("redis-scheduler: DATA_DIR /data cannot be used (")
            assert said in line


@pytest.mark.parametrize("ends", ["restart", "kill"])
async def test_a_container_that_is_started_again_is_healthy_again(ends: str, image: str) -> None:
    """Its file system is as it was, and its process ids begin at 1 again: what beat before has another's id by now."""
    with running(image, options=(*WITH_TOKEN, *OFTEN, "--env", "PROCESSES=3")) as container:
        await container.healthy()
        # As many earlier runs may have left them, under the names of today and of before.
        container.python(
            "import os\nfor n in range(1, 100):\n for name in ('/{}-0.beat', '-{}.beat'):\n"
            "  path = '/tmp/redis-scheduler-10001' + name.format(n); open(path, 'x').close(); os.utime(path, (0, 0))"
        )
        if ends == "restart":
            docker("restart", "-t", "0", container.id)
        else:
            docker("kill", container.id)
            docker("start", container.id)
        await container.started(times=2)
        await container.healthy()
        await asyncio.sleep(BEAT_MISSED_S + 3)  # until what was left would count as missed
        assert container.state["Health"]["Status"] == "healthy"
        files = "import pathlib; print(len(list(pathlib.Path('/tmp/redis-scheduler-10001').iterdir())))"
        assert container.python(files) == "4"


@pytest.mark.parametrize("role", ["", "worker"])
async def test_without_a_file_system_that_can_be_written_it_is_healthy_all_the_same(image: str, role: str) -> None:
    options = (*WITH_TOKEN, *OFTEN, "--read-only", "--env", "REDIS_URL=redis://127.0.0.1:1/0")
    with running(image, *filter(None, [role]), options=options) as container:
        await container.started()
        await container.healthy()


async def test_the_all_in_one_service_is_healthy_until_its_loop_stands_still(image: str) -> None:
    with running(image, options=(*WITH_TOKEN, *OFTEN)) as container:
        await container.healthy()
        container.python(f"{SERVICE}.suspend()")
        await container.healthy("unhealthy")
        container.python(f"{SERVICE}.resume()")
        await container.healthy()


async def test_a_delivery_in_flight_at_sigterm_is_finished_and_the_exit_code_is_0(
    image: str, private_network: str
) -> None:
    options = (*WITH_TOKEN, "--network", private_network)
    async with gate_on(private_network, image) as gate, aiohttp.ClientSession() as session:
        with running(image, options=options) as container:
            await container.started()
            await Client(session, container.url()).schedule(gate.webhook, data={"n": 1})
            await gate.arrived(1)
            stopping = asyncio.create_task(asyncio.to_thread(container.stop))
            await container.logged('"event":"stopping"')
            assert container.state["Running"]
            await gate.open()
            assert await stopping == 0, container.log
            docker("start", container.id)
            await container.started(times=2)
            stats = await Client(session, container.url()).drained()
            assert stats["counters"]["delivered"] == 1
            assert [arrival["token"] for arrival in await gate.arrivals()] == [TOKEN]


def test_a_stop_in_the_first_instant_of_the_start_is_heard(image: str) -> None:
    with running(image, options=WITH_TOKEN) as container:
        started = time.monotonic()
        # 143: it came before the service listens for signals, and ended the process.
        assert container.stop() in (0, 143)
        assert time.monotonic() - started < STOP_GRACE_S / 2


async def test_what_is_scheduled_outlives_a_kill_and_is_served_by_a_new_container_on_the_volume(image: str) -> None:
    with volume() as name:
        options = (*WITH_TOKEN, "--volume", f"{name}:/data")
        async with aiohttp.ClientSession() as session:
            with running(image, options=options) as first:
                await first.started()
                killed = await Client(session, first.url()).schedule("http://localhost/", ttl=3600, data=[1])
                docker("kill", "--signal", "KILL", first.id)
            with running(image, options=options) as second:
                await second.started()
                client = Client(session, second.url())
                assert (await client.call("GET", f"/schedule/{killed}"))[1]["data"]["data"] == [1]
                stopped = await client.schedule("http://localhost/", ttl=3600, data=[2])
                assert second.stop() == 0, second.log
                docker("start", second.id)
                await second.started(times=2)
                client = Client(session, second.url())
                for key, data in ((killed, [1]), (stopped, [2])):
                    assert (await client.call("GET", f"/schedule/{key}"))[1]["data"]["data"] == data
                assert (await client.stats())["ledger_balanced"]
