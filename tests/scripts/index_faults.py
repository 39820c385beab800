"""Faults of the indexes by type and label, each made on sound tasks, for the audit to find."""

from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import SERIES, TOKEN_MARK
from tests.scripts import states
from tests.scripts.faults import SEEDS, Found, Redis, seed
from tests.scripts.states import DEAD, DUE, IN_DELIVERY, MISSING, QUEUED, State, ask
from tests.support.names import KEYS
from tests.support.store import Store

__all__ = ["SEEDS"]
"""Those of the other places, too."""


# Types


@seed
async def not_in_the_index_of_its_type(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_delivery(store, "mail"), await states.in_due(store, "mail")
    await ask(raw, "ZREM", KEYS.type_index("mail"), task.key)
    return {"not listed": {task.key}}, task.key, IN_DELIVERY


@seed
async def the_only_one_of_its_type_and_not_in_the_index(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, "mail")
    await ask(raw, "ZREM", KEYS.type_index("mail"), task.key)
    return {"not listed": {task.key}, "empty type": {"mail"}}, task.key, DUE


@seed
async def of_a_type_that_is_not_named(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_due(store, "mail"), await states.in_due(store, "bill")
    await ask(raw, "SREM", KEYS.types, "mail")
    return {"not listed": {task.key}}, task.key, DUE


@seed
async def dead_and_in_the_index(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.dead(store, "mail"), await states.in_due(store, "mail")
    await ask(raw, "ZADD", KEYS.type_index("mail"), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, DEAD


@seed
async def gone_but_for_the_index(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.missing(store)
    await ask(raw, "ZADD", KEYS.type_index("mail"), 1, task.key)
    await ask(raw, "SADD", KEYS.types, "mail")
    return {"wrongly listed": {task.key}}, task.key, MISSING


@seed
async def in_the_index_of_another_type(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_due(store, "mail"), await states.in_due(store, "bill")
    await ask(raw, "ZADD", KEYS.type_index("bill"), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, DUE


@seed
async def in_an_index_without_a_type(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.queued(store), await states.in_due(store, "bill")
    await ask(raw, "ZADD", KEYS.type_index("bill"), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, QUEUED


@seed
async def a_type_without_tasks(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, "mail")
    await ask(raw, "SADD", KEYS.types, "bill")
    return {"empty type": {"bill"}}, task.key, DUE


LABELLED = ("mail", index_of("order=17"))


@seed
async def not_in_the_index_of_its_label(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_delivery(store, LABELLED), await states.in_due(store, LABELLED)
    await ask(raw, "ZREM", KEYS.type_index(LABELLED[1]), task.key)
    return {"not listed": {task.key}}, task.key, IN_DELIVERY


@seed
async def in_the_index_of_another_label(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_due(store, LABELLED), await states.in_due(store, index_of("order=18"))
    await ask(raw, "ZADD", KEYS.type_index(index_of("order=18")), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, DUE


@seed
async def dead_and_in_the_index_of_its_label(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.dead(store, LABELLED), await states.in_due(store, LABELLED)
    await ask(raw, "ZADD", KEYS.type_index(LABELLED[1]), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, DEAD


@seed
async def a_label_without_tasks(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, "mail")
    await ask(raw, "SADD", KEYS.types, LABELLED[1])
    return {"empty type": {LABELLED[1]}}, task.key, DUE


# Series


@seed
async def not_in_the_index_of_series(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_delivery(store, ("mail", SERIES)), await states.in_due(store, SERIES)
    await ask(raw, "ZREM", KEYS.type_index(SERIES), task.key)
    return {"not listed": {task.key}}, task.key, IN_DELIVERY


@seed
async def none_and_in_the_index_of_series(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_due(store, "mail"), await states.in_due(store, SERIES)
    await ask(raw, "ZADD", KEYS.type_index(SERIES), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, DUE


@seed
async def dead_and_in_the_index_of_series(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.dead(store, SERIES), await states.in_due(store, SERIES)
    await ask(raw, "ZADD", KEYS.type_index(SERIES), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, DEAD


@seed
async def an_index_of_series_without_any(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, "mail")
    await ask(raw, "SADD", KEYS.types, SERIES)
    return {"empty type": {SERIES}}, task.key, DUE


# Tokens


TOKEN = TOKEN_MARK + "0123456789"
OWNED = KEYS.owned("0123456789")


@seed
async def not_counted_for_its_token(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_delivery(store, ("mail", TOKEN)), await states.in_due(store, TOKEN)
    size = int(await ask(raw, "HGET", OWNED, task.key))
    await ask(raw, "HDEL", OWNED, task.key)
    await ask(raw, "HINCRBY", OWNED, ".bytes", -size)
    return {"not counted": {task.key}}, task.key, IN_DELIVERY


@seed
async def counted_with_other_bytes(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_due(store, TOKEN), await states.in_due(store, TOKEN)
    await ask(raw, "HINCRBY", OWNED, task.key, 5)
    await ask(raw, "HINCRBY", OWNED, ".bytes", 5)
    return {"not counted": {task.key}}, task.key, DUE


@seed
async def counted_for_another_token(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_due(store, TOKEN), await states.in_due(store, f"{TOKEN_MARK}abcdef0123")
    await ask(raw, "HSET", KEYS.owned("abcdef0123"), task.key, 7)
    await ask(raw, "HINCRBY", KEYS.owned("abcdef0123"), ".bytes", 7)
    return {"wrongly counted": {task.key}}, task.key, DUE


@seed
async def dead_and_counted(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.dead(store, ("mail", TOKEN)), await states.in_due(store, TOKEN)
    await ask(raw, "HSET", OWNED, task.key, 7)
    await ask(raw, "HINCRBY", OWNED, ".bytes", 7)
    return {"wrongly counted": {task.key}}, task.key, DEAD


@seed
async def a_wrong_sum_of_bytes(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store, ("mail", TOKEN))
    await ask(raw, "HINCRBY", OWNED, ".bytes", 1)
    return {"wrong sum": {TOKEN}}, task.key, QUEUED


@seed
async def no_sum_of_bytes(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, TOKEN)
    await ask(raw, "HDEL", OWNED, ".bytes")
    return {"wrong sum": {TOKEN}}, task.key, DUE


@seed
async def a_sum_of_no_tasks(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store)
    await ask(raw, "HSET", OWNED, ".bytes", 5)
    await ask(raw, "SADD", KEYS.types, TOKEN)
    return {"empty type": {TOKEN}}, task.key, DUE


@seed
async def a_token_without_tasks(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, "mail")
    await ask(raw, "SADD", KEYS.types, TOKEN)
    return {"empty type": {TOKEN}}, task.key, DUE
