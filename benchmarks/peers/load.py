"""The load that an enqueuer is asked for. Also run by the peers' own interpreter: nothing but the standard library."""

import json
import math
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.webhooks import Webhooks


@dataclass(frozen=True)
class Load:
    """So many tasks at `rate` a second, each due `ttl_s` after it was handed in; with a rate of 0 as fast as can be,
    and all due at one instant, `ttl_s` after the first."""

    tasks: int
    rate: int
    ttl_s: float

    def wait_s(self, number: int, started: float) -> float:
        """How long task `number` has to wait for its turn, when `started` is time.time() of the first."""
        return max(0.0, started + number / self.rate - time.time()) if self.rate else 0.0

    def due(self, started: float) -> float:
        """When a task is due that is handed in now: time.time() in whole milliseconds, which every peer keeps."""
        return math.ceil(1000 * ((time.time() if self.rate else started) + self.ttl_s)) / 1000


def arguments(webhooks: Webhooks, asked: Load) -> list[str]:
    """Return webhooks and load on a command line."""
    return [json.dumps(webhooks.bases), str(asked.tasks), str(asked.rate), str(asked.ttl_s)]


def read() -> tuple[Webhooks, Load]:
    """Return the webhooks and the load that the command line asks for."""
    bases, tasks, rate, ttl_s = sys.argv[-4:]
    return Webhooks(json.loads(bases)), Load(int(tasks), int(rate), float(ttl_s))


def data(number: int) -> dict[str, Any]:
    """What task `number` carries."""
    return {"order": number, "status": "shipped"}


def answer(due_times: dict[str, float]) -> None:
    """Tell when each task is due, by its key."""
    json.dump(due_times, sys.stdout)
