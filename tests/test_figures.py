import dataclasses
import itertools
import re
import shutil

import jax.numpy as jnp
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from test_cli import call

from ihtjax import Problem, SweepConfig, certify_run, load, sweep
from ihtjax.exact.symmetry import canonical_support
from ihtjax.paper.draw_common import logarithmic
from ihtjax.paper.draw_data import different_networks, growth, network_sizes
from ihtjax.paper.drawings import AGAINST_S, DRAWINGS, Drawn, Undrawable, drawn, figures, write
from ihtjax.study.atlas import Atlas
from ihtjax.study.plots import draw_atlas, draw_budget, draw_trial
from ihtjax.study.starts import Starts
from ihtjax.sweeps.single import run_trial
from ihtjax.sweeps.store.run import RunDirectory

QUANTITIES = dict(zip(AGAINST_S, ("step_size", "train_loss", "test_loss", "train_accuracy", "test_accuracy")))
NO_CERTIFICATES = {"gap", "steps"}


@pytest.fixture(scope="module")
def pictures(small_run):
    """What can be drawn from the small run, by name."""
    return {picture.name: picture for picture in drawn(small_run) if isinstance(picture, Drawn)}


@pytest.fixture(scope="module")
def certified(small_run, tmp_path_factory):
    """The small run with certificates."""
    run = shutil.copytree(small_run, tmp_path_factory.mktemp("certified") / "run")
    return certify_run(run, trials=4)


def artists(figure):
    """A picture's lines and boxes by what they say they are."""
    every = [*figure.axes[0].lines, *figure.axes[0].patches]
    return {artist.get_gid(): artist for artist in every if artist.get_gid()}


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()]


# Figs. 9 to 13.


@pytest.mark.parametrize("name, column", QUANTITIES.items())
def test_boxes_agree_with_pandas(small_run, pictures, name, column):
    trials = pd.read_parquet(small_run / "trials", columns=["method", "s", column])
    trials[column] = trials[column].astype(float) * (100 if "accuracy" in column else 1)
    ax, found = pictures[name].figure.axes[0], artists(pictures[name].figure)
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert labels == ["3", "7", "dense"]
    for label, place in zip(labels, ax.get_xticks()):
        rows = trials[trials.method == "gd"] if label == "dense" else trials[trials.s == int(label)]
        expected = rows[column].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).to_numpy()
        median, mean, box = (found[f"{kind}-{label}"] for kind in ("medians", "means", "boxes"))
        np.testing.assert_allclose(median.get_ydata(), expected[2], rtol=1e-9)
        np.testing.assert_allclose(median.get_xdata().mean(), place)
        np.testing.assert_allclose(mean.get_ydata(), rows[column].mean(), rtol=1e-9)
        corners = box.get_path().vertices[:, 1]
        np.testing.assert_allclose([corners.min(), corners.max()], expected[[1, 3]], rtol=1e-9)
        ends = sorted(line.get_ydata()[1] for line in ax.lines if line.get_gid() == f"whiskers-{label}")
        np.testing.assert_allclose(ends, expected[[0, 4]], rtol=1e-9)


@pytest.mark.parametrize("name", AGAINST_S)
def test_caption_and_axes_say_what_is_drawn(pictures, name):
    ax = pictures[name].figure.axes[0]
    assert "20 trials each" in pictures[name].caption and "dense baseline beside them" in pictures[name].caption
    assert "sparsity level $s$" in ax.get_xlabel()
    assert re.search(r"\((1/nats|nats|%)\)$", ax.get_ylabel())


