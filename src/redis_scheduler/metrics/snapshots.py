"""What each process of one supervisor has counted, in memory that they all share and that outlives each of them.

Each child has a place of its own, which the next one takes over with all numbers in it: so no number goes back when a
child dies. Nothing of it is a file that others could see; it goes with the last process.

A place has two halves. A child writes the one that is not read, and then says that it is: so one that is killed in the
middle leaves what was there before. Whoever reads looks at the checksum.
"""

import os
import struct
import zlib
from collections.abc import Iterable
from operator import add

import msgspec

from redis_scheduler.metrics.meter import SUM, Meter, Numbers

HALF_BYTES = 1_048_576
"""Of one snapshot at most; a process has some 100 kB. Pages that are not used take no memory."""

PLACE_BYTES = 2 * HALF_BYTES
_HEAD = struct.Struct("<IIQ")
"""Bytes and checksum of a snapshot, and its number."""
_LOOKS = 3

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[tuple[str, ...], list[int]]]).decode


def shared_memory(places: int) -> int:
    """Return the descriptor of memory for so many processes, which children may inherit."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("redis-scheduler-metrics")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, places * PLACE_BYTES)
    return descriptor


class Snapshots:
    """The places in shared memory; this process writes its `own`. The supervisor has none."""

    def __init__(self, descriptor: int, own: int = -1) -> None:
        self._descriptor = descriptor
        self._places = os.fstat(descriptor).st_size // PLACE_BYTES
        self._own = own
        found = [number for number, _ in self._found(own)] if own >= 0 else [0, 0]
        self._number, self._half = max(found), found.index(max(found))
        self.dropped = 0
        """Snapshots that were larger than a half."""

    def write(self, numbers: Numbers) -> None:
        """Put the numbers of this process into its place."""
        content = _encode(list(numbers.items()))
        if len(content) > HALF_BYTES - _HEAD.size:
            self.dropped += 1
            return
        self._number, self._half = self._number + 1, 1 - self._half
        at = self._own * PLACE_BYTES + self._half * HALF_BYTES
        os.pwrite(self._descriptor, content, at + _HEAD.size)
        os.pwrite(self._descriptor, _HEAD.pack(len(content), zlib.crc32(content), self._number), at)

    def own(self) -> Numbers:
        """Return what a process before this one has left in its place."""
        return self._read(self._own)

    def others(self) -> list[Numbers]:
        """Return what stands in the other places."""
        return [self._read(place) for place in range(self._places) if place != self._own]

    def _found(self, place: int) -> list[tuple[int, bytes]]:
        """Return number and content of both halves; 0 and nothing for one that is not whole."""
        found = []
        for half in range(2):
            at = place * PLACE_BYTES + half * HALF_BYTES
            size, checksum, number = _HEAD.unpack(os.pread(self._descriptor, _HEAD.size, at))
            content = os.pread(self._descriptor, min(size, HALF_BYTES), at + _HEAD.size)
            found.append((number, content) if zlib.crc32(content) == checksum else (0, b""))
        return found

    def _read(self, place: int) -> Numbers:
        for _ in range(_LOOKS):
            number, content = max(self._found(place))
            if number:
                # A child of a newer version, since an update, may count in other buckets.
                return {key: numbers for key, numbers in _decode(content) if len(numbers) in (1, SUM + 1)}
        return {}


def leave_counters(descriptor: int, place: int) -> None:
    """Forget the gauges of a child that has ended; what it has counted stays."""
    left = Snapshots(descriptor, place)
    left.write(Meter(left.own()).read())


def total(all_numbers: Iterable[Numbers]) -> Numbers:
    """Return the sums of all numbers."""
    found: Numbers = {}
    for one in all_numbers:
        for key, numbers in one.items():
            found[key] = list(map(add, found[key], numbers)) if key in found else list(numbers)
    return found
