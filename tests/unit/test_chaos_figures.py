"""What the fault suite keeps of its runs, and what a document shows of it."""

from pathlib import Path

import pytest

from tests.chaos.figures import BEGIN, END, Figures, keep, kept, with_table

FIRST, SECOND, TENTH = (Figures(case, f"case {case}", "passed", 1, ["lost 0"]) for case in ("1", "2b", "10a"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text("[]")
    keep([TENTH, FIRST], path)
    return path


def test_rows_are_kept_in_the_order_of_the_cases(results: Path) -> None:
    keep([SECOND], results)
    assert kept(results) == [FIRST, SECOND, TENTH]
    assert results.read_text().count("\n") == 5


def test_a_run_of_some_cases_replaces_their_rows_and_no_others(results: Path) -> None:
    again = Figures("10a", "case 10a", "failed", 2.5, ["lost 1"])
    keep([again], results)
    assert kept(results) == [FIRST, again]


def test_a_document_gets_the_table_between_its_marks_and_keeps_the_rest() -> None:
    document = with_table(f"above\n{BEGIN}old\n{END}below\n", [FIRST])
    assert document == (
        f"above\n{BEGIN}| case | what | verdict | s | figures |\n|---|---|---|---|---|\n"
        f"| 1 | case 1 | passed | 1 | lost 0 |\n{END}below\n"
    )
    assert with_table(document, [FIRST]) == document
