"""The standard streams of a service: open from the start, and never waited for.

A pipe whose reader stands still takes 64 KiB, a terminal stopped by Ctrl-S nothing: then a writer waits, and the whole
process with it. So a thread writes, from a bounded buffer. Lines that find the buffer full are dropped and counted, and
the log tells their number as soon as it flows again. Writing without blocking would not do: the flag belongs to all who
share the pipe or the terminal, the shell too (docs/decisions/0010).

What `redis-scheduler doctor`, `--help` and the like print is what they are run for: they wait until it is written, and
end with an error where it cannot be.
"""

import asyncio
import atexit
import io
import os
import select
import signal
import sys
import threading
import time
from collections import deque

from redis_scheduler.errors import OutputFailed
from redis_scheduler.logs import Events
from redis_scheduler.process.interruption import waiting

logger = Events(__name__)

BUFFER_BYTES = 1_048_576
"""The buffer: some 5,000 lines, for a reader that is slow for a moment."""

ATOMIC_BYTES = select.PIPE_BUF
"""A pipe takes so much in one piece: no other process that shares the log writes into such a line."""

TOLD_INTERVAL_S = 1.0
"""While a reader is too slow, the least time between two lines about dropped ones."""

LAST_WORDS_S = 2.0
"""So long the end of the process waits for the last lines."""


def open_closed() -> None:
    """Open /dev/null in the place of standard streams that are closed: else a socket or file would take their numbers.

    Call it before anything else is opened. To read or write there is an error, as it is without: who runs a command for
    its output must not take it for written.
    """
    streams = (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
    for number, (name, mode, flags) in enumerate(streams):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # open as long as the process


def never_wait(name: str) -> None:
    """From now on no write to this stream (`stdout`, `stderr`) makes the process wait."""
    # A terminal may be set to stop processes in the background that write to it.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    before = getattr(sys, name)
    output = Output(before.fileno())
    stream = io.TextIOWrapper(output, "utf-8", "backslashreplace", line_buffering=True)  # type: ignore[type-var]  # it has what writing needs
    setattr(sys, name, stream)

    def finish() -> None:
        stream.flush()
        if output.drain():
            setattr(sys, name, before)  # the thread ends with the interpreter, which may still have something to say

    atexit.register(finish)


def must_be_written() -> None:
    """From now on what standard output cannot take raises OutputFailed, and what its encoding lacks is escaped."""
    before = sys.stdout
    # PYTHONUNBUFFERED writes it through.
    by_line = bool(before.line_buffering or getattr(before, "write_through", False)) or before.isatty()
    buffer = Waited.buffered(before.fileno(), "Standard output")
    sys.stdout = io.TextIOWrapper(buffer, before.encoding, "backslashreplace", line_buffering=by_line)


class _Written(io.RawIOBase):
    """A file that is written to, by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether a person reads it."""
        return os.isatty(self._descriptor)


class Waited(_Written):
    """A file whose reader is waited for, until a signal ends the command."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor)
        self._name = name

    @classmethod
    def buffered(cls, descriptor: int, name: str) -> io.BufferedWriter:
        """Return it with a buffer. Bytes that are left in there are written when it is closed."""
        return io.BufferedWriter(cls(descriptor, name))  # type: ignore[arg-type]  # it has what writing needs

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # a BufferedWriter gives bytes
        """Write some of it; return how much. Raises OutputFailed."""
        try:
            with waiting():
                while True:
                    try:
                        return os.write(self._descriptor, data)
                    except BlockingIOError:  # another process that shares it has set O_NONBLOCK
                        select.select((), (self._descriptor,), ())
        except (OSError, asyncio.CancelledError) as error:
            # What the buffer holds is written once more when it is closed: from now on it goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._descriptor)
            if isinstance(error, OSError):
                raise OutputFailed(f"{self._name} cannot be written: {error.strerror}") from None
            raise


class Output(_Written):
    """A file that a thread of its own writes to. Whole lines are dropped while it takes no more."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._lines_bytes = 0
        """Those that are being written count."""
        self._has_more = threading.Event()
        self._dropped = 0
        self._told_at = 0.0
        self._was_cut = False
        self._thread: threading.Thread | None = None

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # a TextIOWrapper gives bytes
        """Take a line; return its length, also where it was dropped."""
        line = bytes(data)
        with self._lock:
            # The line that tells of dropped ones comes from the thread itself, and is never dropped.
            if self._lines_bytes >= BUFFER_BYTES and threading.current_thread() is not self._thread:
                self._dropped += 1
                return len(line)
            self._lines_bytes += len(line)
            self._lines.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"output-{self._descriptor}", daemon=True)
                self._thread.start()
        if not self._has_more.is_set():
            self._has_more.set()
        return len(line)

    def drain(self, timeout_s: float = LAST_WORDS_S) -> bool:
        """Wait until all is written, for `timeout_s` at most; return whether it was."""
        deadline = time.monotonic() + timeout_s
        while self._lines_bytes and time.monotonic() < deadline:
            time.sleep(0.002)
        return not self._lines_bytes

    def _run(self) -> None:
        while True:
            self._has_more.wait()
            self._has_more.clear()
            while lines := self._next():
                was_written = self._write_out(b"".join(lines))
                # Before these lines are taken off: the end of the process then waits for what this tells, too.
                if was_written:
                    self._tell()
                with self._lock:
                    self._lines_bytes -= sum(map(len, lines))
                    self._dropped += 0 if was_written else len(lines)

    def _next(self) -> list[bytes]:
        """Take as many lines as one write may hold, at least one if there is any."""
        lines: list[bytes] = []
        room = ATOMIC_BYTES
        while self._lines and (not lines or len(self._lines[0]) <= room):
            lines.append(self._lines.popleft())
            room -= len(lines[-1])
        return lines

    def _write_out(self, data: bytes) -> bool:
        left = memoryview(b"\n" + data if self._was_cut else data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # another process that shares it has set O_NONBLOCK; this thread may wait
                select.select((), (self._descriptor,), ())
            except OSError:  # the reader or the terminal is gone, or the disk is full
                self._was_cut = self._was_cut or len(left) < len(data)
                return False
        self._was_cut = False
        return True

    def _tell(self) -> None:
        """Say how many lines were dropped, once there is room again."""
        now = time.monotonic()
        if self._dropped and (not self._lines or now >= self._told_at + TOLD_INTERVAL_S):
            self._told_at = now
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            logger.warning("log-lines-dropped", lines=dropped)
