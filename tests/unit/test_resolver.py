"""Names are looked up so that none holds up another, whatever its server does."""

import asyncio
import errno
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler import resolver as module
from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.resolver import ADDRESSES_MOST, LookUpNotBegun, NotFound, Resolver
from tests.support.name_server import NO_SUCH_NAME, SERVER_FAILURE, TRUNCATED, NameServer, naming, naming_apart
from tests.support.raw_receiver import OK, answering, claim_of, says
from tests.support.waiting import wait_until


def answer(name: str, kind: str) -> list[str] | str | None:
    """What the names of these tests have: the first label says it."""
    if name.startswith("silent"):
        return None
    if name.startswith("no-aaaa-answer"):
        return ["127.0.0.1"] if kind == "A" else None
    if name.startswith("six"):
        return ["::1"] if kind == "AAAA" else []
    if name.startswith("both"):
        return ["127.0.0.1"] if kind == "A" else ["::1"]
    if name.startswith("cut"):
        return TRUNCATED
    if name.startswith("unknown"):
        return NO_SUCH_NAME
    if name.startswith("broken"):
        return SERVER_FAILURE
    if name.startswith("empty"):
        return []
    return ["127.0.0.1", "127.0.0.2"] if kind == "A" else []


@pytest.fixture(autouse=True)
def no_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's system is not asked, which would ask its own name servers."""
    monkeypatch.setattr(module, "NSSWITCH", tmp_path / "nsswitch.conf")


@asynccontextmanager
async def resolving(server: NameServer, **options: Any) -> AsyncIterator[Resolver]:
    """A resolver that asks this server alone."""
    resolver = Resolver(servers=[f"127.0.0.1:{server.port}"], **options)
    try:
        yield resolver
    finally:
        await resolver.close()
        # Its thread closes what it has open: descriptors that the next test counts.
        await asyncio.to_thread(resolver._whole_asker.shutdown)


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("four.example", {"127.0.0.1", "127.0.0.2"}),
        ("six.example", {"::1"}),
        ("both.example", {"127.0.0.1", "::1"}),
        ("cut.example", {"127.0.0.1"}),
        ("localhost", {"127.0.0.1", "::1"}),
        ("a.localhost", {"127.0.0.1", "::1"}),
        ("127.0.0.9", {"127.0.0.9"}),
        ("::1", {"::1"}),
        ("four.example.", {"127.0.0.1", "127.0.0.2"}),
        ("xn--bcher-kva.example", {"127.0.0.1", "127.0.0.2"}),
    ],
)
async def test_a_name_is_found(name: str, addresses: set[str]) -> None:
    async with naming(answer) as server, resolving(server) as resolver:
        assert set(await resolver.addresses(name)) == addresses


