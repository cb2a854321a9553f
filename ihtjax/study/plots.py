"""Pictures."""

import functools
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D

from ihtjax.errors import InputError
from ihtjax.study.starts import best_of
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.single import SingleTrial
from ihtjax.sweeps.store.files import write_atomically
from ihtjax.sweeps.words import data_name, solver_name, unit
from ihtjax.text import printable

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"  # told apart in grey and by colour-blind readers
MOST_CHARACTERS = 24  # of a name in a picture
MOST_TICKS = 60  # names that an axis has room for
SYMBOLS = {"s": "$s$", "n": "$n$", "N": "$N$", "L_2s": "$L_{2s}$", "γ": r"$\gamma$"}
THRESHOLD = r"$\min\,|\theta_S| \,/\, \gamma$"


@functools.cache
def _glyphs() -> frozenset[int]:
    """Characters that Matplotlib's font can draw."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def drawable(text: str) -> str:
    """The text with what can't be printed, or has no glyph in Matplotlib's font, as its escape."""
    return "".join(c if ord(c) in _glyphs() else ascii(c)[1:-1] for c in printable(text))


def to_the_letter(text: str) -> str:
    """A text as Matplotlib draws it to the letter: a dollar sign alone would begin a formula."""
    return text.replace("$", r"\$")


def label(name: str) -> str:
    r"""A name from the data as Matplotlib draws it to the letter; a long one loses its middle.

    Example:
      >>> label("cost in US$"), label("a name that goes on and on and on")
      ('cost in US\\$', 'a name that…nd on and on')
    """
    name, half = drawable(name), MOST_CHARACTERS // 2
    return to_the_letter(name if len(name) <= MOST_CHARACTERS else f"{name[: half - 1]}…{name[-half:]}")


def typeset(text: str) -> str:
    """A sentence as Matplotlib draws it: to the letter, but for the paper's symbols, set as in formulas."""
    words = rf"(?<![\w'])({'|'.join(SYMBOLS)})(?!\w)"
    return re.sub(words, lambda found: SYMBOLS[found[1]], to_the_letter(drawable(text)))


def name_axis(ax: Axes, names: Sequence[str]) -> None:
    """Name the parameters below, as many of them as there is room for."""
    every = -(-len(names) // MOST_TICKS)
    ax.set_xlim(-0.6, len(names) - 0.4)
    upright: dict[str, Any] = {"rotation": 90, "fontsize": 10 if len(names) <= 40 else 7} if len(names) > 20 else {}
    ax.set_xticks(range(0, len(names), every), names[::every], **upright)


def tidy(*axes: Axes) -> None:
    """No frame where there is no axis."""
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)


