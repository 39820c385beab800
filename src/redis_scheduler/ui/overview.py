"""The first page: what is wrong or that all is well, how many tasks stand where, what comes, how it went. While a shard
is away it is of the others."""

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from redis_scheduler.api.app import Inside
from redis_scheduler.api.stats import COUNTERS
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.dead_letters import DeadLetters
from redis_scheduler.store.forecast import due_between, oldest_due, overdue
from redis_scheduler.store.glance import ShardSeen
from redis_scheduler.store.history import HOUR_MINUTES, MINUTE_MS, History
from redis_scheduler.store.token import Right
from redis_scheduler.task.limit import Limit
from redis_scheduler.ui.asking import Asker, content_of
from redis_scheduler.ui.charts import bars, lines
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.hosts import fails_often, is_slow
from redis_scheduler.ui.past import Past
from redis_scheduler.ui.readings import Held, standing
from redis_scheduler.ui.rendering import clock, count, span
from redis_scheduler.ui.shards import Present, present
from redis_scheduler.ui.shared import Shared
from redis_scheduler.ui.verdict import percentile, problems, sentence

MINUTES, QUARTERS, QUARTER_MS = 60, 96, 15 * MINUTE_MS
RECENT_MINUTES, DAY_HOURS = 5, 24
MINUTE_FRESH_S, HOUR_FRESH_S = 4.0, 30.0
"""So long counts what was read of a minute, or an hour, that goes on: workers write every 5 s."""

HOSTS_SHOWN = 5
FEW_LETTERS = 1_000
"""So many dead letters are grouped anew every few seconds; more of them take longer."""

OUTCOMES = ("delivered", "failed", "died", "expired")