def test_they_need_nothing_but_the_parquet_files(small_run, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("more than Parquet was asked for")

    for name in ("run_trial", "make_problem"):
        monkeypatch.setattr(f"ihtjax.paper.run.{name}", refuse)
    assert [picture.name for picture in drawn(small_run, AGAINST_S)] == list(AGAINST_S)


# The trial that no sweep holds.


def test_the_papers_trial_is_drawn_parameter_by_parameter(small, pictures):
    ran = run_trial(small, 7, data_seed=42, init_seed=21, support_seed=84)
    names = [*(f"w{k}{j}" for k in (1, 2, 3) for j in (1, 2, 3, 4)), "b1", "b2", "b3"]
    for name, theta in (("fig08", ran.result.theta0), ("fig14", ran.result.theta)):
        ax = pictures[name].figure.axes[0]
        assert [tick.get_text() for tick in ax.get_xticklabels()] == names
        heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in ax.patches}
        np.testing.assert_allclose([heights.get(i, 0) for i in range(15)], theta, rtol=1e-3, atol=1e-4)
        assert len(heights) == 7 and {"nonzero (7)", "zero (8)"} <= set(texts(pictures[name].figure))
    caption = pictures["fig08"].caption
    assert "seeds 21, 42 and 84" in caption and "draws behind a seed are ours" in caption


def test_the_gradient_stands_beside_the_support_and_the_threshold(small, pictures):
    r = run_trial(small, 7, data_seed=42, init_seed=21, support_seed=84).result
    lower = pictures["fig15"].figure.axes[1]
    lines = {line.get_marker() + line.get_linestyle(): line for line in lower.lines}
    assert lines["oNone"].get_xdata().tolist() == np.flatnonzero(r.theta).tolist()
    off = np.flatnonzero(r.theta == 0)
    np.testing.assert_allclose(lines["sNone"].get_ydata(), np.abs(r.gradient[off]), rtol=1e-2, atol=1e-5)
    assert lines["None--"].get_ydata()[0] == pytest.approx(r.certificate.min_on_support / r.step_size, rel=1e-3)
    assert "HT-stable within ht_tol = 0.001" in pictures["fig15"].caption


# Supports and sizes.


def test_initial_and_final_supports_are_counted(small_run, pictures):
    trials = pd.read_parquet(small_run / "trials", filters=[("s", "==", 7)])
    start, end = (np.stack(trials[column]) != 0 for column in ("theta0", "theta"))
    left, right = pictures["fig07"].figure.axes[:2]
    expected = np.bincount((start & end).sum(1), minlength=8) / 20 * 100
    np.testing.assert_allclose([bar.get_height() for bar in left.patches], expected)
    led = right.images[0].get_array()
    assert led[2, 9] == pytest.approx(100 * end[start[:, 2], 9].mean())
    finals = len({tuple(row) for row in end})
    assert f"lead to {finals} final ones, of 6,435 possible" in pictures["fig07"].caption


@pytest.mark.parametrize("classes, blocks", [(2, 4), (3, 3), (4, 2)])
def test_different_networks_are_counted_as_symmetry_says(classes, blocks):
    n = classes * blocks
    masks = (np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1
    canonical = canonical_support(masks, classes)
    counts = [len(np.unique(canonical[masks.sum(1) == s], axis=0)) for s in range(n + 1)]
    assert counts == different_networks(n, classes)


def test_table_1_is_that_of_the_paper(pictures):
    cells = pictures["table1"].figure.axes[0].tables[0].get_celld()
    papers = "15 105 455 1,365 3,003 5,005 6,435 6,435 5,005 3,003 1,365 455 105 15".split()
    assert [cells[1, column].get_text().get_text() for column in range(1, 15)] == papers


def test_growth_between_first_and_last_network_is_the_papers(pictures):
    sizes = network_sizes()
    assert sizes.year.is_monotonic_increasing and sizes.source.str.len().min() > 20
    ends, fitted = growth(sizes)
    assert round(100 * ends) == 97 and 0.5 < fitted < ends
    assert "1.32e+17 parameters by 2040" in pictures["fig01"].caption


def test_no_label_of_fig_1_lies_on_a_line_a_point_or_another_label(pictures):
    figure = pictures["fig01"].figure
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 11
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), ax.texts[i].get_text()
        for line in ax.lines:
            at = line.get_transform().transform(line.get_xydata())
            if line.get_linestyle() != "None":
                at = np.linspace(at[0], at[-1], 2000)  # both lines are straight on these axes
            assert not any(box.contains(*point) for point in at), ax.texts[i].get_text()


# Curves and certificates.


