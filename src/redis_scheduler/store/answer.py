"""Reads answers of Redis, and bounds the memory that one of them may take, whatever server answers.

The library reads on until an answer is whole. An answer that does not end, or claims to be enormous, would take all the
memory until the call's time is over. Here an answer that is larger than any of ours ends the connection.
"""

import asyncio
import re
from typing import Any, cast

from redis._parsers import _AsyncHiredisParser
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis._parsers.socket import SERVER_CLOSED_CONNECTION_ERROR
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

UNSCANNED_BYTES = 1_048_576
"""So much of an answer is read before it is looked at: usual answers cost nothing."""

LINE_BYTES = 65_536
"""A line (a status, an error, a number) may have so many."""

BULK_BYTES = 270_532_608
"""A value may have so many: a record with the largest body that MAX_BODY allows, and 2 MiB for its webhook."""

ANSWER_BYTES = BULK_BYTES + 16 * UNSCANNED_BYTES
"""A whole answer may have so many: scripts read about 1 MiB and one record; lists by id are smaller."""

ELEMENTS_MOST = 1_000_000
"""An answer may have so many values and lists: the smallest take 14 times their bytes."""


_LONG_COUNT = re.compile(rb"\*[0-9]{7}")
"""The head of a list with more members: hiredis makes room for all of them when it reads that."""

_LONG_RESP3_COUNT = re.compile(rb"\n[>~|%][0-9]{7}")

_KINDS = frozenset(b"+-:$*")
"""First bytes of the kinds of RESP2. hiredis also reads RESP3, unasked: a push, set or map of any size it claims."""

_COUNT_BYTES = 12
"""Bytes of the longest count that hiredis takes, less its end of line."""


class AnswerTooLarge(InvalidResponse):
    """Redis may have answered this, but the service asks for nothing of that size."""


def _has_long_count(data: bytes) -> bool:
    # A list begins with `*`. Looking for that byte costs a fiftieth of the pattern.
    if _LONG_COUNT.match(data) or (data.find(b"*", 1) > 0 and _LONG_COUNT.search(data)):
        return True
    # Within an answer, these stand at the beginning of a line.
    return _LONG_RESP3_COUNT.search(data) is not None


class _Scan:
    """Follows an answer from value to value."""

    def __init__(self) -> None:
        self._line = b""
        self._skip = 0
        self._bytes = self._elements = 0

    def feed(self, data: bytes) -> None:
        """Follow the next bytes. Raises AnswerTooLarge, or InvalidResponse if they are no answer."""
        self._bytes += len(data)
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._line += data[at:end]
            at = end
            if len(self._line) > LINE_BYTES:
                raise AnswerTooLarge(f"more than {LINE_BYTES} bytes in a line")
            if self._line.endswith(b"\n"):
                self._count(self._line)
                self._line = b""
        if self._bytes > ANSWER_BYTES:
            raise AnswerTooLarge(f"more than {ANSWER_BYTES} bytes")
        if self._elements > ELEMENTS_MOST:
            raise AnswerTooLarge(f"more than {ELEMENTS_MOST} values")

    def _count(self, line: bytes) -> None:
        self._elements += 1
        if line[0] not in _KINDS:
            raise InvalidResponse("no answer of RESP2")
        if line[:1] in (b"$", b"*"):
            try:
                announced = int(line[1:])
            except ValueError:
                raise InvalidResponse("no length") from None
            most, unit = (BULK_BYTES, "bytes in a value") if line[:1] == b"$" else (ELEMENTS_MOST, "values in a list")
            if announced > most:
                raise AnswerTooLarge(f"more than {most} {unit}")
            if line[:1] == b"$" and announced >= 0:
                self._skip = announced + 2


class BoundedParser(_AsyncHiredisParser):
    """The library's parser of RESP2, with bounds."""

    _tail = b""
    """The last bytes that were read, until an answer has used them: a count may come in pieces."""

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:  # noqa: ARG002  # the library's
        """Return an answer, as bytes; an error of Redis as an exception.

        Raises ConnectionError; InvalidResponse if it is no answer; AnswerTooLarge, one of these, if it is too large.
        """
        if not self._connected:
            raise RedisConnectionError(SERVER_CLOSED_CONNECTION_ERROR)
        reader, stream = cast(Any, self._reader), cast(asyncio.StreamReader, self._stream)
        # The first bytes of a message behind another were read with that one: this one cannot be followed.
        begun_before = reader.has_data()
        if not begun_before:
            self._tail = b""
        scan: _Scan | None = None
        unscanned: list[bytes] = []
        size = 0
        while (response := _parsed(reader)) is NOT_ENOUGH_DATA:
            data = await stream.read(self._read_size)
            if not data:
                raise RedisConnectionError(SERVER_CLOSED_CONNECTION_ERROR)
            if not begun_before and not size and data[0] not in _KINDS:
                raise InvalidResponse("no answer of RESP2")
            is_suspect = _has_long_count(data) or (self._tail and _has_long_count(self._tail + data[:_COUNT_BYTES]))
            self._tail = data[-_COUNT_BYTES:] if len(data) >= _COUNT_BYTES else (self._tail + data)[-_COUNT_BYTES:]
            unscanned.append(data)
            size += len(data)
            if is_suspect or scan or size > UNSCANNED_BYTES:
                if begun_before:
                    raise AnswerTooLarge("a message that nobody here sends")
                scan = scan or _Scan()
                scan.feed(b"".join(unscanned))
                unscanned.clear()
            reader.feed(data)
        if isinstance(response, RedisConnectionError):
            raise response
        return response


def _parsed(reader: Any) -> Any:
    try:
        return reader.gets(False)
    except RedisError:
        raise
    except MemoryError as error:
        raise AnswerTooLarge("more than there is memory for") from error
    except Exception as error:
        # The library makes errors from their texts, and knows only those of Redis.
        raise InvalidResponse("an answer that the library cannot read") from error
