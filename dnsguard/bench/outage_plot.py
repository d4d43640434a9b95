"""The time line of one scenario as SVG for a page: who answered, how fast, at what cost upstream.

Availability and waits are strips, one for each system, for lines would lie on each other where many
caches do well. A strip is an image within the SVG, all else is text and lines. Colours are
variables of the page's style sheet, so that one drawing does for light and dark. Drawn by
matplotlib, which is an extra and imported when it is wanted.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dnsguard.bench.outage_words import BANDS, clock
from dnsguard.bench.plot import require
from dnsguard.sim.result import IN_TIME_SECONDS, ScenarioRun, SystemRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib wants colours and the page wants variables: each variable has a colour that nothing
# else has, and is put in its place afterwards.
INK, QUIET, LINE, SHADE = "#010201", "#010202", "#010203", "#010204"
SERIES = 12  # colours for systems, as many as the style sheet has
WAITS = (
    (0.005, "up to 5 ms"),
    (0.05, "up to 50 ms"),
    (0.5, "up to 0.5 s"),
    (IN_TIME_SECONDS, "up to 2 s"),
    (math.inf, "longer"),
)
BAND_COLOURS = ("#1f9d6b", "#a6c84c", "#f2b632", "#e5702a", "#a81f2d")  # of BANDS and of WAITS
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
DAYS = 86_400
FIRST_WIDTH, OTHER_WIDTH = 2.2, 1.1
STYLE: Any = {
    "svg.fonttype": "none", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": LINE,
    "xtick.color": QUIET, "ytick.color": QUIET, "axes.titlesize": "medium",
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.spines.top": False,
    "axes.spines.right": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """How the drawing fits where it is seen. Inches of 72 points; a point is a CSS pixel."""

    name: str
    width: float
    strip: float  # height of a system's strip
    panel: float  # height of each of the other two
    font: float
    ticks: int
    legend: int  # columns


WIDE = Shape("wide", 14.2, 0.26, 2.6, 12, 10, 6)
NARROW = Shape("narrow", 4.6, 0.26, 2.2, 11, 4, 2)


def series(number: int) -> str:
    """The colour that stands for the variable of the n-th system."""
    return f"#0103{number % SERIES:02x}"


def draw(one: ScenarioRun, shape: Shape, mark: str) -> str:
    """An `svg` element. `mark` tells its ids from those of other drawings on the same page."""
    require("--html")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = max(1, len(one.systems))
    strips = 0.1 + rows * shape.strip
    heights = (strips, strips, shape.panel)
    with mpl.rc_context(STYLE), mpl.rc_context({"svg.hashsalt": mark, "font.size": shape.font}):
        height = sum(heights) + 1.6 + 0.26 * math.ceil(rows / shape.legend)
        figure = Figure(figsize=(shape.width, height), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True, height_ratios=heights)
        _strips(panels[0], one, "share of look-ups right in time", _kept)
        _strips(panels[1], one, "wait of a look-up, p99", _waits)
        _lines(panels[2], one)
        _time(panels[2], one, shape)
        for axes in panels:
            _phases(axes, one, numbered=axes is panels[0])
        panels[0].set_title(panels[0].get_title(loc="left"), pad=1.5 * shape.font)
        _legend(figure, panels[2], shape)
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    return _themed(target.getvalue(), mark, shape)


# --- panels --------------------------------------------------------------------------------------


def _kept(run: SystemRun) -> list[float]:
    """Which band each bin is in, 0 the best; nan where nobody asked."""
    return [_place(one.availability, [-least for least, _ in BANDS], -1) for one in run.timeline]


def _waits(run: SystemRun) -> list[float]:
    return [_place(one.p99, [most for most, _ in WAITS], 1) for one in run.timeline]


def _place(value: float | None, limits: list[float], sign: int) -> float:
    if value is None:
        return math.nan
    return next(n for n, limit in enumerate(limits) if sign * value <= limit)


def _strips(
    axes: Axes, one: ScenarioRun, title: str, bands: Callable[[SystemRun], list[float]]
) -> None:
    """A row for each system, coloured by its band."""
    from matplotlib.colors import ListedColormap

    axes.set_title(title)
    for row, run in enumerate(one.systems):
        if values := bands(run):
            axes.imshow(
                [values], cmap=ListedColormap(BAND_COLOURS), vmin=0, vmax=len(BAND_COLOURS) - 1,
                aspect="auto", interpolation="none", zorder=3,
                extent=(0.0, len(values) * run.bin_seconds, row + 0.42, row - 0.42),
            )  # fmt: skip
    axes.set_yticks(range(len(one.systems)), [run.name for run in one.systems])
    axes.tick_params(axis="both", length=0, colors=INK)
    axes.set_ylim(max(1, len(one.systems)) - 0.5, -0.5)


def _lines(axes: Axes, one: ScenarioRun) -> None:
    """The load upstream, a line for each system."""
    axes.set_title("queries upstream per second")
    top = max((b.upstream_qps for run in one.systems for b in run.timeline), default=0.0)
    # The first, which is dnsguard, is drawn last and thickest.
    for number, run in reversed(list(enumerate(one.systems))):
        axes.plot(
            [b.at + run.bin_seconds / 2 for b in run.timeline],
            [b.upstream_qps for b in run.timeline],
            color=series(number),
            linestyle=DASHES[number // 4 % len(DASHES)],
            linewidth=OTHER_WIDTH if number else FIRST_WIDTH,
            label=run.name,
            zorder=4 if number else 5,
        )
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, max(top, 1.0) * 1.5)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(axis="y", color=LINE, linewidth=0.6)


def _time(axes: Axes, one: ScenarioRun, shape: Shape) -> None:
    """Ticks on the scenario's own clock."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    scenario = one.scenario
    factor = scenario.compression
    whole = max(scenario.length * factor, 1.0)
    wanted = whole / shape.ticks
    step = next((tick for tick in TICKS if tick >= wanted), DAYS * math.ceil(wanted / DAYS))
    axes.xaxis.set_major_locator(MultipleLocator(step / factor))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(at * factor, whole)))
    axes.set_xlim(0, scenario.length)
    axes.set_xlabel("since the scenario's start")


