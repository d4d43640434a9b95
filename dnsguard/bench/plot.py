"""A picture of a load: the distribution of latencies, and how they and the rate went over time.

Drawn by matplotlib, which is an extra (`dnsguard[bench]`) and imported here, when it is wanted. The
distribution is drawn over the percentile on a scale that gives each further nine the same room, as
the slow end is what matters. The same numbers give the same file.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from dnsguard.bench.conduct import Outcome
from dnsguard.bench.report import title
from dnsguard.errors import DnsguardError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (11.0, 7.5)
BLUE, ORANGE, GREY, RED = "#1f6fb4", "#d9700f", "#7a7a7a", "#c1272d"
NINES_MAX = 6  # 99.9999 %
MISSING = (
    "{0} needs matplotlib, which is not installed: pip install 'dnsguard[bench]', or leave out {0}."
)


class NoPlot(DnsguardError):
    """The picture cannot be drawn."""


def require(option: str = "--plot") -> None:
    """Raise NoPlot where matplotlib is missing, before something is measured for nothing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise NoPlot(MISSING.format(option))


def draw(outcome: Outcome, path: Path) -> None:
    """Write the picture of `outcome` to `path` as SVG. Raises NoPlot and OSError."""
    require()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "dnsguard", "font.size": 9}):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        figure.suptitle(title(outcome.load), fontsize=10)
        grid = figure.add_gridspec(2, 2)
        _percentiles(figure.add_subplot(grid[0, 0]), outcome)
        _histogram(figure.add_subplot(grid[0, 1]), outcome)
        _timeline(figure.add_subplot(grid[1, :]), outcome)
        figure.savefig(path, format="svg", metadata={"Date": None})


def nines(share: float) -> float:
    """0 for none, 1 for 90 %, 2 for 99 %, and so on."""
    return -math.log10(max(1 - share, 10**-NINES_MAX))


def curve(histogram: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
    """Points of the distribution: nines, and the latency in milliseconds up to there."""
    total = sum(count for _, count in histogram)
    passed = accumulate(count for _, count in histogram)
    shares = [0.0, *(count / total for count in passed)]
    latencies = [max(us, 1) / 1000 for us, _ in histogram]  # nothing is no place on a log scale
    # A latency holds from the share before it to its own.
    return [nines(share) for share in shares], [*latencies[:1], *latencies]


def _percentiles(axes: Axes, outcome: Outcome) -> None:
    if outcome.measured.histogram:
        x, y = curve(outcome.measured.histogram)
        axes.step(x, y, where="pre", color=BLUE)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    answered = max(outcome.measured.answered, 1)
    last = max(1, min(NINES_MAX, math.ceil(math.log10(answered))))
    labels = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"][: last + 1]
    axes.set_xticks(range(last + 1), labels)
    axes.set_xlim(0, last)
    axes.set_xlabel("share of the answers")
    axes.set_ylabel("latency up to there, ms")
    axes.grid(alpha=0.3, which="both")


def _histogram(axes: Axes, outcome: Outcome) -> None:
    """Bars of equal width on the logarithmic scale, ten a decade."""
    bins: dict[int, int] = {}
    for us, count in outcome.measured.histogram:
        place = math.floor(10 * math.log10(max(us, 1)))
        bins[place] = bins.get(place, 0) + count
    total = max(sum(bins.values()), 1)
    left = [10 ** (place / 10) / 1000 for place in bins]
    width = [10 ** ((place + 1) / 10) / 1000 - a for place, a in zip(bins, left, strict=True)]
    axes.bar(left, [100 * n / total for n in bins.values()], width, align="edge", color=BLUE)
    if bins:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("% of the answers")
    axes.grid(alpha=0.3, axis="y")


def _timeline(axes: Axes, outcome: Outcome) -> None:
    timeline = outcome.measured.timeline
    at = [one.at + one.seconds / 2 for one in timeline]
    axes.plot(at, [one.answered / one.seconds for one in timeline], color=GREY, label="answers/s")
    lost = [(a, one.lost / one.seconds) for a, one in zip(at, timeline, strict=True) if one.lost]
    if lost:
        axes.plot(*zip(*lost, strict=True), "x", color=RED, label="lost/s")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds since the first query")
    axes.set_ylabel("answers per second")
    axes.grid(alpha=0.3)
    right = axes.twinx()
    for name, color in (("p50_us", BLUE), ("p99_us", ORANGE)):
        values = [getattr(one, name) for one in timeline]
        points = [math.nan if value is None else max(value, 1) / 1000 for value in values]
        right.plot(at, points, color=color, label=name.removesuffix("_us"))
    if outcome.measured.histogram:
        right.set_yscale("log")
        right.yaxis.set_major_formatter("{x:g}")
    right.set_ylabel("latency, ms")
    handles, labels = axes.get_legend_handles_labels()
    more, more_labels = right.get_legend_handles_labels()
    axes.legend(handles + more, labels + more_labels, loc="lower right", ncols=4)
