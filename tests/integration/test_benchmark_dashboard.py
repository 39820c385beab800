"""The benchmark of the dashboard runs: every page is answered, and people who look cost little."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_it_asks_for_every_page_and_counts_what_people_cost(tmp_path: Path) -> None:
    found = run(
        "dashboard",
        tmp_path,
        "--tasks",
        "500",
        "--times",
        "1",
        "--seconds",
        "3",
        "--first-times",
        "1",
        "--silence",
        "0.1",
    )
    assert len(found["pages"]) == len(found["first"]) == 12
    assert (found["rendered"], len(found["marks"])) == ({}, 4)
    assert 0 < found["looked_at"]["commands_a_second"] < 50
