"""Runs of multi-layer perceptrons, and what their texts say; `test_mlp` holds the mathematics."""

import re
import shlex

import jax
import numpy as np
import pandas as pd
import pytest
import reference
from test_cli import call
from test_mlp import backprop, mean_loss

from conftest import Notes, forget
from ihtjax import InputError, SweepConfig, load, sweep, trial_inputs
from ihtjax.paper.drawings import drawn
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import claims
from ihtjax.paper.page import trial_again
from ihtjax.study.summaries import render, summary
from ihtjax.sweeps import engine
from ihtjax.sweeps.store.records import Damaged, check_config
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.words import conditions

SHORT = {"model": "mlp", "hidden": (3,), "levels": (4, 12), "trials": 12, "steps": 60, "n_monte": 10, "curve_points": 4}
CONFIG = SweepConfig(**SHORT)


@pytest.fixture(scope="module")
def mlp_run(tmp_path_factory):
    return sweep(CONFIG, tmp_path_factory.mktemp("mlp") / "run")


def test_a_share_of_s_for_each_layer_empties_none(tmp_path):
    """Each keeps its part of 10, in the proportion of its 80 and 51 parameters."""
    config = SweepConfig(
        model="mlp",
        hidden=(16,),
        levels=(10,),
        trials=40,
        steps=50,
        step_size=0.2,
        dense=False,
        curve_points=0,
        per="layer",
    )
    layered = load(sweep(config, tmp_path / "layered"))
    in_layer = np.stack(layered.theta)[:, : 16 * 5] != 0
    # Of 131 parameters: 6.1 and 3.9 of 10.
    assert (in_layer.sum(1) <= 6).all() and ((np.stack(layered.theta) != 0).sum(1) - in_layer.sum(1) <= 4).all()
    assert in_layer.any(1).all()


def test_a_sweep_ends_where_float64_numpy_ends(mlp_run):
    rows = list(load(mlp_run).itertuples())
    inputs = [trial_inputs(CONFIG, r.s, r.data_seed, r.init_seed, r.support_seed) for r in rows]
    X, y, theta = (np.stack([i[name] for i in inputs]) for name in ("X_train", "y_train", "theta0"))
    X, theta, sizes = X.astype(np.float64), theta.astype(np.float64), (4, 3, 3)
    gamma, s = (np.array([getattr(r, name) for r in rows]) for name in ("step_size", "s"))
    for _ in range(CONFIG.steps):
        slope = backprop("cross_entropy", theta, X, y, sizes, "tanh")
        theta = reference.hard_threshold(theta - gamma[:, None].astype(np.float64) * slope, s)
    found = np.stack([r.theta for r in rows])
    assert ((found != 0) == (theta != 0)).all(1).mean() >= 0.97  # one of 36 may hang on a rounding
    losses = mean_loss("cross_entropy", theta, X, y, sizes, "tanh")
    assert np.median(np.abs([r.train_loss for r in rows] - losses)) < 1e-5
    assert len(rows) == 36 and {r.s for r in rows if r.method == "gd"} == {27}


def test_a_lost_unit_is_computed_again_with_the_same_bits_and_nothing_is_compiled(mlp_run, compilations):
    before = load(mlp_run)
    forget(mlp_run, next(unit for unit in RunDirectory(mlp_run).units() if unit.s == 4))
    compilations.clear()
    pd.testing.assert_frame_equal(load(sweep(CONFIG, mlp_run)), before)
    assert not compilations


def test_another_network_is_refused(mlp_run):
    with pytest.raises(InputError, match="hidden is 3 there, 4 was asked for"):
        sweep(SweepConfig(**SHORT | {"hidden": 4}), mlp_run)
    with pytest.raises(InputError, match="activation is 'tanh' there, 'relu' was asked for"):
        sweep(SweepConfig(**SHORT | {"activation": "relu"}), mlp_run)


def test_a_record_whose_parameters_fit_no_such_network_is_damaged(mlp_run):
    stored = RunDirectory(mlp_run).record()
    with pytest.raises(Damaged, match="26 parameters don't fit layers of 4, 3, 3, from features to classes"):
        check_config(stored | {"parameters": stored["parameters"][1:]})


