"""What this process says of itself to the others, through Redis (store/processes.py)."""

import time
from typing import TYPE_CHECKING

from redis_scheduler import __version__
from redis_scheduler.store.processes import Look, Said, encode_said

if TYPE_CHECKING:  # a process that only serves the API does without the engine
    from redis_scheduler.engine.seen import HostsSeen
    from redis_scheduler.engine.slots import Slots


class Report:
    """Gathers it."""

    def __init__(self, role: str, shards: str = "") -> None:
        self._said = Said(role=role, version=__version__, since_ms=int(time.time() * 1000), shards=shards)
        self.slots: Slots | None = None
        self.seen: HostsSeen | None = None
        """Of a worker that runs."""

    def tell_look(self, look: Look) -> None:
        """Take what a look at all tasks has found."""
        self._said.look = look

    def encoded(self) -> bytes:
        """Return it as it is now."""
        said = self._said
        if self.slots is not None:
            said.slots, said.busy = self.slots.concurrency, self.slots.running
        if self.slots is not None and self.seen is not None:
            said.span_ms, said.hosts = self.seen.told(self.slots.busy_hosts)
        return encode_said(self._said)
