"""The text that Prometheus reads: its own format 0.0.4, and OpenMetrics 1.0 where that is asked for."""

from collections.abc import Mapping, Sequence

from redis_scheduler.metrics.family import BOUNDS_NS, COUNTER, HISTOGRAM, Family
from redis_scheduler.metrics.meter import SUM, Key

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_BOUNDS = (*(repr(bound / 1e9) for bound in BOUNDS_NS), "+Inf")

Numbers = Mapping[Key, Sequence[float]]
"""As Meter has them."""


def wants_open(accept: str) -> bool:
    """Whether a header Accept wants OpenMetrics rather than the other format."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for one in accept.split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        weights = [value for name, _, value in (each.partition("=") for each in parameters) if name.strip() == "q"]
        try:
            weight = float(weights[0]) if weights else 1.0
        except ValueError:
            weight = 0.0
        if kind.lower() in best:
            best[kind.lower()] = max(best[kind.lower()], weight)
    return best["application/openmetrics-text"] > 0 and best["application/openmetrics-text"] >= best["text/plain"]


def text_of(families: Sequence[Family], numbers: Numbers, is_open: bool) -> bytes:
    """Return the text of all numbers of these metrics; a metric without any is left out."""
    by_name: dict[str, list[Key]] = {}
    for key in numbers:
        by_name.setdefault(key[0], []).append(key)
    lines: list[str] = []
    for family in families:
        keys = by_name.get(family.name)
        if not keys:
            continue
        name = family.name.removesuffix("_total") if is_open and family.kind == COUNTER else family.name
        lines += (f"# HELP {name} {_escaped(family.help)}", f"# TYPE {name} {family.kind}")
        if is_open and name.endswith("_seconds"):
            lines.append(f"# UNIT {name} seconds")
        for key in sorted(keys):
            _add(lines, family, key[1:], numbers[key])
    if is_open:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _add(lines: list[str], family: Family, values: Sequence[str], numbers: Sequence[float]) -> None:
    labels = ",".join(f'{label}="{_quoted(value)}"' for label, value in zip(family.labels, values, strict=True))
    if family.kind != HISTOGRAM:
        lines.append(
            f"{family.name}{{{labels}}} {_shown(numbers[0])}" if labels else f"{family.name} {_shown(numbers[0])}"
        )
        return
    count, before = 0, f"{labels}," if labels else ""
    for bound, number in zip(_BOUNDS, numbers[:SUM], strict=True):
        count += int(number)
        lines.append(f'{family.name}_bucket{{{before}le="{bound}"}} {count}')
    behind = f"{{{labels}}}" if labels else ""
    lines.append(f"{family.name}_sum{behind} {_shown(numbers[SUM] / 1e9)}")
    lines.append(f"{family.name}_count{behind} {count}")


def _shown(number: float) -> str:
    return repr(number)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