def test_learning_curves_agree_with_pandas(small_run, pictures):
    points = pd.read_parquet(small_run / "curves")
    panels = pictures["curves"].figure.axes
    assert [ax.get_title() for ax in panels] == ["$s$ = 3", "$s$ = 7", "dense"]
    for ax, s in zip(panels, (3, 7, 15)):
        level = points[points.s == s].pivot(index="trial", columns="step")
        lines = {line.get_gid(): line for line in ax.lines}
        for gid, column in (("training", "train_loss"), ("test", "test_loss")):
            assert lines[gid].get_xdata().tolist() == level[column].columns.tolist()
            np.testing.assert_allclose(lines[gid].get_ydata(), np.median(level[column], axis=0), rtol=1e-6)
        (band,) = [patch for patch in ax.collections if patch.get_gid() == "quartiles"]
        ends = np.percentile(level.train_loss, [25, 75], axis=0)[:, -1]
        height = band.get_paths()[0].vertices
        np.testing.assert_allclose(sorted({*height[height[:, 0] == 300, 1]}), ends, rtol=1e-6)
    assert panels[0].get_yscale() == "log" and "20 trials a level" in pictures["curves"].caption


def test_learning_curves_leave_out_diverged_trials(tmp_path):
    wild = SweepConfig(levels=(3,), trials=24, steps=2, step_size=1e38, dense=False, curve_points=9)
    run = sweep(wild, tmp_path / "wild", batch=16)
    trials, points = load(run), load(run, "curves")
    bad = trials.trial[trials.status == "diverged"]
    assert 0 < len(bad) < 24
    (picture,) = drawn(run, ["curves"])
    (line,) = [line for line in picture.figure.axes[0].lines if line.get_gid() == "training"]
    expected = points[~points.trial.isin(bad)].groupby("step").train_loss.median()
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)


def test_learning_curves_that_reach_zero_end_at_the_least_loss_above_it(tmp_path):
    """1/2 |theta|^2 under a step of 1 is 0 from the first step on, and under one of 1/2 never."""

    class Bowl(Problem):
        names = ("a", "b", "c")

        def loss(self, theta, view):
            return jnp.sum(theta**2) / 2

    config = SweepConfig(levels=(2,), trials=6, steps=8, step_size=1.0, curve_points=9, dense=False)
    (picture,) = drawn(sweep(config, tmp_path / "run", problem=Bowl()), ["curves"])
    ax = picture.figure.axes[0]
    (line,) = [line for line in ax.lines if line.get_gid() == "training"]
    losses = load(tmp_path / "run", "curves").groupby("step").train_loss
    assert losses.median().iloc[0] > 0 and (losses.max().iloc[1:] == 0).all()
    least = losses.quantile(0.25).iloc[0]
    np.testing.assert_allclose(line.get_ydata(), [losses.median().iloc[0]] + [least] * 8)
    (band,) = [patch for patch in ax.collections if patch.get_gid() == "quartiles"]
    assert np.isfinite(ax.get_ylim()).all() and band.get_paths()[0].vertices[:, 1].min() == pytest.approx(least)
    assert "Losses of 0 are drawn at the least one above it" in picture.caption


def test_learning_curves_need_curves(small, tmp_path):
    bare = dataclasses.replace(small, levels=(3,), dense=False, trials=4, step_size=0.5, curve_points=0)
    (picture,) = drawn(sweep(bare, tmp_path / "bare"), ["curves"])
    assert isinstance(picture, Undrawable) and "--curve-points 0" in picture.why


def test_the_step_picture_names_all_its_zones(certified):
    (picture,) = (picture for picture in drawn(certified, ["steps"]))
    entries = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    for entry in ("certified: ", "open: ", "refuted above: "):
        assert any(text.startswith(entry) for text in entries)
    ax = picture.figure.axes[0]
    certificates = pd.read_parquet(certified / "certificates")
    zones = {tuple(np.round(zone.get_facecolor()[0], 4)): [] for zone in ax.collections}
    for zone in ax.collections:
        zones[tuple(np.round(zone.get_facecolor()[0], 4))].append(zone.get_paths()[0].vertices[:, 1])
    safe, undecided = (sorted((v.min(), v.max()) for v in zone) for zone in zones.values())
    medians = certificates.groupby("s")[["rss_upper", "rss_lower"]].agg(lambda bound: 1 / bound.median())
    np.testing.assert_allclose([top for _, top in safe], sorted(medians.rss_upper), rtol=1e-2)
    assert [bottom for bottom, _ in undecided] == [top for _, top in safe]


