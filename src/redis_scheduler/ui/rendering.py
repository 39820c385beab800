"""Makes pages of templates. Everything that is put into one is escaped: nothing a stranger wrote becomes markup."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from redis_scheduler.api.stats import duration
from redis_scheduler.ui.static import Static

TEXT_MOST = 300
"""Characters of a text in a row of a table."""


class Templates:
    """The folder `templates`. `base`: the path of the dashboard; `common`: what each template may show."""

    def __init__(self, static: Static, base: str, common: Mapping[str, Any]) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(count=count, short=short, cut=cut, clock=clock, span=span, state=state)
        self._environment.globals.update(
            base=base,
            static=f"{base}/static/{static.mark}",
            without=without,
            changed=changed,
            of_group=of_group,
            rule_of=rule_of,
            **common,
        )

    def page(self, name: str, **shown: Any) -> str:
        """Return a template with what it shows."""
        return self._environment.get_template(name).render(shown)


def without(given: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return parameters of an address but these."""
    return {name: value for name, value in given.items() if name not in names}


def changed(given: Mapping[str, str], *names: str, **others: str) -> dict[str, str]:
    """Return parameters of an address but these, with others."""
    return {**without(given, *names), **others}


def of_group(group: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters that take the dead letters of a group."""
    return {name: group[name] for name in ("host", "error") if group[name]}


def rule_of(repeat: Mapping[str, Any]) -> str:
    """Return in a line how a task repeats."""
    return ", ".join(f"{name} {value}" for name, value in repeat.items())


def state(name: str) -> str:
    """Return a state of the API by the name that lists have for it."""
    return "scheduled" if name == "due" else name.replace("_", " ")


def count(number: int | float) -> str:
    """Return a whole number with a comma at each thousand."""
    return f"{number:,.0f}"


def cut(text: object, most: int = TEXT_MOST) -> str:
    """Return a text with its end cut off."""
    found = str(text)
    return found if len(found) <= most else found[: most - 1] + "…"


def short(time: str | None) -> str:
    """Return an RFC 3339 time of the API as a person reads it."""
    return "" if not time else time.replace("T", " ").replace("Z", "")[:19]


def clock(ms: float, form: str = "%H:%M") -> str:
    """Return a time of day in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime(form)


def span(ms: float) -> str:
    """Return how long something is: `3 ms`, `2.4 s`, `3d 4h`."""
    ms = abs(ms)
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    return " ".join(duration(ms / 1000).split()[:2])
