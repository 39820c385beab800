"""A client that looks at much at once: what a test asks for concurrently goes in one round trip."""

import asyncio
from typing import Any

import redis.asyncio


class Together(redis.asyncio.Redis):
    """The library's client; what is asked for at the same time goes in one round trip."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._asked: list[tuple[tuple[Any, ...], dict[str, Any], asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append((arguments, options, answer))
        if len(self._asked) == 1:
            self._sender = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        asked, self._asked = self._asked, []
        pipeline = self.pipeline(transaction=False)
        for arguments, options, _ in asked:
            pipeline.execute_command(*arguments, **options)
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except Exception as error:
            # Whoever asked is told.
            answers = [error] * len(asked)
        for answer, (_, _, future) in zip(answers, asked, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
