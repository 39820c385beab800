"""Transitions in random order against a model, as in tests/chaos/test_transitions.py, on a store that seals, and beside
rekeys."""

import random

import pytest

from redis_scheduler.store.keys import SealedKeys
from tests.support.names import KEYS, VAULT
from tests.support.steps import Connections, Step
from tests.support.transitions import Example

EXAMPLES, STEPS = 4, 50
WANTED = (
    *(
        "rekey",
        "schedule due",
        "load",
        "promote and claim",
        "promote into a line",
        "promote from a line",
        "retry",
        "defer",
        "bury",
        "fire",
        "deliver and again",
    ),
    *("settle and follow", "bury and follow", "update in delivery", "update changed", "update_delay waiting"),
    *("replay dead", "put dead", "put changed", "restore dead", "restore paused", "acknowledge awaiting"),
)
"""Kinds of transition that write what is sealed, or compare it."""


@pytest.mark.parametrize("seed", range(2))
async def test_sealed_or_sealed_anew_a_task_stays_what_it_is(seed: int, redis_url: str) -> None:
    numbers = random.Random(seed)
    shared = Connections(redis_url, SealedKeys(KEYS.tag, VAULT))
    try:
        for _ in range(EXAMPLES):
            await shared.empty()
            example = Example(shared, [kind for kind in WANTED if not shared.taken[kind]])
            try:
                for _ in range(STEPS):
                    choice, who, which = map(numbers.randrange, (1_000, 6, 8))
                    await example.take(Step(choice, who, which, numbers.randint(1, 3), numbers.random() < 0.5))
                await example.finish()
            except Exception:
                print(*(f"{verb}: {step}" for verb, step in example.done), sep="\n")
                raise
            finally:
                shared.taken += example.taken
        assert [kind for kind in WANTED if not shared.taken[kind]] == []
    finally:
        await shared.aclose()
