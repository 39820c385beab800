"""What a process of each role imports, and when.

uvicorn and aiohttp are half the cost of a start, and not every process needs both: an API has no use for aiohttp, a
worker none for uvicorn, a supervisor none for either. So modules that need them are imported where they are used.
"""

import gc
import importlib

from redis_scheduler.settings import ALL, API, WORKER

_API_PARTS, _WORKER_PARTS = ("api.app", "api.server"), ("delivery.attempt", "engine.engine")
_PARTS = {API: _API_PARTS, WORKER: _WORKER_PARTS, ALL: _API_PARTS + _WORKER_PARTS}
"""The modules that only some roles need."""


def import_parts(role: str) -> None:
    """Import the modules of a role; no collection of garbage ever looks at them."""
    gc.disable()
    for module in _PARTS[role]:
        importlib.import_module(f"redis_scheduler.{module}")
    gc.freeze()
    gc.enable()
