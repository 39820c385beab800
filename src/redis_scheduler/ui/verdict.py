"""What is wrong, the first thing first, and what to do; or, in one sentence, that all is well. Pure."""

from collections.abc import Mapping

from redis_scheduler.store.glance import named
from redis_scheduler.store.memory import WARN_SHARE
from redis_scheduler.task.retry import LOST
from redis_scheduler.task.tally import BOUNDS_MS, bound_at
from redis_scheduler.ui.failing import failing
from redis_scheduler.ui.readings import NAMED_MOST, UNREADABLE_HOST, Problem, Readings
from redis_scheduler.ui.rendering import clock, count, span

LATE_MS = 5_000
"""A task that is due for longer is late."""

HELD_S = 600
"""What a limit holds back for longer is told."""

LEFT = {
    "key": ("Workers lack the DATA_KEY that tasks are sealed with", "Give all workers the DATA_KEY of the API."),
    "newer": ("Workers are too old for tasks", "Start workers of the newest version: System shows that of each."),
    "zone": ("Workers do not know the time zone of series", "Give all workers the same tzdata."),
}
"""Why workers leave tasks to others (tally.py), and what to do."""


def percentile(numbers: Mapping[str, int], kind: str, share: float) -> float | None:
    """Return a bound in ms that this share of a histogram does not pass; None where nothing was counted."""
    counts = [numbers.get(f"{kind}:{bound}", 0) for bound in (*BOUNDS_MS, "more")]
    return bound_at(counts, share)


def problems(at: Readings) -> list[Problem]:
    """Return what is wrong, the worst first."""
    return [
        one
        for look in (
            _away,
            _emptied,
            _workers,
            _paused,
            _ledger,
            _memory,
            _left,
            _late,
            _lost_workers,
            failing,
            _died,
            _held,
            _breakers,
            _too_old,
        )
        for one in look(at)
    ]


def sentence(at: Readings) -> str:
    """Return what there is to say where nothing is wrong."""
    parts = [f"{count(at.running)} to be delivered"]
    if at.next_due_ms is not None:
        parts.append(f"next in {span(at.next_due_ms - at.now_ms)}" if at.next_due_ms > at.now_ms else "next now")
    late = percentile(at.recent, "late", 0.99)
    if late is not None:
        parts.append(f"p99 at most {span(late)} late")
    if at.died_in_day:
        parts.append(f"{count(at.died_in_day)} died in 24 h")
    elif not at.states.get("dead"):  # else one may just have died: workers write the history every few seconds
        parts.append("none died in 24 h")
    begins = "Nothing is late, but no worker runs" if at.running and not at.workers else "All well"
    return f"{begins}: {', '.join(parts)}."


def _away(at: Readings) -> list[Problem]:
    if not at.away:
        return []
    since = min((one.since_s for one in at.away if one.since_s is not None), default=None)
    verbs = ("do not answer", "have not answered") if len(at.away) > 1 else ("does not answer", "has not answered")
    when = verbs[0] if since is None else f"{verbs[1]} since {clock(since * 1000, '%H:%M:%S')}"
    name = named([one.number for one in at.away]).capitalize()
    text = f"{name} of {at.shards} {when}: the tasks there wait, the others go on."
    remedy = "Start that Redis again, or see what is between. What stands there is kept, and new tasks go to the others"
    others = "; history, hosts and processes are not known meanwhile" if at.away[0].number == 0 else ""
    return [Problem(text, f"{remedy}{others}.", "system")]


def _emptied(at: Readings) -> list[Problem]:
    if not at.emptied:
        return []
    where = f" of {named(at.emptied)}" if at.shards > 1 else ""
    seen_at = clock(at.emptied_ms, "%H:%M:%S")
    text = f"Redis{where} has lost all its data, as was seen at {seen_at}: the tasks that it had then are gone."
    remedy = (
        "Schedule them anew, or import a backup; and see why: Redis keeps nothing on disk (appendonly), or was flushed"
    )
    return [Problem(text, f"{remedy}. This is said for a day.", "system")]


def _workers(at: Readings) -> list[Problem]:
    tasks, oldest_ms = at.unserved.tasks, at.unserved.oldest_ms
    if at.all_paused_since or (oldest_ms < LATE_MS and not tasks):
        return []
    what, start = "No worker runs", "redis-scheduler worker"
    if at.workers:
        what, start = f"No worker serves {named(at.unserved.shards)}", f"{start}, or see what WORKER_SHARDS says"
    since = f"the oldest task has been due for {span(oldest_ms)}" if oldest_ms else f"{count(tasks)} wait for one"
    remedy = f"Start one: {start}. Tasks are kept, and go out as soon as one runs."
    return [Problem(f"{what}, and {since}.", remedy, "system")]