def test_the_dots_of_figs_12_and_13_are_in_the_legend(pictures):
    for name in ("fig12", "fig13"):
        assert "least and greatest" in [text.get_text() for text in pictures[name].figure.legends[0].get_texts()]


def test_the_gap_picture_begins_below_the_least_gap_that_it_shows(certified):
    (picture,) = drawn(certified, ["gap"])
    certificates = pd.read_parquet(certified / "certificates")
    least = min(its.gap.quantile(0.05) for _, its in certificates.groupby(["method", "s"]))
    bottom, top = picture.figure.axes[0].get_ylim()
    assert least > 1e-6 and least / 10 < bottom < least < top


def test_labels_of_a_logarithmic_axis_are_decimals():
    ax = Figure().subplots()
    ax.plot([0, 1], [0.013, 0.6])
    logarithmic(ax)
    labels = [tick.get_text() for tick in ax.get_yticklabels(which="both")]
    assert {"0.1", "0.02", "0.6"} <= set(labels) and not any("times" in label for label in labels)


def test_symbols_are_set_as_formulas_in_every_picture(pictures, certified):
    """No axis, legend or title has a symbol of the paper as plain text."""
    more = {picture.name: picture for picture in drawn(certified, NO_CERTIFICATES)}
    for name, picture in (pictures | more).items():
        plain = [re.sub(r"\$[^$]*\$", "", text) for text in texts(picture.figure)]
        found = [text for text in plain if re.search(r"[γθ]|L_2s|\b[snN] ?=|\blevel s\b", text)]
        assert not found, (name, found)


# Names.

ODD_NAMES = ["cost in $", "$x^2$ and $", "a_b^c", "\\alpha", "größe", "a name that goes on " * 5, "漢字"]


def test_odd_names_are_drawn_to_the_letter(small, tmp_path, tables, recwarn):
    frame = pd.read_csv(tables["wine"])
    frame.columns = [*ODD_NAMES, *frame.columns[len(ODD_NAMES) :]]
    frame["kind"] = frame["kind"].map({"class_0": "$\\frac$", "class_1": "10 $ to 20 $", "class_2": "ä_0"})
    frame.to_csv(tmp_path / "wine$^.csv", index=False)
    config = dataclasses.replace(
        small, data=str(tmp_path / "wine$^.csv"), target="kind", levels=(2, 7), trials=8, step_size=0.4
    )
    run = certify_run(sweep(config, tmp_path / "run$"), enumerate_supports=False)
    found = {picture.name: picture for picture in drawn(run)}
    undrawn = {name for name, picture in found.items() if isinstance(picture, Undrawable)}
    assert undrawn == {"gap"}  # supports weren't enumerated
    shown = {text.replace(r"\$", "$") for text in texts(found["fig02"].figure)}
    assert {"cost in $", "$x^2$ and $", "a_b^c", "\\alpha", "größe", "\\u6f22\\u5b57"} < shown
    assert {"$\\frac$", "10 $ to 20 $", "ä_0"} < shown
    assert "a name that…hat goes on " in shown
    for picture in found.values():
        if isinstance(picture, Drawn):
            check_layout(picture.figure)  # which draws it
    write(found["fig09"], tmp_path, "svg")
    assert "wine$^.csv" in (tmp_path / "fig09.svg").read_text()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


# What a run is not enough for.


def test_what_the_small_run_lacks_is_named(small_run, pictures):
    assert set(pictures) == set(DRAWINGS) - NO_CERTIFICATES
    lacking = [picture for picture in drawn(small_run, NO_CERTIFICATES) if isinstance(picture, Undrawable)]
    assert {name for name, _ in lacking} == NO_CERTIFICATES
    assert all("ihtjax oracle" in why for _, why in lacking)


