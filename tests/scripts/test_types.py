"""Types and labels: each index holds its tasks that are still to be delivered, and the set names the indexes that hold
any."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.audit import audit
from redis_scheduler.store.filters import Filters
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.views import Views
from redis_scheduler.store.written import Put
from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import SERIES, TOKEN_MARK, Listing
from redis_scheduler.task.record import DEFAULT_TYPE
from tests.scripts import states
from tests.scripts.indexes import owned_by, typed_keys
from tests.scripts.states import Task, ask, change, failed, in_due, new_task, record_of, stored_of
from tests.support.names import KEYS
from tests.support.store import Store, letters

Maker = Callable[[Store, Listing], Awaitable[Task]]

ORDER, USER = index_of("order=17"), index_of("user=a b")

TOKEN = TOKEN_MARK + "0123456789"

NAMES: tuple[tuple[str, ...], ...] = (
    ("mail",),
    ("mail", ORDER, USER),
    (ORDER,),
    (TOKEN,),
    (SERIES,),
    ("mail", ORDER, SERIES, TOKEN),
)
"""Under which names a task may be listed."""

LISTED: dict[str, tuple[Maker, bool]] = {
    "due": (states.in_due, True),
    "in delivery": (states.in_delivery, True),
    "redelivered": (states.redelivered, True),
    "waiting": (states.waiting, True),
    "deferred": (states.deferred, True),
    "dead": (states.dead, False),
    "queued": (states.queued, True),
}


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("state", LISTED)
async def test_a_task_is_in_its_indexes_while_it_is_to_be_delivered(
    state: str, names: tuple[str, ...], store: Store, raw: redis.asyncio.Redis
) -> None:
    make, is_listed = LISTED[state]
    task = await make(store, names)
    assert await typed_keys(raw) == ({name: {task.key} for name in names} if is_listed else {})
    assert await ask(raw, "EXISTS", *map(KEYS.type_index, names)) == len(names) * is_listed


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("state", LISTED)
async def test_a_cancel_takes_the_task_out_of_its_indexes_and_the_last_one_the_names(
    state: str, names: tuple[str, ...], store: Store, raw: redis.asyncio.Redis
) -> None:
    first, other = await LISTED[state][0](store, names), await in_due(store, names)
    await store.cancel([(first.key, names)])
    assert await typed_keys(raw) == {name: {other.key} for name in names}
    await store.cancel([(other.key, names)])
    assert await typed_keys(raw) == {}
    assert await ask(raw, "EXISTS", *map(KEYS.type_index, names), KEYS.types) == 0


async def test_the_types_of_a_batch_are_kept_apart(store: Store, raw: redis.asyncio.Redis) -> None:
    names = ["mail", "bill", None, "mail", "ping"]
    tasks = [new_task(number % 2 * 1_000, name) for number, name in enumerate(names)]
    await store.schedule(tasks)
    mail, bill, ping = {tasks[0].key, tasks[3].key}, {tasks[1].key}, {tasks[4].key}
    assert await typed_keys(raw) == {"mail": mail, "bill": bill, "ping": ping}
    assert letters(await store.cancel([(task.key, task.listed) for task in tasks[1:4]])) == "CCC"
    assert await typed_keys(raw) == {"mail": {tasks[0].key}, "ping": ping}


async def test_a_batch_of_successes_and_one_of_burials_empty_their_indexes(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await states.in_delivery(store, name) for name in ("mail", None, "bill", "mail", "ping", "bill")]
    assert await store.settle([task.claim for task in tasks[:3]]) == [1, 1, 1]
    assert await typed_keys(raw) == {"mail": {tasks[3].key}, "ping": {tasks[4].key}, "bill": {tasks[5].key}}
    assert await store.bury(failed(*tasks[3:])) == [1, 1, 1]
    assert await typed_keys(raw) == {}


async def test_a_fenced_outcome_leaves_the_index_alone(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await states.waiting(store, "mail")
    await store.bury(failed(task))
    task.claim.id = "1-1"
    await store.settle([task.claim])
    assert await typed_keys(raw) == {"mail": {task.key}}


async def test_a_replay_brings_the_task_back_to_its_index(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await states.dead(store, name) for name in ("mail", "bill")]
    due_ms, answers = await store.replay([await change(store, task, 5_000) for task in tasks])
    assert letters(answers) == "UU"
    assert await typed_keys(raw) == {"mail": {tasks[0].key}, "bill": {tasks[1].key}}
    assert int(await ask(raw, "ZSCORE", KEYS.type_index("bill"), tasks[1].key)) == due_ms + 5_000


@pytest.mark.parametrize("state", [state for state in LISTED if state != "dead"])
async def test_an_update_moves_the_task_in_its_index_only_with_a_new_delay(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await LISTED[state][0](store, "mail")
    before = await ask(raw, "ZSCORE", KEYS.type_index("mail"), task.key)
    await store.update([await change(store, task)])
    assert await ask(raw, "ZSCORE", KEYS.type_index("mail"), task.key) == before
    now_ms, _ = await store.update([await change(store, task, 5_000)])
    assert int(await ask(raw, "ZSCORE", KEYS.type_index("mail"), task.key)) == now_ms + 5_000
    assert await typed_keys(raw) == {"mail": {task.key}}


@pytest.mark.parametrize("state", [state for state in LISTED if state != "dead"])
@pytest.mark.parametrize("ttl_ms", [None, 5_000])
async def test_an_update_lists_the_task_by_its_new_labels_alone(
    state: str, ttl_ms: int | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await LISTED[state][0](store, ("mail", ORDER))
    for before, after in (
        *((("mail", ORDER), ("mail", USER)), (("mail", USER), "mail"), ("mail", ("mail", ORDER, TOKEN))),
        *((("mail", ORDER, TOKEN), (USER, TOKEN)), ((USER, TOKEN), (TOKEN,)), ((TOKEN,), (ORDER,))),
    ):
        task.type = after
        wanted = replace(await change(store, task, ttl_ms), old_listed=before)
        assert letters((await store.update([wanted]))[1]) in ("U", "D")
        names = (after,) if isinstance(after, str) else after
        assert await typed_keys(raw) == {name: {task.key} for name in names}
        scores = {await ask(raw, "ZSCORE", KEYS.type_index(name), task.key) for name in names if name != TOKEN}
        assert len(scores) <= 1


async def test_an_update_of_another_record_leaves_the_indexes_alone(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_due(store, ORDER)
    wanted = replace(await change(store, task), expected=b"another", listed=USER)
    assert letters((await store.update([wanted]))[1]) == "C"
    assert await typed_keys(raw) == {ORDER: {task.key}}


async def test_a_put_takes_the_task_out_of_its_old_indexes(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_due(store, ("mail", ORDER))
    new = NewTask(task.key, 5_000, states.tail(type_name=("bill", USER)), ("bill", USER))
    await store.put([Put(new, await stored_of(raw, task.key), ("mail", ORDER))])
    assert await typed_keys(raw) == {"bill": {task.key}, USER: {task.key}}


async def test_the_bytes_of_a_tokens_task_are_counted_whatever_writes_its_record(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_due(store, (TOKEN,))
    await store.update([await change(store, task, data=b'"%b"' % (b"x" * 500))])
    large = (await owned_by(raw, TOKEN[1:]))[task.key]
    await store.update([await change(store, task, 5_000, b"1")])
    assert (await owned_by(raw, TOKEN[1:]))[task.key] < large
    new = NewTask(task.key, 5_000, states.tail(type_name=(TOKEN,), data=b'"%b"' % (b"x" * 700)), (TOKEN,))
    await store.put([Put(new, await stored_of(raw, task.key), (TOKEN,))])
    assert (await owned_by(raw, TOKEN[1:]))[task.key] > large
    await store.put([Put(replace(new, tail=states.tail(), listed=None), await stored_of(raw, task.key), (TOKEN,))])
    assert await ask(raw, "EXISTS", KEYS.owned(TOKEN[1:]), KEYS.types) == 0


@pytest.mark.parametrize("names", [None, ORDER, TOKEN])
async def test_an_update_of_a_dead_task_does_not_list_it(
    names: str | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await states.dead(store, "mail")
    task.type = names
    wanted = replace(await change(store, task), old_listed="mail")
    assert letters((await store.update([wanted]))[1]) == "U"
    assert b'"new"' in await record_of(raw, task.key)
    assert await typed_keys(raw) == {}


async def test_a_purge_empties_every_index(store: Store, raw: redis.asyncio.Redis) -> None:
    for name in ("mail", "bill", ("mail", ORDER), None, ("mail", TOKEN)):
        await in_due(store, name)
    assert await store.purge() == 5
    assert await ask(raw, "EXISTS", KEYS.type_index(ORDER), KEYS.type_index(TOKEN)) == 0
    assert await typed_keys(raw) == {}


@pytest.mark.parametrize("name", ["mail", ORDER, TOKEN])
async def test_a_foreign_key_in_the_place_of_an_index_is_told_of_and_outlives_all(
    name: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    await ask(raw, "SET", KEYS.type_index(name), "foreign")
    for make, _ in LISTED.values():
        await make(store, name)
    for repairs in (False, True):
        [finding] = [finding async for finding in audit(store.client, repairs)]
        assert (finding.kind, finding.subject) == ("foreign key", KEYS.type_index(name))
    assert await store.purge() == len(LISTED)
    assert await ask(raw, "GET", KEYS.type_index(name)) == b"foreign"
    assert await ask(raw, "SMEMBERS", KEYS.types) == []


async def test_a_list_by_type_shows_that_type_only(store: Store) -> None:
    tasks = [await make(store, "mail") for make, is_listed in LISTED.values() if is_listed]
    plain, _ = await in_due(store), await in_due(store, "bill")
    views = Views(store.client)
    assert {found.key for found in (await views.page(100, None, Filters("mail"))).tasks} == {task.key for task in tasks}
    assert [found.key for found in (await views.page(100, None, Filters(DEFAULT_TYPE))).tasks] == [plain.key]


async def test_a_list_by_label_shows_what_has_it_by_due_time(store: Store) -> None:
    tasks = [await make(store, ("mail", ORDER)) for make, is_listed in LISTED.values() if is_listed]
    await in_due(store, (USER,))
    views = Views(store.client)
    page = await views.page(100, None, Filters(label="order=17"))
    assert {found.key for found in page.tasks} == {task.key for task in tasks}
    assert [found.record.due for found in page.tasks] == sorted(found.record.due for found in page.tasks)
    assert page.looked_at == len(tasks)
    first = await views.page(2, None, Filters("mail", label="order=17"))
    second = await views.page(100, first.next, Filters("mail", label="order=17"))
    assert [found.key for found in first.tasks + second.tasks] == [found.key for found in page.tasks]
    assert (await views.page(100, None, Filters("bill", label="order=17"))).tasks == []
