"""Figures, claims, report and texts of runs that aren't of the paper's kind: other losses, and a user's own problem."""

import os
import re
import shlex

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from test_cli import call
from test_report import Page

from ihtjax import SweepConfig, load, sweep
from ihtjax.paper.drawings import DRAWINGS, Drawn, drawn
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import claims
from ihtjax.paper.page import trial_again
from ihtjax.paper.verdicts import UNDECIDED
from ihtjax.study.plots import draw_trial
from ihtjax.study.summaries import render, summary
from ihtjax.sweeps.single import describe, run_trial

# A quadratic without rows, whose least values lie below 0.
SOURCE = """
import jax.numpy as jnp
import numpy as np

from ihtjax.problems.base import Problem


class Sunken(Problem):
    names = [f"t{i}" for i in range(1, 9)]

    def __init__(self):
        self.A = np.random.default_rng(0).normal(size=(12, 8)).astype("f4")

    def loss(self, theta, view):
        return jnp.sum((self.A @ theta) ** 2) / 24 - 2
"""
SHORT = {"levels": (3, 5), "trials": 12, "steps": 60, "n_monte": 10, "curve_points": 6}
SEEDS = {"s": 3, "data_seed": 1, "init_seed": 2, "support_seed": 3}
OF_ACCURACY = {"fig12-train-accuracy-constant", "five-parameters-suffice"}
OF_ACCURACY |= {"fig13-test-accuracy-constant-from-5", "fig13-test-accuracy-steadier-from-10"}
OF_SOFTMAX = {"rss", "sublevel-sets-bounded", "distinct-values"}
OF_CERTIFICATES = {"Lhat-upper-bound", "step-size-valid", "gradient-descent-step-valid"}
CONFIGS = {
    "squared": SweepConfig(data="sklearn:diabetes", **SHORT),
    "logistic": SweepConfig(data="sklearn:breast_cancer", loss="logistic", **SHORT),
    "problem": SweepConfig(problem="sunken:Sunken", **SHORT),
    "poisson": SweepConfig(data="counts.csv", target=("calls", "visits"), loss="poisson", step_size=0.001, **SHORT),
}
WORDS = {"squared": "squared error", "logistic": "logistic loss", "problem": "sunken:Sunken", "poisson": "Poisson loss"}
every_kind = pytest.mark.parametrize("kind", CONFIGS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each kind, from the folder that holds the data and the problem."""
    folder = tmp_path_factory.mktemp("others")
    (folder / "sunken.py").write_text(SOURCE)
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(40, 3)), columns=["a", "b", "c"])
    table.assign(calls=draw.poisson(20, 40), visits=draw.poisson(9, 40)).to_csv(folder / "counts.csv", index=False)
    before = os.getcwd()
    os.chdir(folder)
    yield {kind: sweep(config, folder / kind) for kind, config in CONFIGS.items()}
    os.chdir(before)


@pytest.fixture(scope="module")
def pictures(runs):
    return {kind: {picture.name: picture for picture in drawn(run)} for kind, run in runs.items()}


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def in_words(runs, kind):
    """All texts that name a loss or its unit, of a run of this kind and of a trial."""
    run, config = runs[kind], CONFIGS[kind]
    ran = run_trial(config, **SEEDS)
    return {
        "summary": render(summary(run), run),
        "trial": describe(ran, config),
        "plot": texts(draw_trial(ran)),
        "claim": next(claim.why for claim in claims(run, only="f-never-rises")),
    }


# What isn't there is named.


@every_kind
def test_every_claim_is_judged_or_says_what_the_run_lacks(runs, kind):
    found = {claim.id: claim for claim in claims(runs[kind])}
    of, data = WORDS[kind], CONFIGS[kind].problem or CONFIGS[kind].data
    because = dict.fromkeys(OF_SOFTMAX, f"This is about softmax regression, and the run is not: it is of {of}.")
    oracles = "cross-entropy, logistic loss and squared error"
    why = f"There are certificates of linear models under {oracles} alone, not of this run: it is of {of}."
    if kind in ("squared", "logistic"):
        why = f"This needs certificates; make them with: ihtjax oracle {runs[kind]}"
    because |= dict.fromkeys(OF_CERTIFICATES, why)
    if kind != "logistic":
        because |= dict.fromkeys(OF_ACCURACY, f"The run has no accuracy: it is of {of}.")
    for id, claim in found.items():
        if id in because:
            assert (claim.verdict, claim.why.removesuffix(".")) == (UNDECIDED, because[id].removesuffix(".")), id
        elif claim.where.startswith(("IV", "Q4", "abstract")):
            assert claim.why == f"The paper's experiments are of Iris, this run is of {data}.", id
    assert found["f-never-rises"].value is not None and found["table-1"].value == 14


@pytest.mark.parametrize(
    "kind, lacking",
    [
        ("squared", {"fig02", "fig06", "gap", "steps"}),
        ("logistic", {"fig02", "gap", "restarts", "steps"}),
        ("problem", {"fig02", "fig06", "fig11", "fig12", "fig13", "gap", "restarts", "steps"}),
    ],
)
def test_every_figure_is_drawn_or_says_why_not(pictures, kind, lacking):
    found = pictures[kind]
    assert set(found) == set(DRAWINGS)
    whys = {name: picture.why for name, picture in found.items() if not isinstance(picture, Drawn)}
    assert set(whys) == lacking
    if kind in ("squared", "logistic"):
        uncertified = {name: whys.pop(name) for name in ("gap", "steps")}
        assert all("the run has no certificates; compute them with" in why for why in uncertified.values())
        assert "few enough supports to search" in whys.pop("restarts", "few enough supports to search")
    for name, why in whys.items():
        assert why == "the run has no test rows" if name == "fig11" else why.endswith(f"it is of {WORDS[kind]}"), name
    for name in ("fig12", "fig13"):
        assert name not in whys or "measures nothing beside its loss" in whys[name]


@pytest.mark.parametrize("command", [["atlas", "--s", "2", "--step-size", "0.1"], ["restarts", "--levels", "2"]])
@pytest.mark.parametrize("of", [["--data", "sklearn:diabetes", "--loss", "huber"], ["--problem", "sunken:Sunken"]])
def test_what_needs_an_oracle_is_refused_in_a_line(runs, capsys, command, of):
    code, out, err = call(capsys, *command, "--data-seed", "1", "--starts", "2", "--steps", "2", *of)
    assert code == 2 and out == "" and err.count("\n") == 1 and "no oracle for this problem" in err


# What is there is shown under its own name.


@every_kind
def test_single_networks_are_of_the_run_and_not_of_the_paper(runs, pictures, kind):
    found = pictures[kind]
    row = load(runs[kind], s=5, trial=0, method="iht").iloc[0]
    for name in ("fig08", "fig14", "fig15"):
        caption = found[name].caption
        seeds = f"Init, data and support seeds {row.init_seed}, {row.data_seed} and {row.support_seed}, the first of"
        assert seeds in caption and "s = 5" in caption
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in found["fig14"].figure.axes[0].patches}
    np.testing.assert_allclose([bars.get(i, 0) for i in range(len(row.theta))], row.theta, rtol=1e-3, atol=1e-4)
    for name in set(found) - {"fig01"}:
        said = getattr(found[name], "caption", "").replace("Beyond the paper", "")
        assert "paper" not in said and "s = 7" not in said and "seed 42" not in said, name


@pytest.mark.parametrize("name, part", [("fig12", "train"), ("fig13", "test")])
@pytest.mark.parametrize("kind, metric, words", [("squared", "r2", "R2"), ("poisson", "deviance", "mean deviance")])
def test_the_runs_metric_is_drawn_under_its_name(runs, pictures, name, part, kind, metric, words):
    picture, rows = pictures[kind][name], load(runs[kind], status="ok")
    words = f"{'training' if part == 'train' else part} {words}"
    assert picture.title.endswith(words) and picture.caption.startswith(f"{words[0].upper()}{words[1:]} for all")
    ax = picture.figure.axes[0]
    assert ax.get_ylabel() == words
    lines = {line.get_gid(): line for line in ax.lines}
    for s, its in rows[rows.method == "iht"].groupby("s"):
        np.testing.assert_allclose(lines[f"medians-{s}"].get_ydata(), its[f"{part}_{metric}"].median(), rtol=1e-6)


@every_kind
def test_losses_are_in_nats_where_they_are_minus_a_log_likelihood(runs, pictures, kind):
    found = in_words(runs, kind) | {
        name: f"{texts(pictures[kind][name].figure)} {pictures[kind][name].caption}"
        for name in ("fig09", "fig10", "curves", "fig15")
        if isinstance(pictures[kind][name], Drawn)
    }
    for name, text in found.items():
        assert bool(re.search(r"\bnats\b", text)) == (kind in ("logistic", "poisson")), name


def test_losses_below_0_lie_within_the_picture(runs, pictures):
    config, found = CONFIGS["problem"], pictures["problem"]
    points = load(runs["problem"], "curves")
    assert points[points.step == 60].groupby(["method", "s"]).train_loss.median().max() < 0
    plot = draw_trial(run_trial(config, **SEEDS))
    for figure in (found["curves"].figure, found["fig10"].figure, plot):
        ax = figure.axes[-1]
        low, high = ax.get_ylim()
        values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
        assert ax.get_yscale() == "linear" and low < np.nanmin(values) < 0 and np.nanmax(values) < high


def test_no_test_loss_is_drawn_where_there_are_no_test_rows(runs, pictures):
    curves = pictures["problem"]["curves"].figure
    assert all(line.get_gid() != "test" for ax in curves.axes for line in ax.lines)
    assert "test" not in texts(curves)
    assert "test" not in texts(draw_trial(run_trial(CONFIGS["problem"], **SEEDS)))
    assert "test" in texts(pictures["squared"]["curves"].figure)


def test_the_papers_stopping_criterion_is_drawn_where_it_is_of_the_runs_loss(pictures, small_run):
    captions = {kind: pictures[kind]["fig10"].caption + pictures[kind]["curves"].caption for kind in CONFIGS}
    assert not any("0.05" in caption for caption in captions.values())
    assert all("0.05" in picture.caption for picture in drawn(small_run, ["fig10", "curves"]))


def test_symmetries_of_softmax_are_not_counted_for_others(pictures):
    picture = pictures["problem"]["table1"]
    rows = {cell.get_text().get_text() for cell in picture.figure.axes[0].tables[0].get_celld().values()}
    assert "56" in rows and "different networks they hold" not in rows and "probability" not in picture.caption


# The page.


@pytest.mark.parametrize(
    "kind, head, columns",
    [
        ("squared", "on sklearn:diabetes, squared error, 11 parameters: 36 networks", ["test_r2"]),
        ("problem", "on sunken:Sunken, 8 parameters: 36 networks", []),
    ],
)
def test_the_page_says_what_the_run_is_of(runs, capsys, kind, head, columns):
    code, _, _ = call(capsys, "report", runs[kind])
    page = Page((runs[kind] / "report.html").read_text())
    assert code == 0
    (which,) = page.all("p", **{"class": "which"})
    assert head in " ".join(which["text"].split())
    query = next(code["text"] for code in page.all("code") if "groupby" in code["text"])
    quoted = ", ".join(f'"{name}"' for name in ["step_size", "train_loss", *columns, "epsilon"])
    assert f"[[{quoted}]]" in query
    assert set(re.findall(r'"(\w+)"', query.split("[[")[1].split("]]")[0])) <= set(load(runs[kind]).columns)


@every_kind
def test_the_command_at_the_pages_end_reproduces_a_trial(runs, capsys, kind):
    program, *command = shlex.split(trial_again(Evidence(runs[kind])))
    seeds = {name: int(command[command.index(f"--{name.replace('_', '-')}") + 1]) for name in SEEDS}
    code, out, _ = call(capsys, *command)
    (row,) = load(runs[kind], **seeds).itertuples()
    assert program == "ihtjax" and code == 0 and f"training loss {row.train_loss:.6g}" in out
