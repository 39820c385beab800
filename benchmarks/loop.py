"""The process that does nothing: an event loop, of the service's kind, that waits for a signal. A reference of
idle.py."""

import asyncio
import signal

from benchmarks import script


async def main(ended: asyncio.Event) -> None:
    """Wait for SIGTERM, or for the end of standard input."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    await ended.wait()


if __name__ == "__main__":
    script.run(main)
