"""alert_copy: a shard keeps what was noted in another one, and nothing that is older."""

import redis.asyncio

from redis_scheduler.store.alerts import Found, Turn
from tests.scripts.states import ask
from tests.scripts.verbs import alerts
from tests.support.names import KEYS
from tests.support.store import Store

LED_MS = 60_000


async def test_it_takes_the_place_of_what_is_older_and_whose_turn_it_is_stays(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    place = alerts(store)
    assert (await place.looks(), await place.noted()) == (0, (0, []))
    turn = await place.take_turn()
    assert turn is not None
    await place.note(turn, [Found("late", 0, "by 5 s")], {0: turn.now_ms})
    looks, fields = await place.noted()
    assert (looks, {name for name, _ in fields}) == (1, {b"seen", b"number", b"is:late", b"tell:1"})
    newer = [(b"is:ledger", b"1 5 5 0"), (b"tell:7", b"began 0 5 ledger\n1 missing"), (b"number", b"7")]
    for _ in range(2):
        await place.copy(4, newer)
        assert (await place.looks(), sorted((await place.noted())[1])) == (4, sorted([*newer, fields[0]]))
        assert fields[0][0] == b"seen"
    await place.copy(3, fields)
    assert await place.looks() == 4
    assert await ask(raw, "HGET", KEYS.alerts, "who") == b"worker-a"
    assert await place.keep_turn() is not None
    tellings = await place.note(Turn(turn.now_ms + 1), [Found("ledger", 0, "1 missing")], {0: turn.now_ms + 1})
    assert [telling.number for telling in tellings] == [7]
    assert await place.looks() == 5


async def test_where_a_copy_has_come_nobody_takes_the_turn_who_would_stand_in(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    place = alerts(store)
    await place.copy(1, [])
    assert await place.take_turn(LED_MS) is None
    for led in ("1", "999999999999999", "x"):  # long ago; to come, since the clock was set back; from foreign hands
        await ask(raw, "HSET", KEYS.alerts, "led", led)
        await ask(raw, "HDEL", KEYS.alerts, "turn")
        assert await place.take_turn(LED_MS) is not None
    await place.copy(1, [])
    await ask(raw, "HDEL", KEYS.alerts, "turn")
    assert await place.take_turn() is not None, "the first shard is held off by nothing"


async def test_a_number_of_looks_from_foreign_hands_is_none(store: Store, raw: redis.asyncio.Redis) -> None:
    place = alerts(store)
    for looks in ("x", "-1", "", "1e3"):
        await ask(raw, "HSET", KEYS.alerts, "looks", looks)
        assert await place.looks() == 0
