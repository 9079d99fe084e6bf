"""Plots: series to inline SVG with matplotlib, which is optional; colours follow the page's light and dark theme."""

import io
import itertools
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stepcredit.report.views import PlotView, SeriesView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#e69f00", "#7a5195")
"""Okabe and Ito's colours for the colour-blind, yellow darkened; series take them in order."""

_DASHES = ("-", "--", "-.", ":")
_INK = "#123456"  # replaced by the page's own text colour
_FAINT = "#654321"  # replaced by the page's own rule colour
_SIZE = (5.4, 3.3)


def can_plot() -> bool:
    """True if matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot_svg(plot: PlotView, *, name: str) -> str:
    """One plot as an `<svg>` element, without XML head, fonts or metadata.

    Args:
        plot: what to draw.
        name: a word for the ids inside the SVG, unique on the page.

    Returns:
        SVG text; equal plots give equal text.
    """
    import matplotlib as mpl  # noqa: PLC0415 -- optional, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 9.5,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "text.color": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "path.simplify": True,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        for series, (colour, dash) in zip(plot.series, _styles(), strict=False):
            _draw(axes, series, colour=colour, dash=dash)
        _dress(axes, plot)
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _clean(target.getvalue(), name=name, title=plot.title)


def _styles() -> "itertools.chain[tuple[str, str]]":
    pairs = ((colour, dash) for dash in _DASHES for colour in PALETTE)
    return itertools.chain(pairs, itertools.repeat((_INK, ":")))


def _draw(axes: "Axes", series: SeriesView, *, colour: str, dash: str) -> None:
    marker = "o" if len(series.x) <= 12 else ""
    axes.plot(series.x, series.y, color=colour, linestyle=dash, linewidth=1.8, marker=marker, ms=3.5, label=series.name)
    if series.low and series.high:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.14, linewidth=0)


def _dress(axes: "Axes", plot: PlotView) -> None:
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=_FAINT, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.02)
    axes.xaxis.set_major_formatter("{x:,g}")
    if plot.y_range is not None:
        axes.set_ylim(*plot.y_range)
    if len(plot.series) > 1:
        axes.legend(frameon=False, fontsize=8.5, loc="best", handlelength=2.2)


def _clean(svg: str, *, name: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\b(id=\"|xlink:href=\"#|url\(#)", rf"\g<1>{name}-", svg)
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--rule-strong)")
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', svg, count=1)
