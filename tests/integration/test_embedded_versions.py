"""The folder of the private Redis and the version of its server: a newer server takes it on, an older one leaves it."""
# ruff: noqa: ASYNC240  (short looks at files block nobody)

import asyncio
import os
from pathlib import Path

import pytest

from redis_scheduler.errors import StartError
from redis_scheduler.process.embedded import EmbeddedServer
from redis_scheduler.process.server_binary import Server, candidates
from tests.integration.test_embedded import ask, started


async def test_a_folder_of_a_newer_server_is_refused_and_stays_as_it_is(folder: Path) -> None:
    async with started(folder) as server:
        assert (folder / "redis-version").read_text() == f"{server.description}\n"
        newer = f"{server.description.split()[0]} 99.0.1"
    (folder / "redis-version").write_text(newer)
    with pytest.raises(StartError) as refused:
        await EmbeddedServer(folder).start()
    assert newer in str(refused.value)
    assert server.description in str(refused.value)
    assert (folder / "redis-version").read_text() == newer
    (folder / "redis-version").write_text("")
    with pytest.raises(StartError, match=r"redis-version must be a file .* mend it"):
        await EmbeddedServer(folder).start()


@pytest.mark.parametrize("what", ["a pipe", "a link", "a link to nothing", "an endless file"])
async def test_a_version_that_is_no_file_of_ones_own_is_refused_at_once(what: str, folder: Path) -> None:
    folder.mkdir(0o700)
    note, elsewhere = folder / "redis-version", folder.with_name("elsewhere")
    match what:
        case "a pipe":
            os.mkfifo(note)
        case "a link":
            elsewhere.write_text("redis 6.2.0")
            note.symlink_to(elsewhere)
        case "a link to nothing":
            note.symlink_to(elsewhere)
        case "an endless file":
            note.touch()
            os.truncate(note, 1 << 40)
    async with asyncio.timeout(10):
        with pytest.raises(StartError, match=r"redis-version must be a file .* mend it"):
            await EmbeddedServer(folder).start()
    assert os.path.lexists(note)


async def test_the_version_is_noted_when_a_newer_server_takes_the_folder(folder: Path) -> None:
    folder.mkdir()
    (folder / "redis-version").write_text("redis 6.2.0")
    async with started(folder) as server:
        assert (folder / "redis-version").read_text() == f"{server.description}\n"


HERE = candidates()
MOVES = [(old, new) for old in HERE for new in HERE if old != new and new.may_open(old)]


@pytest.mark.parametrize(("old", "new"), MOVES, ids=[f"{old} to {new}" for old, new in MOVES])
async def test_data_of_an_older_server_is_opened_by_each_that_may(
    old: Server, new: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step, server in enumerate((old, new, new)):
        monkeypatch.setattr("redis_scheduler.process.embedded.candidates", lambda server=server: [server])
        async with started(folder) as running:
            assert running.description == str(server)
            assert await ask(running.url, "LRANGE", "kept", 0, -1) == [str(number) for number in range(step)]
            await ask(running.url, "RPUSH", "kept", str(step))
    monkeypatch.setattr("redis_scheduler.process.embedded.candidates", lambda: [old])
    with pytest.raises(StartError, match=f"last written by {new}"):
        await EmbeddedServer(folder).start()
