"""Sweeps in other constraint sets: parameters that are always in, and a share of s for each layer."""

import dataclasses
import itertools
import os
import shlex

import numpy as np
import pytest
import reference
from matplotlib.text import Text
from test_cli import call
from test_constraint import A, shares, support

from ihtjax import InputError, SweepConfig, certify_run, claims, load, squared_error_bounds, sweep, trial_inputs
from ihtjax.paper.drawings import drawn
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.page import trial_again
from ihtjax.study.plots import draw_trial
from ihtjax.sweeps.runner import kept
from ihtjax.sweeps.single import run_trial
from ihtjax.sweeps.store.records import Damaged, check_config
from ihtjax.sweeps.store.run import RunDirectory

# Two layers of which the second's parameters matter little, so that H_s of all alike takes none of them.
SOURCE = """
import jax.numpy as jnp
import numpy as np

from ihtjax.problems.base import Problem
from ihtjax.solvers.base import Solver


class Layers(Problem):
    names = [*(f"l1.w{i}" for i in range(1, 7)), "l1.b", *(f"l2.w{i}" for i in range(1, 4)), "l2.b"]
    groups = [1] * 7 + [2] * 4

    def __init__(self):
        draw = np.random.default_rng(3)
        self.A = draw.normal(size=(40, 11)).astype("f4")
        self.y = (self.A @ np.where(np.arange(11) < 7, 3.0, 0.1)).astype("f4")

    def loss(self, theta, view):
        return jnp.sum((self.A @ theta - self.y) ** 2) / 80



class Wrong(Layers):
    groups = [1, 2]


class Halved(Solver):
    name = "halved"

    def step(self, objective, state, s, k):
        ahead = state.theta - objective.step_size / 2 * objective.gradient(state.theta)
        return state._replace(theta=objective.threshold(ahead, s))
"""
DIABETES = SweepConfig(
    data="sklearn:diabetes",
    always="b",
    levels=(1, 3, 10),
    trials=16,
    steps=200,
    n_monte=100,
    curve_points=5,
    precision="float64",
)
IRIS = SweepConfig(always="b*", levels=(3, 7), trials=16, steps=200, n_monte=10, curve_points=5)
LAYERS = SweepConfig(problem="two:Layers", per="layer", trials=12, steps=200, n_monte=10, curve_points=5)
OF_IRIS = {"steps": 20, "n_monte": IRIS.n_monte, "curve_points": IRIS.curve_points}
SEEDS = {"data_seed": 1, "init_seed": 2, "support_seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a user's problem lies, as the folder that a command runs in."""
    folder = tmp_path_factory.mktemp("constraints")
    (folder / "two.py").write_text(SOURCE)
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def diabetes(folder):
    return sweep(DIABETES, folder / "diabetes")


@pytest.fixture(scope="module")
def iris(folder):
    return sweep(IRIS, folder / "iris")


@pytest.fixture(scope="module")
def layers(folder):
    return sweep(LAYERS, folder / "layers")


def iht(gradient, theta, gamma, group, s, steps):
    """Algorithm 1 in float64, in the set of a group of each entry."""
    for _ in range(steps):
        v = theta - gamma * gradient(theta)
        theta = np.where(support(v, group, s), v, 0.0)
    return theta


def squares(X, y):
    """Half the mean squared error of a linear model with an intercept, and its gradient."""
    X = np.column_stack([X.astype(np.float64), np.ones(len(X))])
    return lambda t: ((X @ t - y) ** 2).mean() / 2, lambda t: X.T @ (X @ t - y) / len(X)


# Parameters that are always in.


def test_two_hundred_steps_with_an_intercept_that_is_not_counted(diabetes):
    rows, group = load(diabetes, method="iht"), (0,) * 10 + (A,)
    assert len(rows) == 48
    for r in rows.itertuples():
        given = trial_inputs(DIABETES, r.s, r.data_seed, r.init_seed, r.support_seed)
        np.testing.assert_array_equal(r.theta0, given["theta0"])
        assert r.theta0[10] != 0 and np.count_nonzero(r.theta0[:10]) == r.s
        f, gradient = squares(given["X_train"], given["y_train"][:, 0])
        theta = iht(gradient, given["theta0"], r.step_size, group, r.s, 200)
        np.testing.assert_allclose(r.theta, theta, rtol=1e-7, atol=1e-9)
        assert r.train_loss == pytest.approx(f(theta), rel=1e-9)
        slope = abs(gradient(theta))
        on, counted = theta != 0, np.arange(11) < 10
        assert r.n_nonzero == on.sum() == r.s + 1
        assert r.grad_on_support == pytest.approx(slope[on].max(), rel=1e-5, abs=1e-9)
        assert r.grad_off_support == pytest.approx(slope[~on].max() if (~on).any() else 0, rel=1e-6)
        assert r.min_on_support == pytest.approx(abs(theta[on & counted]).min(), rel=1e-6)
        assert r.ht_margin == pytest.approx(r.min_on_support - r.step_size * r.grad_off_support, rel=1e-9)
    assert (load(diabetes, "curves", method="iht", step=200).n_nonzero == np.repeat([2, 4, 11], 16)).all()


def test_two_hundred_steps_of_softmax_with_biases_that_are_not_counted(iris):
    config, group = dataclasses.replace(IRIS, precision="float64"), (0,) * 12 + (A,) * 3
    for r in load(iris, method="iht").itertuples():
        given = trial_inputs(config, r.s, r.data_seed, r.init_seed, r.support_seed)
        X, y = given["X_train"][None], given["y_train"][None].astype(int)

        def gradient(theta, X=X, y=y):
            return reference.gradient(theta[None], X, y)[0]

        theta = iht(gradient, given["theta0"], r.step_size, group, r.s, 200)
        np.testing.assert_allclose(r.theta, theta, rtol=1e-3, atol=1e-3)


def test_another_solver_stays_in_the_set_without_knowing_it(folder):
    config = dataclasses.replace(DIABETES, solver="two:Halved", levels=(3,), step_size=0.2, dense=False)
    for r in load(sweep(config, folder / "halved")).itertuples():
        given = trial_inputs(DIABETES, 3, r.data_seed, r.init_seed, r.support_seed)
        _, gradient = squares(given["X_train"], given["y_train"][:, 0])
        theta = iht(gradient, given["theta0"], r.step_size / 2, (0,) * 10 + (A,), 3, 200)
        np.testing.assert_allclose(r.theta, theta, rtol=1e-7, atol=1e-9)


def test_the_estimate_is_of_the_same_set(diabetes):
    """Of half the squared error it can't exceed the constant of (6) on pairs that share the intercept."""
    for r in load(diabetes, method="iht", s=1).itertuples():
        X = trial_inputs(DIABETES, 1, r.data_seed, r.init_seed, r.support_seed)["X_train"]
        X = np.column_stack([X, np.ones(len(X))])
        H = X.T @ X / len(X)
        most = max(np.linalg.norm(H[:, [i, j, 10]], 2) for i, j in itertools.combinations(range(10), 2))
        intercept_alone = np.linalg.norm(H[:, [10]], 2)  # as the pairs of a plain set with s = 1 may be
        assert intercept_alone < r.lipschitz_estimate <= most * (1 + 1e-9)


def test_the_dense_baseline_stays_the_dense_model(diabetes, folder):
    plain = sweep(dataclasses.replace(DIABETES, always=None, levels=(3,)), folder / "plain")
    ours, its = load(diabetes, method="gd"), load(plain, method="gd")
    np.testing.assert_array_equal(np.stack(ours.theta0), np.stack(its.theta0))
    np.testing.assert_allclose(ours.step_size, its.step_size, rtol=1e-12)
    falls = its.train_loss < 1e4  # where the estimate is too low, steps diverge and rounding grows
    assert falls.sum() >= 8
    np.testing.assert_allclose(np.stack(ours.theta[falls]), np.stack(its.theta[falls]), rtol=1e-8)
    for name in ("train_loss", "test_r2"):
        np.testing.assert_allclose(ours[name][falls], its[name][falls], rtol=1e-9)
    assert (ours.n_nonzero == 11).all() and (ours.grad_off_support == 0).all()


def test_the_highest_level_is_the_dense_model(diabetes):
    """Where s is all that is counted, H_s keeps everything; only its draws for L-hat_2s are others."""
    assert (load(diabetes, method="iht", s=10).n_nonzero == 11).all()


@pytest.mark.parametrize("s", [1, 2, 4])
def test_a_certified_step_is_valid_in_the_larger_set(s):
    config = dataclasses.replace(DIABETES, step_size="certified", always=("b", "w2"), levels=None)
    ran = run_trial(config, s, **SEEDS)
    X = trial_inputs(config, s, **SEEDS)["X_train"]
    X = np.column_stack([X, np.ones(len(X))])
    H = X.T @ X / len(X)
    others = [i for i in range(11) if i not in (1, 10)]
    supports = (sorted([1, 10, *S]) for S in itertools.combinations(others, 2 * s))
    needed = max(np.linalg.eigvalsh(H[np.ix_(S, S)])[-1] for S in supports)
    assert (1 - 1e-12) / np.linalg.eigvalsh(H)[-1] <= ran.result.step_size <= 1 / needed
    plain = 1 / squared_error_bounds(X / len(X) ** 0.5, s).rss_upper
    assert s > 1 or plain > 1 / needed  # which isn't valid here
    assert (np.diff(ran.curve.train_loss) <= 1e-9).all()


def test_patterns_and_names_are_one_configuration(iris, folder):
    for always in (("b1", "b2", "b3"), "b3, b1,b2", ("b2", "b[13]"), ["b?"]):
        assert sweep(dataclasses.replace(IRIS, always=always), folder / "iris") == iris
    stored = RunDirectory(iris).record()
    assert stored["config"]["always"] == ["b1", "b2", "b3"]
    assert "32 of 48" not in kept(iris, IRIS, False) and "safe" in kept(iris, IRIS, False)
    for always in (None, ("b1", "b2")):
        with pytest.raises(InputError, match="holds another configuration: always is b1,b2,b3 there"):
            sweep(dataclasses.replace(IRIS, always=always), folder / "iris")


def test_defaults_change_no_hash():
    assert SweepConfig().hash("x") == SweepConfig(always=None, per="network").hash("x")
    others = [SweepConfig(always=("b1",)), SweepConfig(always=("b2",)), SweepConfig(per="layer"), SweepConfig()]
    assert len({config.hash("x") for config in others}) == 4


def test_levels_run_up_to_what_is_counted(folder):
    run = sweep(dataclasses.replace(IRIS, levels=None, trials=2, steps=2, dense=False), folder / "all")
    assert sorted(load(run).s.unique()) == list(range(1, 12))

    all_but_one = SweepConfig().with_levels(15).levels
    assert SweepConfig(always=tuple(f"w{i}" for i in all_but_one)).with_levels(15).levels == (1,)


# A share of s for each layer.


def test_each_layer_keeps_its_share(layers):
    module = __import__("two")
    problem, group = module.Layers(), (0,) * 7 + (1,) * 4
    A_, y = problem.A.astype(np.float64), problem.y.astype(np.float64)
    rows = load(layers, method="iht")
    assert sorted(rows.s.unique()) == list(range(1, 11))
    for r in rows.itertuples():
        its = shares(group, r.s)
        for of in (r.theta0, r.theta):
            assert [np.count_nonzero(of[:7]), np.count_nonzero(of[7:])] == [its[0], its[1]]
        theta = iht(lambda t: A_.T @ (A_ @ t - y) / 40, r.theta0.astype(np.float64), r.step_size, group, r.s, 200)
        np.testing.assert_allclose(r.theta, theta, rtol=1e-3, atol=1e-4)
        slope, least = abs(A_.T @ (A_ @ r.theta - y) / 40), abs(np.where(r.theta == 0, np.inf, r.theta))
        margins = [
            least[its].min() - r.step_size * np.where(r.theta == 0, slope, 0)[its].max()
            for its, share in ((slice(0, 7), its[0]), (slice(7, 11), its[1]))
            if share
        ]
        assert r.n_nonzero == r.s and r.ht_margin == pytest.approx(min(margins), abs=1e-4)


def test_no_layer_is_emptied_as_it_is_without_shares(layers, folder):
    config = dataclasses.replace(LAYERS, per="network", levels=(4,), step_size=0.7)
    plain = load(sweep(config, folder / "alike"), method="iht")
    assert all(np.count_nonzero(theta[7:]) == 0 for theta in plain.theta)
    assert all(np.count_nonzero(theta[7:]) == 1 for theta in load(layers, method="iht", s=4).theta)


def test_shares_are_of_what_is_counted(folder):
    config = dataclasses.replace(LAYERS, always="*.b,l2.w1", levels=(4, 8), step_size=0.2)
    ran = {s: run_trial(config, s, **SEEDS).result.theta != 0 for s in (4, 8)}
    for s, its in ran.items():
        assert its[[6, 7, 10]].all()
        assert [its[:6].sum(), its[8:10].sum()] == [*shares((0,) * 6 + (1,) * 2, s).values()]
    with pytest.raises(InputError, match=r"^s: got 9, expected a whole number from 1 to 8, .* or 11, the dense"):
        run_trial(config, 9, **SEEDS)
    assert np.count_nonzero(run_trial(config, 11, **SEEDS).result.theta) == 11


def test_a_multi_layer_perceptron_declares_its_layers():
    config = SweepConfig(model="mlp", hidden=(3,), per="layer", always="*.b*", steps=50, step_size=0.2)
    ran = run_trial(config, 6, **SEEDS)
    layer = np.array([int(name[1]) for name in ran.names])
    counted = np.array([".w" in name for name in ran.names])
    on = ran.result.theta != 0
    assert on[~counted].all() and counted.sum() == 12 + 9
    assert [(on & counted)[layer == at].sum() for at in (1, 2)] == [*shares((0,) * 12 + (1,) * 9, 6).values()]


def test_a_plot_has_no_one_threshold_where_each_layer_has_its_own(layers):
    def labels(config):
        figure = draw_trial(run_trial(config, 4, **SEEDS))
        return " ".join(text.get_text() for text in figure.findobj(Text))

    assert "threshold" not in labels(LAYERS)
    plain = dataclasses.replace(LAYERS, per="network", always="l2.b", step_size=0.7)  # but for `per` the same
    assert "threshold" in labels(plain)


# What is refused, and what is said.


@pytest.mark.parametrize(
    "options, words",
    [
        ({"always": "c1"}, "always: no parameter is called 'c1'; name some of w11, w12, .* or patterns such as 'b.'"),
        ({"always": ("b*", "x*")}, "always: no parameter is called 'x.'"),
        ({"always": "*"}, "always: got all 15 parameters, expected at least one left"),
        ({"always": "b*", "levels": (13,)}, "levels: got 13, expected at most 12, .* but the 3 always in"),
        ({"always": 3}, "always: got 3, expected names of parameters"),
        ({"always": ("b1", 2)}, "always: got .*expected names of parameters"),
        ({"per": "neuron"}, "per: got 'neuron', expected 'network' or 'layer'"),
        ({"per": "layer"}, "per: got 'layer', but iris makes a network of one layer"),
        ({"per": "layer", "problem": "two:Layers", "always": "l2.*"}, "per: got 'layer', but two:Layers makes .*one"),
        ({"per": "layer", "problem": "two:Wrong"}, "groups: got 2 numbers, expected one for each of the 11 parameters"),
    ],
)
def test_refuses(options, words, folder):
    with pytest.raises(InputError, match=f"^{words}"):
        sweep(SweepConfig(**options), folder / "never")
    assert not (folder / "never" / "config.json").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["oracle", "iris"],
        ["atlas", "--s", "2", "--data-seed", "1", "--step-size", "0.1", "--always", "b*"],
        ["restarts", "--data-seed", "1", "--levels", "2", "--always", "b*"],
    ],
)
def test_there_is_no_oracle_in_another_set(iris, capsys, command):
    code, out, err = call(capsys, *command)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "always: no oracle where b" in err and "always in, not counted by s" in err
    with pytest.raises(InputError, match="^always: no oracle"):
        certify_run(iris)