def _phases(axes: Axes, one: ScenarioRun, numbered: bool) -> None:
    """Outages shaded, a line where a phase begins, and its number on top."""
    for number, phase in enumerate(one.scenario.phases, 1):
        if phase.outage:
            axes.axvspan(phase.begin, phase.end, color=SHADE, linewidth=0, zorder=0)
        if phase.begin > 0:
            axes.axvline(phase.begin, color=QUIET, linewidth=0.7, linestyle=(0, (2, 2)), zorder=2)
        if numbered:
            axes.annotate(
                str(number), ((phase.begin + phase.end) / 2, 1.0), (0, 3),
                xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="center", va="bottom", color=QUIET, annotation_clip=False,
            )  # fmt: skip


def _legend(figure: Figure, axes: Axes, shape: Shape) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles[::-1], labels[::-1], loc="outside lower left", ncols=shape.legend,
            frameon=False, handlelength=2.6,
        )  # fmt: skip


# --- into the page -------------------------------------------------------------------------------


def _themed(document: str, mark: str, shape: Shape) -> str:
    """The bare element, its ids its own, its colours the page's variables."""
    svg = document[document.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # Groups have ids that nobody refers to and that occur twice.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{mark}-", svg)
    names = {INK: "ink", QUIET: "quiet", LINE: "line", SHADE: "shade"}
    names |= {series(number): f"s{number}" for number in range(SERIES)}
    for colour, name in names.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)
    opening = re.sub(r' (?:width|height)="[^"]*"', "", svg[: svg.index(">") + 1])
    return (
        opening.replace("<svg", f'<svg class="{shape.name}" role="img"') + svg[svg.index(">") + 1 :]
    )
