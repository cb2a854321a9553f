"""Pictures of data, of supports and of network sizes: Figs. 1, 6 and 7 of the paper, and its Table I."""

import math
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from scipy import stats

from ihtjax.paper.draw_common import PALE, Picture, key_below
from ihtjax.paper.run import Run
from ihtjax.paper.subject import NotEnough
from ihtjax.study.plots import BLUE, GREY, ORANGE, label, tidy
from ihtjax.sweeps.single import trial_inputs

MOST_FEATURES = 12
MOST_ROWS = 1000
MOST_PARAMETERS = 60
MOST_TABLE_COLUMNS = 16
CLASS_STYLES = (("o", BLUE), ("s", ORANGE), ("^", "black"), ("D", "#009e73"), ("v", "#cc79a7"), ("P", GREY))


def network_sizes() -> pd.DataFrame:
    """Parameter counts of well-known networks, 1998 to 2020: year, network, parameters, where to label it, source."""
    with resources.files("ihtjax").joinpath("tables/network_sizes.csv").open() as file:
        return pd.read_csv(file)


def growth(sizes: pd.DataFrame) -> tuple[float, float]:
    """Growth per year: between the first and the last network, and of the line fitted to all logarithms."""
    first, last = sizes.iloc[0], sizes.iloc[-1]
    ends = (last.parameters / first.parameters) ** (1 / (last.year - first.year)) - 1
    slope = np.polyfit(sizes.year - first.year, np.log(sizes.parameters), 1)[0]
    return float(ends), float(np.expm1(slope))


def sizes_over_time(run: Run) -> Picture:
    """Fig. 1: network sizes 1998 to 2020 with the fitted growth. Source: `tables/network_sizes.csv`."""
    sizes = network_sizes()
    ends, fitted = growth(sizes)
    years = np.array([sizes.year.iloc[0], sizes.year.iloc[-1]])
    since = sizes.year - years[0]
    slope, intercept = np.polyfit(since, np.log(sizes.parameters), 1)
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    ax = figure.subplots()
    ax.plot(years, sizes.parameters.iloc[0] * (1 + ends) ** (years - years[0]), "--", color=ORANGE)
    ax.plot(years, np.exp(intercept + slope * (years - years[0])), color=GREY)
    ax.plot(sizes.year, sizes.parameters, "o", color=BLUE)
    aside = {"left": ((-8, 0), "right", "center"), "right": ((8, 0), "left", "center")}
    aside |= {"above": ((0, 7), "center", "bottom"), "below": ((0, -8), "center", "top")}
    for row in sizes.itertuples():
        shift, align, base = aside[row.label]
        at = row.year, row.parameters
        ax.annotate(row.network, at, shift, textcoords="offset points", ha=align, va=base, fontsize=9)
    ax.set_xlim(years[0] - 2.5, years[1] + 1)
    ax.set_yscale("log")
    ax.set_xlabel("year")
    ax.set_ylabel("parameters")
    ax.set_xticks(range(years[0], years[1] + 1, 2))
    tidy(ax)
    last = sizes.iloc[-1]
    by_2040 = last.parameters * (1 + ends) ** (2040 - last.year)
    fit_2040 = np.exp(intercept + slope * (2040 - years[0]))
    handles = [
        Line2D([], [], color=ORANGE, ls="--", label=f"first to last network: {100 * ends:.0f} % a year"),
        Line2D([], [], color=GREY, label=f"line fitted to all: {100 * fitted:.0f} % a year"),
    ]
    key_below(figure, handles)
    caption = (
        f"Parameters of {len(sizes)} networks, of which the paper names the first and the last; the choice of the "
        f"others is ours. From {sizes.network.iloc[0]} to {last.network} sizes grew by {100 * ends:.1f} % a year, "
        f"which goes on to {by_2040:.2e} parameters by 2040; the fitted line's {100 * fitted:.1f} % a year goes on to "
        f"{fit_2040:.1e}. Sources: ihtjax/tables/network_sizes.csv."
    )
    return Picture("Fig. 1: network sizes over time", caption, figure)