def test_a_table_says_of_which_set_it_is(iris, layers, capsys):
    for run, words in (
        (iris, "b1, b2, b3 are always in, not counted by s"),
        (layers, "each layer keeps its share of s"),
    ):
        code, out, _ = call(capsys, "summary", run)
        assert code == 0 and words in out.splitlines()
    code, out, _ = call(capsys, "trial", "--always", "b*", "--s", "3", *_flags(SEEDS), *_flags(OF_IRIS))
    assert code == 0 and "(6 of 6 nonzero, 3 always in)" in out


def _flags(options):
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_claims_and_figures_of_the_plain_set_are_refused(iris, layers):
    for run, words in ((iris, "in this run b1, b2, b3 are always in"), (layers, "in this run each layer keeps")):
        whys = {claim.id: claim.why for claim in claims(run)}
        for id in ("rss", "distinct-values", "step-size-valid", "ht-stable-all", "right-support", "eq8-all"):
            assert (words if run == iris else "two:Layers") in whys[id], id
        assert words not in whys["f-never-rises"]
        of_the_plain_set = ["fig07", "fig08", "fig14", "fig15", "table1"]
        pictures = drawn(run, [*of_the_plain_set, "fig09", "curves"])
        pictures = {picture.name: getattr(picture, "why", None) for picture in pictures}
        for name in of_the_plain_set:
            assert words in pictures[name], name
        assert pictures["fig09"] is None and pictures["curves"] is None


@pytest.mark.parametrize("run", ["iris", "layers"])
def test_the_page_is_written_and_its_command_reproduces_a_trial(run, request, capsys):
    run = request.getfixturevalue(run)
    code, _, _ = call(capsys, "report", run)
    assert code == 0 and (run / "report.html").exists()
    program, *command = shlex.split(trial_again(Evidence(run)))
    seeds = {name: int(command[command.index(f"--{name.replace('_', '-')}") + 1]) for name in ("s", *SEEDS)}
    (row,) = load(run, **seeds).itertuples()
    code, out, _ = call(capsys, *command)
    assert code == 0 and f"training loss {row.train_loss:.6g}" in out


@pytest.mark.parametrize("change, words", [({"always": ["b1", "c"]}, "always: got"), ({"levels": [13]}, "levels: got")])
def test_a_record_of_what_can_not_be_is_damaged(iris, change, words):
    stored = RunDirectory(iris).record()
    check_config(stored)
    with pytest.raises(Damaged, match=words):
        check_config(stored | {"config": stored["config"] | change})
