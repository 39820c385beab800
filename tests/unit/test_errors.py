"""The codes of errors: their page has them all."""

import re
from pathlib import Path

from redis_scheduler.errors import Code

PAGE = Path(__file__).parents[2] / "docs/howto/errors.md"


def test_the_page_of_errors_has_every_code_with_its_status() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    assert [(word, int(status)) for word, status in rows] == [(code.word, code.status) for code in Code]


def test_each_code_is_another_word() -> None:
    assert len({code.word for code in Code}) == len(list(Code))
