"""Linear models under every loss, held against float64 NumPy that shares nothing with the package."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import reference
from sklearn import metrics

from ihtjax import SweepConfig, load, sweep, trial_inputs
from ihtjax.problems import linear
from ihtjax.problems.linear import Linear
from ihtjax.problems.losses import LOSSES
from ihtjax.problems.table import Table
from ihtjax.solvers import draws
from ihtjax.sweeps import trial

# The losses once more. Outputs z and targets y are [.., m, q]; classes are y [.., m].


def one_hot(z, y):
    return y[..., None] == np.arange(z.shape[-1])


def cross_entropy(z, y):
    top = z.max(-1)
    return top + np.log(np.exp(z - top[..., None]).sum(-1)) - (z * one_hot(z, y)).sum(-1)


def softmax_less_one_hot(z, y):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) - one_hot(z, y)


def huber(z, y):
    r = np.abs(z - y)
    return np.where(r <= 1.35, r**2 / 2, 1.35 * (r - 1.35 / 2)).sum(-1)


VALUES = {
    "cross_entropy": cross_entropy,
    "logistic": lambda z, y: np.logaddexp(0, z[..., 0]) - y * z[..., 0],
    "squared": lambda z, y: ((z - y) ** 2).sum(-1) / 2,
    "huber": huber,
    "poisson": lambda z, y: (np.exp(z) - y * z).sum(-1),
}
SLOPES = {
    "cross_entropy": softmax_less_one_hot,
    "logistic": lambda z, y: 1 / (1 + np.exp(-z)) - y[..., None],
    "squared": lambda z, y: z - y,
    "huber": lambda z, y: np.where(np.abs(z - y) <= 1.35, z - y, 1.35 * np.sign(z - y)),
    "poisson": lambda z, y: np.exp(z) - y,
}


def outputs(theta, X):
    """z ``[T, m, q]`` for theta ``[T, n]``: q rows of weights, then q biases."""
    T, d = len(theta), X.shape[-1]
    q = theta.shape[-1] // (d + 1)
    return X @ theta[:, : q * d].reshape(T, q, d).transpose(0, 2, 1) + theta[:, None, q * d :]


def mean_loss(name, theta, X, y):
    return VALUES[name](outputs(theta, X), y).mean(-1)


def gradient(name, theta, X, y):
    R = SLOPES[name](outputs(theta, X), y)
    dW = R.transpose(0, 2, 1) @ X
    return np.concatenate([dW.reshape(len(theta), -1), R.sum(1)], axis=-1) / X.shape[-2]


# Sweeps of each loss.


@pytest.fixture(scope="module")
def counts_csv(tmp_path_factory):
    """Counts whose logarithm of the mean is linear in five features."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5))
    path = tmp_path_factory.mktemp("counts") / "counts.csv"
    frame = pd.DataFrame(X, columns=list("abcde"))
    frame.assign(visits=rng.poisson(np.exp(0.8 + X @ [0.6, -0.4, 0.3, 0, 0]))).to_csv(path, index=False)
    return str(path)


RUNS = {
    "iris": {"loss": "cross_entropy", "levels": (3, 8), "step_size": 0.5},
    "wine": {"data": "sklearn:wine", "levels": (4, 12), "step_size": 0.4},
    "breast_cancer": {"data": "sklearn:breast_cancer", "loss": "logistic", "levels": (3, 8), "step_size": 0.3},
    "diabetes": {"data": "sklearn:diabetes", "levels": (3, 8), "step_size": "certified"},
    "diabetes, huber": {"data": "sklearn:diabetes", "loss": "huber", "levels": (3, 8), "step_size": "certified"},
    "linnerud": {"data": "sklearn:linnerud", "levels": (3, 8), "step_size": "certified"},
    "counts": {"target": "visits", "loss": "poisson", "levels": (2, 4), "step_size": 0.05},
}


def measured(loss, y, z):
    """What scikit-learn makes of targets and outputs."""
    if loss == "poisson":
        return metrics.mean_poisson_deviance(y[:, 0], np.exp(z[:, 0]))
    if loss == "cross_entropy":
        return metrics.accuracy_score(y, z.argmax(1))
    return metrics.accuracy_score(y, z[:, 0] > 0) if loss == "logistic" else metrics.r2_score(y, z)


