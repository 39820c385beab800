"""A joint call: all who want the same answer at the same time wait for one call."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Joint(Generic[T]):
    """Makes calls of one kind, never two at once. `name`: of the asyncio tasks that make them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._call: asyncio.Task[T] | None = None

    async def answer(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the call under way answers; if there is none, begin one by `ask`. Its error goes to all who wait
        for it."""
        if self._call is None or self._call.done():
            self._call = asyncio.create_task(ask(), name=self._name)
            # There may be nobody who waits for its error.
            self._call.add_done_callback(lambda task: task.cancelled() or task.exception())
        # A request that is cancelled while it waits must not cancel it.
        return await asyncio.shield(self._call)
