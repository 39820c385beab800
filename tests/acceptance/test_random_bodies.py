"""Bodies at random: each is taken or refused, none makes the service fail, and what was taken is whole."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.bodies import ScheduleRequest
from tests.acceptance.test_moving import command
from tests.support.names import KEYS_OF_SHARDS
from tests.support.service import Client, Process

HOOK = "http://127.0.0.1:9/"
JSON = {"Content-Type": "application/json"}
BODIES = 400
FIELDS = ScheduleRequest.__struct_fields__
PLAIN: list[Any] = [
    *(None, True, False, 0, 1, -1, 5, 60, 0.001, 0.0001, 1e9, 10**20, 1e308, [], [1, 2], [0.1], [None], ["a"], {}),
    *("", "x", "é", "😀", "\ud83d", "\0", "POST", "GET", "fixed", "exponential", "none", "410", "400-499,!429", "aGk="),
    *("2199-01-01T00:00:00Z", "2020-01-01T00:00:00+01:00", "Europe/Berlin", "0 9 * * *", "* * 30 2 *", "skip", "all"),
    *(HOOK, {"X-A": "b"}, {"order": "17"}, {"every": 60}, {"cron": "0 9 * * *", "tz": "Europe/Berlin"}),
]
PARTS = ["X-A", "order", "every", "cron", "tz", "times", "until", "missed", "overlap", "webhook", "ttl", "data", "Host"]


def value(chance: random.Random, depth: int) -> Any:
    kind = chance.random()
    if depth < 3 and kind < 0.15:
        return body(chance, depth + 1)
    if depth < 3 and kind < 0.3:
        return {chance.choice(PARTS): value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return chance.choice(PLAIN)


def body(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    given: dict[str, Any] = {"webhook": HOOK} if chance.random() < 0.9 else {}
    if chance.random() < 0.7:
        given["ttl"] = chance.choice([600, 1e6, 5_000])
    return given | {chance.choice(FIELDS): value(chance, depth) for _ in range(chance.randrange(4))}


@pytest.mark.parametrize("seed", range(3))
async def test_no_body_makes_the_service_fail(
    api: Client, api_process: Process, raw: redis.asyncio.Redis, redis_url: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    keys = [await api.schedule(HOOK, 600)]
    taken = 0
    for _ in range(BODIES):
        given = body(chance)
        method, path, sent = chance.choice(
            [
                ("POST", "/schedule", given),
                ("PUT", "/schedule/own", given),
                ("PATCH", f"/schedule/{chance.choice(keys)}", given),
                ("POST", "/schedules", {"tasks": [given, body(chance)]}),
                ("POST", "/repeat/preview", {"repeat": value(chance, 0)}),
            ]
        )
        status, content = await api.call(method, path, data=json.dumps(sent).encode(), headers=JSON)
        assert status in (200, 400), (method, path, sent, content)
        if status == 200 and "key" in content:
            taken += 1
            keys.append(content["key"])
    assert taken > BODIES / 20
    assert not api_process.events("fault")
    shown = (await api.call("GET", "/schedules"))[1]["data"]
    assert len(shown) == sum([await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS])
    assert [task["info"]["error"] for task in shown if "error" in task["info"]] == []
    await command(0, "export", str(tmp_path / "a"), REDIS_URL=redis_url)
    there = {"REDIS_URL": redis_url, "NAMESPACE": "other"}
    result = await command(0, "import", str(tmp_path / "a"), **there)
    assert result.stdout == (
        f"Imported {len(shown)} tasks; 0 replaced, 0 skipped since their keys are there; 0 bad lines.\n"
    )
