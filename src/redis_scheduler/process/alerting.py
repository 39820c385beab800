"""Alerts for those who watch no metrics: something that is wrong is told to ALERT_WEBHOOK.

Every process runs a Watch, and one of them looks at a time: it has the turn until it has told what it found. What is to
be told becomes a task like any other, with a key of its own, so that it is sent once however many have looked. Where no
task could bring it, since no worker lives or Redis takes none, the process that looks sends it itself, until it is
taken. While a shard is away, the process looks at those that answer, tells that it is away, and says of nothing that
this is over.
"""

import asyncio
import contextlib
import hmac
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.logs import Events, rfc3339
from redis_scheduler.process.process import Process
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.alert_places import WITHIN_S, AlertPlaces
from redis_scheduler.store.alerts import Alerts, Found, Telling, Turn
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.filters import host_of
from redis_scheduler.store.glance import Glance, Unserved, emptied, named, unserved
from redis_scheduler.store.ledger import Ledger, total
from redis_scheduler.store.memory import WARN_SHARE, Memory, fullest
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.walk import STEP_BYTES, Walk
from redis_scheduler.store.writes import Writes
from redis_scheduler.store.written import Put
from redis_scheduler.task.alert import ALERT_PLACE, ALERT_TYPE
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.key import hashed_shard
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import UNREADABLE, read_record, record_tail
from redis_scheduler.task.timing import DEFAULT, Timing

logger = Events(__name__)

LOOK_S = 5.0
"""Between two looks, by whichever process."""

NO_WORKERS_MS = 5_000
"""What is due has waited for so long before anybody asks whether a worker lives."""

HOSTS_MOST = 20
"""So many hosts are told apart in one look; what died at others is told as `other`."""

SENTENCES = {
    "died": "tasks died",
    "late": "what is due is not delivered in time",
    "no-workers": "tasks are due, and no worker lives",
    "ledger": "the ledger is not balanced: run `redis-scheduler doctor`",
    "redis-memory": "Redis has little memory left",
    "shard-away": "the Redis of a shard does not answer",
    "emptied": "Redis has lost all its data",
}


