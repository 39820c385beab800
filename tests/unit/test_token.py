"""The API token of a data folder: made once, private, never half written."""

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from redis_scheduler.errors import StartError
from redis_scheduler.process.token import kept_token


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "data"


def test_the_token_is_made_once_and_is_private_from_the_first_moment(folder: Path) -> None:
    umask = os.umask(0)
    try:
        token = kept_token(folder)
    finally:
        os.umask(umask)
    assert len(token) == 32
    assert kept_token(folder) == token
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_two_starts_at_once_agree_on_the_token(folder: Path) -> None:
    folder.mkdir()
    with ThreadPoolExecutor(1) as starts, (folder / "token").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = starts.submit(kept_token, folder)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        first.write("of-the-first")
        first.close()  # which releases it, as a crash does
        assert second.result(10) == "of-the-first"


def test_an_empty_token_file_gets_a_token_and_a_spoilt_one_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "token").touch(0o600)
    assert kept_token(folder) == kept_token(folder) != ""
    for spoilt in (b"two words", b"\xff\xfe", b"one\ntwo"):
        (folder / "token").write_bytes(spoilt)
        with pytest.raises(StartError, match="mend it, or delete it"):
            kept_token(folder)


def test_a_huge_token_is_one_line_and_is_not_read_whole(folder: Path) -> None:
    kept_token(folder)
    os.truncate(folder / "token", 1 << 40)
    with pytest.raises(StartError, match="/token is larger than 65536 bytes: mend it, or delete it"):
        kept_token(folder)
