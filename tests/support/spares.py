"""A supervisor's first children, forked with it: a new interpreter for each is half a second of CPU time.

The supervisor that starter.py forks does all that it does otherwise, up to the call that starts a child's process.
There a spare one becomes the child, which was forked when the supervisor had no thread yet. It has a session, a pipe as
stdin, descriptors and variables as it was asked for, and an end of its own. Where none is left, as for what replaces a
child, a process is started as ever.
"""

import asyncio
import fcntl
import json
import os
import resource
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

MODULE = "redis_scheduler.process.supervisor"

ORDER_BYTES = 200_000


class Child:
    """A spare process that became a child, as asyncio.subprocess.Process shows one."""

    def __init__(self, pid: int, orders: int, command: Sequence[str], **options: Any) -> None:
        self.pid = pid
        self._ended = asyncio.get_running_loop().create_future()
        self._become(orders, command, **options)
        descriptor = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(descriptor, self._reap, descriptor)

    def _become(
        self,
        orders: int,
        command: Sequence[str],
        *,
        stdin: int,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        start_new_session: bool,
    ) -> None:
        """Send what the call was given; an option that no spare could follow is an error."""
        assert (stdin, start_new_session) == (asyncio.subprocess.PIPE, True)
        theirs, self._stdin = os.pipe()
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        arguments = command[command.index(MODULE) + 1 :]
        with socket.socket(fileno=orders) as ours:
            order = json.dumps([arguments, dict(env), list(pass_fds)]).encode()
            socket.send_fds(ours, [order], [theirs, *pass_fds])
        os.close(theirs)

    def _reap(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        os.close(self._stdin)
        self._ended.set_result(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))

    async def wait(self) -> int:
        code: int = await asyncio.shield(self._ended)
        return code

    def send_signal(self, number: int) -> None:
        if self._ended.done():
            raise ProcessLookupError
        os.kill(self.pid, number)


def prepare(count: int) -> tuple[list[str], dict[str, str]] | None:
    """Fork so many; return None here, and in one that becomes a child its command and its variables."""
    spares: list[tuple[int, int]] = []
    for _ in range(count):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        spares.append((pid, ours.detach()))  # which stays open to the end of the supervisor
        if not pid:
            for _, orders in spares:
                os.close(orders)
            return _obey(theirs)
        theirs.close()
    start = asyncio.create_subprocess_exec

    async def start_or_take(*command: str, **options: Any) -> Any:
        if spares and MODULE in command:
            return Child(*spares.pop(), command, **options)
        return await start(*command, **options)

    vars(asyncio)["create_subprocess_exec"] = start_or_take
    return None


def _obey(orders: socket.socket) -> tuple[list[str], dict[str, str]]:
    """Become what the order says; end with the supervisor, if none comes."""
    os.setsid()
    with orders:
        order, files, _, _ = socket.recv_fds(orders, ORDER_BYTES, 4)
        if not order:
            os._exit(0)
    arguments, environment, numbers = json.loads(order)
    # Out of the way of one another first.
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, 100) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(moved, [0, *numbers], strict=True):
        os.dup2(file, number)
        os.close(file)
    del sys.modules[MODULE]  # what a command runs was not imported before
    return [MODULE, *arguments], environment