class Overview:
    """Reads what the first page shows; what changes slowly less often."""

    def __init__(self, inside: Inside, asker: Asker, limit: Limit) -> None:
        """`limit`: that of a host for which none is set."""
        self._limit = limit
        self._clients = inside.clients
        self._asker = asker
        self._glance = inside.glance
        history = History(inside.clients[0], "dashboard")  # the first shard has that of all
        self._minutes, self._hours = Past(history.minutes, MINUTE_FRESH_S), Past(history.hours, HOUR_FRESH_S)
        self._slow: Shared[Any] = Shared()

    def forget(self) -> None:
        """Read all anew: something was changed."""
        self._slow.forget()

    def is_for(self, visitor: Visitor) -> bool:
        """Whether the visitor may see figures of all tasks."""
        return bool(visitor.rights & Right.METRICS) and not (visitor.caller and visitor.caller.types)

    async def now(self, visitor: Visitor) -> dict[str, Any]:
        """Return the verdict, and how many tasks stand where. Raises StoreUnavailable."""
        shards = await present(self._glance, self._clients)
        ledger, there = shards.ledger, shards.numbers
        recent, day = await self.recent(shards.first), await self._day(shards.first)
        worst: list[dict[str, Any]] = []
        failing: list[tuple[str, str, int]] = []
        if visitor.rights & Right.READ:  # the API, too, tells of single tasks only with it
            fresh_s = 30 if ledger.dead > FEW_LETTERS else 5
            worst = (await self._slow.get(("worst", there), fresh_s, lambda: self._worst(visitor, shards))).value
            clients = shards.clients.values()
            failing = (await self._slow.get(("failing", there), 5, lambda: self._failing(clients))).value
        hosts: list[dict[str, Any]] = []
        are_known = all(one.since_s is not None for one in shards.away)  # the API waits for one that is silent
        if are_known:
            hosts = (await self._slow.get(("hosts", there), 5, lambda: self._hosts(visitor))).value
        readings = replace(
            standing(shards),
            recent=recent,
            died_in_day=sum(numbers.get("died", 0) for numbers in day),
            worst=[(one["host"], one["error"], one["count"]) for one in worst],
            open_breakers=[one["host"] for one in hosts if "breaker" in one],
            held=sorted(
                filter(None, (_held_by(one, self._limit) for one in hosts)), key=lambda held: held.tasks, reverse=True
            ),
            failing=failing,
            failing_hosts=[
                (one["host"], 1 - one["seen"]["success"], one["seen"].get("last_error", ""))
                for one in sorted(hosts, key=_attempts, reverse=True)
                if fails_often(one) and not one["paused"] and "breaker" not in one
            ],
            most_failed=max(map(_failures, hosts), default=(0.0, "", ""))[1:],
            slow=sorted(
                ((one["host"], one["seen"]["in_flight"]) for one in hosts if is_slow(one)),
                key=lambda slow: -slow[1],
            ),
        )
        told = {host for host, _, _ in failing} | {one["host"] for one in worst}
        return {
            "problems": problems(readings),
            "sentence": sentence(readings),
            "without": shards.without,
            "alone": shards.alone,
            "only": {"shard": str(there[0])} if shards.away and len(there) == 1 else {},
            "states": readings.states,
            "counters": {name: ledger.counters.get(name, 0) for name in COUNTERS},
            "workers": readings.workers,
            "oldest": span(readings.oldest_ms) if readings.oldest_ms else "",
            "worst": worst,
            "failing": [one for one in failing if not any(one[:2] == (dead["host"], dead["error"]) for dead in worst)],
            "hosts": [one for one in hosts if _is_in_trouble(one, is_told=one["host"] in told)] if are_known else None,
            "lacks_first": shards.first is None,
        }

    async def recent(self, first: ShardSeen | None) -> Counter[str]:
        """Return what happened in the last minutes; nothing while the first shard, which has the history of all and by
        whose clock it goes, is away."""
        recent: Counter[str] = Counter()
        if first is not None:
            minute = first.ledger.now_ms // MINUTE_MS
            for numbers in await self._minutes.get(minute - RECENT_MINUTES + 1, minute):
                recent.update(numbers)
        return recent

    async def _day(self, first: ShardSeen | None) -> list[dict[str, int]]:
        """Return what happened in each hour of the last day; nothing while the first shard is away."""
        if first is None:
            return []
        hour = first.ledger.now_ms // MINUTE_MS // HOUR_MINUTES
        return await self._hours.get(hour - DAY_HOURS + 1, hour)

    async def _failing(self, clients: Iterable[RedisClient]) -> list[tuple[str, str, int]]:
        counts: Counter[tuple[str, str]] = Counter()
        for groups in await asyncio.gather(*(DeadLetters(client).failing() for client in clients)):
            for one in groups:
                counts[one.host, one.error] += one.count
        return [(host, error, count) for (host, error), count in counts.most_common(HOSTS_SHOWN)]

    async def _hosts(self, visitor: Visitor) -> list[dict[str, Any]]:
        hosts: list[dict[str, Any]] = content_of(await self._asker.ask(visitor, "GET", "/hosts"))["data"]
        return hosts

    async def _worst(self, visitor: Visitor, shards: Present) -> list[dict[str, Any]]:
        """Return the largest groups of dead letters, without those of shards that are away."""
        alone: list[dict[str, str]] = [{"shard": str(one)} for one in shards.numbers] if shards.away else [{}]
        found: Counter[tuple[str, str]] = Counter()
        for query in alone:
            answered = await self._asker.ask(visitor, "GET", "/dead/groups", query)
            if answered.status != 403:
                for one in content_of(answered)["data"]:
                    found[one["host"], one["error"]] += one["count"]
        largest = found.most_common(HOSTS_SHOWN)
        return [{"host": host, "error": error, "count": count} for (host, error), count in largest]

    async def charts(self) -> dict[str, Any]:
        """Return the charts: what comes due in an hour and in a day, how late tasks were, how attempts ended; without
        the shards that are away. While the first is, the last two are not known."""
        shards = await present(self._glance, self._clients)
        clients = [*shards.clients.values()]
        now_ms = (shards.first or shards).ledger.now_ms
        # What is queued is due, too: no worker has claimed it.
        late = await overdue(clients, now_ms) + shards.ledger.queued
        begins, soon = await self._due_by("minutes", 30, now_ms, MINUTE_MS, MINUTES, shards)
        quarters, day = await self._due_by("quarters", 300, now_ms, QUARTER_MS, QUARTERS, shards)
        drawn = [
            _due_chart("due-hour", "Due in the next hour, by the minute", begins, soon, late),
            _due_chart("due-day", "Due in the next day, by the quarter of an hour", quarters, day, late),
        ]
        if shards.first is not None:
            last = now_ms // MINUTE_MS
            minutes = range(last - MINUTES + 1, last + 1)
            past = list(zip(minutes, await self._minutes.get(minutes[0], last), strict=True))
            drawn += [_late_chart(past, await oldest_due(clients, minutes)), _outcome_chart(past)]
        return {"charts": drawn, "without": shards.without, "alone": shards.alone}

    async def _due_by(
        self, name: str, fresh_s: float, now_ms: int, step_ms: int, count: int, shards: Present
    ) -> tuple[list[int], list[int]]:
        """Return how many come due in so many steps, beside the beginning of each: of the first one as it is now, of
        those behind as it was within `fresh_s`."""

        async def read() -> tuple[list[int], list[int]]:
            edges = [now_ms, *(step_ms * (now_ms // step_ms + 1 + at) for at in range(count + 1))]
            return edges, await due_between(clients, edges)

        clients = [*shards.clients.values()]
        edges, numbers = (await self._slow.get((name, shards.numbers), fresh_s, read)).value
        gone = max(1, bisect_right(edges, now_ms))
        edges, numbers = [now_ms, *edges[gone:]], numbers[gone:]
        return edges[:-1][:count], [*await due_between(clients, edges[:2]), *numbers][:count]


def _attempts(host: dict[str, Any]) -> int:
    return int(host.get("seen", {}).get("attempts", 0))


def _failures(host: dict[str, Any]) -> tuple[float, str, str]:
    """Return how many attempts failed, the host, and how the last did."""
    seen = host.get("seen", {})
    failed = seen.get("attempts", 0) * (1 - seen.get("success", 1))
    return (failed, host["host"], seen.get("last_error", "")) if failed else (0.0, "", "")


def _held_by(host: dict[str, Any], default: Limit) -> Held | None:
    """Return what a host holds back, if it is paused or has a limit, of its own or by `default`. How long that takes
    under a concurrency is worked out by the p95 of its attempts and by how many a second there were lately, and the
    shorter counts: the second alone would say too much of a host that was idle."""
    name, held, seen = host["host"], host["held"], host.get("seen", {})
    if not held:
        return None
    if host["paused"]:
        return Held(name, held, None)
    if rate := host.get("rate", default.rate):
        return Held(name, held, held * host.get("per", default.per_s) / rate, "" if "rate" in host else "HOST_RATE")
    if (concurrency := host.get("concurrency", default.concurrency)) and seen.get("per_second") and "p95_ms" in seen:
        wait_s = held * min(1 / seen["per_second"], seen["p95_ms"] / 1000 / concurrency)
        return Held(name, held, wait_s, "" if "concurrency" in host else "HOST_CONCURRENCY")
    return None


def _is_in_trouble(host: dict[str, Any], is_told: bool) -> bool:
    """Whether the table of what is in trouble has a row of a host. `is_told`: whether another row says already that its
    tasks fail, or died."""
    is_held_back = host["held"] or host["paused"] or "breaker" in host or is_slow(host)
    return bool(is_held_back or (fails_often(host) and not is_told))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, Any]:
    return {"head": head, "rows": rows}


def _due_chart(chart: str, title: str, begins: Sequence[int], numbers: Sequence[int], late: int) -> dict[str, Any]:
    labels = ["overdue", *(clock(at) for at in begins)]
    drawn = bars(
        f"{title}: {count(sum(numbers))} tasks, {count(late)} overdue",
        labels,
        [("late", [late] + [0] * len(numbers)), ("due", [0, *numbers])],
    )
    rows = [(label, number) for label, number in zip(labels, [late, *numbers], strict=True) if number]
    return {
        "id": chart,
        "title": title,
        "svg": drawn,
        "table": _table(("from (UTC)", "tasks"), rows),
    }


def _late_chart(past: Sequence[tuple[int, dict[str, int]]], oldest_ms: Sequence[int]) -> dict[str, Any]:
    title = "How late first attempts began, and for how long the oldest was due, in the last hour"
    labels = [clock(number * MINUTE_MS) for number, _ in past]
    halves = [percentile(numbers, "late", 0.5) for _, numbers in past]
    most = [percentile(numbers, "late", 0.99) for _, numbers in past]
    rows = [
        (label, "" if p50 is None else span(p50), "" if p99 is None else span(p99), span(oldest) if oldest else "")
        for label, p50, p99, oldest in zip(labels, halves, most, oldest_ms, strict=True)
        if p50 is not None or oldest
    ]
    return {
        "id": "late",
        "title": title,
        "legend": [("p50", "p50"), ("p99", "p99"), ("oldest", "oldest due")],
        "svg": lines(title, labels, [("p50", halves), ("p99", most), ("oldest", [one or None for one in oldest_ms])]),
        "table": _table(("minute (UTC)", "p50 at most", "p99 at most", "oldest due"), rows),
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
