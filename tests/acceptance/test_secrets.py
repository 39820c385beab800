"""Secrets: they come in a variable or a file, never on the command line; a made one is shown to a terminal only."""

import asyncio
import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Process, client_of, run, serving
from tests.support.waiting import wait_until

LONG_TOKEN = "0123456789abcdef"
SHORT = "API_AUTH is shorter than 16 characters"


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_secrets_come_from_files(processes: str, redis_url: str, tmp_path: Path) -> None:
    for name, secret in (("API_AUTH", LONG_TOKEN), ("REDIS_URL", redis_url)):
        (tmp_path / name).write_text(f"{secret}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in ("API_AUTH", "REDIS_URL")}
    process = Process(tmp_path, PROCESSES=processes, **files)
    try:
        async with client_of(process, LONG_TOKEN) as client:
            await client.schedule("http://127.0.0.1:9/", 60)
        assert not process.events("embedded-redis")
    finally:
        await process.stop()
    assert LONG_TOKEN not in process.log


def test_a_file_that_holds_no_secret_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("\n")
    for role in ((), ("worker",)):
        result = run(*role, API_AUTH_FILE=str(file), REDIS_URL="redis://127.0.0.1:1")
        assert (result.returncode, result.stderr) == (2, f"redis-scheduler: API_AUTH_FILE={file}: is empty\n")


@pytest.mark.parametrize("arguments", [("--api-auth", "hidden"), ("health", "--api-auth=hidden")])
def test_a_token_on_the_command_line_is_refused_and_not_repeated(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "redis-scheduler: --api-auth: refused, since every user of this machine can read it"
    )
    assert result.stderr.count("\n") == 1
    assert "hidden" not in result.stderr


async def test_a_short_token_on_a_public_address_is_told_once(tmp_path: Path) -> None:
    async with serving(tmp_path, PROCESSES="2") as process:
        assert [SHORT in event["warning"] for event in process.events("hazard")].count(True) == 1
        assert TOKEN not in process.log


async def test_a_worker_listens_nowhere_and_a_made_token_that_was_shortened_counts(
    tmp_path: Path, redis_url: str
) -> None:
    async with serving(tmp_path, "worker", REDIS_URL=redis_url) as worker:
        assert not [event for event in worker.events("hazard") if SHORT in event["warning"]]
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "token").write_text("short")
    process = Process(tmp_path, HOST="0.0.0.0")
    try:
        await process.started()
        assert [SHORT in event["warning"] for event in process.events("hazard")].count(True) == 1
    finally:
        await process.stop()


async def test_a_made_token_is_shown_to_a_terminal_only(tmp_path: Path) -> None:
    terminal, side = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "PORT": "0", "DATA_DIR": str(tmp_path / "data"), "LOG_FORMAT": "json"}
    process = subprocess.Popen(  # noqa: ASYNC220  # it outlives this call
        [sys.executable, "-m", "redis_scheduler"], env=environment, stdout=side, stderr=side, stdin=side
    )
    os.close(side)
    shown = b""
    try:
        while b"}}'" not in shown:
            shown += await asyncio.wait_for(asyncio.to_thread(os.read, terminal, 65_536), 30)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
        os.close(terminal)
    token = (tmp_path / "data" / "token").read_text().strip()
    assert f"-H 'Authorization: {token}'" in shown.decode()


async def test_elsewhere_the_line_says_where_the_made_token_is_kept(tmp_path: Path, receiver: Receiver) -> None:
    folder = "it's a folder"
    process = Process(tmp_path, DATA_DIR=str(tmp_path / folder))
    try:
        await process.started()
        token = (tmp_path / folder / "token").read_text().strip()
        said = await wait_until(lambda: process.log.partition("  curl ")[2].partition("}}'")[0], "the line is shown")
        assert token not in process.log
        # Pasted into a shell it works: what curl would get is printed instead.
        line = "curl() { printf '%s\\0' \"$@\"; }; curl " + said.replace("http://127.0.0.1:9000/", receiver.url) + "}}'"
        pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)  # noqa: ASYNC221
        arguments = pasted.stdout.split("\0")
        assert f"Authorization: {token}" in arguments, shlex.join(arguments)
        body = json.loads(arguments[arguments.index("-d") + 1])
        async with client_of(process, token) as client:
            assert (await client.call("POST", "/schedule", json=body | {"ttl": 0}))[0] == 200
            await client.drained()
        assert len(receiver.arrivals) == 1
    finally:
        await process.stop()
