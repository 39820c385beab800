"""Services that the tests fork from a process which has imported them are whole processes."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.acceptance.test_supervisor import all_ended, children
from tests.support import starter
from tests.support.service import Process, client_of, serving
from tests.support.starter import Started
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


def opened(pid: int, descriptor: int) -> Path:
    return Path(f"/proc/{pid}/fd/{descriptor}").readlink()


def is_forked(process: psutil.Process) -> bool:
    """Whether it comes from the process that has imported the service."""
    return "tests.support.starter" in process.cmdline()


async def test_what_it_says_and_how_it_ends_is_its_own(tmp_path: Path, redis_url: str) -> None:
    process = Process(tmp_path, "--bogus")
    assert isinstance(process.process, Started)
    assert await process.ended() == 2
    assert process.log.startswith("redis-scheduler: unrecognized arguments: --bogus")
    async with serving(tmp_path, "worker", REDIS_URL=redis_url) as worker:
        assert isinstance(worker.process, Started)
        assert worker.process.poll() is None
        assert [opened(worker.process.pid, descriptor) for descriptor in (1, 2)] == [worker.log_path] * 2
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(0.01)
        worker.process.kill()
        assert await worker.ended() == -signal.SIGKILL
    async with serving(tmp_path, "worker", REDIS_URL=redis_url) as worker:
        worker.signal(signal.SIGINT)
        assert await worker.ended() == 0
        assert [event["signal"] for event in worker.events("stopping")] == ["SIGINT"]


async def test_a_supervisors_first_children_are_forked_with_it_and_all_their_own(
    tmp_path: Path, redis_url: str
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, PROCESSES="2") as supervisor:
        both = await children(supervisor)
        for child in both:
            assert child.ppid() == supervisor.process.pid
            assert is_forked(child)
            assert os.getsid(child.pid) == child.pid
        async with client_of(supervisor) as client:
            await client.stats()
        for child in both:
            # A fork has them once it runs as a process of its own.
            await wait_until(lambda: opened(child.pid, 0).name.startswith("pipe:"), "its input is the supervisor's")  # noqa: B023
            assert [opened(child.pid, descriptor) for descriptor in (1, 2)] == [supervisor.log_path] * 2
        both[0].kill()
        await wait_until(lambda: supervisor.events("process-died"), "it says so")
        [died] = supervisor.events("process-died")
        assert (died["pid"], died["signal"]) == (both[0].pid, "SIGKILL")
        other, new = sorted(await children(supervisor), key=lambda child: child.pid != both[1].pid)
        assert (other, is_forked(new)) == (both[1], False)
        supervisor.signal(signal.SIGKILL)
        await all_ended([other, new])
        assert other.pid in {event["process"] for event in supervisor.events("supervisor-gone")}


async def test_a_supervisor_that_ends_before_it_has_children_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = Process(tmp_path, PROCESSES="2", RETRIES="x")
    assert isinstance(process.process, Started)
    assert await process.ended() == 2
    assert process.log.count("\n") == 1

    def works_here(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.cwd() == str(tmp_path) and process.pid != os.getpid()
        return False

    await wait_until(lambda: not any(map(works_here, psutil.process_iter())), "none is left")


@pytest.mark.parametrize(("how", "code"), [("", 0), ("3", 3), ("a text", 1), ("error", 1)])
def test_what_comes_at_an_end_comes_as_ever(how: str, code: int, tmp_path: Path) -> None:
    module = "tests.support.ends"
    with (tmp_path / "forked").open("wb") as log:
        forked = starter.start([module, how], os.environ, {*os.environ}, (log.fileno(), log.fileno()))
        assert forked is not None
        assert forked.wait(20) == code
    with (tmp_path / "anew").open("wb") as log:
        command = [sys.executable, "-W", "error", "-m", module, how]
        assert subprocess.run(command, stdout=log, stderr=log, timeout=20, check=False).returncode == code
    # Where garbage is collected is not the same.
    said, said_anew = (
        sorted(line for line in (tmp_path / name).read_text().splitlines() if not line.startswith(("  ", "Traceback")))
        for name in ("forked", "anew")
    )
    assert said == said_anew
    assert {"from a thread", "at its end"} < {*said}
    assert any("ResourceWarning" in line for line in said)


@pytest.mark.parametrize("name", ["SSL_CERT_DIR", "PYTHONPATH"])
async def test_another_variable_that_an_import_may_read_has_it_imported_anew(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(tmp_path))
    process = Process(tmp_path, "--bogus")
    assert isinstance(process.process, subprocess.Popen)
    assert await process.ended() == 2


@pytest.mark.whole_start
async def test_a_test_of_the_start_has_it_imported_anew(tmp_path: Path) -> None:
    process = Process(tmp_path, "--bogus")
    assert isinstance(process.process, subprocess.Popen)
    assert await process.ended() == 2
