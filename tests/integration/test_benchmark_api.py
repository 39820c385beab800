"""The API's benchmark at a small size: nothing is lost between what is acknowledged, changed and deleted."""

from pathlib import Path

import pytest

from benchmarks import harness, load
from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_the_api_is_compared_with_an_empty_endpoint(tmp_path: Path) -> None:
    found = run("api", tmp_path, "--requests", "200", "--concurrency", "8", "--rounds", "2")
    assert found["settings"] == {"requests": 200, "concurrency": 8, "rounds": 2}
    checks = found["checks"]
    assert checks.pop("left_after_delete") == 0
    assert checks.pop("own_keys") == 200
    assert checks == dict.fromkeys(
        ("keys", "left_after_schedule", "scheduled", "left_after_get", "updated", "left_after_patch", "cancelled"), 200
    )
    for name in ("empty", "schedule", "schedule_own", "get", "patch", "delete", "generator_ceiling"):
        assert found[name]["requests"] == 200
        assert 0 < found[name]["p50_ms"] <= found[name]["p99_ms"]
    ratios = found["ratios"]["schedule"]
    assert len(ratios) == 2
    assert all(ratio > 0 for ratio in ratios)
    mark, cpu_mark = found["marks"]
    lower, median, upper = found["ratio_quartiles"]["schedule"]
    assert min(ratios) - 0.001 <= lower <= median <= upper <= max(ratios) + 0.001
    assert mark["found"] == median
    assert mark["met"] == (mark["found"] >= 0.7)
    assert cpu_mark["found"] == found["server_us"]["schedule"] > 0


async def test_the_load_generator_brings_every_answer_whole() -> None:
    async with harness.listening("empty") as ([url], _):
        requests = [load.request("POST", url, b"{}"), load.request("GET", url)] * 10
        answers = await load.exchange(url, requests, concurrency=3)
    assert sorted(answer.status for answer in answers) == [200] * 10 + [405] * 10
    assert {answer.body[:1] for answer in answers if answer.status == 200} == {b"{"}
    assert {answer.body[-1:] for answer in answers if answer.status == 200} == {b"}"}
    assert all(answer.seconds > 0 for answer in answers)


async def test_the_load_generator_fails_when_the_server_closes() -> None:
    async with harness.listening("empty") as ([url], _):
        with pytest.raises(ExceptionGroup) as failed:
            await load.exchange(url, [b"no HTTP\r\n\r\n", load.request("POST", url)], concurrency=1)
    assert failed.group_contains(ConnectionError)