@pytest.mark.parametrize(
    ("name", "said"),
    [("unknown.example", "not found"), ("broken.example", "."), ("empty.example", "."), ("a" * 70 + ".example", ".")],
)
async def test_a_name_that_is_not_found_is_said_so_at_once(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_UP_S", 60.0)
    async with naming(answer) as server, resolving(server, timeout=30.0) as resolver, asyncio.timeout(20):
        with pytest.raises(NotFound, match=said):
            await resolver.addresses(name)


async def test_a_silent_name_is_given_up_after_the_time_of_a_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_UP_S", 1.5)
    async with naming(answer) as server, resolving(server) as resolver:
        started = time.monotonic()
        with pytest.raises(NotFound, match=r"no name server answered within 1\.5 s"):
            await resolver.addresses("silent.example")
        # By itself c-ares gives it up after 31 s.
        assert 1.4 < time.monotonic() - started < 15
        assert server.times_asked("silent.example")


async def test_a_lost_packet_and_a_silent_half_cost_a_second() -> None:
    lost = []

    def loses_the_first(name: str, kind: str) -> list[str] | str | None:
        if name.startswith("lost") and kind not in lost:
            lost.append(kind)
            return None
        return answer(name, kind)

    async with naming(loses_the_first) as server, resolving(server) as resolver:
        started = time.monotonic()
        assert await resolver.addresses("no-aaaa-answer.example") == ["127.0.0.1"]
        assert time.monotonic() - started < 4
        started = time.monotonic()
        assert len(await resolver.addresses("lost.example")) == 2
        assert time.monotonic() - started < 4


@pytest.mark.parametrize("count", [8, 1_000, 3_000])
async def test_names_that_hang_hold_up_no_other(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_UP_S", 60.0)
    async with naming(answer) as server, resolving(server) as resolver:
        hanging = []
        for number in range(count):
            hanging.append(asyncio.create_task(resolver.addresses(f"silent{number}.example")))
            if number % 50 == 49:
                # The server of the tests is no fast one: it would lose packets.
                await asyncio.sleep(0.02)
        await wait_until(lambda: server.times_asked(f"silent{count - 1}.example"), "all are asked for", 40)
        took_s = []
        for number in range(21):
            started = time.monotonic()
            assert await resolver.addresses(f"good{number}.example")
            took_s.append(time.monotonic() - started)
        # A packet that the server of the tests lost is sent again after a second.
        took_s.sort()
        assert took_s[10] < 3
        assert took_s[-3] < 10
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()


async def test_a_name_is_looked_up_once_at_a_time_whoever_gives_up() -> None:
    may_answer = False

    def slowly(name: str, kind: str) -> list[str] | str | None:
        return answer(name, kind) if may_answer else None

    async with naming(slowly) as server, resolving(server) as resolver:
        waiting = [asyncio.create_task(resolver.addresses("slow.example")) for _ in range(50)]
        await wait_until(lambda: server.times_asked("slow.example"), "it is asked for")
        for task in waiting[:25]:
            task.cancel()
        await asyncio.sleep(0.1)
        assert server.times_asked("slow.example") == 1
        may_answer = True
        found = await asyncio.gather(*waiting[25:])
        assert all(addresses == found[0] for addresses in found)
        assert server.times_asked("slow.example") == 2  # again after a second


async def test_a_failure_is_remembered_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAILURE_S", 0.3)
    async with naming(answer) as server, resolving(server) as resolver:
        for _ in range(10):
            with pytest.raises(NotFound):
                await resolver.addresses("unknown.example")
        assert server.times_asked("unknown.example") == 1
        server.answer = lambda name, kind: ["127.0.0.1"] if kind == "A" else []
        await asyncio.sleep(0.3)
        assert await resolver.addresses("unknown.example") == ["127.0.0.1"]


async def test_a_name_that_has_moved_is_followed_whatever_its_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHANNEL_S", 0.3)
    async with naming(lambda name, kind: [address] if kind == "A" else []) as server, resolving(server) as resolver:
        server.ttl_s = 3_600
        address = "127.0.0.1"
        assert await resolver.addresses("moving.example") == ["127.0.0.1"]
        address = "127.0.0.2"
        await asyncio.sleep(0.3)
        assert await resolver.addresses("moving.example") == ["127.0.0.2"]


async def test_name_servers_that_change_are_asked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What c-ares knew is forgotten when resolv.conf is written anew, in place, as container engines do."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\n")
    monkeypatch.setattr(module, "RESOLV_CONF", conf)
    async with naming(lambda name, kind: [address] if kind == "A" else []) as server, resolving(server) as resolver:
        server.ttl_s = 3_600
        address = "127.0.0.1"
        assert await resolver.addresses("moving.example") == ["127.0.0.1"]
        address = "127.0.0.2"
        assert await resolver.addresses("moving.example") == ["127.0.0.1"]
        conf.write_text("nameserver 127.0.0.2\n")
        assert await resolver.addresses("moving.example") == ["127.0.0.2"]
        conf.unlink()
        assert await resolver.addresses("moving.example") == ["127.0.0.2"]


async def test_a_look_up_outlives_the_channel_it_was_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHANNEL_S", 0.0)
    may_answer = False

    def slowly(name: str, kind: str) -> list[str] | str | None:
        return answer(name, kind) if may_answer or name.startswith("good") else None

    async with naming(slowly) as server, resolving(server) as resolver:
        slow = asyncio.create_task(resolver.addresses("slow.example"))
        await wait_until(lambda: server.times_asked("slow.example"), "it is asked for")
        for number in range(3):
            assert await resolver.addresses(f"good{number}.example")
        may_answer = True
        assert await slow


TIMEOUT_S = 2
"""Of an attempt: shorter than a look-up."""

SYSTEM_ALONE = "0x7f000001"
"""Has an address for the system's look-up, and none for name servers."""


@pytest.mark.parametrize(
    ("hosts", "is_asked"),
    [
        ("files dns", False),
        ("files  dns # mdns", False),
        ("files mdns4_minimal [NOTFOUND=return] dns", True),
        ("resolve [!UNAVAIL=return] files dns", True),
        ("files dns myhostname", True),
    ],
)
async def test_the_system_is_asked_where_it_has_other_sources(
    hosts: str, is_asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nsswitch = tmp_path / "nsswitch.conf"
    nsswitch.write_text(f"passwd: files\n# hosts: mdns\nhosts: {hosts}\n")
    monkeypatch.setattr(module, "NSSWITCH", nsswitch)
    async with naming(lambda name, kind: NO_SUCH_NAME) as server, resolving(server) as resolver:
        if is_asked:
            assert await resolver.addresses(SYSTEM_ALONE) == ["127.0.0.1"]
        else:
            with pytest.raises(NotFound):
                await resolver.addresses(SYSTEM_ALONE)


async def test_an_attempt_whose_look_up_could_not_begin_burns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with naming(answer) as server, Deliverer("token", 5) as deliverer:
        deliverer._resolver._options["servers"] = [f"127.0.0.1:{server.port}"]
        monkeypatch.setattr(module, "LOOK_UPS_MOST", 2)
        hanging = [asyncio.create_task(deliverer.attempt(claim_of(f"http://silent{n}.example/"))) for n in range(2)]
        await wait_until(lambda: server.times_asked("silent1.example"), "both are asked for")
        outcome = await deliverer.attempt(claim_of("http://good.example/"))
        assert outcome.is_local
        assert "too many names are being looked up" in (outcome.error or "")
        for task in hanging:
            task.cancel()


async def test_a_look_up_that_no_thread_was_free_for_burns_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nsswitch = tmp_path / "nsswitch.conf"
    nsswitch.write_text("hosts: files mdns dns\n")
    monkeypatch.setattr(module, "NSSWITCH", nsswitch)
    async with naming(lambda name, kind: NO_SUCH_NAME) as server, Deliverer("token", TIMEOUT_S) as deliverer:
        resolver = deliverer._resolver
        resolver._options["servers"] = [f"127.0.0.1:{server.port}"]
        for _ in range(module.SYSTEM_MOST):
            await resolver._system_threads.acquire()
        outcome = await deliverer.attempt(claim_of(f"http://{SYSTEM_ALONE}.:1/"))
        assert outcome.is_local, outcome
        with pytest.raises(LookUpNotBegun) as raised:
            await resolver.addresses(SYSTEM_ALONE)
        assert raised.value.errno == errno.ENOBUFS
        resolver._system_threads.release()
        assert await resolver.addresses(SYSTEM_ALONE) == ["127.0.0.1"]


async def test_of_a_name_with_many_addresses_the_first_are_tried() -> None:
    many = [f"127.0.1.{number}" for number in range(60)]
    async with (
        naming(lambda name, kind: many if kind == "A" else []) as server,
        resolving(server) as resolver,
    ):
        found = await resolver.addresses("many.example")
        assert len(found) == ADDRESSES_MOST
        assert set(found) < set(many)


MANY = {
    "A": [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(3_900)],
    "AAAA": [f"fd00::{number + 1:x}" for number in range(2_200)],
}
"""Nearly 64 KiB each: all that an answer has room for."""


@pytest.mark.alone
async def test_names_with_thousands_of_addresses_hold_up_neither_the_loop_nor_other_names() -> None:
    longest_s = 0.0
    took_s: list[float] = []

    async def tick() -> None:
        nonlocal longest_s
        at = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            longest_s, at = max(longest_s, time.monotonic() - at), time.monotonic()

    def many_or_one(name: str, kind: str) -> list[str]:
        return MANY[kind] if name.startswith("many") else ["127.0.0.1"] if kind == "A" else []

    async with naming_apart(many_or_one) as server, resolving(server) as resolver:
        ticking = asyncio.create_task(tick())
        large = [asyncio.create_task(resolver.addresses(f"many{number}.example")) for number in range(40)]
        while not all(task.done() for task in large):
            started = time.monotonic()
            assert await resolver.addresses(f"good{len(took_s)}.example") == ["127.0.0.1"]
            took_s.append(time.monotonic() - started)
            await asyncio.sleep(0.01)
        ticking.cancel()
        found = await asyncio.gather(*large, return_exceptions=True)
    # To sort one alone took c-ares 0.12 s.
    assert longest_s < 0.6
    # The server of the tests is no fast one: single names may wait for it.
    assert sorted(took_s)[len(took_s) // 2] < 0.5
    looked_up = [addresses for addresses in found if isinstance(addresses, list)]
    assert len(looked_up) > 10
    assert {len(addresses) for addresses in looked_up} == {ADDRESSES_MOST}
    # Both kinds, whichever this machine can reach. (Of a name the answer for one of them may come too late.)
    assert any({":" in address for address in addresses} == {True, False} for addresses in looked_up)


def highest_descriptor() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


@contextmanager
def without_sockets() -> Iterator[list[socket.socket]]:
    """For the block this process has all the sockets that it may have; each of them can be closed."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept: list[socket.socket] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor() + 10, limits[1]))
        take_all(kept)
        yield kept
    finally:
        for one in kept:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def take_all(kept: list[socket.socket]) -> None:
    """Open sockets while there are any."""
    with suppress(OSError):
        while True:
            kept.append(socket.socket())


async def test_a_machine_out_of_sockets_burns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAILURE_S", 0.0)
    async with naming(answer) as server, Deliverer("token", 5) as deliverer:
        deliverer._resolver._options["servers"] = [f"127.0.0.1:{server.port}"]
        with without_sockets() as kept:

            async def is_local() -> bool:
                take_all(kept)
                return (await deliverer.attempt(claim_of("http://good.example/"))).is_local

            # A thread of c-ares closes sockets of earlier tests at any time. An attempt that got one is made again.
            await wait_until(is_local, "no socket is free")


class _Freeing:
    """The module `socket`, where a socket is closed elsewhere at the moment in which one is asked for."""

    def __init__(self, kept: list[socket.socket]) -> None:
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socket(self, *given: Any) -> socket.socket:
        for _ in range(8):
            self._kept.pop().close()
        return socket.socket(*given)


async def test_a_socket_that_becomes_free_while_it_is_looked_for_is_no_name_server_that_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with naming(answer) as server, resolving(server) as resolver:
        assert await resolver.addresses("good.example")
        with without_sockets() as kept:
            monkeypatch.setattr(module, "socket", _Freeing(kept))
            assert await resolver.addresses("good2.example")


async def test_a_delivery_goes_to_the_address_of_its_name() -> None:
    async with naming(answer) as server, answering(says(OK)) as receiver, Deliverer("token", 5) as deliverer:
        deliverer._resolver._options["servers"] = [f"127.0.0.1:{server.port}"]
        for host in ("good.example", "both.example", "bücher.example", "localhost"):
            outcome = await deliverer.attempt(claim_of(f"http://{host}:{receiver.port}/%7E?"))
            assert outcome.error is None
        assert receiver.lines == ["POST /%7E? HTTP/1.1"] * 4
        assert b"\r\nHost: xn--bcher-kva.example:" in receiver.heads[2]
        outcome = await deliverer.attempt(claim_of("http://unknown.example/"))
        assert (outcome.error or "").startswith("cannot look up unknown.example: ")
