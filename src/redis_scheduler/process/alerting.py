"""Alerts for those who watch no metrics: something that is wrong is told to ALERT_WEBHOOK.

Every process runs a Watch, and one of them looks at a time. What is to be told becomes a task like any other, with a
key of its own, so that it is sent once however many have looked. Where no task could bring it, since no worker lives or
Redis takes none, the process that looks sends it itself, until it is taken.
"""

import hmac
import time
from collections import Counter

import msgspec
from msgspec import UNSET, UnsetType

from redis_scheduler.errors import StoreFull
from redis_scheduler.logs import Events, rfc3339
from redis_scheduler.process.process import Process
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.alerts import Alerts, Found, Telling, Turn
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.filters import host_of
from redis_scheduler.store.ledger import Ledger, read_ledger
from redis_scheduler.store.memory import memory_of
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.walk import STEP_BYTES, Walk
from redis_scheduler.store.workers import Workers
from redis_scheduler.store.writes import Writes
from redis_scheduler.store.written import Put
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import UNREADABLE, read_record, record_tail
from redis_scheduler.task.timing import DEFAULT, Timing

logger = Events(__name__)

LOOK_S = 5.0
"""Between two looks, by whichever process."""

NO_WORKERS_MS = 5_000
"""What is due has waited for so long before anybody asks whether a worker lives."""

MEMORY_SHARE = 0.8
"""Of its memory Redis uses so much when it is told."""

HOSTS_MOST = 20
"""So many hosts are told apart in one look; what died at others is told as `other`."""

TYPE = "schedule-alert"
"""The type of the tasks that bring alerts. Their own deaths are not told."""

SENTENCES = {
    "died": "tasks died",
    "late": "what is due is not delivered in time",
    "no-workers": "tasks are due, and no worker lives",
    "ledger": "the ledger is not balanced: run `redis-scheduler doctor`",
    "redis-memory": "Redis has little memory left",
}