def test_every_row_says_what_its_zeros_say(mlp_run, small_run):
    rows, structure = load(mlp_run), jax.jit(engine.make_problem(CONFIG).structure)
    for row in rows.itertuples():
        found = structure(row.theta)
        assert (row.n_effective, row.collapsed) == (found["n_effective"], found["collapsed"])
    table = summary(mlp_run)
    for its in table.itertuples():
        level = rows[(rows.method == its.method) & (rows.s == its.s)]
        assert its.collapsed == level.collapsed.mean() and its.n_effective_median == level.n_effective.median()
    text = render(table, mlp_run)
    line = next(line for line in text.split("collapsed n_effective\n")[1].splitlines())
    assert line.split()[:2] == ["4", f"{table.collapsed[0]:.1%}"] and "\ncollapsed: whether no such path begins" in text
    assert max(map(len, text.splitlines()[1:])) <= 80
    assert "structure" not in RunDirectory(small_run).record() and "collapsed" not in render(
        summary(small_run), small_run
    )


@pytest.mark.parametrize("wrong", [[], {"a": "bool"}, {"a": ["text", "b"]}, {"a\n": ["bool", "b"]}, {"a": ["bool", 3]}])
def test_a_record_of_columns_that_there_cant_be_is_damaged(mlp_run, wrong):
    with pytest.raises(Damaged, match="^structure: got .*expected names, each with its type and its meaning"):
        check_config(RunDirectory(mlp_run).record() | {"structure": wrong})


def test_texts_name_the_network(mlp_run, capsys):
    assert conditions(CONFIG).startswith("iris, 60 steps, seed 0, init normal, mlp (hidden 3, activation tanh)\n")
    notes = Notes()
    sweep(CONFIG, mlp_run, show=notes)
    assert notes.lines[0] == "iris: 150 rows, 4 features, 3 classes; MLP 4-3-3, tanh, so 27 parameters"
    words = shlex.split(trial_again(Evidence(mlp_run)))[1:]
    assert words[words.index("--hidden") + 1] == "3"
    code, out, _ = call(capsys, *words)
    assert code == 0 and "\n   l1.w11 " in out and "\n    l2.b3 " in out
    assert re.search(r"\nn_effective: \d+ \(how many .*\)\ncollapsed: (yes|no) \(whether no such path .*\)\n", out)


@pytest.mark.parametrize(
    "command, said",
    [
        (["oracle", "RUN"], "mlp (hidden 3, activation tanh): no oracle for this problem, expected a linear model"),
        (["trial", "--step-size", "certified"], "--step-size: 'certified' needs a bound of the curvature, and none is"),
        (["trial", "--hidden", "3,x"], "--hidden: got '3,x', expected the widths of the hidden layers, as in 16 or"),
    ],
)
def test_what_is_of_linear_models_alone_is_refused_in_a_line(mlp_run, capsys, command, said):
    if command[0] == "trial":
        seeds = ["--s", "2", "--data-seed", "1", "--init-seed", "1", "--support-seed", "1", "--model", "mlp"]
        command = [*command, *seeds] + ["--hidden", "3"] * ("--hidden" not in command)
    code, out, err = call(capsys, *(str(mlp_run) if word == "RUN" else word for word in command))
    assert code == 2 and out == "" and err.count("\n") == 1 and said in err


def test_claims_and_figures_of_softmax_say_that_the_run_is_not_of_it(mlp_run):
    of = "it is of cross-entropy of an mlp (hidden 3, activation tanh)"
    why = {claim.id: claim.why for claim in claims(mlp_run, only=["rss", "step-size-valid", "five-parameters-suffice"])}
    assert why["rss"] == f"This is about softmax regression, and the run is not: {of}."
    assert why["step-size-valid"].endswith(f"not of this run: {of}.")
    papers = "The paper's experiments are of softmax regression, and the run is not"
    assert why["five-parameters-suffice"] == f"{papers}: {of}."
    (picture,) = drawn(mlp_run, ["fig02"])
    assert picture.why == f"this is about softmax regression, and the run is not: {of}"
