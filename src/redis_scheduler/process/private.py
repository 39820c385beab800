"""Folders and files of this user alone: what nobody else can have planted, replaced or read.

Whoever may write into DATA_DIR can give the service a token that they know, or tasks of their own; in the temporary
folder, which everybody writes, a link can stand where a file is about to be made. So nothing is followed or believed
that is not this user's, and what is made has its mode whatever the umask is.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from redis_scheduler.errors import StartError

# What opening a link, a folder, a socket or a pipe without a reader fails with (EMLINK: FreeBSD's word for a link).
_NO_FILE = (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO)


def _others_write(found: os.stat_result) -> bool:
    """Whether others can write to it. The groups of this process are not others.

    Kubernetes gives all in a volume to the group `fsGroup`, which the process is in, to read and write at each mount.
    """
    if found.st_gid in (os.getegid(), *os.getgroups()):
        return bool(found.st_mode & stat.S_IWOTH)
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


class NotPrivate(OSError):
    """A folder or file is not this user's alone. The message says why, and what to do."""


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone; one that is there must be so.

    It may be root's, as a mounted volume is. Raises NotPrivate where it, or a link that leads to it, is another's, or
    where others can write to it.
    """
    umask = os.umask(0o077)
    try:
        path.mkdir(parents=True, exist_ok=True)
    finally:
        os.umask(umask)
    user, link, found = os.geteuid(), path.lstat(), path.stat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (user, 0):
        raise NotPrivate(f"{path} is a link that belongs to uid {link.st_uid}: name the folder itself")
    if found.st_uid not in (user, 0):
        raise NotPrivate(f"{path} belongs to uid {found.st_uid}, and this process runs as uid {user}: chown {user} it")
    if _others_write(found):
        mode = stat.S_IMODE(found.st_mode)
        raise NotPrivate(f"others can write to {path} (mode {mode:04o}): chmod go-w it, or name a new folder inside it")


def open_file(path: Path, flags: int) -> int:
    """Open a file of this user alone, made where there is none; return its descriptor. Its mode is 0600 from then on.

    Raises NotPrivate where the name stands for anything but a file of this user that has no other name, and that nobody
    else can write to.
    """
    safe = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags & ~os.O_TRUNC | safe, 0o600)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotPrivate(f"{path} is not a file: remove it") from None
        raise
    try:
        _require_own(path, os.fstat(descriptor))
        os.fchmod(descriptor, 0o600)
        if flags & os.O_TRUNC:  # not before it is known whose it is
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_own(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        fault = "is not a file"
    elif found.st_uid != os.geteuid():
        fault = f"belongs to uid {found.st_uid}"
    elif found.st_nlink > 1:
        fault = "has a second name, a hard link"
    elif _others_write(found):
        fault = f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    raise NotPrivate(f"{path} {fault}: remove it")


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Within the block, an error of the system is a StartError that names DATA_DIR and says what to do."""
    try:
        yield
    except OSError as error:
        own = f": make it a folder that this user can write to (chown {os.geteuid()})"
        remedy = "" if isinstance(error, NotPrivate) else own
        raise StartError(f"DATA_DIR {folder} cannot be used ({error}){remedy}, or set another DATA_DIR") from error
