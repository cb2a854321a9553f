"""Pictures against the sparsity level: the paper's Figs. 9 to 13, and what certificates add."""

import dataclasses
import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ihtjax.paper.draw_common import (
    Level,
    Picture,
    boxes,
    key_below,
    level_axis,
    logarithmic,
    positions,
    trials_text,
)
from ihtjax.paper.draw_data import different_networks
from ihtjax.paper.run import LANES, Run
from ihtjax.paper.subject import NotEnough
from ihtjax.study.plots import BLUE, ORANGE, draw_budget, tidy
from ihtjax.study.starts import restart_budget
from ihtjax.sweeps.config import CERTIFIED
from ihtjax.sweeps.words import METRICS, unit

CERTAIN, OPEN = "#dadada", "#fbe6d8"
DOTS: dict[str, Any] = {"marker": ".", "markersize": 4, "linestyle": ""}
NO_GAP = 1e-9  # the oracle's accuracy
NEAR = 0.01
MOST_SUPPORTS = 2_000  # to search in seconds
BUDGET_LEVELS, BUDGET_STARTS = (3, 5, 7, 10), 100


def step_size(run: Run) -> Picture:
    """Fig. 9: gamma = 1 / L-hat_2s for each level."""
    symbols: dict[float | str | None, str] = {None: r"$\gamma = 1/\hat{L}_{2s}$", CERTIFIED: r"$\gamma$, certified"}
    symbol = symbols.get(run.config.step_size, r"$\gamma$, given")
    label = f"step size {symbol}{unit(run.config, ' (1/{})')}"
    levels = run.by_level("step_size")
    return _quantity(run, levels, "Fig. 9: step size", label, "Step size")


def train_loss(run: Run) -> Picture:
    """Fig. 10: training loss after the last step, with the paper's 0.05."""
    return _loss(run, "train_loss", "Fig. 10: training loss", f"training loss{unit(run.config, ' ({})')}")


def test_loss(run: Run) -> Picture:
    """Fig. 11: test loss after the last step."""
    return _loss(run, "test_loss", "Fig. 11: test loss", f"test loss{unit(run.config, ' ({})')}")


def train_metric(run: Run) -> Picture:
    """Fig. 12: what the run measures on training rows; of classes the share that is classified rightly."""
    return _metric(run, "train", "Fig. 12: training")


def test_metric(run: Run) -> Picture:
    """Fig. 13: what the run measures on test rows."""
    return _metric(run, "test", "Fig. 13: test")


def gap(run: Run) -> Picture:
    """Loss minus the global optimum for each level, and the shares of trials that are near it."""
    _needs_certificates(run)
    try:
        levels = run.by_level("gap", "certificates")
    except NotEnough:
        raise NotEnough("no certificate has a gap: the supports were not enumerated, or all trials diverged") from None
    best = {level.label: 100 * level.values.mean() for level in run.by_level("best_support", "certificates")}
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    shown = [level._replace(values=np.maximum(level.values, NO_GAP)) for level in levels]
    handles = boxes(upper, shown)
    upper.set_yscale("log")
    upper.set_ylim(min(np.quantile(level.values, 0.05) for level in shown) / 2, None)
    upper.set_ylabel(f"true optimality gap{unit(run.config, ' ({})')}")
    at = positions(levels)
    near = [100 * (level.values <= NEAR).mean() for level in levels]
    lower.plot(at, near, "o-", color=BLUE, label=f"gap at most {NEAR:g}{unit(run.config)}")
    lower.plot(at, [best[level.label] for level in levels], "s--", color=ORANGE, mfc="white", label="a best support")
    lower.set_ylim(-3, 103)
    lower.set_ylabel("share of trials (%)")
    level_axis(lower, levels)
    upper.set_xlabel("")
    tidy(upper, lower)
    key_below(figure, handles + lower.get_legend_handles_labels()[0], columns=4)
    caption = (
        f"Training loss after the last step minus the least loss that any network with at most s nonzero parameters "
        f"has or approaches on the same split; {trials_text(levels)}, all that have certificates. Gaps below "
        f"1e-9{unit(run.config)} are drawn at 1e-9, the oracle's accuracy. Below: the shares of trials that end near "
        "the optimum and that end on a best support. Beyond the paper; from ihtjax oracle."
    )
    return Picture("True optimality gap per level", caption, figure)


def step_range(run: Run) -> Picture:
    """Step size against what the bounds of L_2s allow and forbid, for each level."""
    _needs_certificates(run)
    used = run.by_level("step_size")
    ends = {}
    for name in ("rss_upper", "rss_lower"):
        ends[name] = {level.label: 1 / level.values for level in run.by_level(name, "certificates")}
    levels = [level for level in used if level.label in ends["rss_upper"]]
    figure = Figure(figsize=(9, 5), layout="constrained")
    ax = figure.subplots()
    handles = boxes(ax, levels, width=0.4)
    top = max(np.quantile(level.values, 0.95) for level in levels)
    for x, level in zip(positions(levels), levels):
        safe, unsafe = np.median(ends["rss_upper"][level.label]), np.median(ends["rss_lower"][level.label])
        top = max(top, unsafe)
        across = [x - 0.42, x + 0.42]
        ax.fill_between(across, 0, safe, color=CERTAIN, linewidth=0, zorder=0)
        ax.fill_between(across, safe, unsafe, color=OPEN, linewidth=0, zorder=0)
        ax.plot(across, [unsafe, unsafe], color=ORANGE, linestyle=(0, (3, 1)), linewidth=1.8, zorder=4)
    ax.set_ylim(0, 1.05 * top)
    ax.set_ylabel(rf"step size $\gamma${unit(run.config, ' (1/{})')}")
    handles += [
        Patch(color=CERTAIN, label=r"certified: $\gamma \leq 1/L_{2s}$"),
        Patch(color=OPEN, label="open: could be either"),
        Line2D([], [], color=ORANGE, linestyle=(0, (3, 1)), linewidth=1.8, label=r"refuted above: $\gamma > 1/L_{2s}$"),
    ]
    tidy(ax)
    key_below(figure, handles, columns=4)
    certified = trials_text(run.by_level("rss_upper", "certificates"))
    caption = (
        f"The step sizes that trials took, {trials_text(levels)}, against the range of 1 / L_2s of (4), from "
        f"{certified} that have certificates. Grey reaches to the median over their splits of 1 / (upper bound of "
        "L_2s): such steps are valid for certain. Above the dashed line, the median of 1 / (lower bound), they are "
        "certain not to be; between the two, the bounds decide nothing. Beyond the paper; from ihtjax oracle."
    )
    return Picture("Step size against its certified range", caption, figure)


