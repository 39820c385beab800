"""Folders and files of this user alone: nobody else can have planted, replaced or read them.

Whoever can write into DATA_DIR could give the service a token that they know, or tasks of their own. In a temporary
folder everybody can put a link where a file is about to be made. So links and files of others are refused, and the mode
of a new file does not depend on the umask.
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
    """Whether others can write to it. Members of this process's groups do not count as others.

    At each mount Kubernetes lets the group `fsGroup`, which the process is in, read and write everything in a volume.
    """
    if found.st_gid in (os.getegid(), *os.getgroups()):
        return bool(found.st_mode & stat.S_IWOTH)
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


class NotPrivate(OSError):
    """A folder or file is not this user's alone. The message says why, and what to do."""


def make_folder(path: Path) -> None:
    """Make a folder for this user alone, and missing ones above it. If it is there, see that it is this user's alone.

    It may belong to root, as a mounted volume does. Raises NotPrivate where the folder, or a link that leads to it,
    belongs to another user, or where others can write to it.
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
    """Open a file of this user alone, or make it, with mode 0600; return its descriptor.

    Raises NotPrivate unless it is a plain file of this user, without a second name, to which nobody else can write.
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
