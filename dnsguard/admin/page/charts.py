"""Small drawings as SVG text: a sparkline and stacked bars. They know no colour, only classes.

Every drawing says in words what it shows, for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 150  # of the stacked bars, in user units
BARS = 120
SPARK_WIDTH, SPARK_HEIGHT = 160, 28


def sparkline(values: Sequence[float | None], said: str) -> str:
    """Draw one line; None is a gap, marked at the foot."""
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    step = SPARK_WIDTH / max(len(values) - 1, 1)
    lines: list[list[str]] = [[]]
    gaps = []
    for number, value in enumerate(values):
        x = number * step
        if value is None:
            gaps.append(f"M{x:.1f} {SPARK_HEIGHT - 1}h{max(step, 2):.1f}")
            lines.append([])
        else:
            lines[-1].append(f"{x:.1f},{SPARK_HEIGHT - 3 - value / most * (SPARK_HEIGHT - 6):.1f}")
    drawn = "".join(f'<polyline points="{" ".join(line)}"/>' for line in lines if len(line) > 1)
    if gaps:
        drawn += f'<path class="gap" d="{"".join(gaps)}"/>'
    return (
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" role="img" '
        f'aria-label="{escape(said)}" preserveAspectRatio="none">{drawn}</svg>'
    )


def bars(series: Mapping[str, Sequence[int]], every: float, said: str) -> str:
    """Draw counts as bars, one series on top of the other, the latest at the right."""
    length = max((len(values) for values in series.values()), default=0)
    group = max(1, -(-length // BARS))
    columns = []
    for end in range(length, 0, -group):
        start = max(0, end - group)
        columns.append({name: sum(values[start:end]) for name, values in series.items()})
    most = max((sum(column.values()) for column in columns), default=0) or 1
    step = WIDTH / BARS
    drawn: dict[str, list[str]] = {name: [] for name in series}
    for number, column in enumerate(columns):
        x, y = WIDTH - (number + 1) * step, float(HEIGHT)
        for name, count in column.items():
            if count:
                tall = count / most * (HEIGHT - 14)
                y -= tall
                drawn[name].append(f"M{x:.1f} {y:.1f}h{step - 1:.1f}v{tall:.1f}h-{step - 1:.1f}z")
    paths = "".join(
        f'<path class="fill-{name}" d="{"".join(path)}"/>' for name, path in drawn.items() if path
    )
    nothing = "nothing in this time" if length else "the first sample comes in seconds"
    peak = f"highest: {most / (group * every):,.1f} a second" if paths else nothing
    return (
        f'<svg class="bars" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}" '
        f'preserveAspectRatio="none"><path class="axis" d="M0 {HEIGHT - 0.5}h{WIDTH}"/>{paths}'
        f'</svg><p class="scale"><span>{span_of(BARS * group * every)} ago</span>'
        f"<span>{peak}</span><span>now</span></p>"
    )


def span_of(seconds: float) -> str:
    """Return the length of an axis."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
