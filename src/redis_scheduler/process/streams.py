"""The standard streams of a service: open from the start, and never waited for.

A pipe whose reader stands still takes 64 KiB, a terminal stopped by Ctrl-S nothing: whoever writes there then waits,
and with it everything that the process does. So a thread does the writing, from a buffer that has a bound: what finds
it full is dropped and counted, and the log says how much that was as soon as it flows again. Writing without blocking
would not do: the flag is one for all who share the pipe or the terminal, the shell among them.

`redis-scheduler doctor`, `--help` and the like write as any command does: what they say is what they were asked for.
"""

import atexit
import io
import os
import select
import signal
import sys
import threading
import time
from collections import deque

from redis_scheduler.logs import Events

logger = Events(__name__)

BUFFER_BYTES = 1_048_576
"""Most that waits to be written: some 5,000 lines, for a reader that is slow for a moment."""

ATOMIC_BYTES = select.PIPE_BUF
"""A pipe takes so much in one piece; processes that share a log never write into one another's lines of that length."""

TOLD_INTERVAL_S = 1.0
"""At least, from one line about dropped ones to the next, while a reader is too slow."""

LAST_WORDS_S = 2.0
"""How long the end of the process waits for what is left to be written."""


def open_closed() -> None:
    """Open on /dev/null what whoever started the process has closed: a socket or file would take its number.

    First of all, before anything is opened. Then prints go nowhere, where they went.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # open as long as the process


def never_wait(name: str) -> None:
    """From now on nothing that is written to `stdout` or `stderr` is waited for, to the end of the process."""
    # A terminal may be set to stop whoever writes to it from the background.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    before = getattr(sys, name)
    output = Output(before.fileno())
    stream = io.TextIOWrapper(output, "utf-8", "backslashreplace", line_buffering=True)  # type: ignore[type-var]
    setattr(sys, name, stream)

    def finish() -> None:
        stream.flush()
        if output.drain():
            setattr(sys, name, before)  # the thread does not outlive the interpreter, and may have something to say

    atexit.register(finish)


class Output(io.RawIOBase):
    """A file that is written to by a thread of its own. Whole lines are dropped where it takes no more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        """With what is being written."""
        self._has_more = threading.Event()
        self._dropped = 0
        self._told_at = 0.0
        self._was_cut = False
        self._thread: threading.Thread | None = None

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether a person reads it."""
        return os.isatty(self._descriptor)

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # any buffer
        """Take a line; return its length, also where it was dropped."""
        line = bytes(data)
        with self._lock:
            # What tells of dropped lines comes from the thread itself, and is not dropped.
            if self._waiting_bytes >= BUFFER_BYTES and threading.current_thread() is not self._thread:
                self._dropped += 1
                return len(line)
            self._waiting_bytes += len(line)
            self._waiting.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"output-{self._descriptor}", daemon=True)
                self._thread.start()
        if not self._has_more.is_set():
            self._has_more.set()
        return len(line)

    def drain(self, timeout_s: float = LAST_WORDS_S) -> bool:
        """Wait until all is written, but no longer than that; return whether it was."""
        deadline = time.monotonic() + timeout_s
        while self._waiting_bytes and time.monotonic() < deadline:
            time.sleep(0.002)
        return not self._waiting_bytes

    def _run(self) -> None:
        while True:
            self._has_more.wait()
            self._has_more.clear()
            while lines := self._next():
                was_written = self._write_out(b"".join(lines))
                with self._lock:
                    self._waiting_bytes -= sum(map(len, lines))
                    self._dropped += 0 if was_written else len(lines)
                if was_written:
                    self._tell()

    def _next(self) -> list[bytes]:
        """Take the lines that one write may hold, at least one if there is any."""
        lines: list[bytes] = []
        room = ATOMIC_BYTES
        while self._waiting and (not lines or len(self._waiting[0]) <= room):
            lines.append(self._waiting.popleft())
            room -= len(lines[-1])
        return lines

    def _write_out(self, data: bytes) -> bool:
        left = memoryview(b"\n" + data if self._was_cut else data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # somebody who shares it does not want to wait; this thread may
                select.select((), (self._descriptor,), ())
            except OSError:  # nobody reads any more, the terminal is gone, the disk is full
                self._was_cut = self._was_cut or len(left) < len(data)
                return False
        self._was_cut = False
        return True

    def _tell(self) -> None:
        """Say how many lines were dropped, once there is room again."""
        now = time.monotonic()
        if self._dropped and (not self._waiting or now >= self._told_at + TOLD_INTERVAL_S):
            self._told_at = now
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            logger.warning("log-lines-dropped", lines=dropped)
