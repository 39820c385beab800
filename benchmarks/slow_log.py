"""What held Redis, and for how long, by its slow log."""

from functools import cache
from importlib import resources

from benchmarks import harness
from redis_scheduler.store.script import Script

SLOW_MOST = 10_000
"""So many commands are noted at most."""


async def watch(redis: harness.Redis, over_ms: float) -> None:
    """Have Redis note each command that holds it longer than so long."""
    await redis.raw.config_set("slowlog-log-slower-than", round(1_000 * over_ms))
    await redis.raw.config_set("slowlog-max-len", SLOW_MOST)


async def held(redis: harness.Redis) -> list[float]:
    """Return how long Redis was held by each command that it noted since the last time, in ms."""
    return [ms for ms, _ in await slow(redis)]


async def slow(redis: harness.Redis) -> list[tuple[float, str]]:
    """Return the same with what held it: the name of a script, or of a command. The longest comes first."""
    rows = await redis.raw.slowlog_get(SLOW_MOST)
    await redis.raw.slowlog_reset()
    return sorted(((row["duration"] / 1000, _named(row["command"])) for row in rows), reverse=True)


def _named(command: bytes | str) -> str:
    words = (command if isinstance(command, str) else command.decode(errors="replace")).split(maxsplit=3)
    if words[:2] == ["EVAL", "--"]:  # a script that Redis does not know yet begins with its name
        return words[2].removesuffix(":")
    return next((name for name, sha in scripts().items() if words[1:2] == [sha]), words[0] if words else "")


@cache
def scripts() -> dict[str, str]:
    """The name of each script, with its digest."""
    files = resources.files("redis_scheduler.store").joinpath("lua").iterdir()
    names = [file.name.removesuffix(".lua") for file in files if file.name.endswith(".lua")]
    return {name: Script(name).sha for name in names}
