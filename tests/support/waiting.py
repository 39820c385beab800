"""Waits for conditions: a test never sleeps for a time and hopes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def wait_until(
    predicate: Callable[[], Awaitable[T]], description: str, timeout_s: float = 10, every_s: float = 0.01
) -> T: ...


@overload
async def wait_until(
    predicate: Callable[[], T], description: str, timeout_s: float = 10, every_s: float = 0.01
) -> T: ...


async def wait_until(
    predicate: Callable[[], Any], description: str, timeout_s: float = 10, every_s: float = 0.01
) -> Any:
    """Return the first true result of `predicate`; fail with the description when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = predicate()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {description}")
        await asyncio.sleep(every_s)
