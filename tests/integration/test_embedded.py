"""The private Redis, with real servers: what is killed comes back with its data, and there is never a second one.

The folder of each test is watched from outside, by the working directories of processes; none may be left in it.
"""
# ruff: noqa: ASYNC110, ASYNC220, ASYNC240  (a test waits by looking, and its short looks at files block nobody)

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

import redis_scheduler
from redis_scheduler.errors import StartError
from redis_scheduler.process import embedded
from redis_scheduler.process.embedded import EmbeddedServer
from redis_scheduler.process.memory import half_of_memory
from redis_scheduler.process.server_binary import candidates
from redis_scheduler.process.token import kept_token
from redis_scheduler.store.client import RedisClient
from tests.integration.conftest import servers_in
from tests.support.names import KEYS
from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

SERVICE = """
import asyncio, sys
from pathlib import Path
from redis_scheduler.process.embedded import EmbeddedServer; from redis_scheduler.process.token import kept_token

async def main():
    server = EmbeddedServer(Path(sys.argv[1]))
    await server.start()
    print("ready", flush=True)
    await server.run(asyncio.Event())

asyncio.run(main())
"""


async def ask(url: str, *command: str | int) -> Any:
    async with Redis.from_url(url, decode_responses=True, socket_timeout=20) as client:
        return await client.execute_command(*command)


