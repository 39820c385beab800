"""Starts the service without importing it anew, which is four fifths of a start's CPU time.

A process has imported it once, and forks for each start. What runs is a whole process all the same: its id,
descriptors, signals, variables and end are its own; only the modules are not cleared at its end. A supervisor's first
children are forked with it (spares.py). A test of the start itself has the marker `whole_start`.
"""

import atexit
import contextlib
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from tests.support import spares

REQUEST_BYTES = 200_000

variables: dict[str, str] = {}
"""What the service is imported with: the variables of all tests, before one sets its own."""

is_used = False
"""Whether the test that runs now may have it so. Benchmarks measure what users start."""


class Started:
    """A forked process, as subprocess.Popen shows one."""

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            with self._status:
                self.returncode = int(self._status.readline())
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _starter() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Return the socket to the starter, which ends with it."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        command = [sys.executable, "-W", "error", "-m", __name__, str(other.fileno())]
        folder, null = Path(__file__).parents[2], subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=null, stdout=null, pass_fds=[other.fileno()]
        )
    return own, process


def start(
    run: Sequence[str], environment: Mapping[str, str], free: Container[str], outputs: tuple[int, int]
) -> Started | None:
    """Run a module in this folder, with its arguments and these variables; it writes to two files that are open here.

    None where others than the free variables have changed since the service was imported, which may have read them.
    """
    if sys.platform != "linux" or not is_used:
        return None
    if any(name not in free and environment.get(name) != variables.get(name) for name in {*environment, *variables}):
        return None
    requests, _ = _starter()
    status, tells_status = os.pipe()
    request = json.dumps([run, dict(environment), str(Path.cwd())]).encode()
    socket.send_fds(requests, [request], [*outputs, tells_status])
    os.close(tells_status)
    return Started(status)


def end() -> None:
    """End the starter, if there is one; what it started goes on."""
    if _starter.cache_info().currsize:
        requests, process = _starter()
        requests.close()
        process.wait()


def _keep(status: int) -> None:
    """Fork the service, and return in it; tell its id and its end, and end with it."""
    if pid := os.fork():
        os.write(status, b"%d\n" % pid)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _run(module: str) -> None:
    """Run a module as a command, and end the process; an error of the module is raised.

    The end is the interpreter's, step by step: it waits for threads, calls what `atexit` has, collects garbage, and
    flushes. Only the modules are not cleared: that would copy each page of them, which takes 0.035 s of CPU time.
    """
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter calls
    atexit._run_exitfuncs()
    gc.collect()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(code)


def main(descriptor: int) -> None:
    """Fork for each request, and become what it asks for, until whoever sends them has ended."""
    from redis_scheduler import cli, settings  # noqa: F401
    from redis_scheduler.process import doctor, imports, supervisor  # noqa: F401

    imports.import_parts(settings.ALL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the tests and for what they run
    requests = socket.socket(fileno=descriptor)
    while True:
        request, files, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 3)
        if not request:
            requests.close()
            return
        if not os.fork():
            break
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    *outputs, status = files
    _keep(status)
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)
    requests.detach()
    os.closerange(3, 1_000)
    run, environment, folder = json.loads(request)
    os.chdir(folder)
    if environment.get("PROCESSES") == "2":
        run, environment = spares.prepare(2) or (run, environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = run[1:]
    _run(run[0])


if __name__ == "__main__":
    main(int(sys.argv[1]))
