"""Looks names up without a thread for each: a name whose server is silent delays no other.

The system's look-up blocks a thread, so a few silent names take all threads that the event loop has. c-ares asks for
any number of names at once, as /etc/hosts and /etc/resolv.conf say. It lacks the other sources of nsswitch.conf (mDNS,
the machine's own name): where there are any, a few threads ask the system for names that c-ares does not find.

A look-up takes the addresses that fit into a packet, a hundred or so. If a packet holds none, the whole answer is asked
for, up to 64 KiB by TCP, in a second channel: c-ares holds a channel's lock while it reads an answer, and the event
loop must not wait for that (docs/decisions/0005).

Resolvers are independent: no look-up with one delays another.
"""

import asyncio
import errno
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import aiodns
import pycares

LOOK_UP_S = 5.0
"""A look-up may take no longer in all."""

TRY_S = 1.0
TRIES = 5
"""How long c-ares waits for a name server before it asks the next one, or the same again: twice as long each round.

Where answers came faster before, it waits less at first, but at least 0.25 s: the tries last for LOOK_UP_S then, too.
"""

FAILURE_S = 1.0
"""A look-up that failed is not repeated for so long."""

CHANNEL_S = 60.0
"""After so long c-ares begins anew: nothing that it knows of names, name servers and files is older."""

LOOK_UPS_MOST = 10_000
"""Look-ups under way at once; as many failures are remembered."""

SYSTEM_MOST = 8
"""Look-ups by the system at once: each holds a thread."""

THREAD_WITHIN_S = 0.1
"""A look-up waits so long for one of them: an attempt that waited until its own time is over would count as failed."""

ADDRESSES_MOST = 16
"""So many addresses of a name are tried; one answer may hold thousands."""

WHOLE_MOST = 32
"""Look-ups by one channel for whole answers: it keeps each answer, up to 1 MB in memory, as long as its TTL says."""

UNSORTED = 1 << 7
"""ARES_AI_NOSORT of ares.h, which pycares does not name: c-ares opens a socket for each address that it sorts."""

RESOLV_CONF = Path("/etc/resolv.conf")
NSSWITCH = Path("/etc/nsswitch.conf")
_OWN_SOURCES = {"files", "dns"}


class LookUpNotBegun(OSError):
    """This machine has no room for another look-up; nothing was asked."""

    def __init__(self) -> None:
        super().__init__(errno.ENOBUFS, "too many names are being looked up")


class NotFound(OSError):
    """The name has no address, or its name servers did not say one."""

    def __init__(self, text: str) -> None:
        super().__init__(None, text)


