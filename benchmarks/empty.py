"""The endpoint that does nothing, behind the service's own HTTP server: what an API of this kind can be at best.

It prints its port; script.py says when it ends.
"""

import asyncio
import gc

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import script
from redis_scheduler.api.server import create_server, listen
from redis_scheduler.process.service import GC_THRESHOLD

# As long as the answer to a schedule.
ANSWER = (
    b'{"status":200,"data":"0123456789012345678901","key":"0123456789012345678901","due":"2026-01-01T00:00:00.000Z"}'
)


async def endpoint(_request: Request) -> Response:
    """POST /: always the same."""
    return Response(ANSWER, media_type="application/json")


async def main(ended: asyncio.Event) -> None:
    """Answer until standard input ends."""
    listener = listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    server = create_server(Starlette(routes=[Route("/", endpoint, methods=["POST"])]), grace_s=1)
    await server.run_until(ended, ended, listener)


if __name__ == "__main__":
    # As an API does.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    script.run(main)
