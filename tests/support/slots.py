"""Slots in the state that a test wants: claims made, begun and ended by hand, in a time of the test's own."""

from collections.abc import Iterable
from itertools import count

from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.slots import Slots
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import Record
from redis_scheduler.task.timing import DEFAULT

NUMBERS = count(1)
PERIOD_S = DEFAULT.period_s
NOW = 1000.0


def claim(host: str = "slow", tries: int = 1, data: bytes | None = None, token: str | None = None) -> Claim:
    number = next(NUMBERS)
    origin = f"http://{host}"
    record = Record(due=0, webhook=f"{origin}/", ttl=0, data=data, origin=origin, target="/", token=token)
    return Claim(f"{number}-0", f"key-{number}", record, 0, tries)


def begun(slots: Slots) -> list[Claim]:
    found = []
    while (one := slots.begin()) is not None:
        found.append(one)
    return found


def begin(slots: Slots, number: int, host: str = "slow", now: float = NOW) -> list[Claim]:
    """Add claims of one host; return those that began."""
    for _ in range(number):
        slots.add(claim(host), now)
    return begun(slots)


def end(slots: Slots, claims: Iterable[Claim]) -> None:
    for one in claims:
        slots.end(one)


def pass_periods(slots: Slots, periods: int = 1, now: float = NOW) -> float:
    """Let periods pass; return what time it is then."""
    for _ in range(periods):
        now += PERIOD_S
        slots.judge(now)
    return now


def make_well(slots: Slots, *hosts: str, now: float = NOW) -> None:
    """Let a delivery of each host end in time."""
    for host in hosts:
        end(slots, begin(slots, 1, host, now))


def hang(slots: Slots, hosts: int = 300, now: float = NOW) -> tuple[list[Claim], float]:
    """Let so many hosts hang with a task each; return what began, and what time it is when all are found out."""
    running = []
    for number in range(hosts):
        running += begin(slots, 1, f"hangs-{number}", now)
        slots.surplus(now)
    now = pass_periods(slots, 2, now)
    slots.surplus(now)
    return running, now


def judged_slow(concurrency: int = 90, observer: Observer = NOBODY) -> tuple[Slots, list[Claim], float]:
    """Return slots of which `slow` holds all it may, its line gone back; what runs; and what time it is."""
    slots = Slots(concurrency, observer=observer)
    running = begin(slots, concurrency)
    now = pass_periods(slots, 2)
    assert slots.surplus(now) or concurrency == 1
    return slots, running, now


def crowd() -> tuple[Slots, float]:
    """Return slots that hosts crowd which hang, known or not; and what time it is."""
    slots = Slots(200)
    _, now = hang(slots)
    for number in range(100):  # some of the new ones still find a slot
        begin(slots, 1, f"new-{number}", now)
        slots.surplus(now)
    assert slots.is_crowded
    return slots, now
