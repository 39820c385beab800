"""A terminal that is closed, or stops who writes to it, costs no delivery and leaves no Redis."""

import asyncio
import contextlib
import os
import pty
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.test_supervisor import in_delivery
from tests.acceptance.test_surroundings import COMMAND, PROCESSES, alive, deliver_and_stop, service_in, shell
from tests.support.receiver import Receiver
from tests.support.service import Client
from tests.support.waiting import wait_until


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal: the side of who sits before it, and the side of the programs."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    for descriptor in (ours, theirs):
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(descriptor)


TAKE_TERMINAL = (
    f"{shlex.quote(sys.executable)} -c 'import fcntl, os, sys, termios;"
    " fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])'"
)
"""The session's leader makes its standard input the terminal of the session, then becomes what is behind this."""


@PROCESSES
@pytest.mark.parametrize("leader", ["the service", "a shell"])
async def test_a_closed_terminal_stops_in_order_and_leaves_no_redis(
    leader: str, processes: str, terminal: tuple[int, int], tmp_path: Path, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    ours, theirs = terminal
    command = COMMAND if leader == "the service" else f"sh -c {shlex.quote(f'{COMMAND}; true')}"
    # What the shell leaves when it dies is not its child any more; the end of `shell` waits for all the same.
    async with shell(
        f"exec {TAKE_TERMINAL} {command}",
        tmp_path,
        {"PROCESSES": processes},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as (process, client):
        service = service_in(process)
        await in_delivery(client, receiver, 1)
        os.close(theirs)
        os.close(ours)
        await wait_until(lambda: refused(client), "it accepts nothing any more")
        assert alive([service])
        receiver.may_answer.set()
        await wait_until(lambda: not alive([service]), "it has ended", 20)
    assert len(receiver.arrivals) == 1


async def refused(client: Client) -> bool:
    try:
        await asyncio.wait_for(client.call("GET", "/"), 1)
    except aiohttp.ClientConnectorError:
        return True
    except (aiohttp.ClientError, TimeoutError):
        pass
    return False


@PROCESSES
async def test_a_terminal_that_is_stopped_stops_nothing(
    processes: str, terminal: tuple[int, int], tmp_path: Path, receiver: Receiver
) -> None:
    ours, theirs = terminal
    os.write(ours, b"\x13")  # Ctrl-S
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    await deliver_and_stop(f"exec {COMMAND}", tmp_path, {"PROCESSES": processes}, receiver, range(20), **streams)
    assert len(receiver.arrivals) == 20


@PROCESSES
async def test_a_terminal_that_stops_who_writes_from_the_background_stops_nothing(
    processes: str, terminal: tuple[int, int], tmp_path: Path, receiver: Receiver
) -> None:
    _, theirs = terminal
    script = f"set -m; stty tostop; {COMMAND} & trap 'kill $!; wait $!; exit $?' TERM; wait $!"
    command = f"exec {TAKE_TERMINAL} sh -c {shlex.quote(script)}"
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    await deliver_and_stop(command, tmp_path, {"PROCESSES": processes}, receiver, [1], **streams)
