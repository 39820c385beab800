"""The benchmark of kinds runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from benchmarks.kinds import SPREAD_CALLBACKS
from tests.integration.test_benchmarks import run

SUMMARY = "done, with its summary"
KINDS = ("waiting", "of a token", "sealed", "held by a limit", "dead", SPREAD_CALLBACKS, SUMMARY)


@pytest.mark.long
def test_each_kind_stands_where_it_is_to_stand_and_takes_memory(tmp_path: Path) -> None:
    found = run("kinds", tmp_path, "--tasks", "2000", "--first", "100", "--calm", "0", "--kinds", *KINDS)
    assert tuple(found["kinds"]) == KINDS
    for name, one in found["kinds"].items():
        # A few summaries are less than what Redis' buffers take and give back meanwhile.
        assert one["bytes_a_task"] > 0 or name == SUMMARY, name
        assert (one["record_bytes"] == 0) == (name == SUMMARY)
    records = {name: one["record_bytes"] for name, one in found["kinds"].items()}
    assert records["of a token"] > records["waiting"]
    assert records[SPREAD_CALLBACKS] > 3 * records["waiting"]
    assert records["sealed"] > 4 / 3 * records["waiting"]