def check(path: Path) -> None:
    """Raise `InputError` unless a picture can be written to this path."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"plot: got {str(path)!r}, expected a file name that ends in .png, .svg or .pdf")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"plot: cannot write {path}; name a file in a folder that is there")


def save(figure: Figure, path: Path, **options) -> None:
    """Write a picture in the format of its suffix, whole or not at all; text stays text in SVG.

    ``options`` go to `matplotlib.figure.Figure.savefig`.
    """
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(picture, format=path.suffix[1:].lower(), dpi=150, **options)
    write_atomically(path, picture.getvalue())


def head(figure: Figure, what: str, of: str) -> None:
    """Write above a picture what is seen, and of what."""
    figure.suptitle(f"{what}\n{of}", fontsize=11 if figure.get_figwidth() > 7 else 9)


def draw_trial(ran: SingleTrial) -> Figure:
    """Start, end, gradient with the threshold of (8), and the losses along the way."""
    r = ran.result
    figure = Figure(figsize=(9, 7.4), layout="constrained")
    has_curve = len(ran.steps) > 1
    head(
        figure,
        f"One trial of {solver_name(ran.config)} on {label(data_name(ran.config))}, $s$ = {ran.s}: "
        "parameters, gradient at the end" + ", losses along the way" * has_curve,
        r"data, init and support seeds {}, {}, {}; step size $\gamma$ = {:.4g}; {:,} steps".format(
            *ran.seeds, r.step_size, r.steps_run
        ),
    )
    axes = figure.subplots(2 + has_curve, 1)
    at = np.arange(len(ran.names))
    on = r.theta != 0

    # Edges keep a bar in sight that is thinner than a pixel.
    start = r.theta0 != 0
    axes[0].bar(at[start] - 0.2, r.theta0[start], 0.4, color="white", edgecolor=GREY, hatch="///", label="start")
    axes[0].bar(at[on] + 0.2, r.theta[on], 0.4, color=BLUE, edgecolor=BLUE, linewidth=0.7, label="end")
    axes[0].axhline(0, color="black", linewidth=0.8)
    axes[0].set_ylabel(r"parameter $\theta$")

    slope = np.abs(np.asarray(r.gradient, np.float64))
    floor = zero_line(slope)
    threshold = r.certificate.min_on_support / r.step_size
    style = {"linestyle": "", "markersize": 6 if len(at) <= MOST_TICKS else 3, "markerfacecolor": "white"}
    if (~on).any():
        off = np.maximum(slope[~on], floor)
        axes[1].plot(at[~on], off, marker="s", color=ORANGE, label="off the support", **style)
    style |= {"markerfacecolor": BLUE}
    axes[1].plot(at[on], np.maximum(slope[on], floor), marker="o", color=BLUE, label="on the support", **style)
    if (slope == 0).any():
        axes[1].axhline(floor, color=GREY, linewidth=0.8, zorder=0, label="zero")
    if threshold > 0 and ran.config.per == "network":  # else each layer has its own
        axes[1].axhline(threshold, color="black", linestyle="--", label="threshold of (8),\n" + THRESHOLD)
    axes[1].set_yscale("log")
    axes[1].set_ylabel(f"|gradient|{unit(ran.config, ' ({} per unit)')}")
    for ax in axes[:2]:
        name_axis(ax, ran.names)

    if has_curve:
        axes[2].plot(ran.steps, ran.curve.train_loss, color=BLUE, label="training")
        if np.isfinite(ran.curve.test_loss).any():
            axes[2].plot(ran.steps, ran.curve.test_loss, color=ORANGE, linestyle="--", label="test")
        step_axis(axes[2], ran.steps[-1])
        axes[2].set_xlabel("step")
        axes[2].set_ylabel(f"loss{unit(ran.config, ' ({})')}")
        if not min(ran.curve.train_loss.min(), ran.curve.test_loss.min()) < 0:
            axes[2].set_ylim(0, None)
    for ax in axes:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    tidy(*axes)
    return figure


def draw_atlas(found, config: SweepConfig) -> Figure:
    """Every support's infimum with the starts that ended there, and the starts' own losses."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    points, starts = found.points, len(found.starts.loss)
    head(
        figure,
        f"The infima of all {len(points):,} supports with $s$ = {found.s} parameters on {label(data_name(config))}, "
        f"and where {starts:,} starts of {solver_name(config)} end",
        rf"data seed {found.data_seed}, step size $\gamma$ = {found.step_size:g}, {config.steps:,} steps",
    )
    upper, lower = figure.subplots(2, 1, sharex=True)
    decades = int(np.ceil(np.log10(max(points.landings.max(), 2))))
    # Supports where nobody ends lie on the lowest line, so far below 1 that their labels don't touch.
    nobody = 10 ** -max(0.3, 0.1 * decades)
    kinds = (
        ("HT-stable minimiser", ~points.full_block & points.ht_stable, "o", BLUE),
        ("minimiser, not HT-stable", ~points.full_block & points.attained & ~points.ht_stable, "x", ORANGE),
        ("infimum not attained", ~points.attained, "^", "black"),
        ("full block: a line of minimisers", points.full_block & points.attained, "s", GREY),
    )
    for kind, which, marker, color in kinds:
        if not (which.any() or found.is_softmax):
            continue
        at = points[which]
        style = {"color": color, "markerfacecolor": "none", "markersize": 4, "linestyle": "none", "marker": marker}
        upper.plot(at.infimum, np.maximum(at.landings, nobody), label=f"{kind} ({len(at):,})", **style)
    tens = 10 ** np.arange(1 + decades)
    upper.set_yscale("log")
    upper.set_yticks([nobody, *tens], ["0", *(f"{count:,}" for count in tens)])
    upper.set_ylim(0.8 * nobody, None)
    upper.minorticks_off()
    upper.set_ylabel("starts that end on a support")
    lower.ecdf(points.infimum, color=GREY, label=f"infima of all {len(points):,} supports")
    lower.ecdf(found.starts.loss, color=BLUE, label=f"losses of {starts:,} starts of {solver_name(config)}")
    lower.set_ylabel("share at most this loss")
    lower.set_xlabel(f"loss{f' ({found.unit})' if found.unit else ''}")
    for ax in (upper, lower):
        ax.axvline(points.infimum.min(), color="black", linestyle="--", linewidth=0.8, label="least infimum")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    tidy(upper, lower)
    return figure


