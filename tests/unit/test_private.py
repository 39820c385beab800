"""What is this user's alone: nothing that others planted is followed, opened or believed."""

import os
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from redis_scheduler.errors import StartError
from redis_scheduler.process.private import NotPrivate, make_folder, open_file
from redis_scheduler.process.token import kept_token

OTHER = 12_345
"""A user that this machine need not know."""

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0, 0o022, 0o777], ids=lambda value: f"umask {value:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Every umask: one that hides nothing, the usual one, one that leaves not even the owner anything."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of this user's alone."""
    made = tmp_path / "data"
    made.mkdir(0o700)
    return made


def test_what_is_made_is_private_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    folder = tmp_path / "above" / "data"
    make_folder(folder)
    os.close(open_file(folder / "file", os.O_RDWR))
    os.close(open_file(folder / "file", os.O_RDWR))
    assert [mode(path) for path in (folder.parent, folder, folder / "file")] == [0o700, 0o700, 0o600]
    assert os.umask(umask) == umask


@AS_ROOT
@pytest.mark.parametrize("bits", [0o770, 0o2775])
def test_a_folder_that_a_strange_group_can_write_is_refused(bits: int, folder: Path) -> None:
    os.chown(folder, -1, OTHER)
    folder.chmod(bits)
    with pytest.raises(NotPrivate, match=rf"others can write to {folder} \(mode {bits:04o}\): chmod go-w it"):
        make_folder(folder)


@pytest.mark.parametrize("bits", [0o707, 0o777, 0o1777, 0o2777])
def test_a_folder_that_others_can_write_is_refused(bits: int, folder: Path) -> None:
    folder.chmod(bits)
    with pytest.raises(NotPrivate, match=rf"others can write to {folder} \(mode {bits:04o}\): chmod go-w it"):
        make_folder(folder)


@pytest.mark.parametrize("bits", [0o700, 0o755, 0o770, 0o2775])
def test_a_folder_that_others_can_only_read_is_taken(bits: int, folder: Path) -> None:
    os.chown(folder, -1, os.getegid())
    folder.chmod(bits)
    make_folder(folder)


@AS_ROOT
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    os.chown(folder, OTHER, OTHER)
    with pytest.raises(NotPrivate, match=f"{folder} belongs to uid {OTHER}, and this process runs as uid 0"):
        make_folder(folder)


def test_a_link_of_ones_own_to_a_folder_is_followed(folder: Path) -> None:
    link = folder.with_name("link")
    link.symlink_to(folder)
    make_folder(link)


@AS_ROOT
def test_a_link_of_another_user_is_not_followed(folder: Path) -> None:
    link = folder.with_name("link")
    link.symlink_to(folder)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(NotPrivate, match=f"link that belongs to uid {OTHER}"):
        make_folder(link)


def plant(path: Path, what: str) -> Path:
    """Put something that is no file of this user's alone; return what must stay as it is."""
    victim = path.with_name("victim")
    victim.write_text("planted-token\n")
    victim.chmod(0o600)
    match what:
        case "a link":
            path.symlink_to(victim)
        case "a link to nothing":
            path.symlink_to(path.with_name("nothing"))
        case "a hard link":
            path.hardlink_to(victim)
        case "a pipe":
            os.mkfifo(path, 0o600)
        case "a folder":
            path.mkdir()
        case "a file that others can write":
            path.write_text("planted-token\n")
            path.chmod(0o606)
        case "a file that a strange group can write":
            path.write_text("planted-token\n")
            os.chown(path, -1, OTHER)
            path.chmod(0o660)
        case "a file of another user":
            path.write_text("planted-token\n")
            path.chmod(0o600)
            os.chown(path, OTHER, OTHER)
    return victim


PLANTED = [
    "a link",
    "a link to nothing",
    "a hard link",
    "a pipe",
    "a folder",
    "a file that others can write",
    pytest.param("a file that a strange group can write", marks=AS_ROOT),
    pytest.param("a file of another user", marks=AS_ROOT),
]


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_TRUNC], ids=["to read", "to write"])
def test_what_is_no_file_of_ones_own_is_not_opened(what: str, flags: int, folder: Path) -> None:
    victim = plant(folder / "file", what)
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(NotPrivate, match=rf"{folder}/file .*: remove it"):
        open_file(folder / "file", flags)
    assert victim.read_text() == "planted-token\n"
    assert not (folder / "nothing").exists()
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_token_is_refused(what: str, folder: Path) -> None:
    plant(folder / "token", what)
    with pytest.raises(StartError, match=f"DATA_DIR {folder} cannot be used .*/token .*: remove it"):
        kept_token(folder)


@pytest.mark.parametrize("bits", [0o777, 0o1777])
def test_a_token_in_a_folder_that_others_can_write_is_refused(bits: int, folder: Path) -> None:
    (folder / "token").write_text("planted-token\n")
    (folder / "token").chmod(0o600)
    folder.chmod(bits)
    with pytest.raises(StartError, match="others can write to"):
        kept_token(folder)


def test_a_token_that_others_could_read_is_theirs_no_more(folder: Path) -> None:
    (folder / "token").write_text("my-own-token\n")
    (folder / "token").chmod(0o644)
    assert kept_token(folder) == "my-own-token"
    assert mode(folder / "token") == 0o600


def drop_rights() -> None:
    """Become another user, in the group OTHER besides its own, as a container with `fsGroup: OTHER` runs."""
    os.setgroups([OTHER])
    os.setgid(OTHER + 1)
    os.setuid(OTHER + 1)


def mount(volume: Path) -> None:
    """Do to a volume what Kubernetes does at each mount: all of it is the group's, to read and write; owners stay."""
    for path in (volume, *volume.rglob("*")):
        os.chown(path, -1, OTHER)
        path.chmod(path.stat().st_mode | (0o2070 if path.is_dir() else 0o060))


@AS_ROOT
@pytest.mark.parametrize("name", ["", "data"], ids=["in the volume", "in a folder of the volume"])
def test_a_token_in_a_kubernetes_volume_outlives_each_mount(name: str) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as above,  # not in tmp_path, which root alone may enter
        ProcessPoolExecutor(1, get_context("fork"), initializer=drop_rights) as another,
    ):
        Path(above).chmod(0o755)
        volume = Path(above, "volume")
        volume.mkdir()
        tokens = []
        for _ in range(3):
            mount(volume)
            tokens.append(another.submit(kept_token, volume / name).result())
        assert len(set(tokens)) == 1
        assert (volume / name / "token").stat().st_uid == OTHER + 1


@AS_ROOT
@pytest.mark.parametrize("has_file", [False, True], ids=["new", "with a file of root's"])
def test_a_folder_of_root_that_this_user_cannot_write_to_is_said_with_the_remedy(has_file: bool) -> None:
    """As a folder of the host is that is mounted into a container."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as above,
        ProcessPoolExecutor(1, get_context("fork"), initializer=drop_rights) as another,
    ):
        Path(above).chmod(0o755)
        if has_file:
            Path(above, "token").touch()
        with pytest.raises(StartError, match=rf"^DATA_DIR {above} cannot be used \(.* \(chown {OTHER + 1}\), or set"):
            another.submit(kept_token, Path(above)).result()
