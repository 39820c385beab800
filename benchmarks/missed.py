"""Missed: what does it take a worker to work out what ten thousand series by cron have missed?

Each series has missed a thousand times. Once all go by a few expressions, once each by one of its own. Each claim is
worked out in this process, with nothing kept from before; it is CPU that counts. Beside that some series of their own
expressions are walked through, from each time to the next.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.gap import times_in
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import decode_record, record_tail
from redis_scheduler.task.repeat import Progress, Repeat
from redis_scheduler.task.series import firing
from redis_scheduler.task.times import next_ms, times_after
from redis_scheduler.task.timing import DEFAULT

NOW_MS = 1_795_737_600_000
"""When a worker claims the series: 2026-11-27, in UTC."""

DAY_MS = 86_400_000
ZONE = "Europe/Berlin"
TIMES_A_DAY = 2
"""Of each expression."""

FEW = 50
"""Expressions, where series share them."""

MARK_MS = 10
"""The longest that one series may take: nothing else goes on in a worker meanwhile."""


def rule_of(number: int) -> Repeat:
    """Return one of some 80,000 rules, each of two times a day."""
    minute, more, hour = number % 60, 1 + number // 1_440 % 59, number // 60 % 24
    return Repeat(cron=f"{minute},{(minute + more) % 60} {hour} * * *", tz=ZONE)


def claims_of(rules: Sequence[Repeat], due_ms: int) -> list[Claim]:
    """Return a claim of a series of each rule, which was due then."""
    tails = [record_tail("http://host/", -1, None, b"{}", Options(repeat=rule)) for rule in rules]
    records = [decode_record(b'{"due":%d' % due_ms + tail) for tail in tails]
    return [Claim("1-0", f"series-{number}", record, 0) for number, record in enumerate(records)]


def worked_out(claims: Sequence[Claim]) -> dict[str, float]:
    """Work out what each series does; return the seconds of CPU, the longest that one took in ms, and how many times
    the last one leaves out."""
    times_in.cache_clear()
    next_ms.cache_clear()
    began_s, longest_s = time.thread_time(), 0.0
    before_s, tail = began_s, b""
    for claim in claims:
        tail = firing(claim, NOW_MS, DEFAULT.load_bytes).after.tail
        now_s = time.thread_time()
        longest_s, before_s = max(longest_s, now_s - before_s), now_s
    progress = decode_record(b'{"due":1' + tail).repetition
    assert isinstance(progress, Progress)
    taken = {"cpu_s": round(before_s - began_s, 3), "longest_ms": round(1000 * longest_s, 2)}
    return {**taken, "skipped": progress.skipped}


def walked_ms(rules: Sequence[Repeat], due_ms: int) -> float:
    """Return the ms of CPU that a walk through what a series has missed takes."""
    began_s = time.thread_time()
    for rule in rules:
        assert sum(1 for _ in takewhile(NOW_MS.__ge__, times_after(rule, due_ms))) > 1
    return round(1000 * (time.thread_time() - began_s) / len(rules), 2)


async def measure(options: Namespace, _folder: Path) -> dict[str, Any]:
    """Measure both kinds, and the walk."""
    due_ms = NOW_MS - options.times * DAY_MS // TIMES_A_DAY
    rules = [rule_of(number) for number in range(options.series)]
    kinds = {"few": [rules[number % FEW] for number in range(options.series)], "own": rules}
    found: dict[str, Any] = {name: worked_out(claims_of(of_kind, due_ms)) for name, of_kind in kinds.items()}
    longest_ms = max(one["longest_ms"] for one in found.values())
    return {
        **found,
        "walked_ms": walked_ms(rules[: options.walked], due_ms),
        "marks": [report.mark(f"one series takes <= {MARK_MS} ms", longest_ms, longest_ms <= MARK_MS)],
        "versions": report.versions("none"),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(f"missed: {settings['series']:,} series, {settings['times']:,} times each\n")
    rows = [
        (label, f"{found[name]['cpu_s']:.2f}", f"{found[name]['longest_ms']:.1f}")
        for label, name in ((f"of {FEW} expressions", "few"), ("of one each", "own"))
    ]
    print(report.table(("", "CPU, s", "longest of one, ms"), rows))
    print(f"\na walk through one: {found['walked_ms']:.1f} ms")


def main() -> None:
    parser = harness.parser(__doc__, "missed")
    parser.add_argument("--series", type=harness.positive, default=10_000, help="series that come due")
    parser.add_argument("--times", type=harness.positive, default=1_000, help="that each of them has missed")
    parser.add_argument("--walked", type=harness.positive, default=100, help="series that are walked through")
    harness.run(parser.parse_args(), measure, show, 300)


if __name__ == "__main__":
    main()