def restarts(run: Run) -> Picture:
    """How many starts of IHT come near the global optimum of the split of `Run.seeds`, at a few levels."""
    if run.subject.is_softmax:
        supports = different_networks(run.n, run.K)
    else:
        supports = [math.comb(run.n, size) for size in range(run.n + 1)]
    levels = [s for s in run.levels if s < run.n and max(supports[: s + 1]) <= MOST_SUPPORTS]
    if not levels:
        raise NotEnough(f"no level s < n of the run has few enough supports to search, at most {MOST_SUPPORTS:,}")
    chosen = [s for s in levels if s in BUDGET_LEVELS]
    if len(chosen) < min(len(BUDGET_LEVELS), len(levels)):
        chosen = sorted({levels[round(i)] for i in np.linspace(0, len(levels) - 1, len(BUDGET_LEVELS))})
    run.check_data()
    config = dataclasses.replace(run.bare, levels=tuple(chosen))
    table = restart_budget(config, run.seeds["data_seed"], BUDGET_STARTS, NEAR, batch=LANES)
    figure = draw_budget(table, NEAR, run.seeds["data_seed"], config)
    figure.suptitle("")
    caption = (
        f"Chance that the best of N random starts of IHT ends within {NEAR:g}{unit(run.config)} of the global optimum, "
        f"on the one split with data seed {run.seeds['data_seed']}; from {BUDGET_STARTS} starts per level with the "
        "run's configuration. Bands: exact 95 % intervals. Dashed: 95 %. Other splits differ; ihtjax restarts takes "
        "more levels, starts and splits. Beyond the paper."
    )
    return Picture("Restart budget", caption, figure)


def _needs_certificates(run: Run) -> None:
    if not run.has_certificates:
        raise NotEnough(f"the run has no certificates; compute them with: ihtjax oracle {run.path}")


def _loss(run: Run, column: str, title: str, label: str) -> Picture:
    levels = run.by_level(column)
    picture = _quantity(run, levels, title, label, label.split(" (")[0].capitalize())
    ax = picture.figure.axes[0]
    top = max(np.quantile(level.values, 0.95) for level in levels)
    low = min(np.quantile(level.values, 0.05) for level in levels)
    if low > 0 and top / low > 20:
        logarithmic(ax)
    elif low >= 0:
        ax.set_ylim(0, None)
    stop = run.stop
    if column == "train_loss" and stop is not None:
        ax.axhline(stop, color=ORANGE, linestyle="--", linewidth=1, zorder=0)
        ax.annotate(
            f" {stop:g}", (1, stop), xycoords=ax.get_yaxis_transform(), va="center", color=ORANGE, annotation_clip=False
        )
        whose = (
            "the run's stopping loss" if run.config.stop_loss else "the paper's stopping criterion, not applied here"
        )
        picture = picture._replace(caption=f"{picture.caption} Dashed: {stop:g}, {whose}.")
    return picture


def _metric(run: Run, part: str, title: str) -> Picture:
    name = run.subject.metrics[0]
    percent = name == "accuracy"
    words = f"{title.split()[-1]} {METRICS[name][0] if name in METRICS else name}"
    title, label = f"{title.rsplit(' ', 1)[0]} {words}", words + " (%)" * percent
    levels = [level._replace(values=(100 if percent else 1) * level.values) for level in run.by_level(f"{part}_{name}")]
    dots = Line2D([], [], color="black", label="least and greatest", **DOTS)
    picture = _quantity(run, levels, title, label, words[0].upper() + words[1:], (dots,))
    ax = picture.figure.axes[0]
    for x, level in zip(positions(levels), levels):
        ends = level.values.min(), level.values.max()
        ax.plot([x, x], ends, color="black", gid=f"extremes-{level.label}", **DOTS)
    return picture


def _quantity(run: Run, levels: list[Level], title: str, label: str, what: str, more: tuple = ()) -> Picture:
    figure = Figure(figsize=(9, 5), layout="constrained")
    ax = figure.subplots()
    handles = [*boxes(ax, levels), *more]
    ax.set_ylabel(label)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    tidy(ax)
    key_below(figure, handles)
    dense = "the dense baseline beside them" if levels[-1].label == "dense" else "no dense baseline: the run has none"
    caption = (
        f"{what} for all sparsity levels of the run ({run.data}, {run.config.steps:,} steps), {dense}; "
        f"{trials_text(levels)}. Boxes: quartiles; whiskers: 5 % to 95 % of the trials."
    )
    return Picture(title, caption, figure)
