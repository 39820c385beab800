"""Each call of the service, answered by each form of answer that there is: one error of ours, or taken for what it may
be."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.alerts import Alerts, Found, Turn
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.configuration import configuration_warnings
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.history import History
from redis_scheduler.store.journal import Journal, Note
from redis_scheduler.store.limiting import Asked, Judged, Limiting
from redis_scheduler.store.moves import Moved
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.retention import Retention
from redis_scheduler.store.sign_ins import OWN, SignIns
from redis_scheduler.store.views import Views
from redis_scheduler.store.workers import Workers
from redis_scheduler.store.written import Acknowledgement, Change, OnceTask, Put, ShiftStep
from redis_scheduler.task.claim import Claim, Entry, Unsettled
from redis_scheduler.task.kept import DEFAULT as RESULTS_KEPT
from redis_scheduler.task.kept import NO_RESULTS
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.limit import Limit
from redis_scheduler.task.record import read_record, record_tail
from redis_scheduler.task.series import Firing, Next
from redis_scheduler.task.timing import DEFAULT
from tests.support.liar import LIES, TAKEN, Liar, is_about, lying
from tests.support.names import KEYS
from tests.support.store import SCRIPTS, Store

TAIL = record_tail("http://127.0.0.1:9/", 60, None, None)
CLAIM = Claim("1-1", "task", read_record(b'{"due":1' + TAIL), 0)
FAILED = Unsettled(CLAIM, b"1 {}", 1_000)
NOTE = Note(who="api", what="POST /purge", via="api")
CHANGE = Change("task", b'{"due":1' + TAIL, TAIL, 60_000, 1, None, None)


class Service:
    """What speaks Redis in a process of the service."""

    def __init__(self, url: str) -> None:
        self.client = RedisClient(url, 3, KEYS)
        self.store = Store(self.client, "liar")
        self.keeping = Store(self.client, "liar", DEFAULT, RESULTS_KEPT)
        self.views = Views(self.client)
        self.history = History(self.client, "liar")
        self.reader = QueueReader(self.client, "liar")

    async def aclose(self) -> None:
        await self.reader.aclose()
        await self.client.aclose()

    async def claim(self) -> None:
        """On a new connection. There is one to claim."""
        await self.store.schedule([NewTask(new_task_key(), 0, TAIL, None)])
        await self.reader.aclose()
        await self.reader.claim(1)

    async def look_for_claims(self) -> None:
        """There is one that no answer told of."""
        await self.claim()
        await self.store.pending(10)

    async def see_times(self) -> None:
        """A store asks for the time before its first sweep."""
        await Store(self.client, "liar").look(0)


KEPT = Moved("task", 1, TAIL, "due", 1, b"", None)

CALLS: dict[str, Callable[[Service], Awaitable[object]]] = {
    "schedule": lambda at: at.store.schedule([NewTask(new_task_key(), 60_000, TAIL, None)]),
    "schedule_once": lambda at: at.store.schedule_once(
        [OnceTask("id", "mac", NewTask(new_task_key(), 60_000, TAIL, None))], 60_000, 10
    ),
    "update": lambda at: at.store.update([CHANGE]),
    "cancel": lambda at: at.store.cancel([("task", None)]),
    "purge": lambda at: at.store.purge(),
    "replay": lambda at: at.store.replay([CHANGE]),
    "discard": lambda at: at.store.discard(["task"]),
    "put": lambda at: at.store.put([Put(NewTask("task", 60_000, TAIL, None), b"", None)]),
    "finish": lambda at: at.keeping.settle([CLAIM]),
    "fire": lambda at: at.store.fire([Firing(CLAIM, [], Next(1, TAIL), "", Next(1, TAIL))]),
    "acknowledge": lambda at: at.store.acknowledge([Acknowledgement("task", "1-1", 0, "+", 1)]),
    "expect": lambda at: at.store.expect([FAILED]),
    "clean": lambda at: Retention(at.client, NO_RESULTS)._clean((), "0"),
    "shift": lambda at: at.store.shift("id", ShiftStep(1, 0, "mark", None, 1), []),
    "pause": lambda at: at.store.pause(["task"]),
    "resume": lambda at: at.store.resume(["task"]),
    "run": lambda at: at.store.run(["task"]),
    "pause_all": lambda at: at.store.pause_all(False),
    "restore": lambda at: at.store.restore([KEPT]),
    "promote": lambda at: at.store.promote(most_claims=1),
    "promote_in_turn": lambda at: at.store.promote(most_claims=1, in_turn=True),
    "claim": lambda at: at.store.claim(1),
    "settle": lambda at: at.store.settle([CLAIM]),
    "retry": lambda at: at.store.retry([FAILED]),
    "defer": lambda at: at.store.defer([FAILED]),
    "bury": lambda at: at.store.bury([FAILED]),
    "again": lambda at: at.store.again([FAILED]),
    "expire": lambda at: at.store.expire([FAILED]),
    "release": lambda at: at.store.release([CLAIM]),
    "tally": lambda at: at.history.add(1, 1, {"delivered": 1}),
    "HGETALL": lambda at: at.history.minutes([1]),
    "load": lambda at: at.store.load([Entry("1-1", "task")]),
    "renew": lambda at: at.store.renew(["1-1"]),
    "look": lambda at: at.store.look(1),
    "rewind": lambda at: at.store.rewind(),
    "retire": lambda at: at.store.retire(1_000),
    "entry": lambda at: at.look_for_claims(),
    "read": lambda at: at.views.task("task"),
    "page": lambda at: at.views.page(10, None),
    "ledger": lambda at: at.views.ledger(),
    "join": lambda at: Deployment().join(at.client),
    "XREADGROUP": lambda at: at.claim(),
    "XPENDING": lambda at: at.look_for_claims(),
    "XRANGE": lambda at: at.views.page(10, None),
    "permit": lambda at: Limiting(at.client).permit([Asked("task", "host:80", 1)]),
    "admit": lambda at: Limiting(at.client).admit(),
    "judge": lambda at: Limiting(at.client).judge([Judged("host:80", 1, 0)]),
    "limit": lambda at: Limiting(at.client).say("host:80", Limit(concurrency=1)),
    "hosts": lambda at: Limiting(at.client).states(["host:80"]),
    "hold": lambda at: at.store.hold([CLAIM]),
    "live": lambda at: Workers(at.client).count(),
    "note": lambda at: Journal(at.client, 10).note(NOTE),
    "watch": lambda at: Alerts(at.client, "who", 1_000, 5_000).take_turn(),
    "alert": lambda at: Alerts(at.client, "who", 1_000, 5_000).note(Turn(1), [Found("late", 0, "")], {}),
    "sign_in": lambda at: SignIns(at.client).begin("text", OWN, "token", 1_000),
    "TIME": lambda at: at.see_times(),
    "DBSIZE": lambda at: at.views.ledger(),
    "SRANDMEMBER": lambda at: at.store.purge(),
    "CLIENT": lambda at: at.claim(),
    "INFO": lambda at: configuration_warnings(at.views.client),
    "PUBLISH": lambda at: configuration_warnings(at.views.client),
}


@pytest.fixture
async def liar(redis_url: str, client: RedisClient) -> AsyncIterator[Liar]:
    async with lying(redis_url) as liar:  # the group is made
        yield liar


@pytest.mark.one_server("the liar stands before one server")
@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_is_what_was_asked_for_or_an_error_of_ours(name: str, liar: Liar) -> None:
    liar.is_about = lambda command: is_about(name, command)
    service = Service(liar.url)
    try:
        for form, liar.lie in LIES.items():
            told = liar.told
            is_taken = form in TAKEN.get(name, ())
            refused = pytest.raises(StoreRefused, match="Redis gives a wrong answer")
            with contextlib.nullcontext() if is_taken else refused:
                await CALLS[name](service)
            assert liar.told > told, form
            assert not service.client.outage.is_away
        liar.lie = None
        await CALLS[name](service)
    finally:
        await service.aclose()


def test_each_script_has_its_call() -> None:
    assert CALLS.keys() >= SCRIPTS.keys()
