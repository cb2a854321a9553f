"""Pictures."""

import io
import os
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ihtjax.errors import InputError
from ihtjax.exact.starts import best_of
from ihtjax.files import write_atomically
from ihtjax.single import SingleTrial

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"  # told apart in grey and by colour-blind readers


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


def draw_trial(ran: SingleTrial) -> Figure:
    """Start, end, gradient with the threshold of (8), and the losses along the way."""
    r = ran.result
    figure = Figure(figsize=(9, 7), layout="constrained")
    figure.suptitle("s = {}, data, init and support seeds {}, {}, {}".format(ran.s, *ran.seeds))
    has_curve = len(ran.steps) > 1
    axes = figure.subplots(2 + has_curve, 1)
    at = np.arange(len(ran.names))
    on = r.theta != 0

    axes[0].bar(at - 0.2, r.theta0, 0.4, color="white", edgecolor=GREY, hatch="///", label="start")
    axes[0].bar(at + 0.2, r.theta, 0.4, color=BLUE, label="end")
    axes[0].axhline(0, color="black", linewidth=0.8)
    axes[0].set_ylabel("parameter")

    slope = np.maximum(np.abs(r.gradient), np.finfo(np.float32).tiny)
    threshold = r.certificate.min_on_support / r.step_size
    axes[1].plot(at[on], slope[on], "o", color=BLUE, label="on the support")
    axes[1].plot(at[~on], slope[~on], "s", color=ORANGE, markerfacecolor="white", label="off the support")
    if threshold > 0:
        axes[1].axhline(threshold, color="black", linestyle="--", label="threshold of (8)")
    axes[1].set_yscale("log")
    axes[1].set_ylabel("|gradient|")
    for ax in axes[:2]:
        ax.set_xlim(-0.6, len(at) - 0.4)
        ax.set_xticks(at, ran.names, rotation=90 if len(at) > 20 else 0, fontsize=None if len(at) <= 40 else 6)

    if has_curve:
        axes[2].plot(ran.steps, ran.curve.train_loss, color=BLUE, label="training")
        axes[2].plot(ran.steps, ran.curve.test_loss, color=ORANGE, linestyle="--", label="test")
        axes[2].set_xscale("symlog", linthresh=1)
        axes[2].set_xlim(0, ran.steps[-1])
        axes[2].set_xlabel("step")
        axes[2].set_ylabel("loss (nats)")
    for ax in axes:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw_atlas(found) -> Figure:
    """Every support's infimum with the starts that ended there, and the starts' own losses."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    figure.suptitle(f"s = {found.s}, data seed {found.data_seed}, step size {found.step_size:g}")
    points = found.points
    upper, lower = figure.subplots(2, 1, sharex=True)
    kinds = (
        ("HT-stable minimiser", ~points.full_block & points.ht_stable, "o", BLUE),
        ("minimiser, not HT-stable", ~points.full_block & points.attained & ~points.ht_stable, "x", ORANGE),
        ("infimum not attained", ~points.attained, "^", "black"),
        ("full block: a line of minimisers", points.full_block & points.attained, "s", GREY),
    )
    for label, which, marker, color in kinds:
        # Supports where nobody ends lie on the lowest line.
        at = points[which]
        style = {"color": color, "markerfacecolor": "none", "markersize": 4, "linestyle": "none", "marker": marker}
        upper.plot(at.infimum, np.maximum(at.landings, 0.5), label=f"{label} ({len(at):,})", **style)
    upper.set_yscale("log")
    upper.set_ylim(0.4, None)
    upper.set_yticks([0.5, 1, 10, 100], ["0", "1", "10", "100"])
    upper.minorticks_off()
    upper.set_ylabel("starts that end there")
    lower.ecdf(points.infimum, color=GREY, label=f"all {len(points):,} supports")
    lower.ecdf(found.starts.loss, color=BLUE, label=f"{len(found.starts.loss):,} starts of IHT")
    lower.set_ylabel("share at most this loss")
    lower.set_xlabel("loss (nats)")
    for ax in (upper, lower):
        ax.axvline(points.infimum.min(), color="black", linestyle="--", linewidth=0.8)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw_budget(table, epsilon: float, data_seed: int) -> Figure:
    """P(best of N starts within epsilon of the optimum) against N, a panel for each level, with its interval."""
    columns = min(4, len(table))
    rows = -(-len(table) // columns)
    figure = Figure(figsize=(2.4 * columns + 0.6, 1.9 * rows + 0.9), layout="constrained")
    figure.suptitle(
        f"chance that the best of N starts is within {epsilon:g} nats of the optimum, data seed {data_seed}"
    )
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    N = np.unique(np.rint(np.geomspace(1, 10_000, 200)))
    for ax, row in zip(axes, table.itertuples()):
        ax.fill_between(N, best_of(row.p_low, N), best_of(row.p_high, N), color=BLUE, alpha=0.25, linewidth=0)
        ax.plot(N, best_of(row.p, N), color=BLUE)
        ax.axhline(0.95, color="black", linestyle="--", linewidth=0.8)
        if np.isfinite(row.n95):
            ax.plot(row.n95, best_of(row.p, row.n95), "o", color=ORANGE)
        reach = f"N = {row.n95:,.0f} for 95 %" if np.isfinite(row.n95) else "no start succeeded"
        ax.set_title(f"s = {row.s}: {reach}", fontsize=9)
        ax.set_xscale("log")
        ax.set_ylim(0, 1.03)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(table) :]:
        ax.remove()
    figure.supxlabel("N, starts")
    figure.supylabel("probability")
    return figure
