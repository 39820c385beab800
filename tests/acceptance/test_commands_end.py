"""How commands end that a signal cuts off, or whose output cannot be written: in order, with an exit code that says so,
and nothing is left of them."""
# ruff: noqa: ASYNC220, ASYNC230  (a process that is started here is waited for elsewhere)

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest

from redis_scheduler.process.signals import ENDING
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.journal import Journal
from redis_scheduler.store.tokens import Tokens
from tests.support.engine import MODULE
from tests.support.proxy import Fate, proxying
from tests.support.redis_process import redis_process
from tests.support.service import run
from tests.support.waiting import wait_until

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has /proc and /dev/full")
COMMANDS = {
    "doctor": ["doctor"],
    "doctor --repair": ["doctor", "--repair"],
    "export": ["export", "out"],
    "import": ["import"],
    "token": ["token", "list"],
    "token create": ["token", "create", "--name", "x", "--can", "read"],
    "rekey": ["rekey"],
    "pause-all": ["pause-all"],
    "resume-all": ["resume-all"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that a private Redis has served."""
    folder: Path = tmp_path_factory.mktemp("commands") / "data"
    done = run("token", "create", "--name", "first", "--can", "read", DATA_DIR=str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@asynccontextmanager
async def begun(
    folder: Path,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    **more: str,
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a command in a folder, on the private Redis in `data` there; all that it started has ended at the end.
    `more`: variables."""
    variables = {"DATA_DIR": "data", "DATA_KEY": "k" * 43 + "=", "REDIS_URL": "", "SERVER_STOP_S": "1"}
    variables |= {"PYTHONPATH": str(Path(__file__).parents[2])} | more
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", MODULE, *arguments],
            env=os.environ | variables,
            cwd=folder,
            stdin=stdin,
            stdout=stdout,
            stderr=said,
        )
    try:
        yield process
    finally:
        left = servers(folder)
        for each in left:
            each.kill()
        process.kill()
        process.communicate()
    assert left == []


def servers(folder: Path) -> list[psutil.Process]:
    """The servers of the folder that run."""
    found = []
    for each in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(each.info["cmdline"] or ())
        if str(folder / "data" / "redis.sock") in line and each.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(each)
    return found


async def ended_by(process: subprocess.Popen[bytes], folder: Path, *numbers: int) -> None:
    """Send signals; the command must end by the first, in order."""
    number, *_ = numbers
    for each in numbers:
        process.send_signal(each)
    assert await asyncio.to_thread(process.wait, 20) == 128 + number, (folder / "said").read_text()
    assert "Traceback" not in (folder / "said").read_text()
    assert servers(folder) == []


def folder_of(tmp_path: Path, data: Path, name: str) -> Path:
    """A folder of its own, with the data."""
    folder = tmp_path / name
    folder.mkdir()
    shutil.copytree(data, folder / "data", ignore=shutil.ignore_patterns("*.sock"))
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
async def test_a_command_that_a_signal_ends_leaves_no_redis(name: str, data: Path, tmp_path: Path) -> None:
    async def end_by(number: int) -> None:
        folder = tmp_path / str(number)
        (folder / "data").mkdir(0o700, parents=True)
        shutil.copy(data / "redis-version", folder / "data")
        sleep = "*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n$2\r\n30\r\n"
        (folder / "data" / "appendonly.aof").write_text(sleep)  # while it loads, no signal ends it
        async with begun(folder, *COMMANDS[name]) as process:
            log = folder / "data" / "redis.log"
            await wait_until(lambda: log.exists() and b"initialized" in log.read_bytes(), "its Redis loads", 30)
            await ended_by(process, folder, number)

    async with asyncio.TaskGroup() as tasks:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            tasks.create_task(end_by(number))


@pytest.mark.long
async def test_a_command_that_waits_is_ended_by_the_first_signal_whichever_it_is(data: Path, tmp_path: Path) -> None:
    async def end_by(number: int) -> None:
        folder = folder_of(tmp_path, data, str(number))
        async with begun(folder, "pause-all", stdout=subprocess.PIPE, PYTHONUNBUFFERED="1") as process:
            assert process.stdout is not None
            # Then it waits for attempts that are under way.
            assert (await asyncio.to_thread(process.stdout.readline)).startswith(b"Paused since ")
            await ended_by(process, folder, number, signal.SIGPROF)

    async with asyncio.TaskGroup() as tasks:
        for number in ENDING[3:8]:
            tasks.create_task(end_by(number))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_an_import_that_waits_for_its_input_is_ended_by_a_signal(number: int, data: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, data, "a")
    reader, writer = os.pipe()
    async with begun(folder, "import", stdin=reader, stdout=subprocess.PIPE) as process:
        os.close(reader)
        os.write(writer, b"no line of an export\n" * 2)
        await wait_until(lambda: "line 2" in (folder / "said").read_text(), "it reads", 30)
        await ended_by(process, folder, number)
        assert process.stdout is not None
        assert process.stdout.read().startswith(b"Imported 0 tasks; ")
    os.close(writer)


@ON_LINUX
async def test_an_import_from_a_fifo_without_a_writer_is_ended_by_a_signal(data: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, data, "a")
    os.mkfifo(folder / "fifo")
    async with begun(folder, "import", "fifo") as process:
        status = Path(f"/proc/{process.pid}/status")
        await wait_until(lambda: catches(status.read_text(), signal.SIGTERM), "it heeds signals", 30)
        await ended_by(process, folder, signal.SIGTERM)


def catches(status: str, number: int) -> bool:
    """Whether a process has a handler for a signal, by what /proc says."""
    [mask] = re.findall("SigCgt:\\s([0-9a-f]+)", status)
    return bool(int(mask, 16) >> (number - 1) & 1)


def line(key: str, data: str = "") -> str:
    """A line of an export."""
    task = {"key": key, "due": "2099-01-01T00:00:00Z", "state": "scheduled", "webhook": "http://localhost/", "ttl": 1}
    return json.dumps(task | {"attempts": 0, "data": data}) + "\n"


async def test_an_export_that_a_signal_ends_leaves_no_file(data: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, data, "a")

    def stall_once_it_writes(_: list[bytes]) -> Fate:
        if list(folder.glob("out.*.part")):
            proxy.flowing.clear()
        return Fate.ANSWERED

    async with redis_process(tmp_path / "redis") as server, proxying(server.port) as proxy:
        proxy.fate_of = stall_once_it_writes
        async with begun(folder, "export", "out", REDIS_URL=proxy.url) as process:
            await wait_until(lambda: not proxy.flowing.is_set(), "it writes", 30)
            await ended_by(process, folder, signal.SIGTERM)
    assert list(folder.glob("out*")) == []


async def test_an_export_that_waits_for_its_reader_is_ended_by_a_signal(data: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, data, "a")
    # More than a pipe and the buffer before it take.
    (folder / "tasks").write_text("".join(line(f"task-{number}", "x" * 10_000) for number in range(300)))
    async with begun(folder, "import", "tasks") as process:
        assert await asyncio.to_thread(process.wait, 60) == 0, (folder / "said").read_text()
    async with begun(folder, "export", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.read, 10)
        await asyncio.sleep(1)  # by now it waits for room in the pipe
        await ended_by(process, folder, signal.SIGTERM)


# Output that cannot be written


FULL = "Standard output cannot be written: No space left on device"
GONE = "Standard output cannot be written: Broken pipe"


def printing_to(stdout: int | IO[bytes], *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "redis_scheduler", *arguments],
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@ON_LINUX
@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor"],
        ["export"],
        ["import"],
        ["token", "list"],
        ["token", "--delivery"],
        ["pause-all"],
        ["resume-all"],
        ["rekey"],
        ["--help"],
        ["--version"],
    ],
)
def test_output_that_cannot_be_written_is_told_in_a_line(arguments: list[str], redis_url: str, tmp_path: Path) -> None:
    variables = {"REDIS_URL": redis_url, "API_AUTH": "x" * 30, "DELIVERY_AUTH": "derived", "DATA_KEY": "k" * 43 + "="}
    (tmp_path / "tasks").write_text(line("a"))
    for prepares in (["import", str(tmp_path / "tasks")], ["token", "create", "--name", "x", "--can", "read"]):
        prepared = run(*prepares, **variables)
        assert prepared.returncode == 0, prepared
    with Path("/dev/full").open("wb") as full:
        done = printing_to(full, *arguments, **variables)
    lines = [line for line in done.stderr.splitlines() if line.startswith("redis-scheduler: ")]
    assert (done.returncode, lines) == (1, [f"redis-scheduler: {FULL}"]), done
    assert "Traceback" not in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = printing_to(writer, *arguments, **variables)
    os.close(writer)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"redis-scheduler: {GONE}"), done