async def remember(url: str, value: str) -> None:
    """Set the key `kept`, and wait until it is in the append-only file (not only in its buffer)."""
    await ask(url, "SET", "kept", value)
    async with asyncio.timeout(10):
        while (await ask(url, "INFO", "persistence"))["aof_buffer_length"]:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def started(folder: Path, **limits: Any) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(folder, **limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def running(server: EmbeddedServer) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(server.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


async def abandoned_server(folder: Path) -> psutil.Process:
    """Run a service in a process of its own, kill it, and return the server that it leaves behind."""
    environment = {**os.environ, "PYTHONPATH": str(Path(redis_scheduler.__file__).parents[1])}
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, folder, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert service.stdout is not None
    assert await asyncio.wait_for(service.stdout.readline(), 20) == b"ready\n"
    await remember(EmbeddedServer(folder).url, "by the first service")
    service.kill()
    await service.wait()
    (orphan,) = servers_in(folder)
    return orphan


async def test_what_was_written_is_there_after_a_clean_stop_and_no_process_is_left(folder: Path) -> None:
    async with started(folder) as server:
        assert len(servers_in(folder)) == 1
        await ask(server.url, "SET", "kept", "yes")
    assert servers_in(folder) == []
    async with started(folder) as server:
        assert await ask(server.url, "GET", "kept") == "yes"


async def test_a_stop_lets_the_server_leave_in_its_own_order(folder: Path) -> None:
    async with started(folder):
        pass
    assert "ready to exit" in (folder / "redis.log").read_text()


async def test_stop_may_be_called_twice_at_once_again_and_before_a_start(folder: Path) -> None:
    server = EmbeddedServer(folder)
    await server.stop()
    await server.start()
    await asyncio.gather(server.stop(), server.stop())
    await server.stop()
    assert servers_in(folder) == []


async def test_a_server_that_does_not_heed_the_stop_is_killed(folder: Path) -> None:
    async with started(folder, stop_s=0.3) as server, standing_still(servers_in(folder)[0].pid):
        await server.stop()
        assert servers_in(folder) == []


async def test_the_server_is_set_up_for_durable_private_use(folder: Path) -> None:
    async with started(folder) as server:
        for option, value in {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "maxmemory": str(half_of_memory()),
            "stream-node-max-entries": "16",
        }.items():
            assert (await ask(server.url, "CONFIG", "GET", option))[option] == value
        description = (await ask(server.url, "INFO", "server")).get("redis_version")
        assert server.description.startswith("valkey") or server.description == f"redis {description}"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "redis.sock").stat().st_mode & 0o777 == 0o700
        assert (folder / "redis.log").stat().st_mode & 0o077 == 0
        (process,) = servers_in(folder)
        assert os.getsid(process.pid) == process.pid, "Ctrl-C at the terminal would reach it"


async def test_a_folder_with_a_strange_name_serves(folder: Path) -> None:
    async with started(folder / "a \"b\" 'c' %41?#é☃") as server:
        assert await ask(server.url, "PING")
        assert len(embedded._servers_on(server._socket)) == 1


async def test_a_folder_whose_name_is_no_utf8_serves(folder: Path) -> None:
    async with started(folder / os.fsdecode(b"a\xff%FFb")) as server:
        client = RedisClient(server.url, 3, KEYS)
        try:
            assert await client.command("PING") == b"PONG"
        finally:
            await client.aclose()
        assert len(embedded._servers_on(server._socket)) == 1


async def test_data_survives_a_sigkill_of_the_server(folder: Path) -> None:
    async with started(folder) as server:
        await remember(server.url, "yes")
        servers_in(folder)[0].kill()
        await wait_until(lambda: not servers_in(folder), "the server is gone")
    async with started(folder) as server:
        assert await ask(server.url, "GET", "kept") == "yes"


async def test_a_killed_server_is_started_again_with_its_data_while_the_service_runs(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(folder) as server, running(server):
        await remember(server.url, "yes")
        for _ in range(2):
            (killed,) = servers_in(folder)
            killed.kill()
            await wait_until(lambda: not killed.is_running(), "the killed one is gone")  # noqa: B023  # waited for here
            await wait_until(lambda: bool(servers_in(folder)), "another is there")
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await ask(server.url, "GET", "kept") == "yes"
                    break
                except RedisError:
                    await asyncio.sleep(0.02)
        assert len(servers_in(folder)) == 1
    died = [record for record in caplog.records if record.message == "embedded-died"]
    assert [record.__dict__["fields"]["exit"] for record in died] == [-signal.SIGKILL] * 2


async def test_a_server_that_cannot_be_started_again_now_is_tried_until_it_can(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    note = folder / "redis-version"
    async with started(folder, restart_s=0.1) as server, running(server):
        good = note.read_text()
        note.write_text("nonsense")
        servers_in(folder)[0].kill()
        await wait_until(lambda: "embedded-restart-failed" in caplog.messages, "a start is refused")
        note.write_text(good)
        await wait_until(lambda: len(servers_in(folder)) == 1, "the server is back")


async def test_run_returns_at_once_when_the_stop_is_set_between_two_starts(folder: Path, caplog: Any) -> None:
    caplog.set_level(logging.ERROR)
    async with started(folder) as server:
        server._started_at += 3_600  # its next start is an hour away
        async with running(server):
            servers_in(folder)[0].kill()
            await wait_until(lambda: "embedded-died" in caplog.messages, "the death is seen")
    assert servers_in(folder) == []


async def test_a_server_left_by_a_killed_service_is_stopped_not_doubled_and_its_data_is_kept(folder: Path) -> None:
    orphan = await abandoned_server(folder)
    link = folder.parent / "link"
    link.symlink_to(folder)
    async with started(link) as server:  # a server knows its folder only by the name it was given
        assert [process.pid for process in servers_in(folder)] != [orphan.pid]
        assert len(servers_in(folder)) == 1
        assert await ask(server.url, "GET", "kept") == "by the first service"
        assert "ready to exit" in (folder / "redis.log.old").read_text(), "it was not asked to leave first"


async def test_a_left_server_that_does_not_heed_sigterm_is_killed(folder: Path) -> None:
    orphan = await abandoned_server(folder)
    async with standing_still(orphan.pid), started(folder, stop_s=0.5) as server:
        assert [process.pid for process in servers_in(folder)] != [orphan.pid]
        assert len(servers_in(folder)) == 1
        assert await ask(server.url, "GET", "kept") == "by the first service"


async def test_the_servers_of_other_folders_are_left_alone(folder: Path) -> None:
    async with started(folder / "a"), started(folder / "a" / "b"):
        (first,) = servers_in(folder / "a")
        async with started(folder), started(folder / "b"):
            assert [process.pid for process in servers_in(folder / "a")] == [first.pid]
            assert len(servers_in(folder / "a" / "b")) == 1


async def test_a_server_that_goes_by_another_name_is_not_doubled_either(folder: Path) -> None:
    folder.mkdir()
    disguise = folder.parent / "innocent"
    shutil.copy(candidates()[0].path or "", disguise)
    command = [str(disguise), "--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder)]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        await wait_until((folder / "redis.sock").exists, "the other server listens")
        with pytest.raises(StartError, match="still served"):
            await EmbeddedServer(folder).start()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_a_second_service_on_the_folder_is_refused_and_harms_nothing(folder: Path) -> None:
    async with started(folder) as server:
        with pytest.raises(StartError, match=rf"in use by another redis-scheduler \(pid {os.getpid()}\)"):
            await EmbeddedServer(folder).start()
        link = folder.parent / "link"
        link.symlink_to(folder)
        with pytest.raises(StartError, match="in use"):
            await EmbeddedServer(link).start()
        assert await ask(server.url, "PING")
        assert len(servers_in(folder)) == 1


async def test_a_server_that_loads_for_long_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = "for i = 1, 400000 do redis.call('SET', 'key:' .. i, string.rep('x', 20)) end"
    async with started(folder) as server:
        await ask(server.url, "EVAL", fill, "0")
    answers = []
    first_line = embedded._first_line

    async def noted(socket: Path) -> bytes:
        answers.append(await first_line(socket))
        return answers[-1]

    monkeypatch.setattr(embedded, "_first_line", noted)
    async with started(folder) as server:
        assert await ask(server.url, "DBSIZE") == 400_000
    assert any(answer.startswith(b"-LOADING") for answer in answers), "it loaded too fast to prove anything"


async def test_a_server_that_exits_at_start_is_reported_with_its_last_words_and_leaves_the_folder_free(
    folder: Path,
) -> None:
    (folder / "redis.sock").mkdir(parents=True)  # nothing can listen there
    with pytest.raises(StartError, match=r"(?i)could not start: [a-z].*unix socket"):
        await EmbeddedServer(folder).start()
    (folder / "redis.sock").rmdir()
    async with started(folder):
        pass


async def test_of_a_long_log_only_the_end_is_read(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    server = EmbeddedServer(folder)
    with server._log.open("wb") as log:
        log.truncate(1 << 40)  # a hole: a terabyte in memory would end the test
        log.seek(0, os.SEEK_END)
        log.write(b"\n1:M 01 Jan 2026 00:00:00.000 # the last \xff words\n\n")
    assert server._last_log_line() == "the last \ufffd words"


async def test_a_server_that_never_answers_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(socket: Path) -> bytes:
        return b""

    monkeypatch.setattr(embedded, "_first_line", silence)
    with pytest.raises(StartError, match="no answer"):
        await EmbeddedServer(folder, ready_s=0.3).start()
    assert servers_in(folder) == []


async def test_a_start_that_is_cancelled_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(socket: Path) -> bytes:
        return b""

    with monkeypatch.context() as patched:
        patched.setattr(embedded, "_first_line", silence)
        start = asyncio.create_task(EmbeddedServer(folder).start())
        await wait_until(lambda: bool(servers_in(folder)), "the server is there")
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    assert servers_in(folder) == []
    async with started(folder):
        pass


async def test_a_folder_too_deep_for_a_socket_is_refused_with_the_remedy(folder: Path) -> None:
    longest = 103 - len("/redis.sock")
    fits = folder / ("x" * (longest - len(str(folder)) - 1))
    async with started(fits) as server:
        assert await ask(server.url, "PING")
    with pytest.raises(StartError, match=r"1 bytes too long .* shorter DATA_DIR"):
        await EmbeddedServer(Path(f"{fits}x")).start()
    assert not Path(f"{fits}x").exists()


async def test_a_folder_that_cannot_be_made_is_refused_with_the_remedy(folder: Path) -> None:
    folder.write_text("a file")
    for impossible in (folder, folder / "below"):
        with pytest.raises(StartError, match=r"cannot be used .* another DATA_DIR"):
            await EmbeddedServer(impossible).start()
        with pytest.raises(StartError, match="cannot be used"):
            kept_token(impossible)
