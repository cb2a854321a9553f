"""The paper's figures, and some beyond it, from a run."""

import os
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ihtjax.errors import InputError, check, one_of, some_of
from ihtjax.paper import draw_curves, draw_data, draw_levels, draw_network
from ihtjax.paper.draw_common import freeze
from ihtjax.paper.run import Run
from ihtjax.paper.subject import PAPERS_METHODS, NotEnough
from ihtjax.study.plots import save, typeset
from ihtjax.sweeps.store.files import own_folder

FORMATS = ("png", "pdf", "svg")
DRAWINGS = {
    "fig01": draw_data.sizes_over_time,
    "fig02": draw_network.dense_and_sparse,
    "fig06": draw_data.features,
    "fig07": draw_data.supports,
    "fig08": draw_network.sparse_start,
    "fig09": draw_levels.step_size,
    "fig10": draw_levels.train_loss,
    "fig11": draw_levels.test_loss,
    "fig12": draw_levels.train_metric,
    "fig13": draw_levels.test_metric,
    "fig14": draw_network.trained,
    "fig15": draw_network.gradient,
    "table1": draw_data.support_counts,
    "curves": draw_curves.curves,
    "gap": draw_levels.gap,
    "restarts": draw_levels.restarts,
    "steps": draw_levels.step_range,
}
# What a run must have for a figure, as `Subject.lacks` names it.
NEEDS: dict[str, tuple[str, ...]] = {"fig02": ("softmax", "plain"), "fig06": ("classes",), "fig07": ("plain", "theta0")}
NEEDS |= dict.fromkeys(("fig08", "fig14", "fig15", "table1"), ("plain",)) | {"restarts": ("oracle",)}
NEEDS |= dict.fromkeys(("fig12", "fig13"), ("metric",)) | dict.fromkeys(("gap", "steps"), ("oracle", "theta"))
AGAINST_S = ("fig09", "fig10", "fig11", "fig12", "fig13")


class Drawn(NamedTuple):
    """A picture.

    Attributes:
      name: as of its file, such as "fig09".
      title: one line.
      caption: what is drawn, from how many trials.
      figure: without title and caption, which `write` puts around it.
    """

    name: str
    title: str
    caption: str
    figure: Figure


class Undrawable(NamedTuple):
    """What cannot be drawn from a run, and why."""

    name: str
    why: str


def drawn(run_dir: str | os.PathLike, only: Iterable[str] | None = None) -> Iterator[Drawn | Undrawable]:
    """Draw a run, a figure at a time; what it doesn't hold gets an `Undrawable` instead.

    Figs. 9 to 13 are drawn from the Parquet files alone. Figs. 2, 8, 14 and 15 show a trial that no sweep holds: it is
    run on the spot. Figs. 3 to 5 of the paper are schematic or photographs and are left out.

    Args:
      run_dir: of a sweep.
      only: names of figures; all if None.

    Raises:
      InputError: there is no such run or no such figure.
    """
    names = check_names(only)
    return _draw(Run(run_dir), names)


def _draw(run: Run, names: list[str]) -> Iterator[Drawn | Undrawable]:
    others = [method for method in run.stored["solvers"] if method not in PAPERS_METHODS]
    if names and others:
        why = f"drawn of iht and the dense baseline; for {' and '.join(others)} see: ihtjax summary"
        yield Undrawable(", ".join(names) if len(names) < len(DRAWINGS) else "all", why)
    against_s = [name for name in names if name in AGAINST_S]
    if against_s and run.levels and not run.has_dense:
        yield Undrawable(", ".join(against_s), "drawn without the dense baseline: the run has none (--no-dense)")
    if against_s and len(run.levels) == 1:
        why = f"the run has one sparsity level, s = {run.levels[0]}: drawn, but no trend against s can be seen"
        yield Undrawable(", ".join(against_s), why)
    for name in names:
        if name in NEEDS and (why := run.subject.lacks(*NEEDS[name])):
            yield Undrawable(name, why)
            continue
        try:
            yield Drawn(name, *DRAWINGS[name](run))
        except (NotEnough, InputError) as reason:
            yield Undrawable(name, str(reason))


def check_names(only: Iterable[str] | None) -> list[str]:
    """The names of figures to be drawn, in order; `InputError` for one that there is not."""
    check("only", only, some_of(*DRAWINGS))
    wanted = DRAWINGS if only is None else {only} if isinstance(only, str) else set(only)
    return [name for name in DRAWINGS if name in wanted]


def check_format(format: str) -> str:
    """The format, if pictures can be written in it."""
    return check("format", format, one_of(*FORMATS))


def figures(run_dir: str | os.PathLike, format: str = "png", only: Iterable[str] | None = None) -> list[Path]:
    """Draw a run into RUN_DIR/figures, one file a figure, each with its title and caption.

    Args:
      run_dir: of a sweep.
      format: "png", "pdf" or "svg".
      only: names of figures, such as "fig09"; all if None.

    Returns:
      The files that were written. What cannot be drawn from this run is missing; `drawn` says why.

    Raises:
      InputError: there is no such run, format or figure.
    """
    check_format(format)
    pictures = (picture for picture in drawn(run_dir, only) if isinstance(picture, Drawn))
    return [write(picture, Path(run_dir) / "figures", format) for picture in pictures]


def write(picture: Drawn, folder: Path, format: str = "png") -> Path:
    """Write a picture with its title above and its caption below, whole or not at all."""
    path = own_folder(folder, make=True) / f"{picture.name}.{format}"
    figure = picture.figure
    width, height = figure.get_size_inches()
    caption = textwrap.wrap(picture.caption, int(14.5 * width))
    page = Bbox([[-0.1, -0.3 - 0.17 * len(caption)], [width + 0.1, height + 0.45]])  # inches
    freeze(figure)
    around = [
        figure.text(0.01, 1 + 0.12 / height, typeset(picture.title), va="bottom", weight="bold", fontsize=12),
        figure.text(0.01, -0.12 / height, "\n".join(map(typeset, caption)), va="top", fontsize=9, linespacing=1.3),
    ]
    try:
        save(figure, path, bbox_inches=page)
    finally:
        for text in around:
            text.remove()
    return path