def _paused(at: Readings) -> list[Problem]:
    if not at.all_paused_since:
        return []
    text = f"All is paused since {at.all_paused_since}: nothing is delivered."
    return [Problem(text, "To go on: redis-scheduler resume-all.", "system")]


def _ledger(at: Readings) -> list[Problem]:
    if at.is_balanced:
        return []
    text = "The ledger does not balance: tasks are missing, or were counted twice."
    return [Problem(text, "redis-scheduler doctor says which; doctor --repair mends it.", "system")]


def _memory(at: Readings) -> list[Problem]:
    if at.memory_share <= WARN_SHARE:
        return []
    text = f"Redis uses {at.memory_share:.0%} of the memory that it may use."
    remedy = "Give it more (maxmemory, MAX_MEMORY), or delete dead letters and tasks that nobody needs"
    return [Problem(text, f"{remedy}; new ones are refused before it is full.", "system")]


def _left(at: Readings) -> list[Problem]:
    found = []
    for why, (text, remedy) in LEFT.items():
        if times := at.recent.get(f"left:{why}", 0):
            often = "once" if times == 1 else f"{count(times)} times"
            found.append(Problem(f"{text}: {often} one put a task back in the last minutes.", remedy, "system"))
    return found


def _late(at: Readings) -> list[Problem]:
    if at.oldest_ms < LATE_MS or at.workers == 0 or at.all_paused_since or at.oldest_ms <= at.unserved.oldest_ms:
        return []
    workers = "1 worker delivers" if at.workers == 1 else f"{at.workers} workers deliver"
    queued, delivered = at.states.get("queued", 0), at.recent.get("delivered", 0)
    what = f"{count(queued)} tasks are queued, more than {workers} in time" if queued else "no worker takes what is due"
    text = f"Late: {what}; the oldest has been due for {span(at.oldest_ms)}."
    pace = f"{count(delivered)} were delivered in the last minutes. " if delivered else ""
    remedy = "More workers, or more CONCURRENCY; or a slow receiver has all slots: see Hosts. Nothing is lost."
    if not queued:
        remedy = "See whether the workers still run, and reach Redis; one that is gone is missed after 15 s. " + remedy
    if at.slow:
        host, running = at.slow[0]
        remedy = (
            f"{host} is slow and holds {count(running)} slots: see what holds it up; or more workers. Nothing is lost."
        )
    return [Problem(text, f"{pace}{remedy}", "hosts")]


def _lost_workers(at: Readings) -> list[Problem]:
    tasks = at.recent.get("came_back", 0)
    if not tasks:
        return []
    what = "task came" if tasks == 1 else "tasks came"
    text = f"Workers were lost: {count(tasks)} {what} back of some that ended without a word in the last minutes."
    remedy = (
        "See why: killed by hand, for their memory, or all by one task? System says since when each runs. "
        "Others have the tasks"
    )
    return [Problem(text, f"{remedy}; one that loses five workers dies, and says so.", "system")]


def _died(at: Readings) -> list[Problem]:
    died = at.recent.get("died", 0)
    if not died:
        return []
    host, error, _ = at.worst[0] if at.worst else ("", "", 0)
    where = f" The largest group of dead letters is of {host or UNREADABLE_HOST}: {error}." if error else ""
    remedy = "Mend the cause, then replay the group."
    if error.startswith(LOST):
        remedy = "See in the log how workers end that have such a task, before you replay it."
    return [Problem(f"{count(died)} died in the last minutes.{where}", remedy, "dead")]


def _held(at: Readings) -> list[Problem]:
    found = []
    for name, held, wait_s, setting in at.held:
        what = f"{count(held)} {'task' if held == 1 else 'tasks'}"
        if wait_s is None:
            found.append(Problem(f"{name} is paused, and holds back {what}.", "To go on: resume it in Hosts.", "hosts"))
        elif wait_s >= HELD_S:
            limit, remedy = f"The limit of {name}", "Raise the limit in Hosts, or forget it"
            if setting:
                limit, remedy = f"{setting}, which limits {name},", f"Raise it, or set a limit for {name} in Hosts"
            text = f"{limit} holds back {what}: the last begins in {span(wait_s * 1000)}."
            found.append(Problem(text, f"{remedy}, unless it is meant.", "hosts"))
    return found[:NAMED_MOST]


def _breakers(at: Readings) -> list[Problem]:
    return [
        Problem(
            f"{name} is only probed: it failed again and again.", "Its tasks wait, and go on once it answers.", "hosts"
        )
        for name in at.open_breakers[:NAMED_MOST]
    ]


def _too_old(at: Readings) -> list[Problem]:
    if not at.too_old:
        return []
    text = (
        f"The worker {at.too_old} is of an older version: tasks with options that it does not know are refused (409)."
    )
    return [Problem(text, "Upgrade it, or stop it.", "system")]
