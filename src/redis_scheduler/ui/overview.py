"""The first page: what is wrong or that all is well, how many tasks stand where, what comes, how it went."""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from redis_scheduler.api.app import Inside
from redis_scheduler.api.stats import COUNTERS, states_of
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.dead_letters import DeadLetters
from redis_scheduler.store.forecast import due_between, now_and_next, overdue
from redis_scheduler.store.glance import Glance
from redis_scheduler.store.history import HOUR_MINUTES, MINUTE_MS, History
from redis_scheduler.store.ledger import total
from redis_scheduler.store.token import Right
from redis_scheduler.ui.asking import Asker, content_of
from redis_scheduler.ui.charts import bars, lines
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.rendering import clock, count, span
from redis_scheduler.ui.shared import Shared
from redis_scheduler.ui.verdict import Readings, percentile, problems, sentence

MINUTES, QUARTERS, QUARTER_MS = 60, 96, 15 * MINUTE_MS
RECENT_MINUTES = 5
SETTLED_MINUTES = 2
"""After so many minutes nothing is added to a minute any more, but by a worker that Redis was away from."""

HOSTS_SHOWN = 5
FEW_LETTERS = 1_000
"""So many dead letters are grouped anew every few seconds; more of them take longer."""

OUTCOMES = ("delivered", "failed", "died", "expired")


