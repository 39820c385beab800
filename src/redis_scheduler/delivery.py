"""One attempt over HTTP: POST the bytes of `data` to the webhook, and say how it went. Knows nothing of Redis.

2xx is success. Anything else is a failed attempt: another status, a redirect (never followed), a time-out, a connection
error. Of an answer at most ANSWER_BYTES are read, as they come: nothing is decompressed.
"""

import time
import warnings
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from redis_scheduler import __version__
from redis_scheduler.store import Claim

ANSWER_BYTES = 65_536
ERROR_LENGTH = 200
"""Characters of an error that are kept with a failed task."""

KEY_HEADER = "Schedule-Key"
ATTEMPT_HEADER = "Schedule-Attempt"

KEEPALIVE_S = 15
"""How long an idle connection to a receiver is kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went: no error is a success. `status` is None when there was no answer."""

    error: str | None
    status: int | None
    elapsed_ms: int


class Deliverer:
    """Attempts deliveries. An async context manager: it holds the connections to the receivers."""

    def __init__(self, token: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._headers = {
            "Content-Type": "application/json",
            "Authorization": token,
            "User-Agent": f"redis-scheduler/{__version__}",
        }
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        # A body larger than 1 MiB is sent as it is: it is in memory already, and bounded by MAX_BODY.
        warnings.filterwarnings("ignore", "Sending a large body directly", ResourceWarning)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            headers=self._headers,
            skip_auto_headers=("Accept", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=None),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def attempt(self, claim: Claim) -> Outcome:
        """Make one attempt; every way it can fail is an outcome."""
        started = time.monotonic()
        status: int | None = None
        error: str | None = None
        try:
            webhook = claim.record.webhook
            async with self._session.post(
                # What is ASCII is sent as it was given: a signed URL must not be quoted anew.
                URL(webhook, encoded=webhook.isascii()),
                data=claim.record.data or b"",
                headers={KEY_HEADER: claim.key, ATTEMPT_HEADER: str(claim.attempts + 1)},
                allow_redirects=False,
            ) as response:
                status = response.status
                await _read(response)
            if not 200 <= status < 300:
                error = f"answered {status}"
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s" if status is None else "the answer did not end in time"
        except Exception as problem:  # whatever a receiver or a URL can bring about is a failed attempt
            error = f"{type(problem).__name__}: {problem}"[:ERROR_LENGTH]
        return Outcome(error, status, round((time.monotonic() - started) * 1000))


async def _read(response: aiohttp.ClientResponse) -> None:
    """Read the answer to its end, so that the connection can be used again, or to the limit, which closes it."""
    room = ANSWER_BYTES
    while room > 0 and (chunk := await response.content.read(room)):
        room -= len(chunk)
