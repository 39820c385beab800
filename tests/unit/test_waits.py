"""What a task waits for, in one sentence for each state."""

import pytest
from msgspec.structs import replace

from redis_scheduler.api.waits import ERROR_LENGTH, waits_for
from redis_scheduler.store.limiting import HostState
from redis_scheduler.store.processes import HostTold, ProcessSeen, Said
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.limit import Breaker, Limit
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import UNREADABLE, Record
from redis_scheduler.task.repeat import Repeat

DUE_MS, TIME = 1_700_000_000_000, "2023-11-14T22:13:20.000Z"
LATER_MS, LATER = DUE_MS + 5_000, "2023-11-14T22:13:25.000Z"
RECORD = Record(DUE_MS, "http://localhost/", 5)
SERIES = Record(DUE_MS, "http://localhost/", 5, options=Options(repeat=Repeat(every=60)))
OPEN = Breaker("open", DUE_MS, LATER_MS, probes=2)
FAILURE = b'{"error":"answered 503","elapsed_ms":3,"status":503}'


def task(state: str, expires_ms: int | None = DUE_MS, failure: bytes | None = None, record: Record = RECORD) -> Stored:
    return Stored("key", b"", record, 2 if failure else 0, failure, state, expires_ms)


def queued(before: int) -> Stored:
    stored = task("queued")
    stored.before = before
    return stored


def in_delivery(running: int, waiting: int) -> Stored:
    stored = task("in delivery")
    told = [HostTold("localhost:80", running, waiting=waiting)]
    stored.owner_said = ProcessSeen("w", DUE_MS, Said(role="worker", version="1", since_ms=0, hosts=told))
    return stored


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (task("scheduled"), f"its time, {TIME}"),
        (task("scheduled", LATER_MS), f"a free slot for its host, which is slow: it comes again, {LATER}"),
        (task("scheduled", LATER_MS, record=SERIES), f"a worker that can read its repeat: it comes again, {LATER}"),
        (task("scheduled", None, record=UNREADABLE), "its time"),
        (task("scheduled", LATER_MS, record=UNREADABLE), f"its time, {LATER}"),
        (task("queued"), "a free slot of a worker"),
        (queued(before=1), "a free slot of a worker, behind 1 in the queue"),
        (queued(before=999), "a free slot of a worker, behind 999 in the queue"),
        (queued(before=1_000), "a free slot of a worker, behind 1,000 or more in the queue"),
        (task("queued", failure=FAILURE), "a free slot of a worker, after attempt 2 failed: answered 503"),
        (task("queued", failure=b"{"), "a free slot of a worker, after attempt 2 failed"),
        (task("queued", failure=b'{"error":"\xff"}'), "a free slot of a worker, after attempt 2 failed"),
        (task("in delivery"), "the answer to its attempt 1"),
        (task("in delivery", failure=FAILURE), "the answer to its attempt 3"),
        (in_delivery(running=3, waiting=0), "the answer to its attempt 1"),
        (
            in_delivery(running=3, waiting=1_200),
            f"a free slot of the worker w (1,200 in its line for localhost:80, behind 3 that run, at {TIME}), or the "
            "answer to its attempt 1",
        ),
        (task("waiting", LATER_MS), "a free slot of a worker"),
        (task("waiting", LATER_MS, FAILURE), f"its retry, {LATER}, after attempt 2 failed: answered 503"),
        (task("deferred", LATER_MS, FAILURE), f"its retry, {LATER}, after attempt 2 failed: answered 503"),
        (task("paused", None, FAILURE), "a resume: it is paused"),
        (task("lost", None), "`redis-scheduler doctor --repair`: other hands removed its place"),
        (
            task("scheduled", record=Record(DUE_MS, "", 5, unknown="cron")),
            "a newer worker: it was written by a newer version: its member cron is not known here",
        ),
        (task("dead", None, FAILURE), None),
    ],
)
def test_each_state_has_its_sentence(stored: Stored, said: str | None) -> None:
    assert waits_for(stored) == said


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (None, "the limit of localhost:80 lets no more begin: GET /hosts/localhost:80"),
        (HostState("", None, 1, 0), "the limit of localhost:80 lets no more begin: GET /hosts/localhost:80"),
        (HostState("", Limit(rate=1), 1, 0), "the limit of localhost:80 lets no more begin: GET /hosts/localhost:80"),
        (HostState("", Limit(is_paused=True), 1, 0, OPEN), "localhost:80 is paused: PUT /hosts/localhost:80"),
        (
            HostState("", None, 1, 0, OPEN),
            f"the breaker of localhost:80 is open since {TIME}, and the next probe may begin at {LATER}",
        ),
        (
            HostState("", Limit(rate=1), 1, 0, Breaker("closing", DUE_MS, LATER_MS, step=3)),
            f"the breaker of localhost:80 was open since {TIME} and closes: in step 3 of ten few may begin",
        ),
    ],
)
def test_a_held_task_says_what_holds_it(limit: HostState | None, said: str) -> None:
    stored = task("held", None, record=replace(RECORD, origin="http://localhost"))
    stored.limit = limit
    assert waits_for(stored) == f"its turn: {said}"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("scheduled", f"`redis-scheduler resume-all`: all is paused since {LATER}; then its time, {TIME}"),
        ("queued", f"`redis-scheduler resume-all`: all is paused since {LATER}; then a free slot of a worker"),
        ("in delivery", "the answer to its attempt 1"),
        ("paused", "a resume: it is paused"),
        ("dead", None),
    ],
)
def test_while_all_is_paused_that_comes_first(state: str, said: str | None) -> None:
    stored = task(state)
    stored.all_paused_since_ms = LATER_MS
    assert waits_for(stored) == said


NOBODY = "no worker serves shard 2"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("scheduled", f"`redis-scheduler worker`: {NOBODY}; then its time, {TIME}"),
        ("queued", f"`redis-scheduler worker`: {NOBODY}; then a free slot of a worker"),
        ("waiting", f"`redis-scheduler worker`: {NOBODY}; then a free slot of a worker"),
        ("in delivery", f"`redis-scheduler worker`: {NOBODY}; that of its attempt 1 is gone"),
        ("awaiting", f"an acknowledgement of its attempt 1, until {TIME}"),
        ("paused", "a resume: it is paused"),
        ("dead", None),
    ],
)
def test_while_nobody_serves_its_shard_that_comes_first(state: str, said: str | None) -> None:
    stored = task(state)
    stored.unserved = NOBODY
    assert waits_for(stored) == said


def test_a_pause_of_all_is_told_before_that_nobody_serves() -> None:
    stored = task("scheduled")
    stored.unserved, stored.all_paused_since_ms = NOBODY, LATER_MS
    assert waits_for(stored) == (
        f"`redis-scheduler resume-all`: all is paused since {LATER}; then `redis-scheduler worker`: {NOBODY}; then "
        f"its time, {TIME}"
    )


def test_a_long_error_is_cut() -> None:
    failure = b'{"error":"%s"}' % (b"x" * 1_000)
    assert (waits_for(task("queued", failure=failure)) or "").endswith(f": {'x' * ERROR_LENGTH}")
