"""What the drawings share: boxes by level, axes and keys."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter

from ihtjax.paper.run import Level
from ihtjax.study.plots import BLUE, GREY, ORANGE

PALE = "#cfe3f1"
QUANTILES = {"whislo": 0.05, "q1": 0.25, "med": 0.5, "q3": 0.75, "whishi": 0.95}


class Picture(NamedTuple):
    """A drawing without its name."""

    title: str
    caption: str
    figure: Figure


class Decimals(LogFormatter):
    """Labels of a logarithmic axis as 0.02, whichever of its ticks have one; Matplotlib would mix in 2 x 10^-2."""

    def __call__(self, x, pos=None):
        return f"{x:g}" if super().__call__(x, pos) else ""


def logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic, with decimals for labels."""
    ax.set_yscale("log", nonpositive="mask")
    ax.yaxis.set_major_formatter(Decimals())
    ax.yaxis.set_minor_formatter(Decimals())


def trials_text(levels: list[Level]) -> str:
    """How many trials a picture shows, and how many it leaves out."""
    counts = sorted({len(level.values) for level in levels})
    each = "each" if len(levels) > 1 else "in all"
    text = f"{counts[0]:,} trials {each}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} trials {each}"
    diverged = sum(level.diverged for level in levels)
    return text + (f", {diverged:,} diverged trials left out" if diverged else "")


def boxes(ax: Axes, levels: list[Level], width: float = 0.6) -> list[Artist]:
    """Draw medians, quartiles and the middle 90 % of each level; returns legend handles.

    The dense baseline's box is hatched and stands apart. Lines carry their statistic as ``gid``.
    """
    at = positions(levels)
    for x, level in zip(at, levels):
        dense = level.label == "dense"
        stats = {name: np.quantile(level.values, q) for name, q in QUANTILES.items()}
        drawn = ax.bxp(
            [stats | {"mean": level.values.mean()}],
            positions=[x],
            widths=width,
            patch_artist=True,
            showfliers=False,
            showmeans=True,
            boxprops={"facecolor": "white", "hatch": "////", "edgecolor": GREY}
            if dense
            else {"facecolor": PALE, "edgecolor": BLUE},
            medianprops={"color": "black", "linewidth": 2},
            meanprops={"marker": "D", "markersize": 4, "markerfacecolor": ORANGE, "markeredgecolor": "black"},
            whiskerprops={"color": "black", "linewidth": 0.9},
            capprops={"color": "black", "linewidth": 0.9},
            manage_ticks=False,
        )
        for kind, artists in drawn.items():
            for artist in artists:
                artist.set_gid(f"{kind}-{level.label}")
    level_axis(ax, levels)
    handles: list[Artist] = [
        Line2D([], [], color="black", linewidth=2, label="median"),
        Line2D([], [], marker="D", color=ORANGE, markeredgecolor="black", markersize=4, linestyle="", label="mean"),
    ]
    if any(level.label != "dense" for level in levels):
        handles.append(Patch(facecolor=PALE, edgecolor=BLUE, label="quartiles, IHT"))
    if any(level.label == "dense" for level in levels):
        handles.append(Patch(facecolor="white", edgecolor=GREY, hatch="////", label="quartiles, dense"))
    return [*handles, Line2D([], [], color="black", linewidth=0.9, label="5 % to 95 %")]


def positions(levels: list[Level]) -> np.ndarray:
    """Where levels stand: evenly, the dense baseline half a place further."""
    return np.arange(len(levels)) + np.array([0.5 * (level.label == "dense") for level in levels])


def level_axis(ax: Axes, levels: list[Level]) -> None:
    """Name the levels below, as many of them as there is room for."""
    at, labels = positions(levels), [level.label for level in levels]
    every = -(-len(levels) // 24)
    shown = [i for i in range(0, len(levels), every) if i <= len(levels) - 1 - every]
    if not shown or every == 1 or labels[-1] == "dense":
        shown.append(len(levels) - 1)
    ax.set_xticks(at[shown], [labels[i] for i in shown])
    middle, half = (at[0] + at[-1]) / 2, (at[-1] - at[0]) / 2 + 0.6
    ax.set_xlim(middle - max(half, 3), middle + max(half, 3))  # a single box doesn't fill the panel
    ax.set_xlabel("sparsity level $s$ (nonzero parameters)")


def key_below(figure: Figure, handles: list[Any], columns: int = 6) -> None:
    """A legend below all panels, never over data, in as many columns as there is room for.

    A handle that is a tuple shows its parts side by side.
    """
    for ncols in range(min(columns, len(handles)), 0, -1):
        legend = figure.legend(
            handles=handles,
            labels=[(handle[0] if isinstance(handle, tuple) else handle).get_label() for handle in handles],
            handler_map={tuple: HandlerTuple(ndivide=None)},
            loc="outside lower center",
            ncols=ncols,
            frameon=False,
        )
        if legend.get_window_extent().width <= figure.bbox.width or ncols == 1:
            return
        legend.remove()


def freeze(figure: Figure) -> None:
    """Lay out a figure and keep it so: a legend outside the panels would else follow the edge of a larger page."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for legend in figure.legends:
        box = legend.get_window_extent().transformed(figure.transFigure.inverted())
        legend.borderaxespad = 0
        legend.set_bbox_to_anchor(box, transform=figure.transFigure)
