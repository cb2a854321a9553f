"""What the drawings share: the run that they draw from, and boxes by level."""

import dataclasses
import functools
import os
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter

from ihtjax.paper.subject import PAPERS_METHODS, Subject
from ihtjax.problems.base import Problem
from ihtjax.study.plots import BLUE, GREY, ORANGE, label
from ihtjax.sweeps.config import PAPERS_STOP_LOSS
from ihtjax.sweeps.engine import content, make_problem, triples
from ihtjax.sweeps.plan import stored_config
from ihtjax.sweeps.single import SingleTrial, run_trial
from ihtjax.sweeps.store.reading import read
from ihtjax.sweeps.store.records import Certify, Fit
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.words import data_name
from ihtjax.text import printable

PALE = "#cfe3f1"
SEEDS = {"data_seed": 42, "init_seed": 21, "support_seed": 84}  # of the paper's Figs. 8, 14 and 15
PAPERS_LEVEL = 7
LANES = 100  # few, so that what is run on the spot takes seconds
QUANTILES = {"whislo": 0.05, "q1": 0.25, "med": 0.5, "q3": 0.75, "whishi": 0.95}


class CannotDraw(Exception):
    """A run doesn't hold what a picture needs; the text says what."""


class Picture(NamedTuple):
    """A drawing without its name."""

    title: str
    caption: str
    figure: Figure


class Level(NamedTuple):
    """The finished values of one method and level, of trials that did not diverge."""

    label: str
    values: np.ndarray
    diverged: int


class Run:
    """A run as the drawings see it: its configuration, its tables, and the trial that single networks are drawn of."""

    def __init__(self, run_dir: str | os.PathLike):
        self.directory = RunDirectory(run_dir).require()
        self.stored = self.directory.record()
        self.config = stored_config(self.stored, self.directory.path)
        self.subject = Subject(self.config, self.stored)
        self.names = [label(name) for name in self.stored["parameters"]]
        self.n = len(self.names)
        self.classes: int = len(self.stored["classes"])
        units = self.directory.units()
        fits = [unit for unit in units if isinstance(unit, Fit)]
        # Without curves all that is run on the spot shares one compiled program.
        self.bare = dataclasses.replace(self.config, solver=("iht",), curve_points=0, audit=False)
        self.levels = sorted({unit.s for unit in fits if unit.method == "iht"})
        self.has_dense = any(unit.method == "gd" for unit in fits)
        self.has_certificates = any(isinstance(unit, Certify) for unit in units)

    @property
    def data(self) -> str:
        return data_name(self.config)

    @property
    def stop(self) -> float | None:
        """The training loss at which trials stop, or the paper's; None where that isn't its network."""
        return self.config.stop_loss or (PAPERS_STOP_LOSS if self.subject.is_papers else None)

    @functools.cached_property
    def has_test_rows(self) -> bool:
        """Whether a trial that ended has a test loss."""
        losses = read(self.directory.path, columns=["test_loss"], filters={"status": "ok"}).to_pandas()
        return bool(losses.test_loss.notna().any())

    def check_data(self) -> Problem:
        """The problem, if it is still that of the run."""
        problem = make_problem(self.config)
        if content(self.config, problem) != self.stored["data_sha256"]:
            raise CannotDraw(f"{printable(self.subject.data)} has changed since the run began")
        return problem

    @property
    def middle_level(self) -> int | None:
        """The paper's level 7, or the middle one below n of a run that lacks it; None if it has none."""
        levels = [s for s in self.levels if s < self.n]
        return PAPERS_LEVEL if PAPERS_LEVEL in levels else levels[len(levels) // 2] if levels else None

    @functools.cached_property
    def seeds(self) -> dict[str, int]:
        """The triple of the single networks: the paper's, or in a run of anything else its own first one."""
        names = ("data_seed", "init_seed", "support_seed")
        first = triples(self.config.seed, np.arange(1))[:, 0].tolist()
        return SEEDS if self.subject.is_papers else dict(zip(names, first))

    @functools.cached_property
    def sparse_trial(self) -> SingleTrial:
        """The trial that single networks are drawn of; the paper's, which no sweep holds, has s = 7."""
        s = PAPERS_LEVEL if self.subject.is_papers else self.middle_level
        if s is None:
            raise CannotDraw("the run has no sparsity level below n")
        return self.trial(s)

    @functools.cached_property
    def dense_trial(self) -> SingleTrial:
        """The dense network with the same data and init seeds."""
        return self.trial(self.n)

    def trial(self, s: int) -> SingleTrial:
        """Run one trial with `seeds` and the run's configuration."""
        self.check_data()
        ran = run_trial(self.bare, s, **self.seeds, batch=LANES)
        if not ran.result.finite:
            whose = "paper's" if self.subject.is_papers else "run's first"
            raise CannotDraw(f"the trial s = {s} with the {whose} seeds diverged")
        return ran

    def by_level(self, column: str, table: str = "trials") -> list[Level]:
        """A column's values for each level, the dense baseline last; certificates without a value are left out."""
        if not self.levels and not self.has_dense:
            raise CannotDraw("no trial is finished yet; go on with: ihtjax sweep")
        columns = ["method", "s", column] + (["status"] if table == "trials" else [])
        papers = {"method": PAPERS_METHODS}
        frame = read(self.directory.path, table, columns, papers, categorical=("method",)).to_pandas()
        if column.startswith("test_") and (frame.status == "ok").any() and not self.has_test_rows:
            raise CannotDraw("the run has no test rows")
        found = []
        for (method, s), rows in frame.groupby(["method", "s"], observed=True):
            ended = (rows.status == "ok") if table == "trials" else rows[column].notna()
            diverged = int((~ended).sum()) if table == "trials" else 0
            ok = ended & rows[column].notna()
            if ok.any():
                values = rows[column][ok].to_numpy(np.float64)
                found.append((method == "gd", s, Level("dense" if method == "gd" else str(s), values, diverged)))
        if not found:
            raise CannotDraw(f"no finished trial has a {column}")
        return [level for _, _, level in sorted(found, key=lambda item: item[:2])]

    def supports(self, s: int, column: str) -> np.ndarray:
        """Masks ``[trials, n]`` of the parameters that are nonzero in ``theta0`` or ``theta`` at one level."""
        filters = {"method": "iht", "s": s, "status": "ok"}
        vectors = read(self.directory.path, columns=[column], filters=filters).column(0).combine_chunks()
        return vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.n) != 0


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
