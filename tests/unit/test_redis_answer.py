"""What one answer of Redis, or of what pretends to be one, may take of the memory."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.answer import ELEMENTS_MOST, UNSCANNED_BYTES
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.client import RedisClient
from tests.support.names import KEYS
from tests.support.waiting import wait_until

MEGABYTE = 1_048_576
FLOOD_BYTES = 120 * MEGABYTE
GROWTH_MOST_KB = 40_000

TOO_LARGE = "its answer is too large (more than "
NO_REDIS = "does not speak its protocol"

FLOODS: dict[str, tuple[bytes, bytes, str]] = {
    "a status": (b"+", b"a" * 65_536, TOO_LARGE),
    "an error": (b"-ERR ", b"a" * 65_536, TOO_LARGE),
    "a number": (b":", b"1" * 65_536, TOO_LARGE),
    "a length": (b"$", b"1" * 65_536, TOO_LARGE),
    "a count": (b"*", b"1" * 65_536, TOO_LARGE),
    "a line in a list": (b"*2\r\n$1\r\nx\r\n+", b"a" * 65_536, TOO_LARGE),
    "an enormous value": (b"$500000000\r\n", b"x" * 65_536, TOO_LARGE),
    "an enormous value in a list": (b"*1\r\n*2\r\n:1\r\n$500000000\r\n", b"x" * 65_536, TOO_LARGE),
    "an enormous list": (b"*4294967295\r\n", b":1\r\n" * 16_384, TOO_LARGE),
    "a list of empty lists": (b"*100000000\r\n", b"*0\r\n" * 16_384, TOO_LARGE),
    "a list of numbers": (f"*{ELEMENTS_MOST}\r\n".encode() * 2, b":1\r\n" * 16_384, TOO_LARGE),
    "lists in lists": (b"", b"*1\r\n" * 16_384, NO_REDIS),
    "enormous lists in lists": (b"", b"*4294967295\r\n" * 5_000, TOO_LARGE),
    "an enormous push": (b">100000000\r\n", b":1\r\n" * 16_384, NO_REDIS),
    "an enormous map in a list": (b"*1\r\n%50000000\r\n", b":1\r\n" * 16_384, NO_REDIS),
    "no protocol": (b"", b"\0" * 65_536, NO_REDIS),
    "a length that is none": (b"*2\r\n$1\r\nx\r\n$x\r\n", b"x" * 65_536, NO_REDIS),
}
"""How an answer begins, what follows again and again, and what is said of it."""

CLIENT = """
import asyncio, json, re, sys
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys

def memory_kb(name):
    return int(re.search(name + r":\\s+([0-9]+)", open("/proc/self/status").read())[1])

async def ask(url):
    client = RedisClient(url, 40, Keys("{rs:0}"))
    client.outage.must_check = False
    try:
        await client.command("PING")
    except StoreUnavailable as error:
        return str(error)
    finally:
        await client.aclose()

before_kb = memory_kb("VmRSS")
for line in sys.stdin:
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # what was the most until now is forgotten
    said = asyncio.run(ask(line.strip()))
    print(json.dumps([said, memory_kb("VmHWM") - before_kb]), flush=True)
"""
"""Asks each server whose URL it reads; says how that ended, and how far its memory had grown since the start at
most."""


@pytest.fixture(scope="module")
def client_process() -> Iterator[subprocess.Popen[str]]:
    """A client in a process of its own, for one question after another."""
    command, pipe = [sys.executable, "-c", CLIENT], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.kill()


async def asked(process: subprocess.Popen[str], url: str) -> tuple[str, int]:
    """Have the server asked; return what the client says of its answer, and how many KB it took at most."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{url}\n")
    said, grown_kb = json.loads(await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60))
    return said, grown_kb


