import dataclasses
import functools

import jax
import numpy as np
import pytest
import reference

from ihtjax.problems.linear import Linear, parameter_names
from ihtjax.problems.losses import LOSSES
from ihtjax.problems.table import Table, load_table
from ihtjax.sweeps import trial
from ihtjax.sweeps.inputs import splits

IRIS = load_table("iris")


def softmax(table, *args, **kwargs):
    return Linear(table, LOSSES["cross_entropy"], *args, **kwargs)


def accuracy_of(problem):
    return lambda theta, view: problem.measure(theta, view)["accuracy"]


def random_table(classes, features, rows=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=rows - classes)]).astype(np.int32)
    X = rng.normal(3, 2, (rows, features)) + y[:, None]
    return Table(X, y, tuple(f"x{i}" for i in range(features)), tuple(map(str, range(classes))))


@functools.cache
def lanes(form):
    """A form over many trials, compiled whole as in a sweep."""
    return jax.jit(trial.lanes(form))


def views(problem, seeds):
    """Views of training and test rows, lanes last."""
    return jax.tree.map(lambda a: np.moveaxis(a, 0, -1), splits(problem, np.uint32(seeds)))


def lane(batched, i):
    return jax.tree.map(lambda a: a[..., i], batched)


def with_zeros(table, columns):
    X = table.X.copy()
    X[:, columns] = 0
    return dataclasses.replace(table, X=X)


TABLES = {
    "iris": IRIS,
    "two classes, many features": random_table(2, 30),
    "three classes, many features": random_table(3, 20),
    "five classes": random_table(5, 3),
    "four classes, many features": random_table(4, 17),
    "one feature": random_table(2, 1),
    "features of zeros": with_zeros(random_table(3, 20), [0, 7]),
    "few features, some of zeros": with_zeros(random_table(3, 4), [1, 2]),
    "features of zeros alone": with_zeros(random_table(3, 2), [0, 1]),
}


@functools.cache
def of_six(name, standardize="train"):
    """A table's problem, and the views of six trials."""
    problem = softmax(TABLES[name], standardize=standardize)
    return problem, *views(problem, range(6))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("standardize", ["train", "all", "none"])
def test_loss_and_gradient_agree_with_float64_numpy_on_the_trials_own_rows(name, standardize):
    table, (problem, train, test) = TABLES[name], of_six(name, standardize)
    theta = np.random.default_rng(1).normal(size=(6, problem.n)).astype(np.float32)
    if standardize == "none":
        theta *= 0.1
    grads = lanes(problem.gradient)(theta.T, train).T
    losses = {"train": lanes(problem.loss)(theta.T, train), "test": lanes(problem.loss)(theta.T, test)}
    for i in range(6):
        rows = raw_rows(table, standardize, lane(train, i))
        for name in ("train", "test"):
            X, y = rows[name]
            expected = reference.loss(theta[i : i + 1].astype(float), X[None], y[None])[0]
            assert losses[name][i] == pytest.approx(expected, rel=2e-5, abs=2e-6)
        X, y = rows["train"]
        expected = reference.gradient(theta[i : i + 1].astype(float), X[None], y[None])[0]
        np.testing.assert_allclose(grads[i], expected, rtol=2e-4, atol=5e-6 * max(1, np.abs(X).max()))


def raw_rows(table, standardize, view):
    """Training and test rows of a view, standardised here from the raw table."""
    seen = np.asarray(view.weights > 0)
    X = table.X
    if standardize != "none":
        of = X[seen] if standardize == "train" else X
        X = (X - of.mean(0)) / np.where(of.std(0) == 0, 1, of.std(0))
    return {"train": (X[seen], table.y[seen]), "test": (X[~seen], table.y[~seen])}


@pytest.mark.parametrize("name", TABLES)
def test_batched_forms_agree_with_the_plain_one_trial_forms(name):
    problem, train, test = of_six(name)
    theta = np.random.default_rng(2).normal(size=(problem.n, 6)).astype(np.float32)
    for form, plain_form, view in (
        (problem.loss, problem.plain_loss, train),
        (problem.gradient, jax.grad(problem.plain_loss), train),
        (accuracy_of(problem), accuracy_of(problem), test),
    ):
        batched, plain = lanes(form)(theta, view), jax.jit(plain_form)
        for i in range(6):
            np.testing.assert_allclose(batched[..., i], plain(theta[:, i], lane(view, i)), rtol=1e-4, atol=2e-6)


def test_parameters_may_be_batched_and_the_view_not():
    problem = softmax(IRIS)
    view = lane(views(problem, [0])[0], 0)
    theta = np.random.default_rng(3).normal(size=(7, 15)).astype(np.float32)
    for form, tolerance in ((problem.gradient, {"atol": 1e-6}), (problem.loss, {"rtol": 1e-5})):
        one, batched = jax.jit(form), jax.jit(jax.vmap(form, (0, None)))
        np.testing.assert_allclose(batched(theta, view), [one(t, view) for t in theta], **tolerance)


@pytest.mark.parametrize("table", [IRIS, TABLES["five classes"]], ids=["three classes", "five classes"])
@pytest.mark.parametrize("size", [30, 1e3, 1e6])
def test_large_logits_neither_overflow_nor_lose_the_answer(table, size):
    problem = softmax(table)
    train, _ = views(problem, range(16))
    theta = (size * np.random.default_rng(4).normal(size=(problem.n, 16))).astype(np.float32)
    grads, losses = lanes(problem.gradient)(theta, train), lanes(problem.loss)(theta, train)
    assert np.isfinite(grads).all() and np.isfinite(losses).all()
    for i in range(16):
        rows = raw_rows(table, "train", lane(train, i))["train"]
        X, y = rows
        W = theta[: -problem.outputs_per_row, i].reshape(problem.outputs_per_row, -1).astype(float)
        z = X @ W.T + theta[-problem.outputs_per_row :, i]
        z -= z.max(1, keepdims=True)
        expected = np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y])
        assert losses[i] == pytest.approx(expected, rel=1e-4)


