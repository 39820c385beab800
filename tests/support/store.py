"""Both halves of the store in one, for tests that follow a task from its schedule to its end."""

from collections.abc import Iterable
from enum import Enum

from redis_scheduler.store import claiming, claims, history, limiting, moves, sweep, writes
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.moves import Moves
from redis_scheduler.store.script import Script
from redis_scheduler.task.kept import NO_RESULTS, Kept
from redis_scheduler.task.timing import DEFAULT, Timing

SCRIPTS = {
    found.name: found
    for module in (writes, claims, claiming, sweep, moves, history, limiting)
    for found in vars(module).values()
    if isinstance(found, Script)
}


def letters(answers: Iterable[Enum]) -> str:
    """What a script of the API answered, as it did."""
    return "".join(answer.value for answer in answers)


class Store(Moves, Claims):
    """What the API, an import and a worker write; one name serves as the writer's id and the consumer's."""

    def __init__(self, client: RedisClient, name: str, timing: Timing = DEFAULT, kept: Kept = NO_RESULTS) -> None:
        Moves.__init__(self, client, name, timing, kept)
        Claims.__init__(self, client, name, timing, kept)