@pytest.mark.parametrize(
    ("arguments", "closing", "said"),
    [
        ("export", ">&-", "output cannot be written"),
        ("token create --name x --can read", ">&-", "output cannot be written"),
        ("import", "<&-", "input cannot be read"),
    ],
)
async def test_a_stream_that_is_closed_at_the_start_is_told_in_a_line(
    arguments: str, closing: str, said: str, redis_url: str, client: RedisClient, tmp_path: Path
) -> None:
    (tmp_path / "tasks").write_text(line("a"))
    assert run("import", str(tmp_path / "tasks"), REDIS_URL=redis_url).returncode == 0
    script = f'exec "$0" -W error -m redis_scheduler {arguments} {closing}'
    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", script, sys.executable],
        env=os.environ | {"REDIS_URL": redis_url},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert done.stderr.splitlines()[-1].startswith(f"redis-scheduler: Standard {said}: Bad file descriptor")
    assert await Tokens(client).all() == []


@ON_LINUX
async def test_a_token_that_cannot_be_shown_is_not_made(redis_url: str, client: RedisClient) -> None:
    with Path("/dev/full").open("wb") as full:
        done = printing_to(full, "token", "create", "--name", "x", "--can", "read", REDIS_URL=redis_url)
        assert (done.returncode, done.stderr.splitlines()[1:]) == (1, [f"redis-scheduler: {FULL}; no token was made"])
        assert await Tokens(client).all() == []
        made = run("token", "create", "--name", "x", "--can", "read", REDIS_URL=redis_url)
        assert made.returncode == 0, made
        [before] = await Tokens(client).all()
        done = printing_to(full, "token", "rotate", before.id, REDIS_URL=redis_url)
        assert (done.returncode, done.stderr.splitlines()[1:]) == (
            1,
            [f"redis-scheduler: {FULL}; the token is as it was"],
        )
        assert await Tokens(client).all() == [before]
    entries, _ = await Journal(client, 100).page(10, None)
    assert [entry.note.what for entry in entries] == ["token create"]


