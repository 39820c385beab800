"""Statuses as people name several."""

import pytest

from redis_scheduler.task.statuses import RULE, statuses


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("none", set()),
        ("410", {410}),
        ("404,410", {404, 410}),
        ("400-403", {400, 401, 402, 403}),
        ("400-403,!402", {400, 401, 403}),
        ("!402,400-403", {400, 401, 403}),
        ("400-410,!401-409,503", {400, 410, 503}),
        ("300-599,!300-598", {599}),
    ],
)
def test_what_a_text_names(text: str, named: set[int]) -> None:
    assert statuses(text) == named


@pytest.mark.parametrize(
    "text",
    ["", "0", "41", "4100", "200", "600", "4xx", "410 ", "410, 411", "410,", "-410", "!none", "none,410", "410\n"],
)
def test_what_is_no_list_of_statuses_is_told_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be statuses") as caught:
        statuses(text)
    assert str(caught.value) == RULE


def test_a_list_has_an_end() -> None:
    with pytest.raises(ValueError, match="must be"):
        statuses(",".join(["410"] * 51))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!429", "has an exception from nothing"),
        ("410,!429", "has an exception from nothing"),
        ("420-410", "has a range that is empty, 420-410"),
        ("410,!410", "excepts all that it names"),
    ],
)
def test_a_part_without_effect_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        statuses(text)
