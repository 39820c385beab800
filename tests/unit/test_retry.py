"""What follows for a claim, as tables: before an attempt, and from what an attempt came to."""

from collections.abc import Callable

import pytest

from redis_scheduler.task.claim import Claim
from redis_scheduler.task.options import Options
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.record import UNREADABLE, Record
from redis_scheduler.task.retry import RELEASED, SETTLED, Decision, Transition, before_attempt, decide, too_late
from redis_scheduler.task.timing import DEFAULT

WINDOW_MS = DEFAULT.window_ms
KNOWN = Record(0, "http://a/", 0)
NEWER = Record(0, "", 0, unknown="headers")
DUE_MS = 1_000_000
SERVICE = Policy(5, 60_000)
FAILED = Outcome("answered 500", 500, 12)
NEWER_ERROR = "written by a newer version: its member headers is not known here"


def never_asked() -> float:
    """A task that bounds no time needs no clock."""
    raise AssertionError


@pytest.mark.parametrize(
    ("retries", "delay_ms", "attempts", "transition"),
    [
        (0, 1000, 0, Transition.BURY),
        (1, 1000, 0, Transition.RETRY),
        (1, 1000, 1, Transition.BURY),
        (5, 1000, 4, Transition.RETRY),
        (5, 1000, 5, Transition.BURY),
        (5, 1000, 6, Transition.BURY),
        (-1, 1000, 1_000_000, Transition.RETRY),
        (-1, 0, 3, Transition.RETRY),
        (5, WINDOW_MS, 0, Transition.RETRY),
        (5, WINDOW_MS + 1, 0, Transition.DEFER),
        (5, WINDOW_MS + 1, 5, Transition.BURY),
        (-1, 86_400_000, 9, Transition.DEFER),
    ],
)
@pytest.mark.parametrize(
    ("outcome", "error", "last_failure"),
    [
        (Outcome("answered 500", 500, 12), "answered 500", b'{"error":"answered 500","elapsed_ms":12,"status":500}'),
        (Outcome("no answer", None, 3), "no answer", b'{"error":"no answer","elapsed_ms":3}'),
    ],
)
def test_what_follows_a_failed_attempt(
    retries: int,
    delay_ms: int,
    attempts: int,
    transition: Transition,
    outcome: Outcome,
    error: str,
    last_failure: bytes,
) -> None:
    decision = decide(Policy(retries, delay_ms), Claim("1-0", "key", KNOWN, attempts), outcome, never_asked)
    again_in_ms = 0 if transition is Transition.BURY else delay_ms
    assert decision == Decision(transition, again_in_ms, error, last_failure, counts=True)


@pytest.mark.parametrize("attempts", [0, 5, 6])
@pytest.mark.parametrize("delay_ms", [1_000, WINDOW_MS + 1])
@pytest.mark.parametrize("retries", [-1, 0, 5])
@pytest.mark.parametrize(
    ("outcome", "decision"),
    [
        (Outcome(None, 200, 1), SETTLED),
        (Outcome("OSError: [Errno 24] Too many open files", None, 1, is_local=True), RELEASED),
    ],
)
def test_a_success_settles_and_a_fault_of_this_machine_counts_as_no_attempt(
    outcome: Outcome, decision: Decision, retries: int, delay_ms: int, attempts: int
) -> None:
    claim = Claim("1-0", "key", KNOWN, attempts)
    assert decide(Policy(retries, delay_ms), claim, outcome, never_asked) is decision


def lost(workers: int) -> Decision:
    error = f"worker lost: {workers} workers ended during the delivery"
    return Decision(Transition.BURY, 0, error, b'{"error":"%s","elapsed_ms":0}' % error.encode(), counts=False)


BURIED_UNREAD = Decision(
    Transition.BURY, 0, "unreadable record", b'{"error":"unreadable record","elapsed_ms":0}', counts=False
)
LEFT_TO_NEWER = Decision(Transition.DEFER, DEFAULT.newer_delay_ms, NEWER_ERROR, b"", counts=False)