class Alert(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The body of an alert. `text` says all of it in a line, as chats show it."""

    text: str
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
    return Alert(
        text=f"{scheduler}: {mark}{sentence}{where}{detail}, since {rfc3339(telling.since_ms)}",
        alert=kind,
        state=telling.what,
        host=host or UNSET,
        count=telling.count or UNSET,
        since=rfc3339(telling.since_ms),
        detail=telling.detail or UNSET,
        namespace=namespace or UNSET,
    )


class Watch:
    """Looks after the deployment from one process."""

    def __init__(
        self, process: Process, client: RedisClient, name: str, timing: Timing = DEFAULT, look_s: float = LOOK_S
    ) -> None:
        settings = process.settings
        self._process = process
        self._look_s = look_s
        self._client = client
        self._webhook = settings.alert_webhook or ""
        self._kinds = frozenset(settings.alert_on.split(","))
        self._late_ms = round(settings.alert_late * 1000)
        self._namespace = settings.namespace
        self._alerts = Alerts(client, round(settings.alert_every * 1000))
        self._writes = Writes(client, f"{name}-alerts", timing)
        self._workers = Workers(client)
        self._lacked = False
        """Whether tasks waited for a worker at the look before, and none lived."""

    async def run(self) -> None:
        """Look every few seconds until the stop."""
        await self._process.outage.loop(self._process.stop, self._step)

    async def _step(self) -> None:
        await self.look()
        await stop_or_interval(self._process.stop, self._look_s)

    async def look(self) -> None:
        """Look, if it is this process' turn, and tell what is to be told."""
        turn = await self._alerts.take_turn(round(self._look_s * 900))
        if turn is None:
            return
        lives = await self._workers.count() > 0
        ledger = await read_ledger(self._client)
        found = [one for one in await self._found(turn, ledger, lives) if one.name.partition(":")[0] in self._kinds]
        delivers = lives and ledger.all_paused_since_ms is None
        for telling in await self._alerts.note(turn, found):
            if await self._tell(telling, delivers):
                await self._alerts.forget(telling)

    async def _found(self, turn: Turn, ledger: Ledger, lives: bool) -> list[Found]:
        """Return all that is wrong at this moment."""
        found = await self._died(turn) if "died" in self._kinds else []
        late_ms = 0 if ledger.all_paused_since_ms is not None else ledger.oldest_due_ms
        if late_ms > self._late_ms:
            found.append(Found("late", 0, f"the oldest by {late_ms // 1000} s"))
        begun = ledger.queued + ledger.in_delivery + ledger.waiting
        lacks = not lives and ledger.all_paused_since_ms is None and (late_ms > NO_WORKERS_MS or begun > 0)
        # While all are started anew there may be none for a moment.
        if lacks and (late_ms > NO_WORKERS_MS or self._lacked):
            found.append(Found("no-workers", 0, f"{begun} wait for one, the oldest is due since {late_ms // 1000} s"))
        self._lacked = lacks
        if not ledger.is_balanced:
            found.append(Found("ledger", 0, f"{ledger.missing} missing"))
        memory = await memory_of(self._client)
        if memory.share > MEMORY_SHARE:
            found.append(Found("redis-memory", 0, f"{memory.share:.0%} of {memory.most_bytes} bytes"))
        return found

    async def _died(self, turn: Turn) -> list[Found]:
        """Return what died since the turn before, by host."""
        count, keys = await self._alerts.new_letters(turn)
        if not count:
            return []
        walk = Walk(self._client)
        _, heads = await walk.heads([key.encode(errors="surrogateescape") for key in keys], STEP_BYTES)
        at: Counter[str] = Counter()
        newest: dict[str, str] = {}
        for key, head in zip(keys, heads, strict=True):
            record = await walk.record(head)
            if record is not None and record is not UNREADABLE and record.type == TYPE:
                count -= 1
                continue
            host = "" if record is None else host_of(record)
            at[host] += 1
            newest.setdefault(host, key)
        found = [
            Found(f"died:{host or 'unknown'}", died, f"the last: {newest[host]}")
            for host, died in at.most_common(HOSTS_MOST)
        ]
        if others := count - sum(one.count for one in found):
            found.append(Found("died:other", others, ""))
        return found

    async def _tell(self, telling: Telling, delivers: bool) -> bool:
        """Have an alert sent, by a task where workers deliver; return whether it is on its way."""
        alert = alert_of(telling, self._namespace)
        logger.warning("alert", alert=alert.alert, state=alert.state, text=alert.text)
        options = Options(headers={"Authorization": "", "Content-Type": "application/json"})
        tail = record_tail(self._webhook, 0, TYPE, msgspec.json.encode(alert), options)
        key = self._key_of(telling)
        if delivers:
            task = NewTask(key, 0, tail, listing_of(TYPE, options))
            try:
                # What has this key already is this alert.
                await self._writes.put([Put(task, b"", None)])
            except StoreFull:
                pass
            else:
                return True
        return await self._send(key, tail)

    def _key_of(self, telling: Telling) -> str:
        """Return the same key in each process. Who could guess it would schedule a task under it, and no alert came."""
        told = f"{telling.number} {telling.since_ms} {telling.what}"
        mark = hmac.digest(self._webhook.encode(), told.encode(), "sha256").hex()[:32]
        return f"{TYPE}-{telling.number}-{telling.what}-{mark}"

    async def _send(self, key: str, tail: bytes) -> bool:
        """Make one attempt from here."""
        from redis_scheduler.process.delivering import deliverer_of

        record = read_record(b'{"due":%d' % round(time.time() * 1000) + tail)
        async with deliverer_of(self._process, self._client.peers) as deliverer:
            outcome = await deliverer.attempt(Claim("0-0", key, record, 0))
        if outcome.error is not None:
            logger.warning("alert-not-sent", error=outcome.error)
        return outcome.error is None
