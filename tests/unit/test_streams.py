"""Streams that nobody reads, that are full, closed or cut off: nothing is waited for, and what is dropped is
counted."""

import contextlib
import fcntl
import io
import logging
import os
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redis_scheduler.process.streams import ATOMIC_BYTES, BUFFER_BYTES, Output

LINE = b"%06d " + b"x" * 200 + b"\n"


def until(condition: Callable[[], object], description: str, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, description
        time.sleep(0.005)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where it is read, and where it is written."""
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(descriptor)


def _unread_bytes(reader: int) -> int:
    return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)


def read_lines(reader: int, output: Output) -> list[bytes]:
    """Read all that is still to come."""
    os.set_blocking(reader, False)
    found = bytearray()

    def is_written() -> bool:
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(reader, 65_536):
                found.extend(piece)
        return not output._lines_bytes

    until(is_written, "all is written")
    is_written()
    return bytes(found).splitlines(keepends=True)


def test_a_pipe_that_nobody_reads_is_not_waited_for_and_what_it_lost_is_counted(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    output = Output(writer)
    count, first = 2 * BUFFER_BYTES // len(LINE % 0), 1_000
    for number in range(first):
        output.write(LINE % number)
    until(lambda: _unread_bytes(reader) > 60_000, "the pipe is full")
    for number in range(first, count):
        output.write(LINE % number)
    assert output._lines_bytes < BUFFER_BYTES + len(LINE % 0)
    assert caplog.records == []
    kept = read_lines(reader, output)
    assert kept == [LINE % number for number in range(len(kept))], "the first lines, whole and in order"
    assert BUFFER_BYTES < sum(map(len, kept)) < BUFFER_BYTES + 100_000
    until(lambda: caplog.records, "it says what it dropped")
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "log-lines-dropped")
    assert vars(record)["fields"] == {"lines": count - len(kept)}
    output.write(LINE % 7)
    assert read_lines(reader, output) == [LINE % 7]
    assert len(caplog.records) == 1


def test_the_line_about_dropped_lines_is_written_where_they_are_missing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer)
    stream = io.TextIOWrapper(output, line_buffering=True)  # type: ignore[type-var]  # it writes, and no more
    handler = logging.StreamHandler(stream)
    logging.getLogger("redis_scheduler.process.streams").addHandler(handler)
    try:
        count, first = 2 * BUFFER_BYTES // len(LINE % 0), 1_000
        for number in range(first):
            output.write(LINE % number)
        until(lambda: _unread_bytes(reader) > 60_000, "the pipe is full")
        for number in range(first, count):
            output.write(LINE % number)
        *_, last = read_lines(reader, output)
        assert last == b"log-lines-dropped\n"
    finally:
        logging.getLogger("redis_scheduler.process.streams").removeHandler(handler)


def test_a_slow_reader_is_told_of_every_dropped_line(pipe: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = pipe
    output = Output(writer)
    count, found = 3 * BUFFER_BYTES // len(LINE % 0), bytearray()
    for number in range(count):
        output.write(LINE % number)
        if number % 100 == 99:
            found += os.read(reader, 5_000)
    kept = found.splitlines(keepends=True) + read_lines(reader, output)
    until(lambda: caplog.records and not output._dropped, "it says what it dropped")
    lines = len(b"".join(kept)) // len(LINE % 0)
    assert lines + sum(vars(record)["fields"]["lines"] for record in caplog.records) == count


def test_lines_that_a_pipe_takes_in_one_piece_are_never_cut(pipe: tuple[int, int]) -> None:
    """Several processes write to one pipe: what is longer than ATOMIC_BYTES another may write into."""
    reader, writer = pipe
    outputs = [Output(writer) for _ in range(2)]

    def write(output: Output, mark: bytes) -> None:
        for length in range(1, 400):
            output.write(mark * (length * 10) + b"\n")

    threads = [threading.Thread(target=write, args=pair) for pair in zip(outputs, (b"a", b"b"), strict=True)]
    for thread in threads:
        thread.start()
    lines = read_lines(reader, outputs[0])
    for thread in threads:
        thread.join()
    lines += read_lines(reader, outputs[1])
    for mark in (b"a", b"b"):
        assert sorted(len(line) for line in b"".join(lines).splitlines() if line.strip(mark) == b"") == [
            length * 10 for length in range(1, 400)
        ]


def test_a_longer_line_comes_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer)
    lines = [b"y" * (3 * ATOMIC_BYTES) + b"\n", b"short\n", b"z" * 100_000 + b"\n"]
    for line in lines:
        output.write(line)
    assert read_lines(reader, output) == lines


def test_without_a_reader_lines_are_dropped_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    output = Output(writer)
    for number in range(10):
        output.write(LINE % number)
    until(lambda: output._dropped == 10, "they are counted")


def test_a_full_disk_drops_lines_and_nothing_else() -> None:
    with Path("/dev/full").open("wb") as full:
        output = Output(full.fileno())
        for number in range(10):
            output.write(LINE % number)
        until(lambda: output._dropped == 10, "they are counted")


def test_a_line_that_a_full_disk_cut_off_does_not_spoil_the_next() -> None:
    script = """
import os, resource, sys, time
from redis_scheduler.process.streams import Output
output = Output(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (15, resource.RLIM_INFINITY))
for _ in range(3):
    output.write(b"cut off in the middle\\n")
    while output._lines_bytes: time.sleep(0.001)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
output.write(b"the next\\n")
output.drain()
"""
    with tempfile.TemporaryFile() as file:
        subprocess.run([sys.executable, "-c", script], stdout=file, stderr=subprocess.PIPE, check=True, timeout=20)
        file.seek(0)
        assert file.read() == b"cut off in the \nthe next\n"


def test_what_another_made_non_blocking_is_written_all_the_same(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETFL, fcntl.fcntl(writer, fcntl.F_GETFL) | os.O_NONBLOCK)
    output = Output(writer)
    lines = [LINE % number for number in range(1_000)]
    for line in lines:
        output.write(line)
    assert read_lines(reader, output) == lines


def test_the_end_waits_for_a_reader_but_not_for_ever(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer)
    for number in range(1_000):
        output.write(LINE % number)
    started = time.monotonic()
    assert not output.drain(0.2)
    assert 0.2 <= time.monotonic() - started < 10
    reading = threading.Thread(target=read_lines, args=(reader, output))
    reading.start()
    assert output.drain(10)
    reading.join()