def features(run: Run) -> Picture:
    """Fig. 6: each feature's values by class, standardised as the trial of the run's single networks sees them."""
    run.check_data()
    inputs = trial_inputs(run.config, 1, **run.seeds)
    if run.K > len(CLASS_STYLES):
        raise NotEnough(f"{run.K} classes can't be told apart in one picture, at most {len(CLASS_STYLES)} can")
    feature_names = run.stored["features"]
    shown = min(MOST_FEATURES, len(feature_names))
    figure = Figure(figsize=(max(6, min(14, 2.2 * shown)), 5), layout="constrained")
    ax = figure.subplots()
    jitter = np.random.default_rng(0)
    width = 0.8 / run.K
    parts = [(inputs["X_train"], inputs["y_train"], True), (inputs["X_test"], inputs["y_test"], False)]
    for X, y, training in parts:
        X, y = X[:MOST_ROWS], y[:MOST_ROWS]
        for k in range(run.K):
            marker, color = CLASS_STYLES[k]
            rows = X[y == k]
            for j in range(shown):
                x = j + (k - (run.K - 1) / 2) * width + jitter.uniform(-0.35, 0.35, len(rows)) * width
                face = color if training else "white"
                ax.plot(x, rows[:, j], marker, color=color, mfc=face, mew=0.8, ms=3.5, alpha=0.8, ls="")
    names = [label(name) for name in feature_names[:shown]]
    aslant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(shown), names, **(aslant if shown > 6 or max(map(len, names)) > 16 else {}))
    ax.set_xlim(-0.5, shown - 0.5)
    standardised = run.config.standardize != "none"
    ax.set_ylabel("standardised value (standard deviations)" if standardised else "value, as in the data")
    ax.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    tidy(ax)
    handles = [
        Line2D([], [], marker=marker, color=color, ls="", label=label(name))
        for (marker, color), name in zip(CLASS_STYLES, run.subject.classes)
    ]
    handles.append(Line2D([], [], marker="o", color="black", mfc="white", ls="", label="test row (hollow)"))
    key_below(figure, handles)
    by = {
        "train": "with the training rows' mean and deviation",
        "all": "with all rows' mean and deviation",
        "none": "not at all",
    }
    limits = f", its first {shown} of {len(feature_names)} features" * (shown < len(feature_names))
    limits += f", at most {MOST_ROWS:,} rows of each part" * (len(inputs["y_train"]) > MOST_ROWS)
    caption = (
        f"The features of {run.data}{limits}, standardised {by[run.config.standardize]}, for the split with data seed "
        f"{run.seeds['data_seed']}: {len(inputs['y_train']):,} training and {len(inputs['y_test']):,} test rows. "
        "Points are spread sideways at random within their class."
    )
    return Picture("Fig. 6: the standardised features", caption, figure)


