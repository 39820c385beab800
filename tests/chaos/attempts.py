"""A receiver that fails some attempts, and what must hold of all of them: each made once, counted, and never early."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable

from aiohttp import web

from tests.chaos.figures import Spread
from tests.support.receiver import Arrival


class Attempts:
    """A receiver's behaviour: task n fails its first `failures(n)` attempts; each takes `seconds(n)`."""

    def __init__(self, failures: Callable[[int], int], seconds: Callable[[int], float] = lambda _: 0) -> None:
        self._failures = failures
        self._seconds = seconds
        self._answered: dict[tuple[int, int], list[float]] = defaultdict(list)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        number, attempt = json.loads(await request.read())["n"], int(request.headers["Schedule-Attempt"])
        await asyncio.sleep(self._seconds(number))
        self._answered[number, attempt].append(time.time())
        return web.Response(status=500 if attempt <= self._failures(number) else 200)

    def fails(self, number: int) -> bool:
        return self._failures(number) > 0

    def failed(self, arrivals: dict[int, list[Arrival]]) -> int:
        """How many attempts must have been counted as failed."""
        return sum(self._failures(number) for number in arrivals)

    def assert_each_once_and_none_early(self, arrivals: dict[int, list[Arrival]], retry_time_s: float) -> Spread:
        """Fail if an attempt was made twice, skipped or early; return how late the retries were."""
        delays = []
        for number, found in arrivals.items():
            attempts = [arrival.attempt for arrival in found]
            assert attempts == list(range(1, self._failures(number) + 2)), f"task {number} had the attempts {attempts}"
            for arrival in found[1:]:
                failed_at = self._answered[number, arrival.attempt - 1][-1]
                delays.append(arrival.at - failed_at - retry_time_s)
        assert min(delays) >= 0, f"a retry came {-min(delays):.4f} s early"
        return Spread.of(delays)
