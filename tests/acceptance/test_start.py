"""The start: bad settings are one clear line each; a Redis that is not there yet is waited for."""

import asyncio
import dataclasses
import json
import os
import platform
import signal
import socket
import tempfile
from pathlib import Path

import psutil
import pytest
import redis.asyncio

from redis_scheduler import __version__
from redis_scheduler.delivery.credentials import derived_token
from redis_scheduler.process.embedded import EmbeddedServer
from redis_scheduler.settings import Settings
from tests.support import without_ipv6
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, Process, client_of, run, serving
from tests.support.waiting import wait_until


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


BAD_URLS = ["redis://:hidden@host:port/0", "http://host/", "redis://host/abc", "unix://", "redis://host:99999/"]


@pytest.mark.parametrize(
    "bad",
    [
        {
            "RETRIES": ("abc", "=abc: must be a whole number from -1"),
            "RETRY_TIME": ("-1", "=-1: must be 0, or a number of seconds"),
            "TIMEOUT": ("0", "=0: must be a number of seconds"),
            "CONCURRENCY": ("0", "=0: must be a whole number"),
            "PROCESSES": ("0", "=0: must be a whole number from 1 to 64"),
            "PORT": ("99999", "=99999: must be a whole number from 0 to 65535"),
            "MAX_BODY": ("1.5", "=1.5: must be a whole number"),
            "LOG_LEVEL": ("loud", "=loud: must be one of"),
            "API_AUTH": ("now three words", ": must be one token"),
            "REDIS_URL": ("localhost:6379", ": must look like redis://"),
        },
        {
            "RETRIES": ("-2", "=-2: must be a whole number"),
            "RETRY_TIME": ("nan", "=nan: must be 0, or a number of seconds"),
            "PROCESSES": ("x", "=x: must be a whole number from 1 to 64"),
            "API_AUTH": ("schlüssel", ": must be visible ASCII"),
        },
        *[{"REDIS_URL": (url, ": must look like redis://")} for url in BAD_URLS],
    ],
)
def test_a_bad_setting_is_one_clear_line(bad: dict[str, tuple[str, str]]) -> None:
    result = run(**{name: value for name, (value, _) in bad.items()})
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(bad)
    for name, (_, said) in bad.items():
        assert [line for line in lines if line.startswith(f"redis-scheduler: {name}{said}")], (name, lines)
    assert "hidden" not in result.stderr
    assert "two words" not in result.stderr


@pytest.mark.whole_start
def test_all_bad_settings_are_told_at_once() -> None:
    result = run("--port", "x", RETRIES="abc", TIMEOUT="-5")
    assert [line.split("=")[0] for line in result.stderr.splitlines()] == [
        f"redis-scheduler: {name}" for name in ("PORT", "RETRIES", "TIMEOUT")
    ]


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_single_role_wants_redis_and_a_token(role: str) -> None:
    result = run(role, API_AUTH="", REDIS_URL="")
    assert result.returncode == 2
    assert [line.split(":")[1].strip() for line in result.stderr.splitlines()] == ["REDIS_URL", "API_AUTH"]


def test_help_explains_every_option_with_its_variable_and_default() -> None:
    for arguments in (["--help"], ["api", "--help"], ["worker", "--help"]):
        text = run(*arguments, COLUMNS="200").stdout
        for setting in dataclasses.fields(Settings):
            assert f"[{setting.metadata['variable']}; default" in text
    assert "health" in run("--help").stdout


@pytest.mark.whole_start
def test_version() -> None:
    assert run("--version").stdout == f"redis-scheduler {__version__}\n"