@pytest.mark.parametrize("name", RUNS)
def test_a_sweep_ends_where_float64_numpy_ends(name, tmp_path, counts_csv):
    """1,000 steps of Algorithm 1 from each row's inputs with its step size; 20 trials at two levels."""
    options = {"data": counts_csv} | RUNS[name] if name == "counts" else RUNS[name]
    config = SweepConfig(**options, trials=20, steps=1000, curve_points=0, dense=False)
    frame = load(sweep(config, tmp_path / "run"))
    loss = config.loss or ("cross_entropy" if name == "wine" else "squared")
    metric = {"poisson": "deviance", "squared": "r2", "huber": "r2"}.get(loss, "accuracy")
    rows = list(frame.itertuples())
    # A trial's rows are the same at both levels.
    of = {r.trial: trial_inputs(config, r.s, r.data_seed, r.init_seed, r.support_seed) for r in rows[:20]}
    inputs = [of[r.trial] for r in rows]
    X, y = (np.stack([i[k] for i in inputs]).astype(np.float64) for k in ("X_train", "y_train"))
    theta = np.stack(frame.theta0).astype(np.float64)
    np.testing.assert_array_equal(theta[:20], [i["theta0"] for i in inputs[:20]])
    for _ in range(config.steps):
        theta = theta - frame.step_size.to_numpy(np.float64)[:, None] * gradient(loss, theta, X, y)
        theta = reference.hard_threshold(theta, frame.s.to_numpy())
    ours = np.stack(frame.theta)
    same = ((ours != 0) == (theta != 0)).all(1)
    assert len(same) == 40 and (frame.status == "ok").all()
    losses = mean_loss(loss, theta, X, y)
    off = np.abs(frame.train_loss - losses) / np.maximum(1, np.abs(losses))
    print(f"{name}: {same.sum()} of {len(same)} supports are equal, losses within {off[same].max():.1e}")
    assert same.mean() >= 0.99 and off[same].max() < 1e-4
    for i, row in enumerate(rows):
        for part in ("train", "test"):
            X, y = (inputs[i][f"{k}_{part}"].astype(np.float64) for k in "Xy")
            z = outputs(ours[i : i + 1].astype(np.float64), X)[0]
            assert getattr(row, f"{part}_{metric}") == pytest.approx(measured(loss, y, z), rel=1e-4, abs=1e-5)


# The batched forms on small tables of each kind.


def made(kind, q, rows=40, d=3):
    """A table of q classes, of q numbers or of q counts."""
    rng = np.random.default_rng(q)
    X, names = rng.normal(3, 2, (rows, d)), tuple(f"x{f}" for f in range(d))
    if kind == "classes":
        return Table(X, (np.arange(rows) % q).astype(np.int32), names, tuple(map(str, range(q))))
    y = rng.poisson(3, (rows, q)) if kind == "counts" else rng.normal(0, 2, (rows, q))
    return Table(X, y.astype(np.float64), names, (), tuple(f"y{k}" for k in range(q)))


CASES = {
    "cross_entropy, 3": ("cross_entropy", made("classes", 3)),
    "cross_entropy, 5": ("cross_entropy", made("classes", 5)),
    "logistic, many features": ("logistic", made("classes", 2, d=20)),
    "squared, 3 targets": ("squared", made("numbers", 3)),
    "huber, 2 targets": ("huber", made("numbers", 2)),
    "poisson": ("poisson", made("counts", 1)),
    # in blocks, the last of which isn't full
    "cross_entropy, in blocks": ("cross_entropy", made("classes", 5, rows=61, d=20)),
    "logistic, in blocks": ("logistic", made("classes", 2, rows=61, d=20)),
    "huber, in blocks": ("huber", made("numbers", 2, rows=61, d=20)),
    "poisson, in blocks": ("poisson", made("counts", 1, rows=61, d=20)),
}
LANES = 3


@pytest.fixture
def in_blocks(monkeypatch):
    """Rows of 16 features or more are taken in blocks of as few rows as there may be, d + 1."""
    monkeypatch.setattr(linear, "BLOCK_NUMBERS", 1)


def test_rows_are_summed_in_blocks_of_at_most_so_many(in_blocks):
    a, b = np.arange(7.0, dtype=np.float32), np.arange(14, dtype=np.int32).reshape(7, 2)
    seen = []

    def function(a, both):
        seen.append(len(a))
        return jnp.sum(a) + jnp.sum(both[0] * both[1])

    for at_a_time, length in ((7, 7), (9, 7), (3, 3), (4, 4), (1, 1)):
        seen.clear()
        assert linear.sum_of_blocks(function, (a, [b, b]), at_a_time) == np.sum(a) + np.sum(b * b)
        assert set(seen) == {length}


@functools.cache
def compiled(case, dtype):
    """A problem, its training views with lanes last, and loss and gradient: of a batch, of one, by autodiff of one."""
    loss, table = CASES[case]
    problem = Linear(table, LOSSES[loss], dtype=dtype)
    split = jax.jit(jax.vmap(lambda seed: problem.split(draws.stream(draws.DATA, seed)), out_axes=-1))
    view = jax.device_get(split(np.arange(LANES, dtype=np.uint32))[0])

    def both(theta, view):
        return problem.loss(theta, view), problem.gradient(theta, view)

    plain = jax.value_and_grad(problem.plain_loss)
    return problem, view, jax.jit(trial.lanes(both)), jax.jit(both), jax.jit(plain)


def parameters(problem, scale=1.0):
    theta = scale * np.random.default_rng(1).normal(size=(problem.n, LANES))
    return theta.astype(problem.dtype)


def lane(tree, i):
    return jax.tree.map(lambda a: a[..., i], tree)


