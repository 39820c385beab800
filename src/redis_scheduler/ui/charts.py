"""Charts as SVG. Colours come from the style sheet by class; the numbers stand in a table behind each chart."""

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 120, 44, 18
_PLOT_WIDTH, _PLOT_HEIGHT = WIDTH - LEFT, HEIGHT - BOTTOM - 8


def bars(title: str, labels: Sequence[str], stacks: Sequence[tuple[str, Sequence[int]]]) -> Markup:
    """Return bars, each a stack of numbers: `stacks` are classes with a number for each label, from the bottom."""
    totals = [sum(numbers[at] for _, numbers in stacks) for at in range(len(labels))]
    top = _round_up(max(totals, default=0))
    step = _PLOT_WIDTH / max(1, len(labels))
    found = []
    for at, label in enumerate(labels):
        base = 0
        for name, numbers in stacks:
            if numbers[at]:
                y, height = _y(base + numbers[at], top), _y(base, top) - _y(base + numbers[at], top)
                found.append(
                    Markup(
                        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {:,}</title></rect>'
                    ).format(name, LEFT + at * step, y, max(1.0, step - 1), max(1.0, height), label, numbers[at])
                )
                base += numbers[at]
    return _chart(title, labels, _short(top), "0", Markup("").join(found))


def lines(title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float | None]]]) -> Markup:
    """Return lines of ms on a log axis from 1 ms up; None: a gap."""
    top = max([one for _, values in series for one in values if one], default=1.0)
    top = 10.0 ** math.ceil(math.log10(max(10.0, top)))
    step = _PLOT_WIDTH / max(1, len(labels))
    found = []
    for name, values in series:
        points: list[list[str]] = [[]]
        for at, value in enumerate(values):
            if value is None:
                points.append([])
            else:
                y = 8 + _PLOT_HEIGHT * (1 - math.log10(max(1.0, value)) / math.log10(top))
                points[-1].append(f"{LEFT + (at + 0.5) * step:.1f},{y:.1f}")
        for run in points:
            if len(run) == 1:
                x, y_text = run[0].split(",")
                found.append(Markup('<circle class="{}" cx="{}" cy="{}" r="2"/>').format(name, x, y_text))
            elif run:
                found.append(Markup('<polyline class="{}" points="{}"/>').format(name, " ".join(run)))
    return _chart(
        title, labels, f"{top:,.0f} ms" if top < 1_000 else f"{top / 1_000:,.0f} s", "1 ms", Markup("").join(found)
    )


def _chart(title: str, labels: Sequence[str], top: str, bottom: str, drawn: Markup) -> Markup:
    middle, last = (labels[len(labels) // 2], labels[-1]) if labels else ("", "")
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{title}">'
        '<line class="axis" x1="{l}" y1="{y}" x2="{w}" y2="{y}"/>{drawn}'
        '<text x="{tx}" y="16" class="end">{top}</text><text x="{tx}" y="{y}" class="end">{bottom}</text>'
        '<text x="{l}" y="{by}">{first}</text><text x="{mx}" y="{by}" class="middle">{middle}</text>'
        '<text x="{w}" y="{by}" class="end">{last}</text></svg>'
    ).format(
        w=WIDTH,
        h=HEIGHT,
        by=HEIGHT - 4,
        l=LEFT,
        y=HEIGHT - BOTTOM,
        tx=LEFT - 4,
        mx=LEFT + _PLOT_WIDTH // 2,
        title=title,
        drawn=drawn,
        top=top,
        bottom=bottom,
        first=labels[0] if labels else "",
        middle=middle,
        last=last,
    )


def _y(value: float, top: float) -> float:
    return 8 + _PLOT_HEIGHT * (1 - value / top)


def _short(top: int) -> str:
    """Return the number at the top of the axis so that it fits beside it: `50,000`, `200 k`, `5 M`."""
    if top < 100_000:
        return f"{top:,}"
    return f"{top // 1_000:,} k" if top < 1_000_000 else f"{top // 1_000_000:,} M"


def _round_up(value: int) -> int:
    """Return the next of 1, 2, 5, 10, 20, …"""
    power: int = 10 ** max(0, len(str(value)) - 1)
    return next(one * power for one in (1, 2, 5, 10) if one * power >= value) if value else 1