@pytest.mark.whole_start
@pytest.mark.parametrize(
    ("starts", "does_without"),
    [
        ("cli.main(['health'])", "redis aiohttp uvicorn"),
        ("cli.main(['worker', '--processes', '2'])", "aiohttp uvicorn"),
        ("cli.main(['--processes', '2'])", "aiohttp"),
        ("cli.main(['api'])", "aiohttp redis_scheduler.api.openapi redis_scheduler.ui.dashboard jinja2"),
        ("cli.main(['worker'])", "uvicorn starlette"),
    ],
)
async def test_a_process_imports_nothing_that_its_role_does_without(
    starts: str, does_without: str, redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    """Half of what a start costs, and of what a process that only watches others holds."""
    code = f"""
import gc, json, sys
from redis_scheduler import cli
{starts}
assert gc.isenabled()
print(json.dumps([name for name in {does_without.split()} if name in sys.modules]))
"""
    (tmp_path / "started.py").write_text(code)
    process = Process(tmp_path, module="started", PYTHONPATH=f"{tmp_path}", REDIS_URL=redis_url, API_AUTH=TOKEN)
    try:
        if "health" not in starts:
            await wait_until(lambda: raw.exists(KEYS.instance), "it works", 20)
            process.signal(signal.SIGTERM)
        await process.ended()
    finally:
        await process.stop()
    # The thread of the log may write after it.
    [printed] = [line for line in process.log.splitlines() if line.startswith("[")]
    assert json.loads(printed) == [], process.log


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_taken_port_is_one_clear_line(processes: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("--port", str(port), DATA_DIR=str(tmp_path / "data"), PROCESSES=processes)
    assert result.returncode == 1
    assert result.stderr == (
        f"redis-scheduler: PORT={port}: in use on 127.0.0.1 by another program; choose another port\n"
    )


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_without_a_temporary_folder_it_runs_and_says_what_the_health_check_will_say(
    processes: str, redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (temporary / f"redis-scheduler-{os.geteuid()}").touch()  # where its folder should be
    variables = {"REDIS_URL": redis_url, "TMPDIR": str(temporary), "PROCESSES": processes}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        await deliver_one(client, receiver)
        writers = {event.get("process") for event in process.events("beat-failed")}
        assert len(process.events("beat-failed")) == len(writers)
        assert "health check will say no" in process.events("beat-failed")[0]["effect"]
        assert run("health", TMPDIR=str(temporary)).returncode == 1


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_data_folder_that_others_can_write_is_one_clear_line(processes: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "token").write_text("a-token-that-another-knows\n")
    result = run("--port", "0", DATA_DIR=str(folder), PROCESSES=processes)
    assert result.returncode == 1
    assert result.stderr == (
        f"redis-scheduler: DATA_DIR {folder} cannot be used (others can write to {folder} (mode 0777): "
        "chmod go-w it, or name a new folder inside it), or set another DATA_DIR\n"
    )


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_in_a_folder_whose_name_is_no_utf8_it_serves(processes: str, tmp_path: Path, receiver: Receiver) -> None:
    # Not in tmp_path, which is too long for a socket where several processes run the tests.
    with tempfile.TemporaryDirectory(dir="/tmp") as above:
        folder = Path(above, os.fsdecode(b"caf\xe9"))
        folder.mkdir()  # noqa: ASYNC240  # it blocks nobody for long
        prefix = ("env", "-C", str(folder), "-u", "DATA_DIR")
        async with serving(tmp_path, prefix=prefix, PROCESSES=processes) as process, client_of(process) as client:
            await deliver_one(client, receiver)
            [event] = process.events("embedded-redis")
            assert event["data"].endswith("redis-scheduler-data")
        assert (folder / "redis-scheduler-data" / "redis.sock").parent.is_dir()
        assert process.process.returncode == 0


async def test_a_second_service_on_a_data_folder_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path):
        result = run("--port", "0", DATA_DIR=str(tmp_path / "data"))
    assert result.returncode == 1
    assert "in use" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.whole_start
async def test_a_redis_that_comes_later_is_waited_for(tmp_path: Path, receiver: Receiver) -> None:
    folder = tmp_path / "redis"
    url = f"unix://{folder}/redis.sock"
    async with serving(tmp_path, REDIS_URL=url) as process, client_of(process) as client:
        await wait_until(lambda: process.events("redis-away"), "it says that Redis is away")
        assert (await client.call("GET", "/"))[0] == 200
        async with client.session.get(client.url + "/stats", headers=client.headers) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
        status, content = await client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0})
        assert (status, content["error"]) == (503, "Redis cannot be reached; try again")

        server = EmbeddedServer(folder)
        await server.start()
        try:
            await deliver_one(client, receiver)
            # While Redis is there: its end is a change of its own.
            assert len(process.events("redis-back")) == 1
        finally:
            await server.stop()


async def deliver_one(client: Client, receiver: Receiver) -> None:
    """Wait for the service to be back, and see a webhook arrive."""
    await wait_until(lambda: client.accepts(receiver.url), "a schedule is accepted")
    await wait_until(lambda: receiver.arrivals, "the webhook arrived")
    await client.drained()