def test_one_level_without_dense_is_drawn_with_a_word_on_what_is_missing(small, tmp_path):
    run = sweep(dataclasses.replace(small, levels=(5,), dense=False), tmp_path / "run")
    found = list(drawn(run, [*AGAINST_S, "fig07", "table1"]))
    whys = [picture.why for picture in found if isinstance(picture, Undrawable)]
    assert len(whys) == 2 and "without the dense baseline" in whys[0] and "one sparsity level" in whys[1]
    drawings = [picture for picture in found if isinstance(picture, Drawn)]
    assert [picture.name for picture in drawings] == ["fig07", *AGAINST_S, "table1"]
    assert "20 trials in all" in drawings[1].caption and "no dense baseline" in drawings[1].caption
    assert "at s = 5" in drawings[0].caption


def test_what_is_too_crowded_is_refused_in_words(small_run, monkeypatch):
    for limit in ("draw_network.MOST_PARAMETERS", "draw_network.MOST_NODES", "draw_data.MOST_PARAMETERS"):
        monkeypatch.setattr(f"ihtjax.paper.{limit}", 3)
    monkeypatch.setattr("ihtjax.paper.draw_levels.MOST_SUPPORTS", 3)
    found = list(drawn(small_run, ["fig02", "fig07", "fig08", "fig14", "fig15", "restarts"]))
    assert len(found) == 6 and all(isinstance(picture, Undrawable) and "at most 3" in picture.why for picture in found)


# Files.


@pytest.mark.parametrize("format, begins", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_files_have_title_caption_and_nothing_cut(small_run, tmp_path, format, begins):
    run = shutil.copytree(small_run, tmp_path / "run")
    (path,) = figures(run, format, ["fig09"])
    assert path == run / "figures" / f"fig09.{format}" and path.read_bytes().startswith(begins)
    if format == "svg":
        text = path.read_text()
        assert "Fig. 9: step size" in text and "20 trials each" in text
    assert len(load(run)) == 60 and not RunDirectory(run).survey().problems


@pytest.mark.parametrize("name", sorted(set(DRAWINGS) - NO_CERTIFICATES))
def test_no_label_is_cut_or_lies_on_a_panel_of_another(pictures, name):
    check_layout(pictures[name].figure)


def budget(levels, n95):
    table = pd.DataFrame({"s": levels, "starts": 100, "p": 0.5, "p_low": 0.4, "p_high": 0.6})
    return table.assign(n95=n95, n95_low=0.8 * n95, n95_high=1.2 * n95)


def an_atlas(most):
    """Supports on which up to so many starts end."""
    draw = np.random.default_rng(0)
    points = pd.DataFrame({"infimum": np.sort(draw.uniform(0.1, 1, 300)), "landings": draw.integers(0, most, 300)})
    points = points.assign(full_block=draw.random(300) < 0.2, attained=draw.random(300) < 0.8, ht_stable=False)
    starts = Starts(np.zeros((20, 15)), draw.uniform(0.1, 1, 20), np.ones(20))
    return Atlas(points, starts, 0.5, 1e-3, "nats", True, 5, 0.686, 42)


def texts_over_each_other(figure):
    figure.draw_without_rendering()
    shown = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text().strip()]
    outside = set()  # labels of ticks beyond an axis are there, and not drawn
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    outside |= {tick.label1, tick.label2}
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown if text not in outside]
    return [(a, b) for (a, p), (b, q) in itertools.combinations(boxes, 2) if p.overlaps(q)]


@pytest.mark.parametrize("most", [2, 20, 100_000, 5_000_000])
def test_no_texts_of_an_atlas_lie_over_each_other(most):
    figure = draw_atlas(an_atlas(most), SweepConfig())
    check_layout(figure)
    assert not texts_over_each_other(figure)


@pytest.mark.parametrize("n95", [5.0, 299.0, 29_957.0, 2.9e6])
@pytest.mark.parametrize("levels", [(3,), (3, 5), (3, 5, 7), tuple(range(1, 15))])
def test_no_texts_of_a_budget_lie_over_each_other(levels, n95):
    figure = draw_budget(budget(levels, n95), 0.01, 42, SweepConfig())
    check_layout(figure)
    assert not texts_over_each_other(figure)


