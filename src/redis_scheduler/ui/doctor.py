"""A look at all that stands in Redis, begun by a button: what `redis-scheduler doctor` does, without repairs, in the
background of this process. What it finds all processes show."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.logs import Events
from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.generations import Generations
from redis_scheduler.store.ledger import read_ledger
from redis_scheduler.store.processes import Look
from redis_scheduler.store.refusal import told

logger = Events(__name__)

LOOK_S = 600.0
"""After so long a look ends: for more tasks there is the command."""

TEXTS_MOST, TEXT_LENGTH = 20, 300
"""So many faults are told in words."""


class Doctor:
    """Looks at all shards, once at a time. `tell` is told of what is found."""

    def __init__(self, clients: Sequence[RedisClient], generations: Generations, tell: Callable[[Look], None]) -> None:
        self._clients = clients
        self._generations = generations
        self._tell = tell
        self._looking: asyncio.Task[None] | None = None
        self.look: Look | None = None
        """What the last look of this process has found, or finds."""

    def begin(self, by: str) -> bool:
        """Begin a look; return False if one is under way."""
        if self._looking is not None and not self._looking.done():
            return False
        look = Look(at_ms=int(time.time() * 1000), by=by[:100])
        self._note(look)
        self._looking = asyncio.create_task(self._examine(look), name="doctor")
        return True

    def close(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()

    def _note(self, look: Look) -> None:
        self.look = look
        self._tell(look)

    async def _examine(self, look: Look) -> None:
        began, faults = time.monotonic(), Counter[str]()
        texts: list[str] = []
        missing, error = 0, ""
        try:
            async with asyncio.timeout(LOOK_S):
                for client in self._clients:
                    async for finding in audit(client, numbers=self._generations.numbers):
                        faults[finding.kind] += 1
                        if len(texts) < TEXTS_MOST:
                            texts.append(finding.text[:TEXT_LENGTH])
                    missing += (await read_ledger(client)).missing
        except TimeoutError:
            error = f"It took more than {LOOK_S / 60:.0f} minutes: redis-scheduler doctor takes as long as it needs"
        except (StoreUnavailable, StoreFull) as failure:
            error = told(failure)
        except Exception as failure:
            logger.fault("fault", failure, task="doctor")
            error = "It failed; the service's log has the details"
        took_ms = int((time.monotonic() - began) * 1000)
        found = {"is_done": not error, "faults": dict(faults), "texts": texts, "missing": missing, "error": error}
        self._note(msgspec.structs.replace(look, took_ms=took_ms, **found))