async def test_what_does_not_speak_redis_is_waited_for(tmp_path: Path, receiver: Receiver) -> None:
    async with serving(tmp_path, REDIS_URL=receiver.url.replace("http", "redis")) as process:
        events = await wait_until(lambda: process.events("redis-away"), "it says so")
        assert "protocol" in events[0]["error"]
        assert not process.events("died")


def test_a_wrong_option_is_one_line() -> None:
    for arguments in (["--bogus"], ["--ret", "3"], ["nonsense"], ["--port"]):
        result = run(*arguments)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)


@pytest.mark.whole_start
async def test_without_a_token_one_is_made_and_kept(tmp_path: Path, receiver: Receiver) -> None:
    process = Process(tmp_path)
    try:
        started = await process.started()
        assert started["host"] == "127.0.0.1"
        token = (tmp_path / "data" / "token").read_text().strip()
        await wait_until(
            lambda: f"curl -X POST http://127.0.0.1:{started['port']}/" in process.log, "the line is shown"
        )
        async with client_of(process, token) as client:
            await client.schedule(receiver.url)
            await client.drained()
        assert receiver.arrivals[0].headers["Authorization"] == derived_token(token)
    finally:
        await process.stop()


async def test_in_the_image_without_a_token_it_says_what_to_set_instead(tmp_path: Path) -> None:
    process = Process(tmp_path, REDIS_SCHEDULER_IMAGE="1")
    try:
        await process.started()
        (hazard,) = await wait_until(lambda: process.events("hazard"), "it warns")
        assert "which nobody outside this container reaches: set API_AUTH" in hazard["warning"]
        assert "-e API_AUTH=..." in hazard["warning"]
        await process.stop()
        assert "curl" not in process.log
    finally:
        await process.stop()


async def reaches(host: str, port: int) -> bool:
    """Whether a connection to an address is accepted."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize(
    ("host", "shown", "reached"),
    [
        ("", "::", {"127.0.0.1", "::1"}),
        ("::", "::", {"127.0.0.1", "::1"}),
        ("0.0.0.0", "0.0.0.0", {"127.0.0.1"}),
        ("127.0.0.1", "127.0.0.1", {"127.0.0.1"}),
        ("::1", "::1", {"::1"}),
        ("localhost", "127.0.0.1", {"127.0.0.1"}),
    ],
)
@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
async def test_with_a_token_it_listens_on_all_interfaces_unless_it_is_told_where(
    host: str, shown: str, reached: set[str], redis_url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, "api", HOST=host, REDIS_URL=redis_url) as process:
        started = await process.started()
        assert started["host"] == shown
        # Another program may have the same port of an address that this one does not listen on.
        connections = psutil.Process(process.process.pid).net_connections("tcp")
        listens = {at.laddr.ip for at in connections if at.status == psutil.CONN_LISTEN}
        own = [at for at in ("127.0.0.1", "::1") if listens & {at, "::", "0.0.0.0"}]
        assert {at for at in own if await reaches(at, started["port"])} == reached
        assert TOKEN not in process.log


@pytest.mark.skipif(platform.machine() not in without_ipv6.SOCKET, reason="needs Linux on x86-64 or arm64")
@pytest.mark.parametrize("host", ["", "::"])
async def test_without_ipv6_all_interfaces_are_those_of_ipv4(host: str, redis_url: str, tmp_path: Path) -> None:
    variables = {"HOST": host, "REDIS_URL": redis_url, "API_AUTH": TOKEN}
    process = Process(tmp_path, "redis_scheduler", "api", module="tests.support.without_ipv6", **variables)
    try:
        started = await process.started()
        assert started["host"] == "0.0.0.0"
        assert await reaches("127.0.0.1", started["port"])
    finally:
        await process.stop()


@pytest.mark.parametrize(
    ("setting", "value", "right"),
    [("maxmemory-policy", "allkeys-lru", "noeviction"), ("appendonly", "no", "yes")],
)
async def test_a_redis_that_may_lose_tasks_is_warned_of(
    setting: str, value: str, right: str, raw: redis.asyncio.Redis, redis_url: str, tmp_path: Path
) -> None:
    await raw.config_set(setting, value)
    try:
        async with serving(tmp_path, REDIS_URL=redis_url) as process:
            [event] = await wait_until(lambda: process.events("redis-configuration"), "it warns")
            assert event["warning"].startswith(f"{setting} is {value}: ")
    finally:
        await raw.config_set(setting, right)
