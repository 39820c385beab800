"""The command `redis-scheduler rekey`: seals with the first key of DATA_KEY what older keys have sealed, or none has.

Its exit code tells whether the older keys may go: it looks at all once more, after it has sealed.
"""

import time
from collections import Counter

from redis_scheduler.errors import SettingsError
from redis_scheduler.process.command import all_shards_of, in_each, note, say, say_away, tell
from redis_scheduler.settings import Settings
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.rekeying import Counts, Left, Rekeying
from redis_scheduler.store.vault import Why

SHOWN_MOST = 100
"""So many things that stay as they are are told of; of the rest only the number."""

KEY_SHOWN = 300
"""Bytes of a key that are told: other hands may have made it of any length."""

PROGRESS_S = 5.0
"""Between two lines of progress."""

_REMEDIES = {
    Why.OTHER_KEY: "give all keys that were ever used, the newest first",
    Why.CHANGED: "delete it: once its key is gone no worker sees that it was changed, and it waits for ever",
    Why.PLAIN: "its task is buried, and never sent",
    Why.UNREADABLE: "its task is buried, and never sent",
}


async def rekey(settings: Settings, is_dry: bool) -> bool:
    """Seal anew what needs it, or only count; return whether nothing is left that needs another key than the first.

    Raises SettingsError, StartError, StoreUnavailable or StoreFull; what was sealed before that stays so. Of several
    shards one that is away is named, and left as it is.
    """
    async with all_shards_of(settings) as (clients, _):

        async def seal(client: RedisClient) -> bool:
            if len(clients) > 1:
                say(f"Shard {client.keys.shard}:")
            return await _rekey(client, clients[0], settings, is_dry)

        done, away = await in_each(clients, seal)
    say_away(away, "left as it was: try again")
    is_done = all(done.values()) and not away
    say("No older key is needed." if is_done else "Not all is sealed with the first key: keep the older ones.")
    return is_done


async def _rekey(client: RedisClient, first: RedisClient, settings: Settings, is_dry: bool) -> bool:
    """Do so in one shard; the `first` has the journal."""
    vault = client.keys.vault
    if vault is None:
        raise SettingsError(["DATA_KEY: not set, so there is nothing to seal with"])
    work = Rekeying(client, vault, writes=not is_dry, reserve=settings.memory_reserve / 100)
    try:
        await _walk(work, "to be sealed" if is_dry else "sealed anew", tells=True)
    finally:
        say(_sum(work.counts, "to be sealed" if is_dry else "sealed anew"))
    if not is_dry:
        await note(first, settings, "rekey", tasks=work.counts.resealed)
        # What stays as it is was told of by the walk before.
        work = Rekeying(client, vault, writes=False)
        await _walk(work, "still to be sealed", tells=False)
        if work.counts.resealed:
            say(f"{work.counts.resealed} came meanwhile from a process whose first key is another: restart that.")
    for why, count in work.counts.left.items():
        say(f"{count} stayed as they are: {why.value}; {_REMEDIES[why]}.")
    return work.counts.is_done


async def _walk(work: Rekeying, verb: str, tells: bool) -> None:
    """Make a walk; tell of its progress and, with `tells`, of each that stays as it is."""
    told: Counter[Why] = Counter()
    next_at = time.monotonic() + PROGRESS_S
    async for left in work.run():
        for one in left if tells else ():
            told[one.why] += 1
            if told[one.why] <= SHOWN_MOST:
                tell(_line(one))
        if time.monotonic() >= next_at:
            next_at += PROGRESS_S
            tell(_sum(work.counts, verb))


def _sum(counts: Counts, verb: str) -> str:
    return f"Records and failures: {counts.seen} looked at, {counts.resealed} {verb}, {counts.left.total()} left."


def _line(left: Left) -> str:
    what = "record" if left.place == "tasks" else "last failure"
    # Other hands may have made the key: only what is harmless on a terminal is printed.
    return f"task {ascii(left.key[:KEY_SHOWN].decode(errors='replace'))[1:-1]}: its {what} is left: {left.why.value}"
