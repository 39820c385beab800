"""The body of POST /schedules: many tasks, each checked as that of POST /schedule, and refused with its number.

The list is cut into its tasks before any of them is read, and no further than 1,000: a million members of a hostile
list cost neither time nor memory. The tasks are read some at a time, so that other requests are served in between.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from redis_scheduler.api import reading, requests
from redis_scheduler.api.bodies import BatchItem
from redis_scheduler.api.diagnosis import examined, list_text
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, RequestRefused
from redis_scheduler.task.given import quoted
from redis_scheduler.task.json_text import without_halves

BATCH_MOST = 1_000
"""Tasks of one request. MAX_BODY bounds their bytes."""

READ_AT_ONCE = 20
"""So many tasks are read in one go: about 0.1 ms, and 3 ms if each is a kilobyte that the decoder refuses."""

READ_BYTES = 16_384
"""Nor more bytes than this, or one task: callbacks may stand in it by the hundred, which takes 10 ms."""

_RULE = f"must be a list of 1 to {BATCH_MOST} tasks"

COUNTED_MOST = 2 * BATCH_MOST
"""Of more tasks than these the error does not say how many."""


@cache
def _cut_of(most: int) -> Callable[[bytearray], Any]:
    """Return what cuts a list of so many members at most, and raises ValidationError for a longer one. It takes
    5 ms to make."""
    places = [(f"place_{number}", Raw | UnsetType, UNSET) for number in range(most)]
    # The decoder stops at the first member behind the last place; a list with a bound is read to its end before that.
    shape = msgspec.defstruct("_Places", places, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(shape).decode


_cut = _cut_of(BATCH_MOST)
_decode_item = msgspec.json.Decoder(BatchItem).decode


async def batch_request(body: bytes) -> list[BatchItem]:
    """Return the checked tasks of the body of POST /schedules, in their order. Raises InvalidRequest."""
    if not body:
        raise InvalidRequest(Code.NOT_JSON, "The body is empty: it must be a JSON object")
    items: list[BatchItem] = []
    own_keys: dict[str, int] = {}
    read_bytes = 0
    for index, text in enumerate(_texts_of(body)):
        read_bytes += len(text)
        if index % READ_AT_ONCE == READ_AT_ONCE - 1 or read_bytes > READ_BYTES:
            read_bytes = 0
            await asyncio.sleep(0)
        with of_task(index):
            items.append(item := _item(text))
            if item.key is not UNSET and (other := own_keys.setdefault(item.key, index)) != index:
                raise InvalidField("key", f"is that of tasks[{other}], too, got {quoted(item.key)}", Code.CONTRADICTION)
            if reading.may_be_deep(text):
                await reading.check_nesting(text)
    return items


def refuse_own_keys(items: list[BatchItem]) -> None:
    """Raise InvalidField for an own key: of a request with an Idempotency-Key."""
    for index, item in enumerate(items):
        if item.key is not UNSET:
            with of_task(index):
                error = "must not be given beside an Idempotency-Key: who has keys of one's own needs none, got "
                raise InvalidField("key", error + quoted(item.key), Code.CONTRADICTION)


@contextmanager
def of_task(index: int) -> Iterator[None]:
    """Say of errors which task they are about."""
    try:
        yield
    except RequestRefused as error:
        said = str(error)
        said = f": {said.removeprefix('The body ')}" if error.field is None else f".{said}"
        error.args = (f"tasks[{index}]{said}",)
        error.index, error.field = index, error.field or "tasks"
        raise


def _texts_of(body: bytes) -> list[bytes]:
    """Return the JSON text of each task. Raises InvalidRequest."""
    try:
        tasks = list_text(body, "tasks", _RULE)
        buffer = bytearray(without_halves(tasks))
        try:
            places = msgspec.structs.astuple(_cut(buffer))
        except msgspec.ValidationError:
            raise InvalidField("tasks", f"{_RULE}, got {_counted(buffer)}") from None
    except RecursionError as error:
        raise InvalidRequest(Code.TOO_DEEP, reading.TOO_DEEP) from error
    buffer[:] = tasks  # its raw parts are views: give them the original bytes
    texts = [bytes(text) for text in places if text is not UNSET]
    if not texts:
        raise InvalidField("tasks", f"{_RULE}, got none")
    return texts


def _counted(tasks: bytearray) -> str:
    """Return how many members a list has, as an error shows it."""
    try:
        places = msgspec.structs.astuple(_cut_of(COUNTED_MOST)(tasks))
    except msgspec.ValidationError:
        return f"more than {COUNTED_MOST}"
    return f"{len(places) - places.count(UNSET)}"


def _item(text: bytes) -> BatchItem:
    """Return a task from its text, which is JSON. Raises InvalidRequest."""
    try:
        try:
            item = _decode_item(text)
        except msgspec.MsgspecError:
            item = examined(text, BatchItem)
        else:
            if requests.may_repeat(text, item, 2 * ((item.type is not UNSET) + (item.key is not UNSET))):
                item = examined(text, BatchItem)
    except RecursionError as error:
        raise InvalidRequest(Code.TOO_DEEP, reading.TOO_DEEP) from error
    requests.check_task(item)
    if item.type is not UNSET:
        requests.check_new_type(item.type)
    if item.key is not UNSET:
        requests.check_own_key(item.key)
    return item