def draw_budget(table, epsilon: float, data_seed: int, config: SweepConfig) -> Figure:
    """P(best of N starts within epsilon of the optimum) against N, a panel for each level, with its interval."""
    columns = min(4, len(table))
    rows = -(-len(table) // columns)
    figure = Figure(figsize=(max(2.4 * columns + 0.6, 6.5), 1.9 * rows + 1.2), layout="constrained")
    levels = ", ".join(map(str, table.s)) if len(table) <= 8 else f"{table.s.min()} to {table.s.max()}"
    head(
        figure,
        f"Chance that the best of $N$ starts of {solver_name(config)} ends within {epsilon:g}{unit(config)} "
        "of the optimum",
        f"{label(data_name(config))}, $s$ = {levels}, data seed {data_seed}, {table.starts.iloc[0]:,} starts a level",
    )
    axes = panels(figure, len(table), columns, "$N$, starts", "chance (%)")
    ends = table[["n95_low", "n95", "n95_high"]].to_numpy(float)
    most = 10 ** np.ceil(np.log10(max(10, *ends[np.isfinite(ends)])))
    N = np.unique(np.rint(np.geomspace(1, most, 400)))
    decades = round(np.log10(most))
    powers = range(0, decades + 1, -(-decades // 4))
    for ax, row in zip(axes, table.itertuples()):
        band = ax.fill_between(
            N, 100 * best_of(row.p_low, N), 100 * best_of(row.p_high, N), color=BLUE, alpha=0.25, linewidth=0
        )
        (line,) = ax.plot(N, 100 * best_of(row.p, N), color=BLUE)
        goal = ax.axhline(95, color="black", linestyle="--", linewidth=0.8)
        if np.isfinite(row.n95):
            ax.plot(row.n95, 100 * best_of(row.p, row.n95), "o", color=ORANGE)
        reach = f"$N$ = {row.n95:,.0f} for 95 %" if np.isfinite(row.n95) else "no start succeeded"
        ax.set_title(f"$s$ = {row.s}: {reach}", fontsize=9)
        ax.set_xscale("log")
        # Panels stand close, and a long number would reach into the next one's.
        ax.set_xticks([10.0**k for k in powers], [f"{10**k:,}" if k <= 3 else f"$10^{k}$" for k in powers])
        ax.set_ylim(0, 103)
    tidy(*axes)
    least = Line2D([], [], color=ORANGE, marker="o", linestyle="")
    names = ["from the share of starts that succeeded", "95 % interval", "95 %", "least $N$ that reaches 95 %"]
    figure.legend(
        [line, band, goal, least],
        names,
        loc="outside lower center",
        ncols=4 if columns > 2 else 2,
        frameon=False,
        fontsize=9,
    )
    return figure


def panels(figure: Figure, count: int, columns: int, xlabel: str, ylabel: str) -> list[Axes]:
    """A grid of panels on common axes, named at its left and lower edges."""
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in grid[count:]:
        ax.remove()
    for ax in grid[max(0, count - columns) : count]:  # the lowest of each column; below some there is no panel
        ax.tick_params(labelbottom=True)
        ax.set_xlabel(xlabel)
    for ax in grid[:count:columns]:
        ax.set_ylabel(ylabel)
    return list(grid[:count])


def zero_line(sizes: np.ndarray) -> float:
    """Where zeros lie on a logarithmic axis: below the least of the other sizes."""
    return float(10.0 ** np.floor(np.log10(sizes[sizes > 0].min(initial=1e-3))) / 2)


def step_axis(ax: Axes, last: int) -> None:
    """Steps from 0 to the last, by their logarithm from step 1 on."""
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(0, last)
