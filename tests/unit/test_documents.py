"""The documents agree with what they speak of: settings, versions, targets, modules, cases."""

import dataclasses
import re
from itertools import cycle
from pathlib import Path

from redis_scheduler.settings import Settings
from tests.chaos.figures import kept, with_table

ROOT = Path(__file__).parents[2]
DECISIONS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs/decisions").glob("0*.md"))
DOCUMENTS = [
    *("README.md", "ARCHITECTURE.md", "RELIABILITY.md", "PERFORMANCE.md", "CHANGELOG.md", "benchmarks/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
    "docs/decisions/README.md",
    *DECISIONS,
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs/howto").glob("*.md")),
]


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def section(document: str, title: str) -> str:
    """What stands below a title of a document, up to the next one."""
    return text_of(document).split(f"\n## {title}\n")[1].split("\n## ")[0]


def defaults_in(document: str) -> dict[str, str]:
    """What the rows of a document say is the default of each variable."""
    rows = re.findall(r"^\| (`[A-Z_]+`.*?) \| (.*?) \|", text_of(document), re.MULTILINE)
    return {
        variable: default
        for names, defaults in rows
        for variable, default in zip(re.findall(r"[A-Z_]+", names), cycle(defaults.split("; ")), strict=False)
    }


def test_a_page_names_every_setting_with_its_default() -> None:
    defaults = defaults_in("docs/settings.md")
    settings = {field.metadata["variable"]: field.default for field in dataclasses.fields(Settings)}
    assert defaults.keys() == settings.keys()
    for variable, default in settings.items():
        if isinstance(default, int | float):
            assert defaults[variable] == f"{default}", variable
    usual = defaults_in("README.md")
    assert len(usual) > 4
    assert usual.items() <= defaults.items()


def test_the_readme_is_one_page() -> None:
    assert len(text_of("README.md").splitlines()) <= 120


def test_compose_and_its_example_take_every_setting() -> None:
    settings = {field.metadata["variable"] for field in dataclasses.fields(Settings)}
    # Compose sets the first itself, the image the second; three are of the Redis that it brings.
    taken = settings - {"REDIS_URL", "DATA_DIR"} | {"REDIS_PASSWORD", "REDIS_MEM_LIMIT", "REDIS_IMAGE"}
    assert set(re.findall(r"\$\{([A-Z_]+)", text_of("compose.yaml"))) == taken
    assert set(re.findall(r"^([A-Z_]+)=", text_of(".env.example"), re.MULTILINE)) == taken


def test_classifiers_documents_ci_and_image_speak_of_the_same_pythons() -> None:
    named = set(re.findall(r"Python :: (3\.\d+)", text_of("pyproject.toml")))
    assert len(named) > 1
    (sentence,) = re.findall(r"is tested on Python (.*?) on Linux", text_of("docs/running.md"))
    assert set(re.findall(r"3\.\d+", sentence)) == named
    (pairs,) = re.findall(r"^pairs=\((.*?)\)", text_of(".ci/each"), re.MULTILINE | re.DOTALL)
    # The last is run where it can be had.
    assert set(re.findall(r"(3\.\d+):", pairs)) - named == {"3.14"}
    assert set(re.findall(r"^FROM python:(3\.\d+)", text_of("Dockerfile"), re.MULTILINE)) <= named


def test_every_target_that_a_document_names_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for name in DOCUMENTS:
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text_of(name), re.MULTILINE))
        assert named <= targets, name


def test_every_case_of_a_fault_has_its_row() -> None:
    rows = re.findall(r"^\| (\d+[a-z]?) \|", section("RELIABILITY.md", "The cases"), re.MULTILINE)
    sources = "".join(path.read_text() for path in (ROOT / "tests/chaos").glob("test_*.py"))
    cases = re.findall(r"(?:case|thousand)\(\s*\"(\d+[a-z]?)\"", sources)
    assert sorted(rows) == sorted(cases)


def test_every_test_that_a_promise_names_is_one() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text_of("RELIABILITY.md")))
    assert len(named) > 30
    assert named <= set(re.findall(r"def (test_\w+)", sources))


def test_the_table_of_cases_is_what_their_last_full_runs_gave() -> None:
    text = text_of("RELIABILITY.md")
    assert text == with_table(text, kept()), "run: python -m tests.chaos.figures RELIABILITY.md"


def test_every_file_that_a_document_links_to_is_there() -> None:
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^):#]+)[#)]", text_of(name)):
            assert (ROOT / name).parent.joinpath(target).exists(), (name, target)


def anchors_of(name: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(name), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_heading_that_a_document_links_to_is_there() -> None:
    for name in DOCUMENTS:
        for path, anchor in re.findall(r"\]\(([^):#]*)#([^)]+)\)", text_of(name)):
            document = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
            assert anchor in anchors_of(str(document.relative_to(ROOT))), (name, path, anchor)


def test_each_picture_is_shown_and_all_together_are_small() -> None:
    pictures = list((ROOT / "docs/pictures").iterdir())
    shown = re.findall(r"^!\[.+\]\(pictures/(.*)\)$", text_of("docs/pictures.md"), re.MULTILINE)
    assert sorted(shown) == sorted(path.name for path in pictures)
    assert sum(path.stat().st_size for path in pictures) < 1_000_000


def test_a_decision_has_its_number_its_reasons_and_its_place_in_the_list() -> None:
    assert [int(Path(name).name[:4]) for name in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    listed = re.findall(r"^- \[(\d+)\]\((.*)\) (.*)$", text_of("docs/decisions/README.md"), re.MULTILINE)
    names = [Path(name).name for name in DECISIONS]
    assert listed == [(name[:4], name, text_of(f"docs/decisions/{name}").partition("\n")[0][2:]) for name in names]
    for name in DECISIONS:
        titles = re.findall(r"^## (.*)$", text_of(name), re.MULTILINE)
        assert titles[:3] == ["Context", "Decision", "Consequences"], name


def test_prose_fits_into_lines_of_120_columns() -> None:
    """Those of Python are the linter's."""
    scripts = [str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.lua")]
    for name in [*DOCUMENTS, *scripts]:
        lines = enumerate(text_of(name).splitlines(), 1)
        assert [number for number, line in lines if len(line) > 120 and not line.startswith("|")] == [], name
