"""What a process of each role imports, and when.

What only the API or only deliveries need is imported where it is used: uvicorn and aiohttp are half of what a start
costs, and a supervisor, or a process of one role, does without one of them or both.
"""

import gc
import importlib

from redis_scheduler.settings import ALL, API, WORKER

_API_PARTS, _WORKER_PARTS = ("api.app", "api.server"), ("delivery.attempt", "engine.reclaimer", "engine.worker")
_PARTS = {API: _API_PARTS, WORKER: _WORKER_PARTS, ALL: _API_PARTS + _WORKER_PARTS}
"""What a role needs, and others may do without."""


def import_parts(role: str) -> None:
    """Import what a role consists of; no collection of garbage looks at it."""
    gc.disable()  # what is imported stays: no collection looks at it, now or later
    for module in _PARTS[role]:
        importlib.import_module(f"redis_scheduler.{module}")
    gc.freeze()
    gc.enable()
