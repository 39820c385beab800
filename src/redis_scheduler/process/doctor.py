"""The command `redis-scheduler doctor`: examines what Redis holds of the service, prints faults, and repairs them.

It is safe at any time, also beside the running service: the audit looks at a task and repairs it in one script, and the
ledger is read by one.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence

from redis_scheduler.logs import rfc3339
from redis_scheduler.process.command import all_shards_of, counted, in_each, note, say, say_away
from redis_scheduler.settings import Settings
from redis_scheduler.store.audit import Finding, audit, balance
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.ledger import ENDED, ENTERED, Ledger
from redis_scheduler.store.series import are_series_listed
from redis_scheduler.store.views import Views

SHOWN_MOST = 100
"""So many faults of a kind are printed; of the rest only the number."""

_LOST = (
    "{count} task was scheduled of which nothing is left; {repair}counted as lost",
    "{count} tasks were scheduled of which nothing is left; {repair}counted as lost",
)
_FOUND = (
    "{count} task is there that had ended, or was never scheduled; {repair}counted off those lost",
    "{count} tasks are there that had ended, or were never scheduled; {repair}counted off those lost",
)
"""What a ledger that is off says: of one task, and of several."""

UNLISTED = (
    "Series of earlier versions may not be in the index of series: a list of them looks at all tasks until `doctor "
    "--repair`, with DATA_KEY where it is set, has put them there."
)


async def examine(settings: Settings, repairs: bool) -> bool:
    """Print faults, ledger and verdict; return whether nothing is wrong, or all is repaired.

    Raises SettingsError, StartError, StoreUnavailable or StoreFull when Redis cannot be examined; repairs made before
    that stay. Of several shards one that is away is named, and the others are examined.
    """
    async with all_shards_of(settings) as (clients, generations):

        async def look(client: RedisClient) -> bool:
            if len(clients) > 1:
                say(f"Shard {client.keys.shard}:")
            return await _examine(client, repairs, generations.numbers)

        found, away = await in_each(clients, look)
        if repairs:
            await note(clients[0], settings, "doctor --repair")
    say_away(away, "not examined")
    return all(found.values()) and not away


async def _examine(client: RedisClient, repairs: bool, numbers: Sequence[int]) -> bool:
    shown: set[Finding] = set()
    found = await _show(audit(client, repairs, numbers=numbers), shown)
    left = await _show(audit(client, numbers=numbers), shown) if repairs and found else found
    missing = (await Views(client).ledger()).missing
    if repairs and not left:
        missing = await balance(client)
    if missing:
        # Other faults may be the cause, so it counts as a fault of its own only where there are no others.
        found = found or 1
        say(_missing(missing, left, repairs))
    ledger = await Views(client).ledger()
    left = left or int(not ledger.is_balanced)
    say(_table(ledger))
    if ledger.all_paused_since_ms is not None:
        say(
            f"Paused since {rfc3339(ledger.all_paused_since_ms)}: nothing is promoted until redis-scheduler resume-all."
        )
    if ledger.running and not await are_series_listed(client):
        say(UNLISTED)
    if not found:
        say(f"Nothing is wrong: each of {counted(ledger.running + ledger.dead, 'task')} is in its place.")
    elif not repairs:
        say(f"{counted(found, 'fault')}. Nothing was changed; `redis-scheduler doctor --repair` repairs.")
    elif left:
        say(f"{counted(found, 'fault')}; {left} could not be repaired.")
    else:
        say(f"{counted(found, 'fault')} repaired; a second look found nothing.")
    return not left


async def _show(findings: AsyncIterator[Finding], shown: set[Finding]) -> int:
    """Print the findings that were not shown before, SHOWN_MOST of a kind; return how many there are."""
    counts: Counter[str] = Counter()
    async for finding in findings:
        counts[finding.kind] += 1
        if counts[finding.kind] <= SHOWN_MOST and finding not in shown:
            shown.add(finding)
            say(finding.text)
    for kind, count in counts.items():
        if count > SHOWN_MOST:
            say(f"and {count - SHOWN_MOST} more: {kind}")
    return counts.total()


def _missing(missing: int, left: int, repairs: bool) -> str:
    if left:
        return f"the ledger is off by {missing}; what is still so when no other fault is left is lost, or found again"
    sentences = _LOST if missing > 0 else _FOUND
    return sentences[abs(missing) != 1].format(count=abs(missing), repair="" if repairs else "with --repair ")


def _table(ledger: Ledger) -> str:
    """The ledger's equation, one term a line."""
    states = {
        "due": ledger.due,
        "queued": ledger.queued,
        "in delivery": ledger.in_delivery,
        "waiting": ledger.waiting,
        "paused": ledger.paused,
        "awaiting": ledger.awaiting,
        "held": ledger.held,
    }
    entered, ended = ({name: ledger.counters.get(name, 0) for name in names} for names in (ENTERED, ENDED))
    lines = [f"{sign} {name:<12}{count:>12}" for sign, (name, count) in zip(" +", entered.items(), strict=True)]
    for name, count in (states | ended).items():
        lines.append(f"{'=' if name == 'due' else '+'} {name:<12}{count:>12}")
    if not ledger.is_balanced:
        lines.append(f"  {'off by':<12}{ledger.missing:>12}")
    return "\n".join(lines)
