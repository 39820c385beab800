"""The benchmarks of many waiting tasks run and tell the truth; their figures at this size mean nothing."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run

SMALL = {
    **{"few": 200, "tasks": 2_000, "requests": 10, "rate": 1_000, "wave": 300, "rounds": 1},
    **{"retries": 200, "retry-time": 4, "window": 0.3},
}


@pytest.mark.long
def test_scale_compares_few_with_many_and_every_task_arrives_once(tmp_path: Path) -> None:
    found = run("scale", tmp_path, *(text for name, size in SMALL.items() for text in (f"--{name}", str(size))))
    assert [one["tasks"] for one in found["memory"]] == [200, 2_000]
    assert all(0 < one["record_bytes"] < one["bytes_a_task"] for one in found["memory"])
    assert list(found["times_ms"]) == [
        *("first page", "middle page", "get", "schedule", "update data", "update ttl", "cancel"),
    ]
    for one in found["times_ms"].values():
        assert all(0 < one[name]["p50"] <= one[name]["p99"] for name in ("few", "many"))
        assert all(0 < us < 1_000 * one[name]["max"] for name, us in one["redis_us"].items())
    for name in ("few", "many"):
        [wave] = found["wave"][name]["runs"]
        assert wave["arrivals"] == 300
        assert (
            0
            <= wave["late_ms"]["first"]
            <= wave["late_ms"]["median"]
            <= 1_000 * wave["seconds"] + wave["late_ms"]["first"]
        )
    assert not any(found["wave"]["checks"].values())
    retries = found["retries"]
    assert retries["places"]["waiting"] == 200
    assert not any(retries["checks"].values())
    assert retries["late_ms"]["min"] <= retries["late_ms"]["p50"] <= retries["late_ms"]["max"]
    assert len(found["marks"]) == 2 + 7 + 1


@pytest.mark.long
def test_bulk_touches_the_tasks_that_its_filters_want(tmp_path: Path) -> None:
    found = run("bulk", tmp_path, "--tasks", "2000", "--alone", "0.2")
    touched = {one["operation"]: one["touched"] for one in found["operations"]}
    within_the_hour, died = touched["count: due"], touched["dead count: died"]
    assert touched == {
        **{"count: type type1": 200, "count: host host1.example": 20, "count: key_prefix own:1": 111},
        "count: label order=7": 20,
        "count: host host1.example, due, 4 at once": touched["count: host host1.example, due, 4 at once"],
        **{"count: due": within_the_hour, "pause: type type1": 200, "resume: type type1, state paused": 200},
        **{"shift: type type1, by 3600": 200, "shift: type type1, by -3600": 200},
        **{"pause: due": within_the_hour, "resume: state paused": within_the_hour, "run: key_prefix own:2": 11},
        **{"cancel: key_prefix own:1": 111, "cancel: host host1.example": 18, "cancel: type type1": 198},
        **{name: touched[name] for name in ("cancel: due", "cancel: label order=7")},
        **{"dead count: label order=7": 20, "dead count: error timed out": 200, "dead count: died": died},
        **{
            "dead replay: label order=7": 20,
            "dead replay: type type1, rate 1000": 200,
            "dead delete: label order=8": 20,
        },
        **{name: touched[name] for name in ("dead replay: died", "dead delete: died")},
        **{
            name: touched[name]
            for name in ("dead replay: error timed out, host host1.example", "dead delete: error timed out")
        },
    }
    assert 0 < touched["cancel: due"] <= within_the_hour < 200
    assert 0 < touched["cancel: label order=7"] <= 20
    assert 0 < touched["dead replay: died"] < touched["dead replay: died"] + touched["dead delete: died"] <= died < 200
    for one in found["operations"]:
        assert one["requests"] > 0
        assert one["looked_at"] >= one["touched"]
        assert 0 < one["longest_ms"] <= 1_000 * one["seconds"] + 10
        assert sorted(one["redis_held_ms"], reverse=True) == one["redis_held_ms"]
        assert len(one["redis_held_by"]) == len(one["redis_held_ms"]) <= 10
        assert 0 < one["others_ms"]["p50"] <= one["others_ms"]["max"]
    assert len(found["marks"]) == 3


@pytest.mark.long
def test_what_is_moved_is_the_same_on_both_sides(tmp_path: Path) -> None:
    found = run("moving", tmp_path, "--tasks", "2000", "--alone", "0.2")
    assert found["checks"]["missing"] == 0
    assert list(found["steps"]) == ["export", "import", "export again"]
    for one in found["steps"].values():
        assert one["seconds"] > 0
        assert 10 < one["memory_mib"] < 200
        assert 0 < one["others_ms"]["p50"] <= one["others_ms"]["max"]
    assert len(found["marks"]) == 2
