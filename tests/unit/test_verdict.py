"""What the dashboard's first sentence says: the worst first, with a remedy; or that all is well."""

from dataclasses import replace
from typing import Any

import pytest

from redis_scheduler.store.glance import ShardAway, ShardSeen, Unserved
from redis_scheduler.store.ledger import Ledger
from redis_scheduler.ui.readings import Held, Readings, standing
from redis_scheduler.ui.shards import Present
from redis_scheduler.ui.verdict import percentile, problems, sentence

WELL = Readings(
    now_ms=1_000_000,
    states={"due": 12_000, "queued": 400, "in_delivery": 31, "dead": 7},
    is_balanced=True,
    all_paused_since=None,
    next_due_ms=1_004_000,
    oldest_ms=0,
    workers=2,
    memory_share=0.1,
    recent={"delivered": 100, "late:2": 98, "late:5": 2, "failed:timeout": 3},
)

WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {"away": [ShardAway(1, 3_723.0, None)], "shards": 4},
        "Shard 1 of 4 has not answered since 01:02:03: the tasks there wait, the others go on",
        "new tasks go to the others.",
    ),
    (
        {"away": [ShardAway(0, None, None), ShardAway(2, None, None)], "shards": 4},
        "Shards 0 and 2 of 4 do not answer: the tasks",
        "history, hosts and processes are not known meanwhile",
    ),
    (
        {"workers": 0, "oldest_ms": 40_000, "unserved": Unserved([0], 0, 40_000)},
        "No worker runs, and the oldest task has been due for 40.0 s",
        "redis-scheduler worker",
    ),
    (
        {"all_paused_since": "2026-11-28T09:00:00Z"},
        "All is paused since 2026-11-28T09:00:00Z",
        "redis-scheduler resume-all",
    ),
    ({"is_balanced": False}, "The ledger does not balance", "doctor --repair"),
    ({"memory_share": 0.85}, "Redis uses 85% of the memory", "MAX_MEMORY"),
    ({"oldest_ms": 12_000, "states": {"due": 9}}, "Late: no worker takes what is due; the oldest", "CONCURRENCY"),
    (
        {"oldest_ms": 12_000},
        "Late: 400 tasks are queued, more than 2 workers deliver in time; the oldest has been due for 12.0 s",
        "CONCURRENCY",
    ),
    (
        {"oldest_ms": 12_000, "slow": [("a.example:443", 150), ("b.example:443", 3)]},
        "Late: 400 tasks are queued, more than 2 workers deliver in time",
        "a.example:443 is slow and holds 150 slots",
    ),
    (
        {"recent": {"delivered": 5, "failed:connect": 40, "failed:timeout": 5}},
        "90% of attempts fail",
        "See whether they run",
    ),
    (
        {"recent": {"delivered": 5, "failed:connect": 45}, "failing": [("", "no connection", 45)]},
        "90% of attempts fail",
        "Most at a host that cannot be read: no connection. See whether they run",
    ),
    (
        {"recent": {"failed:4xx": 45}, "failing": [("a.example:443", "answered 401", 45)]},
        "100% of attempts fail in the last minutes, most because the answer is 4xx.",
        "Most at a.example:443: answered 401. See whether what deliveries show is still taken there",
    ),
    (
        {
            "recent": {"failed:lookup": 45},
            "failing": [("a.example:443", "cannot look up a.example: Domain name not found", 45)],
        },
        "100% of attempts fail in the last minutes, most because names of receivers cannot be looked up (lookup).",
        "Domain name not found. See whether the name is right",
    ),
    (
        {
            "recent": {"failed:lookup": 45},
            "failing": [("a.example:443", "cannot look up a.example: Timeout while contacting DNS servers", 45)],
        },
        "100% of attempts fail in the last minutes, most because names of receivers cannot be looked up (lookup).",
        "DNS servers. See whether the name servers of the workers answer",
    ),
    (
        {"recent": {"delivered": 10_000, "failed:connect": 40}, "failing_hosts": [("a.example:443", 1.0, "connect")]},
        "a.example:443 fails: 100% of its attempts in the last minutes, last by: connect.",
        "its tasks are retried while they have retries left",
    ),
    (
        {"failing_hosts": [(f"{name}.example:443", 1.0, "answered 401") for name in "abcde"]},
        "a.example:443, b.example:443, c.example:443 and 2 more fail: most of their attempts in the last minutes, last",
        "See whether what deliveries show is still taken there (DELIVERY_AUTH, headers of the tasks); their tasks are",
    ),
    (
        {"failing_hosts": [("a.example:443", 0.75, "answered 429")]},
        "a.example:443 fails: 75% of its attempts",
        "Set a limit for the host in Hosts; its tasks",
    ),
    (
        {"failing_hosts": [("a.example:443", 1.0, "tls")]},
        "a.example:443 fails: 100% of its attempts in the last minutes, last by: tls.",
        "See its certificate, and EGRESS_CA_FILE; its tasks",
    ),
    (
        {
            "failing_hosts": [("a.example:443", 1.0, "lookup")],
            "failing": [("b.example:443", "other", 9), ("a.example:443", "cannot look up a.example: no such name", 2)],
        },
        "a.example:443 fails: 100% of its attempts in the last minutes, last by: cannot look up a.example: no such name.",
        "See whether the name is right",
    ),
    (
        {"recent": {"delivered": 960, "failed:5xx": 40}, "most_failed": ("a.example:443", "answered 500")},
        "4% of attempts fail in the last minutes, most at a.example:443, last by: answered 500.",
        "or a proxy before it, and which of its tasks fail",
    ),
    (
        {"recent": {"delivered": 960, "failed:5xx": 40}},
        "4% of attempts fail in the last minutes.",
        "See which tasks wait for a retry",
    ),
    (
        {"emptied": [0], "emptied_ms": 3_723_000},
        "Redis has lost all its data, as was seen at 01:02:03: the tasks that it had then are gone.",
        "import a backup",
    ),
    ({"emptied": [1], "shards": 2}, "Redis of shard 1 has lost all its data", "was flushed"),
    (
        {"recent": {"delivered": 900, "came_back": 1}},
        "Workers were lost: 1 task came back of some that ended without a word",
        "or all by one task? System says since when each runs.",
    ),
    (
        {"held": [Held("a.example:443", 500, 30_000.0), Held("b.example:443", 9, 60.0)]},
        "The limit of a.example:443 holds back 500 tasks: the last begins in 8h 20m.",
        "Raise the limit in Hosts",
    ),
    (
        {"held": [Held("a.example:443", 500, 30_000.0, "HOST_RATE")]},
        "HOST_RATE, which limits a.example:443, holds back 500 tasks: the last begins in 8h 20m.",
        "Raise it, or set a limit for a.example:443 in Hosts",
    ),
    (
        {"held": [Held("a.example:443", 1, None)]},
        "a.example:443 is paused, and holds back 1 task.",
        "resume it in Hosts",
    ),
    (
        {"recent": {"left:key": 1_200}},
        "Workers lack the DATA_KEY that tasks are sealed with: 1,200 times one put a task back",
        "DATA_KEY of the API",
    ),
    ({"recent": {"left:newer": 1}}, "Workers are too old for tasks: once one put", "System shows that of each"),
    ({"too_old": "host-1-abc.r1"}, "The worker host-1-abc.r1 is of an older version", "Upgrade it, or stop it."),
    ({"recent": {"delivered": 900, "died": 3}, "worst": [("a.example:443", "answered 500", 3)]}, "3 died", "replay"),
    (
        {"recent": {"delivered": 900, "died": 1}, "worst": [("a.example:443", "worker lost: 5 workers ended", 1)]},
        "1 died in the last minutes. The largest group of dead letters is of a.example:443: worker lost: 5 workers ended.",
        "before you replay it",
    ),
    ({"open_breakers": ["a.example:443"]}, "a.example:443 is only probed", "go on once it answers"),
]


