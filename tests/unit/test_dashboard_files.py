"""The files that browsers get: what is not ours is as it was published, and all can be had."""

import re
from hashlib import sha256
from pathlib import Path

import redis_scheduler

STATIC = Path(redis_scheduler.__file__).parent / "ui/static"


def test_htmx_is_as_published() -> None:
    [digest] = re.findall(r"[0-9a-f]{64}", (STATIC / "README.md").read_text())
    assert sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest() == digest
    assert "Zero-Clause BSD" in (STATIC / "htmx.LICENSE.txt").read_text()


def test_our_own_script_is_a_few_kilobytes() -> None:
    assert (STATIC / "app.js").stat().st_size < 8_000


def test_no_template_says_that_something_is_safe_but_what_templates_made() -> None:
    found = {
        (path.name, expression.strip())
        for path in (STATIC.parent / "templates").glob("*.html")
        for expression in re.findall(r"{{([^}]*\| *safe[^}]*)}}", path.read_text())
    }
    assert found == {
        ("reference.html", "parts.reference | safe"),
        ("live.html", "parts[name] | safe"),
        ("dead.html", "parts.letter | safe"),
        ("stale.html", "part | safe"),
    }


def test_templates_have_nothing_that_the_policy_forbids() -> None:
    for path in (STATIC.parent / "templates").glob("*.html"):
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:|hx-on|<script(?! src=)", path.read_text()), (
            path.name
        )
