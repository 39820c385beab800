"""Health: files of processes that live count, and nothing else does, whatever else stands in the temporary folder."""
# ruff: noqa: ASYNC220, ASYNC221, ASYNC240  (short looks at files and processes block nobody)

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from redis_scheduler.process import health
from tests.support.clock import SettableClock
from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

BEATING = """
import asyncio
from redis_scheduler.process import health

async def main():
    async with health.beating():
        await asyncio.to_thread(input)

asyncio.run(main())
"""

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, as everybody's is."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def own_folder(temporary: Path) -> Path:
    return temporary / f"redis-scheduler-{os.geteuid()}"


def files(temporary: Path) -> list[Path]:
    return list(temporary.rglob("*.beat"))


@contextmanager
def ended_by_a_line(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process with the block by the line that it waits for, or else by a kill: none outlives its test."""
    with process:
        try:
            yield
            process.communicate(b"\n", timeout=20)
        finally:
            process.kill()


@asynccontextmanager
async def beating_process(
    umask: int = 0o022, environment: Mapping[str, str] | None = None
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a process that beats; it ends in order with the block, unless it was ended before."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEATING],
        stdin=subprocess.PIPE,
        umask=umask,
        stderr=subprocess.PIPE,
        env=os.environ | dict(environment or {}),
    )
    with ended_by_a_line(process):
        yield process


async def healthy(expected: bool = True, missed_s: float = health.BEAT_MISSED_S) -> None:
    await wait_until(lambda: health.is_healthy(missed_s) == expected, f"healthy: {expected}")


async def test_a_process_is_healthy_until_it_ends(temporary: Path) -> None:
    assert not health.is_healthy()
    async with beating_process() as process:
        await healthy()
        assert all(f"{process.pid}-" in path.name for path in files(temporary))
    assert not health.is_healthy()
    assert files(temporary) == []


async def test_what_a_killed_process_left_does_not_count_and_the_next_start_removes_it(temporary: Path) -> None:
    async with beating_process() as process:
        await healthy()
        process.kill()
        process.wait()
        (left,) = files(temporary)
        assert not health.is_healthy()
    async with beating_process():
        # Not by the health check, whose look at the file could keep it from being removed in that moment.
        await wait_until(lambda: {*files(temporary)} - {left}, "it beats")
        assert not left.exists()
        await healthy()


@pytest.mark.parametrize("takes", [os.getpid, threading.get_native_id], ids=["a process", "a thread"])
async def test_a_file_whose_process_id_another_has_by_now_does_not_count(
    takes: Callable[[], int], temporary: Path
) -> None:
    """In a container that is restarted, ids begin at 1 again: the id of what beat before is soon another's."""
    ids: list[int] = []
    ended = threading.Event()

    def live() -> None:
        ids.append(takes())
        ended.wait()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        async with beating_process() as process:
            await healthy()
            process.kill()
            process.wait()
        (left,) = files(temporary)
        (number,) = ids
        left = left.rename(left.with_name(f"{number}-0.beat"))
        os.utime(left, (0, 0))
        old = temporary / f"redis-scheduler-{os.geteuid()}-{number}.beat"  # as earlier versions named theirs
        old.touch()
        os.utime(old, (0, 0))
        async with health.beating():
            await healthy()
    finally:
        ended.set()
        thread.join()


async def test_a_process_that_stands_still_is_not_healthy(temporary: Path) -> None:
    async with beating_process() as stands_still, beating_process():
        await wait_until(lambda: len(files(temporary)) == 2, "both beat")
        await healthy()
        (its,) = [path for path in files(temporary) if path.name.startswith(f"{stands_still.pid}-")]
        async with standing_still(stands_still.pid):
            os.utime(its, (0, 0))
            assert not health.is_healthy()


@pytest.mark.parametrize("ahead_s", [-86_400, 86_400])
async def test_a_step_of_the_wall_clock_makes_nobody_healthy_or_unhealthy(
    ahead_s: int, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall_clock = time.time
    async with beating_process() as process:
        await healthy(missed_s=3)
        monkeypatch.setattr(time, "time", lambda: wall_clock() + ahead_s)
        assert health.is_healthy(missed_s=3)
        async with standing_still(process.pid):
            await healthy(False, missed_s=3)
        await healthy(missed_s=3)


async def test_a_service_is_told_well_or_ill_whatever_is_done_to_its_clock(temporary: Path, tmp_path: Path) -> None:
    clock = SettableClock(tmp_path, ahead_s=3_600)
    check = "import sys; from redis_scheduler.process import health; sys.exit(not health.is_healthy())"
    async with beating_process(environment=clock.environment):
        await healthy()
        for ahead_s in (3_600, -86_400, 86_400):
            clock.set(ahead_s)
            subprocess.run([sys.executable, "-c", check], env=os.environ | clock.environment, check=True, timeout=20)


@pytest.mark.parametrize("what", ["the file", "the folder"])
async def test_what_somebody_removed_is_made_again(what: str, temporary: Path) -> None:
    """As what cleans a temporary folder by age does: by its time of change the file is from 1970."""
    async with health.beating(interval_s=0.05):
        await healthy()
        (file,) = files(temporary)
        assert file.stat().st_mtime == pytest.approx(time.monotonic(), abs=10)
        shutil.rmtree(file.parent) if what == "the folder" else file.unlink()
        await wait_until(lambda: {*files(temporary)} - {file}, "another file stands there")
        await healthy()


async def test_the_file_is_private_whatever_the_umask(temporary: Path) -> None:
    async with beating_process(umask=0o000):
        await healthy()
        assert [path.stat().st_mode & 0o777 for path in (own_folder(temporary), *files(temporary))] == [0o700, 0o600]


async def test_a_planted_link_is_neither_followed_nor_touched(temporary: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    os.utime(victim, (1, 1))
    script = f"""
import os
os.symlink({str(victim)!r}, {str(temporary)!r} + "/redis-scheduler-{os.geteuid()}-" + str(os.getpid()) + ".beat")
{BEATING}"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    with ended_by_a_line(process):
        await healthy()
        (link,) = [path for path in temporary.iterdir() if path.is_symlink()]
    assert link.is_symlink()
    assert (victim.read_text(), victim.stat().st_mtime) == ("mine", 1)


def squat(place: Path, how: str) -> None:
    """Take the folder's name before the service does."""
    match how:
        case "another user's folder":
            place.mkdir()
            os.chown(place, 12_345, 12_345)
        case "a folder that others can write":
            place.mkdir()
            place.chmod(0o777)
        case "a file":
            place.touch()
        case "a link":
            place.symlink_to(place.parent)
            os.chown(place, 12_345, 12_345, follow_symlinks=False)


SQUATTED = [
    pytest.param("another user's folder", marks=AS_ROOT),
    "a folder that others can write",
    "a file",
    pytest.param("a link", marks=AS_ROOT),
]


@pytest.mark.parametrize("how", SQUATTED)
async def test_a_folder_that_another_has_taken_is_said_once_and_ends_nothing(
    how: str, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    squat(own_folder(temporary), how)
    async with health.beating(interval_s=0.02):
        await asyncio.sleep(0.1)
        assert not health.is_healthy()
    (record,) = caplog.records
    assert record.getMessage() == "beat-failed"
    assert str(own_folder(temporary)) in vars(record)["fields"]["error"]
    assert list(temporary.rglob("*.beat")) == []


@pytest.mark.parametrize("how", SQUATTED)
async def test_another_place_is_taken_where_the_first_cannot_be(
    how: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR")
    second = tmp_path / "second"
    second.mkdir()
    monkeypatch.setattr(health, "TEMPORARY", (str(temporary), str(tmp_path / "is not there"), str(second)))
    squat(own_folder(temporary), how)
    async with health.beating():
        await healthy()
        assert len(files(second)) == 1
    assert files(second) == []


@pytest.mark.parametrize("place", ["", "is not there"])
async def test_a_temporary_folder_that_is_not_there_is_passed_over(
    place: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", place and str(tmp_path / place))
    monkeypatch.setattr(health, "TEMPORARY", (str(temporary),))
    async with health.beating():
        await healthy()
        assert len(files(temporary)) == 1


@AS_ROOT
def test_a_working_folder_that_cannot_be_entered_harms_nothing(temporary: Path, tmp_path: Path) -> None:
    """As in a container whose working folder is a tmpfs of root's."""
    inner = tmp_path / "inner"
    inner.mkdir()
    script = f"""
import os, sys
from redis_scheduler.process import health
os.chdir({str(inner)!r})
os.chmod({str(inner)!r}, 0)
os.setgid(12345); os.setuid(12345)
for place in ("", "-", "not/there", {str(inner)!r} + "/x"):
    os.environ["TMPDIR"] = place
    health.clear()
    assert not health.is_healthy()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