@pytest.mark.parametrize(("data", "called"), [("iris", "Iris"), ("folder/a$b.csv", r"a\$b.csv")])
def test_pictures_of_a_command_say_what_is_seen_of_which_data_and_level(small, data, called):
    config = SweepConfig(data=data, target=None if data == "iris" else "kind")
    ran = run_trial(small, 7, 1, 2, 3)._replace(config=config)
    pictures = {
        "One trial of IHT": draw_trial(ran),
        "infima of all 300 supports": draw_atlas(an_atlas(20), config),
        "Chance that the best of": draw_budget(budget((7, 5), 5.0), 0.01, 42, config),
    }
    for (what, figure), s in zip(pictures.items(), ("7", "5", "7, 5")):
        check_layout(figure)
        title = figure.get_suptitle()
        assert what in title and called in title and f"$s$ = {s}" in title


@pytest.mark.parametrize("levels", [(3,), (2, 3, 7, 9, 11)])
def test_the_budget_names_its_axes_at_the_edge_of_the_grid(levels):
    figure = draw_budget(budget(levels, 5.0), 0.01, 42, SweepConfig())
    check_layout(figure)
    axes = figure.axes
    assert len(axes) == len(levels) and axes[0].get_xlim()[1] < 20  # ends where the curves do
    for ax in axes[-4:]:
        assert ax.get_xlabel() == "$N$, starts"
        assert [tick.get_text() for tick in ax.get_xticklabels() if tick.get_visible()] == ["1", "10"]


def check_layout(figure):
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert -0.01 <= box.x0 and box.x1 <= width + 0.01 and -0.01 <= box.y0 and box.y1 <= height + 0.01
    assert figure.axes and all(ax.has_data() or ax.tables for ax in figure.axes)
    for legend in figure.legends:
        assert not any(legend.get_window_extent().overlaps(ax.get_tightbbox()) for ax in figure.axes)


def test_command_line_draws_and_names_what_it_cannot(small_run, tmp_path, capsys):
    run = shutil.copytree(small_run, tmp_path / "run")
    code, out, _ = call(capsys, "figures", run, "--only", "fig12,gap", "--format", "svg")
    assert code == 0 and out.splitlines() == [
        f"{run}/figures/fig12.svg  Fig. 12: training accuracy",
        f"gap: the run has no certificates; compute them with: ihtjax oracle {run}",
    ]


@pytest.mark.parametrize(
    "options, says",
    [
        (["--only", "fig03"], "only: got 'fig03', which is schematic or a photograph in the paper, expected"),
        (["--format", "gif"], "format: got 'gif', expected 'png' or 'pdf' or 'svg'"),
    ],
)
def test_wrong_options_get_one_line(small_run, capsys, options, says):
    code, out, err = call(capsys, "figures", small_run, *options)
    assert code == 2 and out == "" and err.count("\n") == 1 and says in err
    assert not (small_run / "figures").exists()


def test_what_is_no_run_gets_one_line(tmp_path, capsys):
    code, _, err = call(capsys, "figures", tmp_path)
    assert code == 2 and "not a run directory" in err and err.count("\n") == 1


def test_a_zero_gradient_leaves_the_others_their_axis(small):
    ran = run_trial(small, 7, 1, 2, 3)
    slope = np.where(np.arange(15) < 3, 0, ran.result.gradient)
    ax = draw_trial(ran._replace(result=ran.result._replace(gradient=slope))).axes[1]
    least = np.abs(slope[slope != 0]).min()
    assert least / 100 < ax.get_ylim()[0] < least
    assert "zero" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_bars_thinner_than_a_pixel_are_seen(small):
    ran = run_trial(small, 7, 1, 2, 3)
    theta = np.where(np.arange(600) % 7 == 0, 1.0, 0.0)
    wide = ran.result._replace(theta=theta, theta0=np.zeros(600), gradient=np.ones(600))
    figure = draw_trial(ran._replace(result=wide, names=[f"w{i}" for i in range(600)]))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    to_pixels = figure.axes[0].transData.transform
    for i in np.flatnonzero(theta):
        x, y = to_pixels((i + 0.2, 0.5))
        near = pixels[pixels.shape[0] - round(y), round(x) - 2 : round(x) + 3]
        assert (near[:, 2] - near[:, 0]).max() > 40, f"no blue at {i}"
