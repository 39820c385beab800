"""Services that the tests fork from a process which has imported them are whole processes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import Process, serving
from tests.support.starter import Started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


def opened(process: Process, descriptor: int) -> Path:
    return Path(f"/proc/{process.process.pid}/fd/{descriptor}").readlink()


async def test_what_it_says_and_how_it_ends_is_its_own(tmp_path: Path, redis_url: str) -> None:
    process = Process(tmp_path, "--bogus")
    assert isinstance(process.process, Started)
    assert await process.ended() == 2
    assert process.log.startswith("redis-scheduler: unrecognized arguments: --bogus")
    async with serving(tmp_path, "worker", REDIS_URL=redis_url) as worker:
        assert isinstance(worker.process, Started)
        assert worker.process.poll() is None
        assert [opened(worker, descriptor) for descriptor in (1, 2)] == [worker.log_path] * 2
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(0.01)
        worker.process.kill()
        assert await worker.ended() == -signal.SIGKILL
    async with serving(tmp_path, "worker", REDIS_URL=redis_url) as worker:
        worker.signal(signal.SIGINT)
        assert await worker.ended() == 0
        assert [event["signal"] for event in worker.events("stopping")] == ["SIGINT"]


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
