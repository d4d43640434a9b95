"""Bar charts of a run as SVG: one file a work, dnsguard in a colour of its own.

Needs matplotlib (the extra `bench`), which is imported only when charts are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.medians import Row
from benchmarks.peers.everyone import PRODUCT, YARDSTICKS
from benchmarks.works import Bars

OWN, PEER, YARDSTICK = "#c2410c", "#64748b", "#cbd5e1"
SHADES = (1.0, 0.65, 0.4, 0.25)  # of the bars in a group
ROW_INCHES, MARGIN_INCHES, PANEL_INCHES = 0.28, 1.1, 5.0


def colour(label: str) -> str:
    if label.startswith(PRODUCT.name):
        return OWN
    return YARDSTICK if label in YARDSTICKS else PEER


def short(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(path: Path, title: str, rows: Sequence[Row], panels: Sequence[Bars]) -> None:
    """Draw one work; the rows come in the table's order, the first on top."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = title  # the same numbers give the same file
    from matplotlib.figure import Figure

    lines = len(rows) * max(1, max(len(panel.keys) for panel in panels) * 0.7)
    size = (PANEL_INCHES * len(panels) + 1.5, ROW_INCHES * lines + MARGIN_INCHES)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        _panel(axes, rows, panel, labelled=number == 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(axes: Any, rows: Sequence[Row], panel: Bars, labelled: bool) -> None:
    group = 0.8 / len(panel.keys)
    for place, key in enumerate(panel.keys):
        for line, row in enumerate(rows):
            value = row.values.get(key, math.nan)
            if not math.isfinite(value):
                continue
            at = line - 0.4 + group * (place + 0.5)
            axes.barh(at, value, group * 0.92, color=colour(row.label), alpha=SHADES[place])
            name = f" {key.removeprefix('bytes_')}" if len(panel.keys) > 1 else ""
            axes.annotate(
                f" {short(value)}{' ·' + name if name else ''}",
                (value, at),
                va="center",
                fontsize=7,
            )
    axes.set_yticks(range(len(rows)), [row.label if labelled else "" for row in rows])
    axes.invert_yaxis()
    axes.set_title(panel.title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.18)
    if panel.log:
        axes.set_xscale("log")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