@pytest.mark.parametrize("attempts", [0, 7])
@pytest.mark.parametrize(
    ("record", "tries", "decision"),
    [
        (KNOWN, 1, None),
        (KNOWN, 5, None),
        (KNOWN, 6, lost(5)),
        (KNOWN, 9, lost(8)),
        (UNREADABLE, 1, BURIED_UNREAD),
        (UNREADABLE, 6, BURIED_UNREAD),
        # It has killed no worker that knows it.
        (NEWER, 1, LEFT_TO_NEWER),
        (NEWER, 6, LEFT_TO_NEWER),
    ],
)
def test_what_is_decided_before_an_attempt(
    record: Record, tries: int, decision: Decision | None, attempts: int
) -> None:
    assert before_attempt(Policy(5, 1_000), Claim("1-0", "key", record, attempts, tries), never_asked) == decision


def a_case(
    name: str, options: Options, attempts: int, after_s: float | None, now_s: float = 0, service: Policy = SERVICE
) -> object:
    """What a task with these options does when `attempts` have failed before and one more does, `now_s` after its due
    time: it comes again after so many seconds, or (None) never."""
    return pytest.param(options, attempts, after_s, now_s, service, id=name)


LINEAR = Options(retry_time=10, retry_backoff="linear", retry_jitter=0)
EXPONENTIAL = Options(retry_time=10, retry_backoff="exponential", retry_jitter=0)
TIMES = Options(retry_times=(5, 30, 300))
FOR = Options(retry_time=10, retry_for=100)


@pytest.mark.parametrize(
    ("options", "attempts", "after_s", "now_s", "service"),
    [
        a_case("the service's policy", Options(), 4, 60),
        a_case("the service's last attempt", Options(), 5, None),
        a_case("own retries, the service's delay", Options(retries=1), 0, 60),
        a_case("own retries are over", Options(retries=1), 1, None),
        a_case("more than the service's", Options(retries=9), 8, 60),
        a_case("no retry", Options(retries=0), 0, None),
        a_case("for ever", Options(retries=-1), 1_000_000, 60),
        a_case("own delay, the service's retries", Options(retry_time=0.25), 4, 0.25),
        a_case("own delay does not add retries", Options(retry_time=0.25), 5, None),
        a_case("linear, first", LINEAR, 0, 10),
        a_case("linear, third", LINEAR, 2, 30),
        a_case("linear, with the service's delay", Options(retry_backoff="linear", retry_jitter=0), 1, 120),
        a_case("exponential, first", EXPONENTIAL, 0, 10),
        a_case("exponential, fourth", EXPONENTIAL, 3, 80),
        a_case(
            "exponential, up to its longest",
            Options(retry_time=10, retry_backoff="exponential", retry_max=50, retry_jitter=0),
            3,
            50,
        ),
        a_case(
            "exponential for ever, up to ten years",
            Options(retries=-1, retry_backoff="exponential", retry_jitter=0),
            1_000_000,
            315_360_000,
        ),
        a_case(
            "fixed beside a service that grows",
            Options(retry_backoff="fixed"),
            3,
            60,
            service=Policy(5, 60_000, "exponential"),
        ),
        a_case(
            "a service that grows, with a tenth of chance", Options(), 1, 114, service=Policy(5, 60_000, "exponential")
        ),
        a_case(
            "a service's longest delay",
            Options(retry_jitter=0),
            3,
            100,
            service=Policy(5, 60_000, "exponential", 100_000),
        ),
        a_case("growing delays have a tenth of chance", Options(retry_time=10, retry_backoff="linear"), 0, 9.5),
        a_case("chance, if asked for", Options(retry_jitter=0.4), 0, 48),
        a_case("all of it by chance", Options(retry_jitter=1), 0, 30),
        a_case("chance on given times", Options(retry_times=(5, 30), retry_jitter=0.2), 1, 27),
        a_case("first of the given times", TIMES, 0, 5),
        a_case("last of the given times", TIMES, 2, 300),
        a_case("after the given times", TIMES, 3, None),
        a_case("given times beside a service that grows", TIMES, 1, 30, service=Policy(0, 60_000, "exponential", 100)),
        a_case("in time", FOR, 0, 10, now_s=90),
        a_case("too late by a moment", FOR, 0, None, now_s=90.001),
        a_case("for so long, however often", Options(retries=-1, retry_time=10, retry_for=100), 999, 10, now_s=50),
        a_case("the last attempt within the time", FOR, 5, None, now_s=50),
        a_case("within the service's time", Options(), 0, 60, now_s=40, service=Policy(5, 60_000, for_ms=100_000)),
        a_case("beyond the service's time", Options(), 0, None, now_s=41, service=Policy(5, 60_000, for_ms=100_000)),
    ],
)
def test_when_a_task_comes_again(
    options: Options, attempts: int, after_s: float | None, now_s: float, service: Policy
) -> None:
    claim = Claim("1-0", "key", Record(DUE_MS, "http://a/", 0, options=options), attempts)
    decision = decide(service, claim, FAILED, lambda: DUE_MS + now_s * 1000, chance=lambda: 0.5)
    assert (decision.error, decision.counts) == ("answered 500", True)
    if after_s is None:
        assert (decision.transition, decision.delay_ms) == (Transition.BURY, 0)
    else:
        assert decision.delay_ms == after_s * 1000
        assert decision.transition is (Transition.RETRY if after_s <= 60 else Transition.DEFER)