class Overview:
    """Reads what the first page shows; what changes slowly less often."""

    def __init__(self, inside: Inside, asker: Asker) -> None:
        self._client: RedisClient = inside.clients[0]
        self._asker = asker
        self._glance = Glance(inside.clients)
        self._history = History(self._client, "dashboard")
        self._letters = DeadLetters(self._client)
        self._slow: Shared[Any] = Shared()
        self._hours: Shared[dict[str, int]] = Shared()
        self._minutes: Shared[dict[str, int]] = Shared(2 * MINUTES)

    def is_for(self, visitor: Visitor) -> bool:
        """Whether the visitor may see figures of all tasks."""
        return bool(visitor.rights & Right.METRICS) and not (visitor.caller and visitor.caller.types)

    async def now(self, visitor: Visitor) -> dict[str, Any]:
        """Return the verdict, and how many tasks stand where. Raises StoreUnavailable."""
        seen = await self._glance.look()
        ledger = total([one.ledger for one in seen])
        now_ms, next_ms = await now_and_next(self._client)
        recent = (await self._slow.get("recent", 5, lambda: self._recent(now_ms))).value
        worst: list[dict[str, Any]] = []
        failing: list[tuple[str, str, int]] = []
        if visitor.rights & Right.READ:  # the API, too, tells of single tasks only with it
            fresh_s = 30 if ledger.dead > FEW_LETTERS else 5
            worst = (await self._slow.get("worst", fresh_s, lambda: self._worst(visitor))).value
            failing = (await self._slow.get("failing", 5, self._failing)).value
        hosts = (await self._slow.get("hosts", 5, lambda: self._hosts(visitor))).value
        readings = Readings(
            now_ms,
            states_of(ledger),
            ledger.is_balanced,
            None if ledger.all_paused_since_ms is None else rfc3339(ledger.all_paused_since_ms),
            next_ms,
            ledger.oldest_due_ms,
            max(one.workers for one in seen),
            max(one.memory.share for one in seen),
            recent,
            await self._died_in_day(now_ms),
            [(one["host"], one["error"], one["count"]) for one in worst],
            [one["host"] for one in hosts if "breaker" in one],
            failing,
        )
        return {
            "problems": problems(readings),
            "sentence": sentence(readings),
            "states": readings.states,
            "counters": {name: ledger.counters.get(name, 0) for name in COUNTERS},
            "workers": readings.workers,
            "oldest": span(readings.oldest_ms) if readings.oldest_ms else "none is due",
            "worst": worst,
            "failing": [one for one in failing if not any(one[:2] == (dead["host"], dead["error"]) for dead in worst)],
            "hosts": [one for one in hosts if one["held"] or one["paused"] or "breaker" in one],
        }

    async def _failing(self) -> list[tuple[str, str, int]]:
        return [(one.host, one.error, one.count) for one in (await self._letters.failing())[:HOSTS_SHOWN]]

    async def _hosts(self, visitor: Visitor) -> list[dict[str, Any]]:
        return content_of(await self._asker.ask(visitor, "GET", "/hosts"))["data"]  # type: ignore[no-any-return]

    async def _worst(self, visitor: Visitor) -> list[dict[str, Any]]:
        answered = await self._asker.ask(visitor, "GET", "/dead/groups")
        return content_of(answered)["data"][:5] if answered.status != 403 else []

    async def _recent(self, now_ms: int) -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(now_ms // MINUTE_MS - RECENT_MINUTES + 1, now_ms // MINUTE_MS + 1):
            found.update(await self._minute(number, now_ms))
        return found

    async def _minute(self, number: int, now_ms: int) -> dict[str, int]:
        fresh_s = 3600 if number < now_ms // MINUTE_MS - SETTLED_MINUTES else 4
        return (await self._minutes.get(number, fresh_s, lambda: self._history.minute(number))).value

    async def _died_in_day(self, now_ms: int) -> int:
        hour, died = now_ms // MINUTE_MS // HOUR_MINUTES, 0
        for number in range(hour - 23, hour + 1):
            fresh_s = 5 if number == hour else 3600
            read = functools.partial(self._history.hour, number)
            died += (await self._hours.get((number, number == hour), fresh_s, read)).value.get("died", 0)
        return died

    async def charts(self) -> list[dict[str, Any]]:
        """Return the charts: what comes due in an hour and in a day, how late tasks were, how attempts ended."""
        now_ms, _ = await now_and_next(self._client)
        late = await overdue(self._client, now_ms)
        begins, soon = (await self._slow.get("minutes", 30, lambda: self._due_by(now_ms, MINUTE_MS, MINUTES))).value
        quarters, day = (
            await self._slow.get("quarters", 300, lambda: self._due_by(now_ms, QUARTER_MS, QUARTERS))
        ).value
        first = now_ms // MINUTE_MS + 1
        past = [(number, await self._minute(number, now_ms)) for number in range(first - MINUTES, first)]
        return [
            _due_chart("Due in the next hour, by the minute", begins, soon, late),
            _due_chart("Due in the next day, by the quarter of an hour", quarters, day, late),
            _late_chart(past),
            _outcome_chart(past),
        ]

    async def _due_by(self, now_ms: int, step_ms: int, count: int) -> tuple[list[int], list[int]]:
        """Return how many come due in so many steps, beside the beginning of each."""
        edges = [now_ms, *(step_ms * (now_ms // step_ms + 1 + at) for at in range(count))]
        return edges[:-1], await due_between(self._client, edges)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, Any]:
    return {"head": head, "rows": rows}


def _due_chart(title: str, begins: Sequence[int], numbers: Sequence[int], late: int) -> dict[str, Any]:
    labels = ["overdue", *(clock(at) for at in begins)]
    drawn = bars(
        f"{title}: {count(sum(numbers))} tasks, {count(late)} overdue",
        labels,
        [("late", [late] + [0] * len(numbers)), ("due", [0, *numbers])],
    )
    rows = [(label, number) for label, number in zip(labels, [late, *numbers], strict=True) if number]
    return {
        "id": "due-" + str(len(numbers)),
        "title": title,
        "svg": drawn,
        "table": _table(("from (UTC)", "tasks"), rows),
    }


def _late_chart(past: Sequence[tuple[int, dict[str, int]]]) -> dict[str, Any]:
    title = "How late first attempts began, in the last hour"
    labels = [clock(number * MINUTE_MS) for number, _ in past]
    halves = [percentile(numbers, "late", 0.5) for _, numbers in past]
    most = [percentile(numbers, "late", 0.99) for _, numbers in past]
    rows = [(label, span(p50), span(p99 or 0)) for label, p50, p99 in zip(labels, halves, most, strict=True) if p50]
    return {
        "id": "late",
        "title": title,
        "legend": [("p50", "p50"), ("p99", "p99")],
        "svg": lines(title, labels, [("p50", halves), ("p99", most)]),
        "table": _table(("minute (UTC)", "p50 at most", "p99 at most"), rows),
    }


def _outcome_chart(past: Sequence[tuple[int, dict[str, int]]]) -> dict[str, Any]:
    title = "How attempts ended, in the last hour"
    labels = [clock(number * MINUTE_MS) for number, _ in past]
    counted = [
        {**numbers, "failed": sum(many for name, many in numbers.items() if name.startswith("failed:"))}
        for _, numbers in past
    ]
    stacks = [(name, [one.get(name, 0) for one in counted]) for name in OUTCOMES]
    rows = [
        (label, *(one.get(name, 0) for name in OUTCOMES))
        for label, one in zip(labels, counted, strict=True)
        if any(one.get(name) for name in OUTCOMES)
    ]
    return {
        "id": "outcomes",
        "title": title,
        "legend": [(name, name) for name in OUTCOMES],
        "svg": bars(title, labels, stacks),
        "table": _table(("minute (UTC)", *OUTCOMES), rows),
    }