class Resolver:
    """Looks names up within one event loop, each name once at a time. `options` are c-ares' own."""

    def __init__(self, **options: Any) -> None:
        self._options: dict[str, Any] = {"timeout": TRY_S, "tries": TRIES} | options
        self._channel: aiodns.DNSResolver | None = None
        self._channel_ends_at = 0.0
        self._whole: pycares.Channel | None = None
        """Takes whole answers, however long. Only the thread of `_whole_asker` uses it."""
        self._whole_left = 0
        self._whole_asker = ThreadPoolExecutor(1, "look-up-whole")
        self._name_servers_are_of = 0
        self._asks_system = False
        self._looking: dict[str, asyncio.Task[list[str]]] = {}
        self._failures: dict[str, tuple[float, str]] = {}
        """By name: until when the failure counts, and its text."""
        self._system_threads = asyncio.Semaphore(SYSTEM_MOST)

    async def addresses(self, host: str) -> list[str]:
        """Return a name's addresses, the best first. Raises NotFound, or another OSError where this machine is at
        fault."""
        with suppress(ValueError):
            return [str(ip_address(host))]
        until, text = self._failures.get(host, (0.0, ""))
        if time.monotonic() < until:
            raise NotFound(text)
        look_up = self._looking.get(host)
        if look_up is None:
            if len(self._looking) >= LOOK_UPS_MOST:
                raise LookUpNotBegun
            look_up = self._looking[host] = asyncio.create_task(self._look_up(host))
            look_up.add_done_callback(lambda task: self._on_looked_up(host, task))
        # Others may wait for it, too.
        return await asyncio.shield(look_up)

    def _on_looked_up(self, host: str, look_up: "asyncio.Task[list[str]]") -> None:
        del self._looking[host]
        self._failures.pop(host, None)
        error = None if look_up.cancelled() else look_up.exception()
        if isinstance(error, NotFound):
            if len(self._failures) >= LOOK_UPS_MOST:
                self._failures.clear()
            self._failures[host] = (time.monotonic() + FAILURE_S, str(error.strerror))

    async def _look_up(self, host: str) -> list[str]:
        try:
            async with asyncio.timeout(LOOK_UP_S):
                addresses, text = await self._asked_of_name_servers(host)
        except TimeoutError:
            raise NotFound(f"no name server answered within {LOOK_UP_S:g} s") from None
        if not addresses and self._asks_system:
            addresses = await self._asked_of_system(host)
        if not addresses:
            raise NotFound(text)
        return addresses

    async def _asked_of_name_servers(self, host: str, is_again: bool = False) -> tuple[list[str], str]:
        """Return the addresses, or none and the reason. Raises TimeoutError."""
        try:
            channel = self._channel_of_now()
            found = await channel.getaddrinfo(host, type=socket.SOCK_STREAM)
            if not found.nodes:
                return await self._asked_for_whole(host)
        except pycares.AresError as error:
            raise LookUpNotBegun from error
        except aiodns.error.DNSError as error:
            number, text = error.args
            if number == aiodns.error.ARES_ETIMEOUT:
                raise TimeoutError from None
            if number == aiodns.error.ARES_ENODATA:
                return await self._asked_for_whole(host)
            # The error does not tell a machine without free sockets from name servers that refuse. A socket does.
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
            if number == aiodns.error.ARES_ECONNREFUSED and not is_again:
                # That socket may have become free since.
                return await self._asked_of_name_servers(host, is_again=True)
            return [], text
        return [node.addr[0].decode() for node in islice(found.nodes, ADDRESSES_MOST)], ""

    async def _asked_for_whole(self, host: str) -> tuple[list[str], str]:
        """Return the addresses of an answer too long for a packet, or none and the reason. Raises as above, or
        LookUpNotBegun."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[pycares.AddrInfoResult | None, int | None]] = loop.create_future()

        def tell(found: pycares.AddrInfoResult | None, number: int | None) -> None:
            if not answer.done():
                answer.set_result((found, number))

        def on_answer(found: pycares.AddrInfoResult | None, number: int | None) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, found, number)

        try:
            await loop.run_in_executor(self._whole_asker, self._ask_for_whole, host, on_answer)
        except RuntimeError as error:  # the system allows no more threads
            raise LookUpNotBegun from error
        found, number = await answer
        if number == aiodns.error.ARES_ETIMEOUT:
            raise TimeoutError
        if found is None or number is not None:
            return [], str(pycares.errno.strerror(number or aiodns.error.ARES_ENODATA))
        # Both kinds of addresses are tried: this machine may reach only one.
        kinds = [
            [node.addr[0].decode() for node in islice((n for n in found.nodes if n.family == family), ADDRESSES_MOST)]
            for family in (socket.AF_INET, socket.AF_INET6)
        ]
        return [address for pair in zip_longest(*kinds) for address in pair if address][:ADDRESSES_MOST], "no address"

    def _ask_for_whole(self, host: str, on_answer: Callable[..., None]) -> None:
        if self._whole is None or not self._whole_left:
            self._whole, self._whole_left = pycares.Channel(**self._options), WHOLE_MOST
        self._whole_left -= 1
        self._whole.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=UNSORTED, callback=on_answer)

    def _channel_of_now(self) -> aiodns.DNSResolver:
        now, written_at = time.monotonic(), _written_at(RESOLV_CONF)
        # c-ares watches the folder, but a file that is mounted into a container changes without it.
        has_changed = written_at != self._name_servers_are_of
        if self._channel is None or now >= self._channel_ends_at or has_changed:
            # Look-ups under way keep the old channel alive until they end.
            flags = pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_IGNTC
            self._channel, self._channel_ends_at = aiodns.DNSResolver(**self._options, flags=flags), now + CHANNEL_S
            self._whole_left = 0
            self._name_servers_are_of = written_at
            self._asks_system = _has_other_sources()
        return self._channel

    async def _asked_of_system(self, host: str) -> list[str]:
        """Return the addresses that the system finds within the time of a look-up. Raises LookUpNotBegun."""
        try:
            async with asyncio.timeout(THREAD_WITHIN_S):
                await self._system_threads.acquire()
        except TimeoutError:
            raise LookUpNotBegun from None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def tell(addresses: list[str]) -> None:
            self._system_threads.release()
            if not answer.done():
                answer.set_result(addresses)

        def ask() -> None:
            addresses: list[str] = []
            with suppress(OSError, UnicodeError):
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                addresses = [str(info[4][0]) for info in found[:ADDRESSES_MOST]]
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, addresses)

        # A daemon thread: at its end the process waits for an executor's threads, but not for this one.
        try:
            threading.Thread(target=ask, name=f"look-up-{host}", daemon=True).start()
        except RuntimeError as error:  # the system allows no more
            self._system_threads.release()
            raise LookUpNotBegun from error
        try:
            async with asyncio.timeout(LOOK_UP_S):
                return await answer
        except TimeoutError:
            return []

    async def close(self) -> None:
        """End what is under way."""
        for look_up in self._looking.values():
            look_up.cancel()
        if self._channel is not None:
            await self._channel.close()
        if self._whole is not None:
            # In its own thread: it waits for an answer that is being read.
            self._whole_asker.submit(self._whole.close)
        self._whole_asker.shutdown(wait=False)


def _written_at(path: Path) -> int:
    """Return when a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _has_other_sources() -> bool:
    """Whether the system knows sources of names that c-ares does not."""
    if sys.platform == "darwin":
        return True
    try:
        text = NSSWITCH.read_text()
    except (OSError, UnicodeError):
        return False
    line = re.search(r"^\s*hosts:([^#\n]*)", text, re.MULTILINE)
    return line is not None and not set(re.sub(r"\[.*?\]", " ", line[1]).split()) <= _OWN_SOURCES
