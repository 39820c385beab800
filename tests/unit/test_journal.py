"""Which answers the journal has: those of changes that were made, or may have been in part."""

import pytest
from starlette.responses import Response

from redis_scheduler.api.answers import answer, error_answer
from redis_scheduler.api.bodies import ManyDone, Tried
from redis_scheduler.api.journal import _may_be_made
from redis_scheduler.errors import Code


@pytest.mark.parametrize(
    ("response", "is_noted"),
    [
        (answer(ManyDone("paused", 0, 0, None, False)), True),
        (error_answer(Code.REDIS_UNAVAILABLE, "away"), True),
        (error_answer(Code.REDIS_FULL, "full"), False),
        (error_answer(Code.REDIS_FULL, "full", operation="a"), True),
        (error_answer(Code.TOKEN_RATE, "too many"), False),
        (error_answer(Code.TOKEN_RATE, "too many", tasks=[Tried("written", "a")]), True),
    ],
)
def test_an_error_is_noted_where_a_part_may_be_done(response: Response, is_noted: bool) -> None:
    assert _may_be_made(response) is is_noted