@ON_LINUX
def test_a_file_of_an_export_that_is_no_file_is_written_to(redis_url: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "tasks").write_text(line("a"))
    assert run("import", str(tmp_path / "tasks"), REDIS_URL=redis_url).returncode == 0
    for path, said in (
        (fifo, ""),
        ("/dev/null", ""),
        ("/dev/full", "No space left on device"),
        (tmp_path, "Is a directory"),
    ):
        done = run("export", str(path), REDIS_URL=redis_url)
        assert said in done.stderr
        assert done.returncode == (1 if said else 0), done
    assert os.read(reader, 100).startswith(b'{"key":"a"')
    os.close(reader)
    assert fifo.is_fifo()
    assert Path("/dev/full").is_char_device()


def test_a_link_to_a_file_stays_where_an_export_replaces_the_file(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    file.write_text("before")
    link.symlink_to(file)
    (tmp_path / "tasks").write_text(line("a"))
    assert run("import", str(tmp_path / "tasks"), REDIS_URL=redis_url).returncode == 0
    done = run("export", str(link), REDIS_URL=redis_url)
    assert done.returncode == 0, done
    assert link.is_symlink()
    assert file.read_text().startswith('{"key":"a"')
    assert list(file.parent.iterdir()) == [file]


@ON_LINUX
def test_what_cannot_be_read_is_told_in_a_line(redis_url: str) -> None:
    done = run("import", "/proc/self/mem", REDIS_URL=redis_url)
    assert done.returncode == 1
    assert done.stderr == "redis-scheduler: /proc/self/mem cannot be read: Input/output error\n"


async def test_names_that_are_no_text_and_streams_that_lack_letters_harm_nothing(
    redis_url: str, client: RedisClient
) -> None:
    strange = os.fsdecode(b"\xffmax")
    create = ["token", "create", "--name", "Bücher", "--can", "read", "--types", "größe"]
    made = run(*create, REDIS_URL=redis_url, LOGNAME=strange)
    assert made.returncode == 0, made
    [[entry], _] = await Journal(client, 100).page(10, None)
    assert entry.note.who.startswith("\ufffdmax@")
    listed = run("token", "list", REDIS_URL=redis_url, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert listed.returncode == 0, listed
    assert "B\\xfccher" in listed.stdout
    assert "gr\\xf6\\xdfe" in listed.stdout
