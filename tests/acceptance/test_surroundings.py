"""What surrounds a process: its signals and its standard streams. None of them costs a delivery or leaves a
Redis."""
# ruff: noqa: ASYNC220, ASYNC240  (a process that is started here is waited for elsewhere)

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from redis_scheduler.process.signals import ENDING, signal_name
from tests.acceptance.test_supervisor import children, in_delivery
from tests.support.engine import MODULE
from tests.support.receiver import Receiver
from tests.support.redis_process import free_port
from tests.support.service import TOKEN, Client, Process, client_of, serving
from tests.support.waiting import wait_until

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has these signals, and /proc")
COMMAND = f"{shlex.quote(sys.executable)} -W error -m redis_scheduler"
PROCESSES = pytest.mark.parametrize("processes", ["1", "2"])


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@asynccontextmanager
async def shell(
    script: str,
    folder: Path,
    variables: dict[str, str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> AsyncIterator[tuple[subprocess.Popen[bytes], Client]]:
    """Run a service by a line of shell, and see it answer; whatever it started has ended by itself at the end."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    settings = {"API_AUTH": TOKEN, "DATA_DIR": str(folder / "data"), "PORT": str(port), "HOST": "127.0.0.1"}
    process = subprocess.Popen(
        ["sh", "-c", script],
        env=os.environ | settings | variables,
        start_new_session=True,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )
    family: list[psutil.Process] = []
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, f"http://127.0.0.1:{port}")

            async def serves() -> bool:
                assert process.poll() is None, f"it ended with {process.returncode}"
                with contextlib.suppress(aiohttp.ClientError):
                    return (await client.call("GET", "/stats"))[0] == 200
                return False

            await wait_until(serves, "it serves", 40, every_s=0.05)
            family += [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            yield process, client
            await asyncio.to_thread(process.wait, 20)
            await wait_until(lambda: not alive(family), f"nothing is left: {family}")
    finally:
        for each in alive(family or [psutil.Process(process.pid)] if process.poll() is None else family):
            each.kill()
        process.wait()


async def deliver_and_stop(
    script: str, folder: Path, variables: dict[str, str], receiver: Receiver, bodies: Sequence[int], **streams: int
) -> None:
    """Run a service by a line of shell; see it deliver these bodies, and end in order when it is told to."""
    said = folder.with_suffix(".log")
    with said.open("wb") as log:
        async with shell(script, folder, variables, **({"stderr": log.fileno()} | streams)) as (process, client):
            for body in bodies:
                await client.schedule(receiver.url, data=body)
            await client.drained()
            process.terminate()
    assert (script, process.returncode) == (script, 0), said.read_text()[-4_000:]
    assert {int(arrival.body) for arrival in receiver.arrivals} >= set(bodies)


def service_in(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The command's process: what the shell became, or the child that it waits for."""
    own = psutil.Process(process.pid)
    return own if "redis_scheduler" in own.cmdline() else own.children()[0]


# Signals


@pytest.mark.whole_start
@ON_LINUX
async def test_no_signal_ends_a_process_at_once_but_for_a_fault(redis_url: str, tmp_path: Path) -> None:
    left_alone = {signal.SIGKILL, signal.SIGABRT, signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE}
    left_alone |= {signal.SIGSEGV, signal.SIGSYS}  # faults of the program itself
    left_alone |= {
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCONT,
    }  # none ends a process
    left_alone |= {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH}  # nor do these
    async with serving(tmp_path, REDIS_URL=redis_url) as process:
        status = Path(f"/proc/{process.process.pid}/status").read_text()
        held = 0
        for line in status.splitlines():
            if line.startswith(("SigCgt:", "SigIgn:")):
                held |= int(line.split()[1], 16)
    assert [number for number in signal.valid_signals() - left_alone if not held >> (number - 1) & 1] == []


RARE = ("SIGPWR", "SIGIO", "SIGRTMIN", "SIGRTMAX")


@pytest.mark.parametrize(
    "numbers", [ENDING[:4], ENDING[4:8], pytest.param([getattr(signal, name, 0) for name in RARE], marks=ON_LINUX)]
)
async def test_every_signal_that_ends_a_process_ends_it_in_order(
    numbers: Sequence[int], tmp_path: Path, receiver: Receiver
) -> None:
    receiver.may_answer.clear()

    async def end_by(number: int) -> None:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        async with serving(folder) as process, client_of(process) as client:
            await client.schedule(receiver.url)
            family = psutil.Process(process.process.pid).children(recursive=True)
            assert family, "the private Redis"
            await asyncio.wait_for(all_in_delivery.wait(), 30)
            process.signal(number)
            await wait_until(lambda: process.events("stopping"), f"it heeds signal {number}")
            all_stopping.release()
            assert await process.ended() == 0
            assert [event["signal"] for event in process.events("stopping")] == [signal_name(number)]
            assert process.events("stopped")
            assert not process.events("released")
            assert alive(family) == []

    all_in_delivery, all_stopping = asyncio.Event(), asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(end_by(number))
        await wait_until(lambda: receiver.in_flight == len(numbers), "all are in delivery", 30)
        all_in_delivery.set()
        for _ in numbers:
            await all_stopping.acquire()
        receiver.may_answer.set()
    assert len(receiver.arrivals) == len(numbers)


async def test_a_hangup_does_not_count_as_the_second_signal(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """A terminal that is closed sends several, and a service manager sends one after SIGTERM."""
    receiver.may_answer.clear()
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as client:
        await in_delivery(client, receiver, 1)
        sent = [signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP]
        for count, number in enumerate(sent, 1):
            process.signal(number)
            await wait_until(lambda: len(process.events("stopping")) == count, "it heeds it")  # noqa: B023
        assert not any(event["at_once"] for event in process.events("stopping"))
        assert process.process.poll() is None
        receiver.may_answer.set()
        assert await process.ended() == 0
    assert len(receiver.arrivals) == 1


async def test_each_of_several_processes_ends_in_order_whichever_signal_it_gets(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    async with (
        serving(tmp_path, REDIS_URL=redis_url, PROCESSES="2", CONCURRENCY="14") as process,
        client_of(process) as client,
    ):
        await in_delivery(
            client, receiver, 20
        )  # a host that hangs may have ten of fourteen slots: both processes are full
        for child, number in zip(await children(process), (signal.SIGHUP, signal.SIGQUIT), strict=True):
            child.send_signal(number)
        await wait_until(lambda: len(process.events("draining")) == 2, "both drain")
        receiver.may_answer.set()
        await wait_until(lambda: len(process.events("process-started")) == 4, "both are replaced", 30)
        assert [event["exit"] for event in process.events("process-died")] == [0, 0]
        await client.drained()
    assert len(receiver.arrivals) == 20


async def test_under_nohup_it_outlives_the_hangup(tmp_path: Path, receiver: Receiver) -> None:
    """The signal is left ignored before there is a service or a supervisor, by one line for both."""
    with (tmp_path / "log").open("wb") as log:
        script = f"exec nohup {COMMAND}"
        async with shell(script, tmp_path, {}, stdout=log.fileno(), stderr=log.fileno()) as (process, client):
            process.send_signal(signal.SIGHUP)
            await client.schedule(receiver.url)
            await client.drained()
            assert process.poll() is None
            process.terminate()
        assert process.returncode == 0


async def test_a_stop_while_the_private_redis_loads_its_data_is_heeded(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(0o700)
    sleep = "*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n$2\r\n30\r\n"
    (data / "appendonly.aof").write_text(10 * sleep)  # a signal cuts only one of them short
    process = Process(tmp_path, "--port", "0", module=MODULE, API_AUTH=TOKEN, SERVER_STOP_S="1")
    try:
        log = data / "redis.log"
        await wait_until(lambda: log.exists() and b"initialized" in log.read_bytes(), "Redis loads", 20)
        family = psutil.Process(process.process.pid).children(recursive=True)
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        assert process.events("stopped")
        assert not process.events("started")
        assert alive(family) == []
    finally:
        await process.stop()


# The standard streams


@pytest.mark.parametrize(
    ("closings", "processes"),
    [
        (["<&-", ">&-", "2>&-"], "1"),
        (["<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"], "1"),
        # A supervisor opens them by the same line, before it knows that it is one. Its processes get a pipe as their
        # input, whose number must not be a closed one's, and write to what the supervisor has: at its worst, to what it
        # opened.
        (["<&-", "<&- >&- 2>&-"], "2"),
    ],
)
async def test_streams_that_are_closed_at_the_start_harm_nothing(
    closings: list[str], processes: str, tmp_path: Path, receiver: Receiver
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number, closing in enumerate(closings):
            script, folder, variables = f"exec {COMMAND} {closing}", tmp_path / str(number), {"PROCESSES": processes}
            tasks.create_task(deliver_and_stop(script, folder, variables, receiver, [number]))
    assert len(receiver.arrivals) == len(closings)


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no byte more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65_536)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    return reader, writer


@pytest.mark.parametrize(
    ("token", "processes"), [(TOKEN, "1"), ("", "1"), ("", "2")]
)  # without one, a line more is said
async def test_a_log_that_nobody_reads_stops_nothing(
    token: str, processes: str, tmp_path: Path, receiver: Receiver
) -> None:
    reader, writer = full_pipe()
    variables = {"PROCESSES": processes, "API_AUTH": token}
    (tmp_path / "data").mkdir(0o700)
    (tmp_path / "data" / "token").write_text(f"{TOKEN}\n")
    await deliver_and_stop(f"exec {COMMAND}", tmp_path, variables, receiver, [1], stdout=writer, stderr=writer)
    os.close(reader)
    os.close(writer)


async def test_a_log_whose_reader_is_gone_stops_nothing(tmp_path: Path, receiver: Receiver) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    variables = {"PROCESSES": "2"}
    await deliver_and_stop(f"exec {COMMAND}", tmp_path, variables, receiver, [1], stdout=writer, stderr=writer)
    os.close(writer)


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--bogus"], 2), (["--port", "x"], 2), (["--data-dir", "/dev/null"], 1)]
)
def test_an_error_that_nobody_reads_ends_the_command_all_the_same(arguments: list[str], code: int) -> None:
    reader, writer = full_pipe()
    done = subprocess.run([*shlex.split(COMMAND), *arguments], stdout=writer, stderr=writer, timeout=20)
    assert done.returncode == code
    os.close(reader)
    os.close(writer)


async def test_the_last_lines_come_before_the_end(redis_url: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    settings = {"REDIS_URL": redis_url, "API_AUTH": TOKEN, "PORT": "0", "RETRIES": "nonsense"}
    for environment, last in (
        (settings, b"must be a whole number"),
        (settings | {"RETRIES": ""}, b'"event":"stopped"}'),
    ):
        process = subprocess.Popen(shlex.split(COMMAND), env=os.environ | environment, stderr=writer)
        lines = bytearray()

        def has_said(text: bytes, lines: bytearray = lines) -> bool:
            os.set_blocking(reader, False)
            with contextlib.suppress(BlockingIOError):
                lines.extend(os.read(reader, 65_536))
            return text in lines

        if not environment["RETRIES"]:
            await wait_until(lambda: has_said(b'"event":"started"'), "it has started", 20)
            process.terminate()
        await asyncio.to_thread(process.wait, 20)
        assert has_said(last), lines
    os.close(reader)
    os.close(writer)