RETRY_AFTER_60 = {"retry-after": "60"}
RETRY_AFTER_DATE = {"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}
OVER_A_DAY = {"retry-after": "86401"}


def test_a_failure_that_is_final_is_buried_however_many_retries_there_are() -> None:
    outcome = Outcome("egress: the address is refused: metadata", None, 1, fault="egress", is_final=True)
    decision = decide(Policy(-1, 1_000), Claim("1-0", "key", KNOWN, 0), outcome, never_asked)
    assert (decision.transition, decision.counts) == (Transition.BURY, True)


NEVER = {"schedule-retry": "never"}


def an_answer(
    name: str,
    status: int | None,
    headers: dict[str, str],
    after_s: float | None,
    options: Options = Options(retry_time=10),  # noqa: B008 - it is frozen
    service: Policy = SERVICE,
) -> object:
    """What the service does after a first attempt with this answer: it tries again after so many seconds, or never."""
    return pytest.param(status, headers, after_s, options, service, id=name)


GONE = Policy(5, 10_000, final=frozenset((410,)))


@pytest.mark.parametrize(
    ("status", "headers", "after_s", "options", "service"),
    [
        an_answer("no answer at all", None, {}, 10),
        an_answer("the receiver is busy, and a twentieth by chance", 429, RETRY_AFTER_60, 63),
        an_answer("the receiver is away", 503, RETRY_AFTER_60, 63),
        an_answer("another status", 500, RETRY_AFTER_60, 10),
        an_answer("by a date", 429, RETRY_AFTER_DATE, 63),
        an_answer("not sooner than by the policy", 429, {"retry-after": "9"}, 10),
        an_answer("hardly later", 429, {"retry-after": "10"}, 10),
        an_answer("at most a day", 429, OVER_A_DAY, 86_400),
        an_answer("at most so long", 429, RETRY_AFTER_60, 20, service=Policy(5, 60_000, after_most_ms=20_000)),
        an_answer("not at all", 429, RETRY_AFTER_60, 10, service=Policy(5, 60_000, after_most_ms=0)),
        an_answer("beside chance of one's own", 429, RETRY_AFTER_60, 63, Options(retry_time=10, retry_jitter=1)),
        an_answer(
            "the policy's delay is longer than an answer's may be", 429, OVER_A_DAY, 90_000, Options(retry_time=90_000)
        ),
        an_answer(
            "later than the task may be retried", 429, RETRY_AFTER_60, None, Options(retry_time=10, retry_for=62)
        ),
        an_answer("no attempt is left", 429, RETRY_AFTER_60, None, Options(retries=0)),
        an_answer("never again", 500, NEVER, None),
        an_answer("never again, though it may wait", 503, RETRY_AFTER_60 | NEVER, None),
        an_answer("never again, though for ever", 500, NEVER, None, Options(retries=-1)),
        an_answer("a word that means nothing", 500, {"schedule-retry": "later"}, 10),
        an_answer("a final status", 410, {}, None, Options(final_statuses="404-410")),
        an_answer("an exception", 409, {}, 60, Options(final_statuses="404-410,!409")),
        an_answer("another than the final ones", 500, {}, 60, Options(final_statuses="404-410")),
        an_answer("final for the service", 410, {}, None, service=GONE),
        an_answer("not final for the task", 410, {}, 10, Options(final_statuses="none"), GONE),
        an_answer("final for the task alone", 410, {}, 10, Options(final_statuses="404"), GONE),
        an_answer("no status is final without one", None, {}, 10, service=GONE),
    ],
)
def test_what_an_answer_has_to_say(
    status: int | None, headers: dict[str, str], after_s: float | None, options: Options, service: Policy
) -> None:
    claim = Claim("1-0", "key", Record(DUE_MS, "http://a/", 0, options=options), 0)
    outcome = Outcome("failed", status, 12, headers=headers)
    decision = decide(service, claim, outcome, lambda: DUE_MS, chance=lambda: 0.5)
    assert decision.counts
    if after_s is None:
        assert (decision.transition, decision.delay_ms) == (Transition.BURY, 0)
    else:
        assert (decision.transition is Transition.DEFER, decision.delay_ms) == (after_s > 60, after_s * 1000)


EXPIRES = Options(retry_time=10, expire=100)
BOTH = Options(retry_time=10, retry_for=50, expire=100)
BURIED = Decision(Transition.BURY, 0, "no retry may be made so late (retry_for)", counts=False)
EXPIRED = Decision(Transition.EXPIRE, 0, "no attempt may be made so late (expire)", counts=False)


@pytest.mark.parametrize(
    ("options", "attempts", "now_s", "decision"),
    [
        (Options(retry_time=10), 1, 1e9, None),
        (FOR, 1, 100, None),
        (FOR, 1, 100.5, BURIED),
        (FOR, 0, 1e6, None),
        (EXPIRES, 0, -5, None),
        (EXPIRES, 0, 100, None),
        (EXPIRES, 0, 100.5, EXPIRED),
        (EXPIRES, 3, 100.5, EXPIRED),
        (BOTH, 0, 60, None),
        (BOTH, 1, 60, BURIED),
        (BOTH, 0, 101, EXPIRED),
        (BOTH, 1, 101, BURIED),
    ],
)
@pytest.mark.parametrize("decides", [before_attempt, too_late])
def test_what_comes_too_late_is_not_attempted(
    decides: Callable[..., Decision | None], options: Options, attempts: int, now_s: float, decision: Decision | None
) -> None:
    claim = Claim("1-0", "key", Record(DUE_MS, "http://a/", 0, options=options), attempts)
    assert decides(SERVICE, claim, lambda: DUE_MS + now_s * 1000) == decision


@pytest.mark.parametrize("attempts", [0, 1])
def test_a_task_that_bounds_no_time_asks_for_none(attempts: int) -> None:
    assert too_late(SERVICE, Claim("1-0", "key", KNOWN, attempts), never_asked) is None


@pytest.mark.parametrize(
    ("options", "attempts", "now_s", "transition"),
    [
        (EXPIRES, 0, 90, Transition.RETRY),
        (EXPIRES, 0, 90.5, Transition.EXPIRE),
        # Its attempts are over: it is a dead letter, which can be looked at.
        (EXPIRES, 5, 90.5, Transition.BURY),
        (BOTH, 0, 39, Transition.RETRY),
        (BOTH, 0, 41, Transition.BURY),
        (BOTH, 0, 99, Transition.BURY),
    ],
)
def test_a_task_whose_next_attempt_would_come_too_late_ends_with_the_one_before(
    options: Options, attempts: int, now_s: float, transition: Transition
) -> None:
    claim = Claim("1-0", "key", Record(DUE_MS, "http://a/", 0, options=options), attempts)
    decision = decide(SERVICE, claim, FAILED, lambda: DUE_MS + now_s * 1000)
    assert (decision.transition, decision.error, decision.counts) == (transition, "answered 500", True)


@pytest.mark.parametrize(
    ("most", "came", "headers", "after_ms"),
    [
        (0, 0, {"schedule-again-in": "30"}, None),
        (2, 0, {"schedule-again-in": "30"}, 30_000),
        (2, 1, {"schedule-again-in": "0"}, 0),
        (2, 2, {"schedule-again-in": "30"}, None),
        (2, 0, {}, None),
        (2, 0, {"schedule-again-in": "soon"}, None),
    ],
)
def test_a_success_brings_a_task_again_that_allows_it(
    most: int, came: int, headers: dict[str, str], after_ms: int | None
) -> None:
    options = Options(again_most=most, retries=3)
    claim = Claim("1-0", "key", Record(DUE_MS, "http://a/", 0, options=options, again=came), 2)
    decision = decide(SERVICE, claim, Outcome(None, 200, 5, headers=headers), never_asked)
    assert decision == (SETTLED if after_ms is None else Decision(Transition.AGAIN, after_ms, counts=False))
