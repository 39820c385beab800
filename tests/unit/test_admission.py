"""Strangers' connections: what one of them can have many addresses of counts as one, and who gives way is found at
once."""

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from redis_scheduler.api.admission import HOLDERS_SHARE, LOOKED_AT, Admission, network


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("", ""),
    ],
)
def test_these_are_one_address(one: str, other: str) -> None:
    assert network(one) == network(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("::1", "127.0.0.1"),
    ],
)
def test_these_are_two(one: str, other: str) -> None:
    assert network(one) != network(other)


@dataclass(eq=False)
class Stub:
    """A connection as the admission sees it."""

    is_idle: bool = True
    is_open: bool = True

    def abort(self) -> None:
        self.is_open = False


class Plain:
    """The same rules, by a walk over all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.strangers: list[tuple[Stub, bytes]] = []
        self.known: dict[Stub, tuple[bytes, bytes]] = {}
        """In the order in which they became so, with their addresses and the ids of their tokens."""

    def counts(self) -> Counter[bytes]:
        return Counter(address for _, address in self.strangers)

    def may_give_way(self, address: bytes) -> set[Stub]:
        """Return which connections may be closed for a new one of this address; none where there is room, or none
        can."""
        counts = self.counts()
        if counts[address] >= max(1, self.limit // HOLDERS_SHARE):
            addresses = {address}
        elif len(self.strangers) + len(self.known) >= self.limit and counts:
            addresses = {at for at, count in counts.items() if count == max(counts.values())}
        elif len(self.known) >= self.limit:
            return self.of_tokens()
        else:
            return set()
        return {oldest_of(stub for stub, at in self.strangers if at == address) for address in addresses}

    def of_tokens(self) -> set[Stub]:
        """Return the connections of tokens that may give way where there are no strangers."""
        counts = Counter(token_id for _, token_id in self.known.values() if token_id)
        most = max(counts.values(), default=0)
        if most <= max(1, self.limit // HOLDERS_SHARE):
            return set()
        tokens = [token_id for token_id, count in counts.items() if count == most]
        return {oldest_of(stub for stub, (_, its) in self.known.items() if its == token_id) for token_id in tokens}


def oldest_of(stubs: Iterable[Stub]) -> Stub:
    oldest = list(stubs)[:LOOKED_AT]
    return next((stub for stub in oldest if stub.is_idle), oldest[0])


@pytest.mark.parametrize("seed", range(20))
async def test_who_gives_way_is_whom_a_walk_over_all_would_choose(seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.choice([1, 2, 7, 40])
    admission, plain = Admission(limit), Plain(limit)
    for _ in range(2_000):
        verb = chance.choices(["admit", "know", "doubt", "forget", "turn"], [6, 2, 1, 2, 3])[0]
        if verb == "admit":
            new, host = Stub(), chance.choice(["10.0.0.1", f"10.0.0.{chance.randint(1, 9)}"])
            address = host.encode()
            candidates = plain.may_give_way(address)
            is_full = not candidates and len(plain.strangers) + len(plain.known) >= limit
            assert admission.admit(new, host) == address
            closed = {stub for stub in (*dict(plain.strangers), *plain.known) if not stub.is_open}
            assert closed <= candidates
            assert len(closed) == bool(candidates)
            plain.strangers = [at for at in plain.strangers if at[0].is_open]
            plain.known = {stub: whose for stub, whose in plain.known.items() if stub.is_open}
            assert new.is_open != is_full
            if new.is_open:
                plain.strangers.append((new, address))
        elif verb == "doubt" and plain.known:
            stub = chance.choice([*plain.known])
            address, _ = plain.known.pop(stub)
            admission.doubt(stub, address)
            plain.strangers.append((stub, address))
        elif plain.strangers and verb in ("know", "turn"):
            stub, address = chance.choice(plain.strangers)
            if verb == "turn":
                stub.is_idle = not stub.is_idle
            else:
                token_id = chance.choice([b"", b"one", b"one", b"other"])
                admission.know(stub, address, token_id)
                plain.strangers.remove((stub, address))
                plain.known[stub] = address, token_id
        elif plain.strangers or plain.known:
            stub, address = chance.choice([*plain.strangers, *((known, at) for known, (at, _) in plain.known.items())])
            admission.forget(stub, address)
            plain.strangers = [at for at in plain.strangers if at[0] is not stub]
            plain.known.pop(stub, None)
    for stub, address in [*plain.strangers, *((known, at) for known, (at, _) in plain.known.items())]:
        admission.forget(stub, address)
    for by_holder in (admission._strangers, admission._of_tokens):
        assert not by_holder._of
        assert not by_holder._with
    assert not admission._admitted
    assert not admission._token_of


@pytest.mark.parametrize("is_idle", [True, False])
@pytest.mark.parametrize("addresses", [1, 10_000])
async def test_a_connection_is_taken_in_as_little_time_beside_ten_thousand(addresses: int, is_idle: bool) -> None:
    """It took 3.6 ms beside 10,000 addresses, and 0.3 ms beside 2,500 busy connections of one."""
    admission = Admission(10_000)
    for number in range(10_000):
        admission.admit(Stub(is_idle), f"10.0.{number % addresses // 256}.{number % addresses % 256}")
    times = []
    for _ in range(200):
        stub = Stub(is_idle)
        began = time.thread_time()
        admission.admit(stub, "192.0.2.1" if addresses > 1 else "10.0.0.0")
        times.append(time.thread_time() - began)
    assert sorted(times)[100] < 0.000_1