def supports(run: Run) -> Picture:
    """Fig. 7, from data: which initial supports lead to which final ones, at s = 7 or the run's middle level."""
    s = run.middle_level
    if s is None:
        raise NotEnough("the run has no sparsity level below n, and only there supports can differ")
    if run.n > MOST_PARAMETERS:
        raise NotEnough(f"{run.n} parameters can't be told apart in one picture, at most {MOST_PARAMETERS} can")
    start, end = run.supports(s, "theta0"), run.supports(s, "theta")
    names = [label(name) for name in run.names]
    trials = len(start)
    if not trials:
        raise NotEnough(f"no trial at s = {s} ended without diverging")
    figure = Figure(figsize=(12, 5.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))

    kept = (start & end).sum(1)
    at = np.arange(s + 1)
    left.bar(at, np.bincount(kept, minlength=s + 1) / trials * 100, 0.7, color=PALE, edgecolor=BLUE)
    chance = stats.hypergeom(run.n, s, s).pmf(at) * 100
    left.plot(at, chance, "D", color=ORANGE, markeredgecolor="black", ms=5)
    left.set_xlabel(f"how many of the {s} initial parameters are still nonzero")
    left.set_ylabel("share of trials (%)")
    left.set_xticks(at[:: -(-len(at) // 16)])
    tidy(left)

    with np.errstate(invalid="ignore"):
        led = (start.T.astype(float) @ end) / start.sum(0)[:, None] * 100
    image = right.imshow(led, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    bar = figure.colorbar(image, ax=right)
    bar.set_label("share finally in the support (%)")
    tick_names = {"fontsize": None if run.n <= 20 else 6}
    right.set_xticks(range(run.n), names, rotation=90, **tick_names)
    right.set_yticks(range(run.n), names, **tick_names)
    right.set_xlabel("finally in the support")
    right.set_ylabel("initially in the support")
    if run.n <= 20:
        for i in range(run.n):
            for j in range(run.n):
                if np.isfinite(led[i, j]):
                    color = "black" if led[i, j] > 55 else "white"
                    right.text(j, i, f"{led[i, j]:.0f}", ha="center", va="center", fontsize=7, color=color)
    handles = [
        Line2D([], [], marker="s", color=BLUE, mfc=PALE, ms=9, ls="", label="trials"),
        Line2D([], [], marker="D", color=ORANGE, mec="black", ms=5, ls="", label="if start and end had no relation"),
    ]
    key_below(figure, handles)
    caption = (
        f"From initial to final support at s = {s}, {trials:,} trials on {run.data}: {_distinct(start):,} different "
        f"initial supports lead to {_distinct(end):,} final ones, of {math.comb(run.n, s):,} possible; "
        f"{100 * (kept == s).mean():.1f} % of the trials end on the support that they began with. Right: of the trials "
        "with the row's parameter in the initial support, the share (%) with the column's in the final one."
        + " White: no such trial."
        * bool(np.isnan(led).any())
    )
    return Picture("Fig. 7: initial and final supports", caption, figure)


def support_counts(run: Run) -> Picture:
    """Table I: how many supports there are for each level, and how many of them hold different networks."""
    levels = list(range(1, run.n))
    if run.n - 1 > MOST_TABLE_COLUMNS:
        levels = [s for s in run.levels if s < run.n][:MOST_TABLE_COLUMNS]
        if not levels:
            raise NotEnough("the run has no sparsity level below n")
    rows: dict[str, list[int | None]] = {"supports, $n$ choose $s$": [math.comb(run.n, s) for s in levels]}
    if run.subject.is_softmax:
        distinct = different_networks(run.n, run.K)
        rows["different networks they hold"] = [distinct[s] for s in levels]
    there = [] if run.subject.lacks("theta") else [s for s in levels if s in run.levels]
    reached = {s: _distinct(run.supports(s, "theta")) for s in there}
    if reached:
        rows["supports where trials ended"] = [reached.get(s) for s in levels]

    def text(count):
        return (
            "-"
            if count is None
            else f"{count:,}"
            if count < 1e5
            else f"{count:.1e}".replace("e+0", "e").replace("e+", "e")
        )

    cells = [[text(count) for count in counts] for counts in rows.values()]
    figure = Figure(figsize=(12.5, 0.4 * (len(rows) + 1) + 0.2))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.axis("off")
    names = [["sparsity level $s$", *map(str, levels)], *([name, *row] for name, row in zip(rows, cells))]
    first = 0.2
    widths = [first] + [(0.99 - first) / len(levels)] * len(levels)
    bbox = Bbox.from_bounds(0.005, 0.02, 0.99, 0.96)
    table = ax.table(names, colWidths=widths, bbox=bbox, cellLoc="right", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(10)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor(GREY)
        if row == 0:
            cell.set_text_props(weight="bold")
        if column == 0:
            cell.set_text_props(ha="left")
            cell.PAD = 0.03
    caption = (
        f"Supports with s of the n = {run.n} parameters."
        + (
            " Adding one number to a feature's weights of all classes, or to all biases, changes no probability, so "
            "many supports hold the same networks; the second row counts these once."
        )
        * run.subject.is_softmax
        + " The last row counts the different supports on which this run's trials ended." * bool(reached)
        + " Only levels of this run are shown." * (len(levels) < run.n - 1)
    )
    return Picture("Table I: numbers of supports", caption, figure)


def different_networks(n: int, classes: int) -> list[int]:
    """How many supports of each size 0 .. n differ in the networks that they hold; see `symmetry.canonical_support`.

    In each of the n / K blocks, sets of up to K - 2 entries all differ, and sets of K - 1 or K are one.

    Example:
      >>> different_networks(15, 3)[:4]  # at most K - 1 of a block: 15 of size 1, 90 + 5 of size 2
      [1, 15, 95, 335]
    """
    K, blocks = classes, n // classes
    small = [math.comb(K, k) for k in range(K - 1)]
    counts = [0] * (n + 1)
    power = [1]
    for few in range(blocks + 1):  # blocks with at most K - 2 entries; the others have K - 1 or K
        full = blocks - few
        for size, ways in enumerate(power):
            for s in range(size + full * (K - 1), size + full * K + 1):
                counts[s] += ways * math.comb(blocks, few)
        power = [
            sum(power[i] * small[k - i] for i in range(len(power)) if 0 <= k - i < len(small))
            for k in range(len(power) + len(small) - 1)
        ]
    return counts


def _distinct(masks: np.ndarray) -> int:
    return len(np.unique(np.packbits(masks, axis=1), axis=0))