@pytest.mark.parametrize(("changes", "said", "remedy"), WRONG)
def test_what_is_wrong_is_said_with_what_to_do(changes: dict[str, Any], said: str, remedy: str) -> None:
    [first, *others] = problems(replace(WELL, **changes))
    assert first.text.startswith(said)
    assert remedy in first.remedy
    assert others == []


def test_the_worst_comes_first() -> None:
    changes: dict[str, Any] = {}
    for more, _, _ in reversed(WRONG[1:6]):
        changes |= more
    found = problems(replace(WELL, **changes))
    assert [one.text[:6] for one in found] == ["Shards", "All is", "The le", "Redis "]
    found = problems(replace(WELL, workers=0, unserved=Unserved([0], 0, 9_000), open_breakers=["a"]))
    assert [one.text[:9] for one in found] == ["No worker", "a is only"]


def test_shards_without_a_worker_beside_others_are_named_where_anything_waits_there() -> None:
    assert problems(replace(WELL, unserved=Unserved([2, 5], 0, 4_999))) == problems(WELL)
    [late] = problems(replace(WELL, unserved=Unserved([2, 5], 0, 9_000), oldest_ms=9_000))
    assert late.text == "No worker serves shards 2 and 5, and the oldest task has been due for 9.0 s."
    assert "WORKER_SHARDS" in late.remedy
    three = replace(WELL, unserved=Unserved([2, 5], 3))
    [waits] = problems(three)
    assert waits.text == "No worker serves shards 2 and 5, and 3 wait for one."
    assert not any("serves" in one.text for one in problems(replace(three, all_paused_since="now")))


