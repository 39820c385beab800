"""The benchmark of the guard runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_what_the_guard_adds_is_measured_by_its_parts(tmp_path: Path) -> None:
    found = run("guard", tmp_path, "--rounds", "1", "--deliveries", "50")
    assert found["settings"] == {"rounds": 1, "deliveries": 50}
    assert found["signatures_us"].keys() == {"one secret", "two secrets", "ed25519"}
    assert found["signatures_us"]["ed25519"] > 5
    guarding = found["egress"]
    # The first delivery opens a connection, and some behind it do, since a receiver is watched before one is kept.
    assert 1 <= guarding["questions_a_delivery"] * 50 <= 50
    assert guarding["us_a_delivery"] < 10 * guarding["question_us"]
    assert found["tokens"]["look_up_us"] > 0
    assert found["seals_us"].keys() == {"seal", "open"}
    assert found["seals_us"]["seal"] > 1
    assert len(found["marks"]) == 5