@asynccontextmanager
async def answering(*parts: bytes, piece: bytes = b"") -> AsyncIterator[str]:
    """The URL of a server that answers everything with these, each in a packet of its own, and with the piece again and
    again."""
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await reader.read(65_536)
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.002)
            for _ in range(FLOOD_BYTES // len(piece) if piece else 0):
                writer.write(piece)
                await writer.drain()
            await reader.read(65_536)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            serving.discard(asyncio.current_task())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        await wait_until(lambda: not serving, "the connections are closed")


@pytest.mark.parametrize("what", FLOODS)
async def test_no_answer_takes_the_memory(what: str, client_process: subprocess.Popen[str]) -> None:
    head, piece, wanted = FLOODS[what]
    async with answering(head, piece=piece) as url:
        said, grown_kb = await asked(client_process, url)
    assert grown_kb < GROWTH_MOST_KB
    # Not when the time of the call is over.
    assert wanted in said


@pytest.mark.parametrize(
    "head", [b"*4294967295\r\n", b"*1\r\n*4294967295\r\n", b"*2\r\n$9\r\n*99999999\r\n*1000001\r\n"]
)
async def test_an_enormous_list_is_noticed_however_its_head_is_cut(head: bytes) -> None:
    cuts = [[head[:cut], head[cut:]] for cut in range(1, len(head))]
    for parts in (*cuts, [head[at : at + 1] for at in range(len(head))]):
        async with answering(*parts) as url:
            client = RedisClient(url, 2, KEYS)
            client.outage.must_check = False
            with pytest.raises(StoreUnavailable, match="more than 1000000 values in a list"):
                await client.command("PING")
            await client.aclose()


SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"
RING = b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$0\r\n\r\n"


@pytest.mark.parametrize("before", [SUBSCRIBED, SUBSCRIBED + RING])
@pytest.mark.parametrize("head", [b"*4294967295\r\n", b"*3\r\n$7\r\nmessage\r\n*1000001\r\n"])
async def test_an_enormous_message_is_noticed_behind_another_however_its_head_is_cut(
    before: bytes, head: bytes
) -> None:
    cuts = [[before + head[:cut], head[cut:]] for cut in range(len(head) + 1)]
    for parts in (*cuts, [before, *(head[at : at + 1] for at in range(len(head)))], [before + head[:1], head[1:]]):
        async with answering(*parts) as url:
            client = RedisClient(url, 2, KEYS)
            with pytest.raises(StoreUnavailable, match=r"nobody here sends|values in a list"):
                async with asyncio.timeout(5):
                    await Bell(client).listen(lambda: None)
            await client.aclose()


@pytest.mark.parametrize(
    "answer",
    [b":1\r\n", b"*0\r\n", b"*1\r\n:1\r\n", b"*2\r\n*0\r\n*0\r\n", b"*3\r\n$11\r\nunsubscribe\r\n*0\r\n:1\r\n"],
)
async def test_what_is_no_message_rings_the_bell_and_ends_nothing(answer: bytes) -> None:
    rings = []
    async with answering(SUBSCRIBED, answer, b"+PONG\r\n") as url:
        client = RedisClient(url, 2, KEYS)
        listening = asyncio.create_task(Bell(client).listen(lambda: rings.append(1)))
        await wait_until(lambda: len(rings) == 3 or listening.done(), "all of it is heard")
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await client.aclose()


ILL_FORMED = [
    b"-MOVED\r\n",
    b"-MOVED x\r\n",
    b"-MOVED 1 host:x\r\n",
    b"-ASK x host:1\r\n",
    b"*1\r\n-ASK\r\n",
    b"%1\r\n*0\r\n:1\r\n",
    b"!3\r\n",
    b"%1\r\n*0\r\n+a",
    *(bytes([kind]) + b"100000000\r\n" for kind in b">~|%"),
    *(b"*2\r\n:1\r\n" + bytes([kind]) + b"100000000\r\n" for kind in b">~|%"),
    b"%2",
    b"_",
    b"*1\r\n" * 10_000,
]


@pytest.mark.parametrize("answer", ILL_FORMED)
async def test_what_the_library_cannot_read_is_an_answer_of_no_redis(answer: bytes) -> None:
    async with answering(answer) as url:
        client = RedisClient(url, 2, KEYS)
        client.outage.must_check = False
        with pytest.raises(StoreUnavailable, match=NO_REDIS):
            await client.command("PING")
        await client.aclose()


async def test_an_answer_that_there_is_no_memory_for_is_too_large() -> None:
    """Each of its lists is allowed, but not all of them have room."""
    async with answering(f"*{ELEMENTS_MOST - 1}\r\n".encode() * 7) as url:
        command = [sys.executable, "-c", WITHOUT_MEMORY + CLIENT]
        ended = await asyncio.to_thread(
            subprocess.run, command, input=url, capture_output=True, text=True, timeout=60, check=False
        )
    assert ended.returncode == 0, ended.stderr
    assert "its answer is too large (more than there is memory for)" in ended.stdout


WITHOUT_MEMORY = """
import asyncio, re, resource
from redis_scheduler.store import client as redis_client
held_kb = int(re.search(r"VmSize:\\s+([0-9]+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_AS, ((held_kb + 30_000) * 1024,) * 2)
"""


@pytest.mark.parametrize("size", [0, 1, UNSCANNED_BYTES - 100, UNSCANNED_BYTES, 5 * MEGABYTE])
async def test_large_answers_of_redis_come_whole(size: int, redis_url: str) -> None:
    client = RedisClient(redis_url, 60, KEYS)
    for value in (b"x" * size, b"\r\n" * (size // 2), b"$1\r\n" * (size // 4)):
        assert await client.command("ECHO", value) == value
        script = "local found = {} for i = 1, 5 do found[2 * i - 1] = ARGV[1] found[2 * i] = {i} end return found"
        assert await client.command("EVAL", script, 0, value) == [
            item for number in range(1, 6) for item in (value, [number])
        ]
    await client.aclose()


async def test_a_long_list_comes_whole(client: RedisClient) -> None:
    script = "local found = {} for i = 1, 100000 do found[i] = i end return found"
    assert await client.command("EVAL", script, 0) == list(range(1, 100_001))


async def test_an_answer_that_is_too_large_ends_the_connection(client: RedisClient) -> None:
    script = f"local found = {{}} for i = 1, {ELEMENTS_MOST + 1} do found[i] = 0 end return found"
    with pytest.raises(StoreUnavailable, match=f"its answer is too large .more than {ELEMENTS_MOST} values"):
        await client.command("EVAL", script, 0)
    assert await client.command("ECHO", "next") == b"next"