def test_a_few_failures_among_many_are_not_said() -> None:
    assert problems(replace(WELL, recent={"delivered": 10_000, "failed:5xx": 99})) == []
    assert problems(replace(WELL, recent={"delivered": 10, "failed:5xx": 9})) == []


def test_no_workers_is_said_only_where_it_is_true() -> None:
    def seen(workers: int = 0, **counts: Any) -> ShardSeen:
        ledger = replace(Ledger(0, 0, 0, 0, 0, 0, 0, 0, {}, None), now_ms=WELL.now_ms * 1_000, **counts)
        return ShardSeen(replace(ledger, counters={"scheduled": ledger.running}), workers, None)

    def read(*shards: ShardSeen) -> Readings:
        return standing(Present(dict(enumerate(shards)), {}, ()))

    idle = read(seen(due=12_431, paused=3))
    assert problems(idle) == []
    assert sentence(idle).startswith("Nothing is late, but no worker runs: 12,434 to be delivered")
    assert problems(read(seen(due=5, oldest_due_ms=1_000))) == []
    for state in ("queued", "in_delivery", "waiting"):
        waits = seen(due=5, **{state: 200})
        [problem] = problems(read(waits))
        assert problem.text == "No worker runs, and 200 wait for one."
        [problem] = problems(read(seen(1, queued=3), seen(), waits))
        assert problem.text == "No worker serves shard 2, and 200 wait for one."


def test_all_is_well_in_a_sentence() -> None:
    assert problems(WELL) == []
    said = "All well: 12,431 to be delivered, next in 4.0 s, p99 at most 5 ms late"
    assert sentence(replace(WELL, states={**WELL.states, "dead": 0})) == f"{said}, none died in 24 h."
    assert sentence(WELL) == f"{said}.", "there are dead letters: nobody knows yet that none of them died just now"
    nothing = replace(WELL, states={}, next_due_ms=None, recent={}, died_in_day=1_234)
    assert sentence(nothing) == "All well: 0 to be delivered, 1,234 died in 24 h."


def test_a_percentile_is_the_bound_that_holds_it() -> None:
    numbers = {"late:1": 50, "late:10": 49, "late:more": 1}
    assert [percentile(numbers, "late", share) for share in (0.5, 0.51, 0.99, 1)] == [1, 10, 10, 120_000]
    assert percentile({}, "late", 0.5) is None
