"""The endpoint that does nothing, behind the service's own HTTP server: what an API of this kind can be at best.

Started by harness.py, it prints its port, and ends when its standard input does: it cannot outlive who started it.
"""

import asyncio
import gc
import signal
import sys

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redis_scheduler.api.server import create_server, listen
from redis_scheduler.lifecycle import GC_THRESHOLD

# As long as the answer to a schedule.
ANSWER = (
    b'{"status":200,"data":"0123456789012345678901","key":"0123456789012345678901","due":"2026-01-01T00:00:00.000Z"}'
)


async def endpoint(_request: Request) -> Response:
    """POST /: always the same."""
    return Response(ANSWER, media_type="application/json")


async def main() -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    listener = listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    server = create_server(Starlette(routes=[Route("/", endpoint, methods=["POST"])]), grace_s=1)
    await server.run_until(stop, stop, listener)


if __name__ == "__main__":
    # A terminal's Ctrl-C reaches every process; this one leaves when its starter has finished with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As an API does.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
