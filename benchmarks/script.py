"""What the scripts share that harness.py runs as processes of their own: receiver.py, empty.py, sleeper.py, loop.py.

Each prints one line once it is ready, and ends when its standard input does: it cannot outlive who started it.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine

import uvloop


def run(main: Callable[[asyncio.Event], Coroutine[None, None, None]]) -> None:
    """Run `main` on uvloop; its event is set when standard input ends."""

    async def until_end() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
        await main(ended)

    # A terminal's Ctrl-C reaches every process; this one leaves when its starter has finished with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_end())