def test_a_confident_fit_keeps_a_precise_gradient():
    """The residual of the row's own class is formed without p - 1, so it doesn't drown in rounding."""
    problem = softmax(random_table(3, 2, rows=30))
    X = problem.X
    y = problem.y
    centre = np.stack([X[y == k].mean(0) for k in range(3)])
    W = 40 * (centre - centre.mean(0))
    theta = np.concatenate([W.ravel(), -(W * centre).sum(1) / 2]).astype(np.float32)
    train, _ = views(problem, [0, 1])
    found = np.asarray(lanes(problem.gradient)(np.stack([theta] * 2, 1), train))[:, 0]
    rows = raw_rows(random_table(3, 2, rows=30), "train", lane(train, 0))["train"]
    expected = reference.gradient(theta[None].astype(float), rows[0][None], rows[1][None])[0]
    assert np.abs(found - expected).max() < 1e-5


def test_a_split_is_a_fifth_and_standardises_with_its_own_training_rows():
    problem = softmax(IRIS)
    train, test = views(problem, range(50))
    assert ((np.asarray(train.weights) > 0).sum(0) == 120).all()
    assert ((np.asarray(train.weights) > 0) ^ (np.asarray(test.weights) > 0)).all()
    for i in (0, 49):
        X, _ = problem.rows(lane(train, i))
        np.testing.assert_allclose(X.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(X.std(0), 1, atol=1e-5)


def test_every_row_is_as_likely_to_be_trained_on():
    problem = softmax(IRIS)
    share = (np.asarray(views(problem, range(4000))[0].weights) > 0).mean(1)
    # 150 shares with a standard error of 0.0063 each
    assert abs(share - 0.8).max() < 4.5 * 0.0063 and share.std() == pytest.approx(0.0063, rel=0.2)


def test_initial_parameters_have_the_stated_distributions():
    key = jax.random.key(0)
    normal = softmax(IRIS).draw(key, (40_000,))
    uniform = softmax(IRIS, init="torch_linear").draw(key, (40_000,))
    assert abs(normal.mean()) < 0.02 and normal.std() == pytest.approx(1, abs=0.02)
    assert uniform.min() >= -0.5 and uniform.max() <= 0.5 and uniform.std() == pytest.approx(1 / 12**0.5, abs=0.01)


@pytest.mark.parametrize("value", [7.0, 0.1])
def test_a_constant_feature_counts_for_nothing(value):
    table = random_table(3, 2)
    with_constant = Table(np.column_stack([table.X, np.full(60, value)]), table.y, ("a", "b", "c"), table.class_names)
    problem = softmax(with_constant)
    train, test = views(problem, range(5))
    theta = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    without = softmax(table)
    same = theta[[0, 1, 3, 4, 6, 7, 9, 10, 11]]
    for view in (train, test):
        less = view._replace(mean=view.mean[:2], scale=view.scale[:2])
        np.testing.assert_allclose(lanes(problem.loss)(theta, view), lanes(without.loss)(same, less), rtol=1e-5)
    assert (np.asarray(lanes(problem.gradient)(theta, train))[[2, 5, 8]] == 0).all()


def test_a_feature_that_is_constant_on_the_training_rows_alone_is_not_blown_up():
    table = random_table(3, 1)
    rare = np.where(np.arange(60) == 17, 1.0, 0.0)
    problem = softmax(Table(np.column_stack([table.X, rare]), table.y, ("a", "b"), table.class_names))
    train, test = views(problem, range(40))
    held_out = np.asarray(train.weights)[17] == 0
    assert 0 < held_out.sum() < 40
    assert (np.asarray(train.scale)[1, held_out] == 1).all()
    theta = np.ones((9, 40), np.float32)
    grads = np.asarray(lanes(problem.gradient)(theta, train))
    assert np.abs(grads[[1, 3, 5]][:, held_out]).max() < 1e-6
    assert np.asarray(lanes(problem.loss)(theta, test)).max() < 20


def test_names_are_class_first_then_feature():
    assert parameter_names(3, 4) == "w11 w12 w13 w14 w21 w22 w23 w24 w31 w32 w33 w34 b1 b2 b3".split()
    assert parameter_names(2, 11)[10] == "w1_11" and parameter_names(2, 11)[-1] == "b2"


@pytest.mark.parametrize("loss", ["poisson", "squared"])
def test_lanes_of_features_of_zeros_alone_are_apart(loss):
    """Outputs without a product have no rows of their own; where a loss may overflow they were mixed across lanes."""
    y = np.random.default_rng(0).poisson(3, (60, 1)).astype(np.float64)
    problem = Linear(Table(np.zeros((60, 1)), y, ("a",), (), ("y",)), LOSSES[loss])
    train, _ = views(problem, range(4))
    theta = np.random.default_rng(1).normal(size=(problem.n, 4)).astype(np.float32)
    for form, plain in ((problem.loss, problem.plain_loss), (problem.gradient, jax.grad(problem.plain_loss))):
        batched = lanes(form)(theta, train)
        for i in range(4):
            np.testing.assert_allclose(batched[..., i], plain(theta[:, i], lane(train, i)), rtol=1e-4, atol=1e-6)
