"""The header of each script says what a caller must know, and always in the same words."""

import re
from importlib import resources

import pytest

from redis_scheduler.store.script import Script

SCRIPTS = {
    path.name.removesuffix(".lua"): path.read_text()
    for path in (resources.files("redis_scheduler.store") / "lua").iterdir()
    if path.name.endswith(".lua")
}

WRITES = re.compile(
    r"'(APPEND|[HZS](ADD|SET|DEL|REM|INCRBY)|SET|UNLINK|DEL|X(ADD|DEL|ACK|CLAIM|AUTOCLAIM|READGROUP|GROUP|TRIM))'|\b(lease|renewed)\("
)


def header_of(text: str) -> list[str]:
    """The lines before the code, a line that goes on joined to the one it belongs to."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("-- "):
            break
        if line.startswith("--    ") and lines:
            lines[-1] += " " + line.removeprefix("--").strip()
        else:
            lines.append(line.removeprefix("-- "))
    return lines


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_header_says_all_that_a_caller_must_know(name: str) -> None:
    header = header_of(SCRIPTS[name])
    assert header[0].startswith(f"{name}: ")
    parts = [
        line[:7].rstrip()
        for line in header
        if re.match(r"KEYS   |ARGV   |each   |Returns |Bounds |Twice  |Full   ", line)
    ]
    reads_only = "Reads only" in " ".join(header)
    rows = ["each"] if "each" in parts else []
    assert parts == ["KEYS", "ARGV", *rows, "Returns", "Bounds"] + ([] if reads_only else ["Twice", "Full"])
    assert reads_only == (WRITES.search(Script(name).text) is None)
