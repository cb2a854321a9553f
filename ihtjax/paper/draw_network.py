"""Pictures of single networks: Figs. 2, 8, 14 and 15 of the paper, of its trial or of one of another run."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ihtjax.paper.draw_common import Picture, key_below
from ihtjax.paper.run import Run
from ihtjax.paper.subject import NotEnough
from ihtjax.study.plots import BLUE, GREY, ORANGE, THRESHOLD, label, name_axis, tidy, zero_line
from ihtjax.sweeps.single import SingleTrial
from ihtjax.sweeps.words import unit

MOST_PARAMETERS = 60  # more bars can't be told apart
MOST_NODES = 16


def dense_and_sparse(run: Run) -> Picture:
    """Fig. 2: the dense network and the trained sparse one as graphs, edges by weight."""
    d, K = run.n // run.K - 1, run.K
    if max(d + 1, K) > MOST_NODES:
        raise NotEnough(f"a graph of {d} features and {K} classes is too crowded, at most {MOST_NODES} fit")
    sparse, dense = run.sparse_trial, run.dense_trial
    figure = Figure(figsize=(10, 5), layout=ConstrainedLayoutEngine(wspace=0.06))
    axes = figure.subplots(1, 2)
    for ax, ran, title in zip(axes, (dense, sparse), (f"dense, $n$ = {run.n}", f"IHT, $s$ = {sparse.s}")):
        _graph(ax, run, np.asarray(ran.result.theta, np.float64))
        ax.set_title(f"{title}: training loss {ran.result.train_loss:.3f} nats", fontsize=10)
    handles = [
        Line2D([], [], color=BLUE, linewidth=2.5, label="positive weight"),
        Line2D([], [], color=ORANGE, linewidth=2.5, linestyle=(0, (4, 1.5)), label="negative weight"),
        Line2D([], [], color="black", linestyle="", marker="o", ms=10, mfc="white", label="feature, class"),
        Line2D([], [], color="black", linestyle="", marker="o", ms=10, mfc="#dddddd", label="constant 1 (bias)"),
    ]
    key_below(figure, handles)
    caption = (
        f"The dense network and the sparse one, both trained on {run.data} for {run.config.steps:,} steps from the "
        f"same split and initial draw. {_seeds_text(run)} Widths are in proportion to |weight|, in each network by "
        "itself."
    )
    return Picture("Fig. 2: a dense network and a sparse one, trained", caption, figure)


def sparse_start(run: Run) -> Picture:
    """Fig. 8: the sparse initialisation, zero and nonzero told apart."""
    ran = _trial(run)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    ax = figure.subplots()
    handles = _bars(ax, run, np.asarray(ran.result.theta0), "initial value")
    key_below(figure, handles)
    caption = (
        f"Parameters at the start of the trial s = {ran.s}, {run.data}"
        f"{f', init {run.config.init}' * (run.config.problem is None)}. {_seeds_text(run)}"
    )
    return Picture("Fig. 8: sparse initialisation", caption, figure)


def trained(run: Run) -> Picture:
    """Fig. 14: the trained parameters, with the support that the trial started from."""
    ran = _trial(run)
    result = ran.result
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    ax = figure.subplots()
    handles = _bars(ax, run, np.asarray(result.theta), "trained value")
    started = np.flatnonzero(result.theta0)
    ax.plot(started, np.full(len(started), 0.02), "^", color="black", ms=6, transform=ax.get_xaxis_transform())
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.08 * (high - low), high)
    handles.append(Line2D([], [], marker="^", color="black", linestyle="", label="nonzero at the start"))
    key_below(figure, handles)
    kept = int(((result.theta0 != 0) & (result.theta != 0)).sum())
    caption = (
        f"Parameters after {result.steps_run:,} steps of IHT, s = {ran.s}, {run.data}, step size "
        f"{result.step_size:.3f}; {kept} of the {ran.s} that were nonzero at the start still are. "
        f"{_seeds_text(run)}"
    )
    return Picture("Fig. 14: trained parameters", caption, figure)


def gradient(run: Run) -> Picture:
    """Fig. 15: the gradient at the trained parameters, with the support and the threshold of (8)."""
    ran = _trial(run)
    result, c = ran.result, ran.result.certificate
    slope = np.asarray(result.gradient, np.float64)
    on = np.asarray(result.theta) != 0
    at = np.arange(run.n)
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.bar(at[on], slope[on], 0.6, color=BLUE)
    upper.bar(at[~on], slope[~on], 0.6, facecolor="white", edgecolor=ORANGE, hatch="////")
    upper.axhline(0, color="black", linewidth=0.8)
    per = unit(run.config, " ({} per unit)")
    upper.set_ylabel(f"gradient{per}")

    size = np.abs(slope)
    floor = zero_line(size)
    for which, style in ((on, {"color": BLUE}), (~on, {"color": ORANGE, "mfc": "white", "mew": 1.5})):
        lower.vlines(at[which], floor / 2, np.maximum(size[which], floor), color=GREY, linewidth=0.7)
        lower.plot(at[which], np.maximum(size[which], floor), "o" if which is on else "s", **style)
    handles: list[Artist | tuple[Artist, ...]] = [
        (Patch(facecolor=BLUE, label="on the support"), Line2D([], [], color=BLUE, marker="o", ls="")),
        (
            Patch(facecolor="white", edgecolor=ORANGE, hatch="////", label="off the support"),
            Line2D([], [], color=ORANGE, mfc="white", mew=1.5, marker="s", ls=""),
        ),
    ]
    threshold = float(c.min_on_support) / float(result.step_size)
    full = int(c.n_nonzero) == ran.s
    if full and 0 < threshold < np.inf:
        lower.axhline(threshold, color="black", linestyle="--", linewidth=1.2)
        handles.append(Line2D([], [], color="black", ls="--", lw=1.2, label=f"threshold of (8), {THRESHOLD}"))
    lower.axhline(run.config.ht_tol, color=GREY, linestyle=":", linewidth=1.5)
    handles.append(Line2D([], [], color=GREY, ls=":", lw=1.5, label=f"counts as zero: at most {run.config.ht_tol:g}"))
    lower.set_yscale("log")
    lower.set_ylim(floor / 2, None)
    lower.set_ylabel(f"|gradient|{per}")
    _name_axis(lower, run)
    tidy(upper, lower)
    key_below(figure, handles)
    stable = f"{'HT-stable' if c.ht_stable else 'not HT-stable'} within ht_tol = {run.config.ht_tol:g}"
    allowed = f" (off the support at most {threshold:.2f} is allowed)" if full else ""
    caption = (
        f"Gradient of the training loss per parameter at the parameters of Fig. 14, {run.data}, s = {ran.s}. "
        f"Largest on the support {c.grad_on_support:.1e}, off it {c.grad_off_support:.1e}; (8) "
        f"{'holds' if c.satisfies_eq8 else 'does not hold'}{allowed}, and the point is {stable}. {_seeds_text(run)}"
    )
    return Picture("Fig. 15: gradient of the trained network", caption, figure)


def _trial(run: Run) -> SingleTrial:
    if run.n > MOST_PARAMETERS:
        raise NotEnough(f"{run.n} parameters can't be told apart in one row, at most {MOST_PARAMETERS} can")
    return run.sparse_trial


def _seeds_text(run: Run) -> str:
    seeds = "Init, data and support seeds {init_seed}, {data_seed} and {support_seed}".format(**run.seeds)
    if not run.subject.is_papers:
        return f"{seeds}, the first of the run."
    return f"{seeds} as in the paper; the draws behind a seed are ours, so it is not the paper's network."


def _bars(ax: Axes, run: Run, theta: np.ndarray, label: str) -> list:
    on = theta != 0
    at = np.arange(run.n)
    ax.bar(at[on], theta[on], 0.6, color=BLUE)
    ax.plot(at[~on], np.zeros((~on).sum()), "o", color=ORANGE, markerfacecolor="white", markeredgewidth=1.5)
    ax.axhline(0, color="black", linewidth=0.8, zorder=0.5)
    ax.set_ylabel(label)
    _name_axis(ax, run)
    tidy(ax)
    return [
        Patch(facecolor=BLUE, label=f"nonzero ({on.sum()})"),
        Line2D([], [], marker="o", color=ORANGE, mfc="white", mew=1.5, ls="", label=f"zero ({(~on).sum()})"),
    ]


def _name_axis(ax: Axes, run: Run) -> None:
    name_axis(ax, [label(name) for name in run.names])
    ax.set_xlabel("parameter" + " ($w$: class, feature; $b$: class)" * run.subject.is_softmax)


def _graph(ax: Axes, run: Run, theta: np.ndarray) -> None:
    """Features and the constant on the left, classes on the right; an edge for each nonzero parameter."""
    d, K = run.n // run.K - 1, run.K
    weights = np.concatenate([theta[: K * d].reshape(K, d), theta[K * d :, None]], axis=1)
    left, right = np.linspace(1, 0, d + 1), np.linspace(0.9, 0.1, K)
    largest = np.abs(weights).max() or 1
    area = 260 * min(1, 9 / len(left)) ** 2
    edges = []
    for k in range(K):
        for j in range(d + 1):
            w = weights[k, j]
            if w == 0:
                continue
            style = {"color": BLUE} if w > 0 else {"color": ORANGE, "linestyle": (0, (4, 1.5))}
            ax.plot([0, 1], [left[j], right[k]], linewidth=0.4 + 5 * abs(w) / largest, zorder=1, **style)
            name = label(run.names[K * d + k if j == d else k * d + j])
            edges.append((left[j], right[k], f"{name} {w:.1f}".replace("-", "−")))
    if len(edges) <= 10:
        for (x, y), (_, _, text) in zip(_apart(edges), edges):
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            ax.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box, zorder=2)
    for side, heights, names in ((0, left, (*run.stored["features"], "1")), (1, right, run.stored["classes"])):
        ax.scatter(np.full(len(heights), side), heights, area, "white", edgecolor="black", zorder=3)
        for y, name in zip(heights, names):
            beside, align = ((-13, 0), "right") if side == 0 else ((13, 0), "left")
            ax.annotate(label(name), (side, y), beside, textcoords="offset points", ha=align, va="center", fontsize=9)
    ax.scatter([0], [left[-1]], area, "#dddddd", edgecolor="black", zorder=4)
    ax.set_xlim(-0.1, 1.1)
    ax.set_ylim(-0.08, 1.08)
    ax.axis("off")


def _apart(edges: list[tuple[float, float, str]]) -> list[tuple[float, float]]:
    """Where on each edge its label is farthest from other edges and from the labels before it."""
    placed: list[tuple[float, float]] = []
    for start, stop, _ in edges:
        best, at = -np.inf, (0.5, 0.5)
        for t in np.linspace(0.18, 0.82, 33):
            y = start + t * (stop - start)
            others = [abs(y - (a + t * (b - a))) for a, b, _ in edges if (a, b) != (start, stop)]
            labels = [max(abs(t - x) / 2.2, abs(y - h)) for x, h in placed]
            room = min([*others, *labels, 0.2], default=0.2)
            if room > best:
                best, at = room, (t, y)
        placed.append(at)
    return placed
