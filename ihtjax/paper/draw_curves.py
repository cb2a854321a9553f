"""Learning curves: losses against steps, a panel for each level."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ihtjax.paper.draw_common import PALE, Picture, key_below, logarithmic
from ihtjax.paper.run import Run
from ihtjax.paper.subject import NotEnough
from ihtjax.study.plots import BLUE, GREY, ORANGE, panels, step_axis, tidy
from ihtjax.sweeps.store.reading import read
from ihtjax.sweeps.words import unit

MOST_PANELS = 16
MOST_TRIALS = 10_000  # of a level, so that memory doesn't grow with the run


def curves(run: Run) -> Picture:
    """Training and test loss along the way: medians over trials, and the quartiles of the training loss."""
    if not run.config.curve_points:
        raise NotEnough("the run has no curves (--curve-points 0)")
    levels, dense = run.levels, [("gd", run.n)] * run.has_dense
    if not levels and not dense:
        raise NotEnough("no trial is finished yet; go on with: ihtjax sweep")
    shown = min(len(levels), MOST_PANELS - len(dense))
    chosen = [levels[round(i)] for i in np.linspace(0, len(levels) - 1, shown)]
    drawn = [*(("iht", s) for s in chosen), *dense]
    losses = {key: found for key in drawn if (found := losses_along(run, *key)) is not None}
    if not losses:
        raise NotEnough("every trial diverged")

    seen = np.concatenate([found.to_numpy().ravel() for found in losses.values()])
    is_logarithmic = bool(np.nanmin(seen) >= 0)
    reaches_zero = is_logarithmic and 0 in seen and bool((seen > 0).any())
    if reaches_zero:  # No logarithm shows where a loss is 0: there it is as low as any that isn't.
        floor = seen[seen > 0].min()
        losses = {key: found.clip(lower=floor) for key, found in losses.items()}

    count = len(losses)
    columns = count if count <= 4 else min((5, 4, 3), key=lambda columns: -count % columns)  # few holes in the grid
    figure = Figure(figsize=(11 if columns > 2 else 7, 1.9 * -(-count // columns) + 1), layout="constrained")
    axes = panels(figure, count, columns, "step", f"loss{unit(run.config, ' ({})')}")
    for ax, ((method, s), found) in zip(axes, losses.items()):
        train, test = found["train_loss"], found["test_loss"]
        if method == "iht" and dense and dense[0] in losses:
            baseline = losses[dense[0]]["train_loss"]
            ax.plot(baseline.index, baseline[0.5], color=GREY, linewidth=1)
        ax.fill_between(train.index, train[0.25], train[0.75], color=PALE, linewidth=0, zorder=0, gid="quartiles")
        ax.plot(train.index, train[0.5], color=BLUE, gid="training")
        if run.has_test_rows:
            ax.plot(test.index, test[0.5], color=ORANGE, linestyle="--", gid="test")
        if run.stop is not None:
            ax.axhline(run.stop, color="black", linestyle=":", linewidth=0.9)
        ax.set_title(f"$s$ = {s}" if method == "iht" else "dense", fontsize=9)
    if is_logarithmic:
        logarithmic(axes[0])
    step_axis(axes[0], run.config.steps)
    tidy(*axes)
    handles = [
        Line2D([], [], color=BLUE, label="training, median"),
        Patch(color=PALE, label="training, quartiles"),
    ]
    if run.has_test_rows:
        handles.append(Line2D([], [], color=ORANGE, linestyle="--", label="test, median"))
    if count > 1 and dense and dense[0] in losses:
        handles.append(Line2D([], [], color=GREY, linewidth=1, label="dense, training, median"))
    if run.stop is not None:
        name = f"{run.stop:g}{unit(run.config)}"
        handles.append(Line2D([], [], color="black", linestyle=":", linewidth=0.9, label=name))
    key_below(figure, handles)
    zeros = " Losses of 0 are drawn at the least one above it." * reaches_zero
    return Picture("Learning curves", _caption(run, len(chosen)) + zeros, figure)


def losses_along(run: Run, method: str, s: int) -> pd.DataFrame | None:
    """Quartiles of both losses at each recorded step, over the trials of a level that did not diverge; None if all did.

    The columns are (loss, 0.25), (loss, 0.5), (loss, 0.75); the index is the step.
    """
    which = {"method": method, "s": s}
    if run.config.trials > MOST_TRIALS:
        which["trial"] = range(MOST_TRIALS)
    path, columns = run.path, ["trial", "step", "train_loss", "test_loss"]
    ok = read(path, columns=["trial"], filters=which | {"status": "ok"}).column("trial").to_numpy()
    points = read(path, "curves", columns=columns, filters=which).to_pandas()
    points = points[points.trial.isin(ok)].drop(columns="trial")
    return None if points.empty else points.groupby("step").quantile([0.25, 0.5, 0.75]).unstack()


def _caption(run: Run, shown: int) -> str:
    trials = min(run.config.trials, MOST_TRIALS)
    first = "the first " * (trials < run.config.trials)
    text = f"Losses of {first}{trials:,} trials a level on {run.data}, at up to {run.config.curve_points} steps. Steps "
    text += "are spaced by their logarithm, with step 0 at the left. "
    if shown < len(run.levels):
        text += f"Of {len(run.levels)} levels {shown} are shown. "
    if run.config.stop_loss:
        text += f"A trial that reached {run.stop:g}{unit(run.config)} was frozen there and keeps its last losses."
    elif run.stop is not None:
        text += f"Dotted: {run.stop:g}{unit(run.config)}, the paper's stopping criterion, not applied here."
    return text.rstrip()
