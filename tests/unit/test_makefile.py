"""`make install` and `make run`: the first things that a newcomer sees of the service."""

import os
import subprocess
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("target", "wanted"), [("install", "."), (".venv/.development", ".[dev]")])
def test_make_installs_what_pip_takes(target: str, wanted: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--what-if=pyproject.toml", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert f"--editable '{wanted}';" in done.stdout
