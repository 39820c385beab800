"""What repeats: the preview of its times."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import redis.asyncio

from tests.acceptance.test_bad_input import JSON, refused
from tests.support.service import Client

PREVIEW = "/repeat/preview"


async def previewed(api: Client, repeat: dict[str, Any], **fields: Any) -> list[datetime]:
    status, content = await api.call("POST", PREVIEW, json={"repeat": repeat} | fields)
    assert status == 200, content
    return [datetime.fromisoformat(at) for at in content["data"]]


async def test_the_preview_shows_the_next_times_by_the_clock_of_redis(api: Client, raw: redis.asyncio.Redis) -> None:
    before, _ = await raw.time()
    times = await previewed(api, {"every": 90.5})
    after, _ = await raw.time()
    assert [later - earlier for earlier, later in pairwise(times)] == [timedelta(seconds=90.5)] * 4
    assert before + 90.5 <= times[0].timestamp() <= after + 91.5
    times = await previewed(api, {"cron": "0 9 * * 1-5", "tz": "Asia/Tokyo"}, n=100)
    assert len(times) == 100
    assert {(at.hour, at.minute, at.weekday() < 5) for at in times} == {(0, 0, True)}
    assert await raw.exists("{rs:0}:tasks") == 0


async def test_the_preview_ends_where_the_series_would(api: Client) -> None:
    assert len(await previewed(api, {"every": 1, "times": 3})) == 3
    end = datetime.now(UTC) + timedelta(days=2)
    assert 1 <= len(await previewed(api, {"cron": "@daily", "until": end.isoformat()}, n=100)) <= 2


NO_RULES: list[Any] = [None, 5, "@daily", [], True, ""]
NO_EVERY: list[Any] = [None, "5", True, [], {}, 0, -1, 0.5, 1e300, 10**30, 1.00001]
NO_CRON: list[Any] = [None, 5, [], "", "x", "* * * *", "* * * * * *", "\u0661 * * * *", "* * * * *\r\nX: 1", "*" * 5000]
WRONG_RULES: list[tuple[Any, str, str]] = [
    *[(repeat, "repeat", "must be an object") for repeat in NO_RULES],
    ({}, "repeat.every", "must be given, or cron, and not both"),
    ({"every": 5, "cron": "@daily"}, "repeat.every", "not both, got 5"),
    *[({"every": every}, "repeat.every", "must be a number of seconds from 1") for every in NO_EVERY],
    *[({"cron": cron}, "repeat.cron", "must be five fields") for cron in NO_CRON],
    ({"cron": "0 0 30 2 *"}, "repeat.cron", "never comes"),
    *[({"cron": "@daily", "tz": tz}, "repeat.tz", "must be the name of a time zone") for tz in (
        None, 5, "", "Nowhere", "../UTC", "Europe/Berlin\n", "é" * 500,
    )],
    ({"every": 5, "tz": "UTC"}, "repeat.tz", "has no effect without cron"),
    *[({"every": 5, "times": times}, "repeat.times", "must be a whole number from 1") for times in (
        None, 0, -1, 1.5, "3", True, 10**30,
    )],
    *[({"every": 5, "until": until}, "repeat.until", "must be an RFC 3339 time with its offset") for until in (
        None, 5, "", "tomorrow", "2030-01-01", "2030-01-01T00:00:00", "2030-02-30T00:00:00Z", "2" * 5_000,
    )],
    *[({"every": 5, "until": until}, "repeat.until", f'must not end before the first time, got "{until}"') for until in (
        "2020-01-01T00:00:00Z", "2020-01-01T00:00:00+02:00", "1969-12-31T23:59:59-08:00",
    )],
    *[({"every": 5, "missed": missed}, "repeat.missed", '"latest", "skip" or "all"') for missed in (
        None, "", "none", 1, ["all"],
    )],
    *[({"every": 5, "overlap": overlap}, "repeat.overlap", '"allow" or "skip"') for overlap in (None, "", "no", 1)],
    ({"every": 5, "times": 1, "overlap": "skip"}, "repeat.overlap", "has no effect with times 1, got "),
    ({"every": 5, "missed": "all", "overlap": "skip"}, "repeat.overlap", "must be allow with missed all"),
    ({"every": 5, "color": 1}, "repeat.color", "is an unknown field; known: every, cron, tz"),
    ({"every": 5, "x\r\nX-Evil: 1": 1}, "repeat.x\r\nX-Evil: 1", "is an unknown field"),
]  # fmt: skip


@pytest.mark.parametrize(("repeat", "field", "said"), WRONG_RULES)
async def test_a_wrong_rule_is_named_with_what_was_given(
    api: Client, raw: redis.asyncio.Redis, repeat: Any, field: str, said: str
) -> None:
    status, error = await refused(api, raw, "POST", PREVIEW, json={"repeat": repeat})
    assert status == 400
    _, content = await api.call("POST", PREVIEW, json={"repeat": repeat})
    assert content["field"] == field
    assert error.startswith(json.dumps(field)[1:-1] + ": ")
    assert said in error
    assert len(error) < 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "not JSON"),
        ("[]", "object"),
        ("{}", "repeat: is missing"),
        ('{"repeat":{"every":5},"n":0}', "n: must be a whole number from 1 to 100, got 0"),
        ('{"repeat":{"every":5},"n":101}', "n: must be"),
        ('{"repeat":{"every":5},"n":null}', "n: must be"),
        ('{"repeat":{"every":5},"n":"5"}', "n: must be"),
        ('{"repeat":{"every":5},"repeat":{"every":5}}', "repeat: is given twice"),
        ('{"repeat":{"every":5,"every":6}}', "repeat.every: is given twice"),
        ('{"repeat":{"every":NaN}}', "NaN is no number"),
        ('{"repeat":' + '{"every":' * 2000 + "1" + "}" * 2001, ""),
    ],
)
async def test_a_body_that_is_no_preview_is_refused(
    api: Client, raw: redis.asyncio.Redis, body: str, said: str
) -> None:
    status, error = await refused(api, raw, "POST", PREVIEW, data=body, headers=JSON)
    assert status in (400, 413)
    assert said in error


async def test_the_rarest_times_delay_no_other_request(api: Client) -> None:
    """A hundred of them are looked for through 2,800 years."""
    assert len(await previewed(api, {"cron": "0 0 * 2 MON#5", "tz": "America/New_York"}, n=100)) == 100