def rows_seen(problem, view):
    """The training rows of a lane, standardised here from the raw table in float64."""
    seen = np.asarray(view.weights) > 0
    X = problem.table.X[seen]
    return (X - X.mean(0)) / X.std(0), problem.table.y[seen]


def differences(f, theta, h=1e-5):
    """Central finite differences of f at theta ``[n]``."""
    steps = h * np.eye(len(theta))
    return (f(theta + steps) - f(theta - steps)) / (2 * h)


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_agree_with_numpy_and_its_finite_differences(case, compilations):
    """In float64, one trial at a time and many at once; a second call compiles nothing."""
    with draws.settings("float64"):
        problem, view, batched, one, _ = compiled(case, "float64")
        theta, name = parameters(problem), problem.criterion.name
        together = batched(theta, view)
        for i in range(LANES):
            X, y = rows_seen(problem, lane(view, i))
            expected = mean_loss(name, theta[None, :, i], X, y)[0]
            slope = differences(lambda T, X=X, y=y: mean_loss(name, T, X, y), theta[:, i])
            for loss, grad in (lane(together, i), one(theta[:, i], lane(view, i))):
                assert loss == pytest.approx(expected, rel=1e-12)
                assert np.abs(grad - slope).max() < 1e-6 * max(1, np.abs(slope).max())
        compilations.clear()
        batched(theta + 1, view)
        one(theta[:, 0] + 1, lane(view, 0))
        assert not compilations


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("case", [case for case in CASES if case != "poisson, in blocks"])  # it overflows elsewhere
@pytest.mark.parametrize("scale", [1.0, 8.0, 1e3])
def test_batched_forms_are_the_plain_ones_looped(case, scale):
    """In float32, at moderate and at extreme parameters; where numbers leave the range, they do so in both."""
    with draws.settings("float32"):
        problem, view, batched, _, plain = compiled(case, "float32")
        theta = parameters(problem, scale)
        losses, grads = batched(theta, view)
        for i in range(LANES):
            loss, grad = plain(theta[:, i], lane(view, i))
            np.testing.assert_allclose(losses[i], loss, rtol=2e-5, atol=1e-6)
            np.testing.assert_allclose(grads[:, i], grad, rtol=2e-4, atol=1e-5 * np.nanmax([1, abs(loss)]))


def test_counts_that_overflow_end_as_infinity_or_nan():
    """float64 knows how large e^z is; where float32 can't hold it, no finite number is returned."""
    with draws.settings("float32"):
        problem, view, batched, _, _ = compiled("poisson", "float32")
        theta = parameters(problem, 1e3)
        losses, grads = map(np.asarray, batched(theta, view))
    for i in range(LANES):
        X, y = rows_seen(problem, lane(view, i))
        with np.errstate(over="ignore"):
            largest = mean_loss("poisson", theta[None, :, i].astype(np.float64), X, y)[0]
        assert largest > np.finfo(np.float32).max
        assert not np.isfinite(losses[i]) and not np.isfinite(grads[:, i]).all()


@pytest.mark.parametrize("loss, kind", [("poisson", "counts"), ("squared", "numbers")])
def test_rows_that_are_not_seen_do_not_count_however_far_out_they_lie(loss, kind):
    """A held-out row far from all others overflows e^z; the training loss and gradient are finite all the same."""
    table = made(kind, 1)
    far = table.X.copy()
    far[7] += 1e4
    problem = Linear(Table(far, table.y, table.feature_names, table.class_names, table.target_names), LOSSES[loss])
    with draws.settings("float32"):
        split = jax.jit(lambda seed: problem.split(draws.stream(draws.DATA, seed))[0])
        views = [split(np.uint32(seed)) for seed in range(20)]
        view = next(view for view in views if view.weights[7] == 0)
        theta = np.linspace(0.2, 0.5, 4, dtype=np.float32)
        stacked = jax.tree.map(lambda a: np.stack([a, a], -1), view)

        def both(theta, view):
            return problem.loss(theta, view), problem.gradient(theta, view)

        batched = jax.jit(trial.lanes(both))(np.stack([theta] * 2, 1), stacked)
        plain = jax.jit(both)(theta, view)
    X, y = rows_seen(problem, view)
    for found, slope in (lane(batched, 0), plain):
        assert found == pytest.approx(mean_loss(loss, theta[None].astype(np.float64), X, y)[0], rel=1e-3)
        np.testing.assert_allclose(slope, gradient(loss, theta[None].astype(np.float64), X[None], y)[0], atol=5e-3)


@pytest.mark.parametrize("case", ["cross_entropy, 3", "huber, 2 targets"])
def test_a_problem_comes_back_from_a_pickle_as_it_was(case):
    with draws.settings("float32"):
        problem, view, batched, _, _ = compiled(case, "float32")
        theta = parameters(problem)
        back = pickle.loads(pickle.dumps(problem))
        assert back is not problem and back.fingerprint == problem.fingerprint and back.names == problem.names
        found = jax.jit(trial.lanes(back.gradient))(theta, view)
        np.testing.assert_array_equal(found, batched(theta, view)[1])
