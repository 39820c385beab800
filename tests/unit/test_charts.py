"""Charts: what stands at their axes."""

import re

import pytest

from redis_scheduler.ui.charts import bars


@pytest.mark.parametrize(
    ("number", "top"),
    [
        (0, "1"),
        (7, "10"),
        (43_000, "50,000"),
        (132_070, "200 k"),
        (1_000_000, "1 M"),
        (4_200_000, "5 M"),
        (999_999_999, "1,000 M"),
    ],
)
def test_the_number_at_the_top_fits_beside_the_axis(number: int, top: str) -> None:
    [found] = re.findall(r'y="16" class="end">([^<]*)<', bars("due", ["now"], [("late", [number])]))
    assert found == top