class Alert(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The body of an alert. `text` says all of it in a line, as chats show it; Discord shows `content`."""

    text: str
    content: str
    alert: str
    """What is wrong: a name of ALERT_ON."""
    state: str
    """`began`, `again`, `over`."""
    host: str | UnsetType = UNSET
    """Where tasks died; `other` where these are many."""
    count: int | UnsetType = UNSET
    """How many tasks died since the last time it was told."""
    since: str
    """Since when it is so."""
    detail: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET


def alert_of(telling: Telling, namespace: str) -> Alert:
    """Return what is sent of a telling."""
    kind, _, host = telling.name.partition(":")
    sentence = SENTENCES.get(kind, kind)
    if telling.count and telling.what != "over":
        sentence = "1 task died" if telling.count == 1 else f"{telling.count:,} {sentence}"
    where = f" at {host}" if host else ""
    mark = {"began": "", "again": "still: ", "over": "over: "}[telling.what]
    detail = f" ({telling.detail})" if telling.detail else ""
    scheduler = f"Redis Scheduler {namespace}".strip()
    text = f"{scheduler}: {mark}{sentence}{where}{detail}, since {rfc3339(telling.since_ms)}"
    return Alert(
        text=text,
        content=text,
        alert=kind,
        state=telling.what,
        host=host or UNSET,
        count=telling.count or UNSET,
        since=rfc3339(telling.since_ms),
        detail=telling.detail or UNSET,
        namespace=namespace or UNSET,
    )


class Watch:
    """Looks after the deployment from one process. `clients`: one of each shard; there may come more."""

    def __init__(
        self,
        process: Process,
        clients: Sequence[RedisClient],
        name: str,
        timing: Timing = DEFAULT,
        look_s: float = LOOK_S,
    ) -> None:
        settings = process.settings
        self._process = process
        self._look_s = look_s
        self._clients = clients
        self._name = f"{name}-alerts"
        self._timing = timing
        self._webhook = settings.alert_webhook or ""
        self._kinds = frozenset(settings.alert_on.split(","))
        self._late_ms = round(settings.alert_late * 1000)
        self._namespace = settings.namespace
        self._turn_s = 0.9 * look_s
        self._places = AlertPlaces(clients, name, round(settings.alert_every * 1000), round(self._turn_s * 1000))
        self._writes: list[Writes] = []
        self._lacked = False
        """Whether tasks waited for a worker at the look before, and none lived."""

    async def run(self) -> None:
        """Look every few seconds until the stop."""
        await self._process.outage.loop(self._process.stop, self._step)

    async def _step(self) -> None:
        await self.look()
        await stop_or_interval(self._process.stop, self._look_s)

    async def look(self) -> None:
        """Look, if it is this process' turn, and tell what is to be told. It keeps the turn until that is done, so that
        no other process tells the same meanwhile; where Redis does not let it, it stops in time."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._turn_s  # Redis counts from a moment that is later
        taken = await self._places.take_turn()
        if taken is None:
            return
        try:
            async with asyncio.timeout_at(ends_at) as bound:
                keeping = asyncio.create_task(self._keep(taken[0], bound), name="alerts-turn")
                try:
                    await self._look(*taken)
                    await self._places.hand_on(taken[0])
                finally:
                    keeping.cancel()
                    await asyncio.wait([keeping])
        except TimeoutError:
            logger.warning(
                "alert-not-sent", error="Redis did not let this process keep its turn: the next one tells it"
            )

    async def _keep(self, alerts: Alerts, bound: asyncio.Timeout) -> None:
        """Keep the turn, and move the bound with it, until another process has it; and keep others from looking by
        another shard."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._turn_s / 3)
            ends_at = loop.time() + self._turn_s
            with contextlib.suppress(StoreUnavailable, StoreFull):
                if not await alerts.keep_turn() or bound.expired():
                    return
                bound.reschedule(ends_at)
                await self._places.go_on(alerts)

    async def _look(self, alerts: Alerts, turn: Turn) -> None:
        for client in self._clients[len(self._writes) :]:
            self._writes.append(Writes(client, self._name, self._timing))
        # A Glance of its own has nothing of a look before, which may be of long ago.
        glance = Glance(self._clients)
        seen = dict(enumerate(await glance.look_at_each(WITHIN_S)))
        there = {number: shard for number, shard in seen.items() if shard is not None}
        if not there:
            return
        served = {number for number, shard in there.items() if shard.workers}
        ledger = total([shard.ledger for shard in there.values()])
        memory = fullest(shard.memory for shard in there.values())
        looked_ms = {number: shard.ledger.now_ms for number, shard in there.items()}
        found = await self._died(alerts, turn, looked_ms) if "died" in self._kinds else []
        found += self._found(ledger, memory, unserved(there), bool(served))
        until_s = time.time() - 2 * self._look_s
        if away := [one.number for one in glance.away([*seen.values()]) if one.since_s and one.since_s < until_s]:
            found.append(Found("shard-away", 0, f"{named(away)} of {len(seen)}"))
        if lost := emptied(there):
            where = f"{named(lost)} of {len(seen)}, " if len(seen) > 1 else ""
            found.append(Found("emptied", 0, f"{where}as was seen at {rfc3339(ledger.emptied_ms)}"))
        found = [one for one in found if one.name.partition(":")[0] in self._kinds]
        delivering = served if ledger.all_paused_since_ms is None else ()
        for telling in await alerts.note(turn, found, looked_ms, is_whole=len(there) == len(seen)):
            if not await self._tell(telling, delivering):
                break  # it is the same receiver for all of them
            await alerts.forget(telling)

    def _found(self, ledger: Ledger, memory: Memory, lacking: Unserved, has_workers: bool) -> list[Found]:
        """Return what else is wrong at this moment in the shards that were looked at. `has_workers`: whether a worker
        lives in any of them."""
        found = []
        late_ms = 0 if ledger.all_paused_since_ms is not None else ledger.oldest_due_ms
        if late_ms > self._late_ms:
            found.append(Found("late", 0, f"the oldest by {late_ms // 1000} s"))
        is_long = lacking.oldest_ms > NO_WORKERS_MS
        lacks = ledger.all_paused_since_ms is None and (is_long or lacking.tasks > 0)
        # While all are started anew there may be none for a moment.
        if lacks and (is_long or self._lacked):
            where = f" in {named(lacking.shards)}" if has_workers else ""
            text = f"{lacking.tasks} wait for one{where}, the oldest has been due for {lacking.oldest_ms // 1000} s"
            found.append(Found("no-workers", 0, text))
        self._lacked = lacks
        if not ledger.is_balanced:
            found.append(Found("ledger", 0, f"{ledger.missing} missing"))
        if memory.share > WARN_SHARE:
            found.append(Found("redis-memory", 0, f"{memory.share:.0%} of {memory.most_bytes} bytes"))
        return found

    async def _died(self, alerts: Alerts, turn: Turn, looked_ms: Mapping[int, int]) -> list[Found]:
        """Return what died in each shard since the last look at it, by host."""
        at: Counter[str] = Counter()
        newest: dict[str, str] = {}
        count = 0
        for number, until_ms in looked_ms.items():
            count += await self._died_in(alerts, self._clients[number], turn, until_ms, at, newest)
        found = [
            Found(f"died:{host or 'unknown'}", died, f"the last: {newest[host]}")
            for host, died in at.most_common(HOSTS_MOST)
        ]
        if others := count - sum(one.count for one in found):
            found.append(Found("died:other", others, ""))
        return found

    async def _died_in(
        self, alerts: Alerts, client: RedisClient, turn: Turn, looked_ms: int, at: Counter[str], newest: dict[str, str]
    ) -> int:
        """Return how many died in a shard; count some of them by host, and tell the newest of each."""
        count, keys = await alerts.new_letters(turn, client, looked_ms)
        if not count:
            return 0
        walk = Walk(client)
        _, heads = await walk.heads([key.encode(errors="surrogateescape") for key in keys], STEP_BYTES)
        for key, head in zip(keys, heads, strict=True):
            record = await walk.record(head)
            if record is not None and record is not UNREADABLE and record.type == ALERT_TYPE:
                count -= 1  # alerts' own deaths are not told
                continue
            host = "" if record is None else host_of(record)
            at[host] += 1
            newest.setdefault(host, key)
        return count

    async def _tell(self, telling: Telling, delivering: Collection[int]) -> bool:
        """Have an alert sent, by a task if its shard is one in which workers deliver; return whether it is on its
        way."""
        alert = alert_of(telling, self._namespace)
        logger.warning("alert", alert=alert.alert, state=alert.state, text=alert.text)
        options = Options(headers={"Authorization": "", "Content-Type": "application/json"})
        tail = record_tail(ALERT_PLACE, 0, ALERT_TYPE, msgspec.json.encode(alert), options)
        key = self._key_of(telling)
        shard = hashed_shard(key, self._process.deployment.generations.numbers[0])
        if shard in delivering:
            task = NewTask(key, 0, tail, listing_of(ALERT_TYPE, options))
            try:
                # What has this key already is this alert.
                await self._writes[shard].put([Put(task, b"", None)])
            except StoreFull:
                pass
            else:
                return True
        return await self._send(key, tail)

    def _key_of(self, telling: Telling) -> str:
        """Return the same key in each process. Who could guess it would schedule a task under it, and no alert came."""
        told = f"{telling.number} {telling.since_ms} {telling.what}"
        mark = hmac.digest(self._webhook.encode(), told.encode(), "sha256").hex()[:32]
        return f"{ALERT_TYPE}-{telling.number}-{telling.what}-{mark}"

    async def _send(self, key: str, tail: bytes) -> bool:
        """Make one attempt from here."""
        from redis_scheduler.process.delivering import deliverer_of

        record = read_record(b'{"due":%d' % round(time.time() * 1000) + tail)
        async with deliverer_of(self._process, self._clients) as deliverer:
            outcome = await deliverer.attempt(Claim("0-0", key, record, 0))
        if outcome.error is not None:
            logger.warning("alert-not-sent", error=outcome.error)
        return outcome.error is None
