"""Multi-layer perceptrons, held against backpropagation written by hand in float64 NumPy."""

import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from test_losses import SLOPES, VALUES, differences, lane, rows_seen

from ihtjax import InputError, SweepConfig
from ihtjax.problems import mlp
from ihtjax.problems.base import Problem
from ihtjax.problems.losses import LOSSES
from ihtjax.problems.mlp import MLP
from ihtjax.problems.table import Table
from ihtjax.solvers import draws
from ihtjax.solvers.iht import iht_step
from ihtjax.sweeps import config, engine, trial
from ihtjax.sweeps.columns import structure_record
from ihtjax.sweeps.programs import IGNORED

# Each activation, and its slope as a function of its value.
ACTS = {
    "tanh": (np.tanh, lambda a: 1 - a**2),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda a: a * (1 - a)),
    "relu": (lambda z: np.maximum(z, 0), lambda a: a > 0),
}


def layers(theta, sizes):
    """W ``[T, outputs, inputs]`` and b ``[T, outputs]`` of each layer, read off theta ``[T, n]`` from its start."""
    at, T = 0, len(theta)
    for d, q in itertools.pairwise(sizes):
        W, b = theta[:, at : at + q * d].reshape(T, q, d), theta[:, at + q * d : at + q * d + q]
        at += q * d + q
        yield W, b
    assert at == theta.shape[1]


def forward(theta, X, sizes, act):
    """What each layer passes on, ``[T, m, size]``: the rows, hidden units, outputs."""
    passed = [X]
    for W, b in layers(theta, sizes):
        X = X @ W.transpose(0, 2, 1) + b[:, None]
        if len(passed) < len(sizes) - 1:
            X = ACTS[act][0](X)
        passed.append(X)
    return passed


def mean_loss(loss, theta, X, y, sizes, act):
    return VALUES[loss](forward(theta, X, sizes, act)[-1], y).mean(-1)


def backprop(loss, theta, X, y, sizes, act):
    """The gradient ``[T, n]``."""
    passed = forward(theta, X, sizes, act)
    R = SLOPES[loss](passed[-1], y) / X.shape[-2]
    parts = []
    for (W, _), a in zip(list(layers(theta, sizes))[::-1], passed[-2::-1]):
        parts = [(R.transpose(0, 2, 1) @ a).reshape(len(theta), -1), R.sum(1), *parts]
        R = (R @ W) * ACTS[act][1](a)
    return np.concatenate(parts, axis=1)


# Every activation under every loss, on a small table of its kind.


def informative(kind, q, rows=36, d=3):
    """A table of q classes, of q numbers or of q counts that hang on the features, in no simple way."""
    rng = np.random.default_rng(q)
    u = rng.normal(size=(rows, d))
    score = np.tanh(u @ rng.normal(size=(d, q))) + 0.3 * rng.normal(size=(rows, q))
    y = {"classes": score.argmax(1), "numbers": 2 * score, "counts": rng.poisson(np.exp(1 + score)).astype(float)}[kind]
    features = tuple(f"x{f}" for f in range(d))
    if kind == "classes":
        return Table(3 + 2 * u, y.astype(np.int32), features, tuple(map(str, range(q))))
    return Table(3 + 2 * u, y, features, (), tuple(f"y{k}" for k in range(q)))


TABLES = {
    "cross_entropy": informative("classes", 3),
    "logistic": informative("classes", 2),
    "squared": informative("numbers", 3),
    "huber": informative("numbers", 2),
    "poisson": informative("counts", 1),
}
GAMMA = {"cross_entropy": 0.1, "logistic": 0.1, "squared": 0.03, "huber": 0.04, "poisson": 0.02}
HIDDEN, LANES, STEPS, FEW = (4, 3), 100, 1000, 3
every_case = pytest.mark.parametrize("loss, act", list(itertools.product(TABLES, ACTS)))


def model(loss="cross_entropy", act="tanh", hidden=HIDDEN, **options):
    return MLP(TABLES[loss], LOSSES[loss], hidden, act, **options)


VIEWS = {}


def views(problem, lanes):
    """The training views of the first data seeds, lanes last; they depend on no layer, so one split serves all."""
    key = problem.table.fingerprint, problem.standardize, str(problem.dtype)
    if key not in VIEWS:
        split = jax.jit(jax.vmap(lambda seed: problem.split(draws.stream(draws.DATA, seed))[0], out_axes=-1))
        VIEWS[key] = jax.device_get(split(np.arange(LANES, dtype=np.uint32)))
    return lane(VIEWS[key], slice(lanes))


def shape_of(problem):
    return problem.table.X.shape[1], *problem.hidden, problem.outputs_per_row


def parameters(problem, lanes, scale=1.0):
    theta = scale * np.random.default_rng(1).normal(size=(problem.n, lanes))
    return theta.astype(problem.dtype)


def both(problem):
    return lambda theta, view: (problem.loss(theta, view), problem.gradient(theta, view))


def check_derivatives(problem, compilations):
    """Loss and gradient in float64, of a batch and of one trial, against backpropagation and finite differences."""
    sizes, name, act = shape_of(problem), problem.criterion.name, problem.activation
    with draws.settings("float64"):
        view, theta = views(problem, FEW), parameters(problem, FEW)
        batched = jax.jit(trial.lanes(both(problem)))
        losses, grads = jax.device_get(batched(theta, view))
        compilations.clear()
        batched(theta + 1, view)
        assert not compilations
    for i in range(FEW):
        X, y = rows_seen(problem, lane(view, i))
        T = theta[None, :, i]
        inside = [X[None], *forward(T, X, sizes, act)][:-1]
        kinks = [a @ W.transpose(0, 2, 1) + b[:, None] for a, (W, b) in zip(inside[1:-1], layers(T, sizes))]
        assert act != "relu" or min(np.abs(z).min() for z in kinks) > 2e-4  # ten times as far as h moves it
        slope = backprop(name, T, X, y, sizes, act)[0]
        by_differences = differences(lambda T, X=X, y=y: mean_loss(name, T, X, y, sizes, act), theta[:, i], h=1e-6)
        assert losses[i] == pytest.approx(mean_loss(name, T, X, y, sizes, act)[0], rel=1e-11)
        np.testing.assert_allclose(grads[:, i], slope, rtol=1e-9, atol=1e-11 * np.abs(slope).max())
        assert np.abs(grads[:, i] - by_differences).max() < 1e-6 * max(1, np.abs(slope).max())


@every_case
def test_loss_and_gradient_are_those_of_backpropagation_and_of_finite_differences(loss, act, compilations):
    check_derivatives(model(loss, act, dtype="float64"), compilations)


@pytest.mark.parametrize("loss, hidden", [("squared", (1,)), ("cross_entropy", (2, 1, 3)), ("logistic", (20,))])
def test_so_are_those_of_odd_sizes(loss, hidden, compilations):
    """A single hidden unit, a bottleneck of one, and more units than sums are written out for."""
    check_derivatives(model(loss, hidden=hidden, dtype="float64"), compilations)


@every_case
def test_a_thousand_steps_end_where_float64_numpy_ends(loss, act):
    """Algorithm 1 from the same start, split and step size; 100 trials at four levels."""
    problem, gamma = model(loss, act), np.float32(GAMMA[loss])
    s = np.resize(np.array([4, 8, 14, 25], np.int32), LANES)
    order = np.random.default_rng(2).random((problem.n, LANES)).argsort(0).argsort(0)

    def step(theta, view, s):
        loss, slope = both(problem)(theta, view)
        return loss, iht_step(lambda _: slope, theta, gamma, s)

    with draws.settings("float32"):
        view = views(problem, LANES)
        start = found = np.where(order < s, parameters(problem, LANES), 0)
        batched = jax.jit(trial.lanes(step))
        for _ in range(STEPS):
            _, found = batched(found, view, s)
        losses, _ = batched(found, view, s)
    X, y = (np.stack(part) for part in zip(*(rows_seen(problem, lane(view, i)) for i in range(LANES))))
    theta, sizes = start.T.astype(np.float64), shape_of(problem)
    for _ in range(STEPS):
        theta = reference.hard_threshold(theta - gamma * backprop(loss, theta, X, y, sizes, act), s)
    expected = mean_loss(loss, theta, X, y, sizes, act)
    same = ((np.asarray(found).T != 0) == (theta != 0)).all(1)
    close = np.abs(losses - expected) <= 1e-4 * np.maximum(1, np.abs(expected))
    assert (same & close).mean() >= 0.99


@pytest.mark.parametrize("loss, act", [("cross_entropy", "tanh"), ("poisson", "relu"), ("huber", "sigmoid")])
def test_batched_forms_are_the_plain_ones_looped_however_many_are_taken_at_a_time(loss, act, monkeypatch):
    """In float32, at moderate and at extreme parameters; where numbers leave the range, they do so in both."""
    lanes, plain_of = 7, {}
    for at_a_time in (7, 3):
        monkeypatch.setattr(mlp, "NUMBERS_AT_A_TIME", at_a_time * 36 * 4)
        problem = model(loss, act)
        with draws.settings("float32"):
            view = views(problem, lanes)
            batched, plain = jax.jit(trial.lanes(both(problem))), jax.jit(jax.value_and_grad(problem.plain_loss))
            for scale in (1.0, 30.0, 1e4):
                theta = parameters(problem, lanes, scale)
                losses, grads = jax.device_get(batched(theta, view))
                for i in range(lanes):
                    if (scale, i) not in plain_of:
                        plain_of[scale, i] = jax.device_get(plain(theta[:, i], lane(view, i)))
                    value, slope = plain_of[scale, i]
                    np.testing.assert_allclose(losses[i], value, rtol=5e-5, atol=1e-6)
                    if not np.isfinite(slope).all():
                        assert not np.isfinite(grads[:, i]).all()
                        continue
                    np.testing.assert_allclose(grads[:, i], slope, rtol=5e-4, atol=2e-5 * max(1, np.abs(slope).max()))


def test_parameters_may_be_batched_and_the_view_not():
    problem = model()
    with draws.settings("float32"):
        view, theta = lane(views(problem, 1), 0), parameters(problem, 5)
        found = jax.jit(jax.vmap(problem.gradient, (1, None), 1))(theta, view)
        one = jax.jit(problem.gradient)
        for i in range(5):
            np.testing.assert_allclose(found[:, i], one(theta[:, i], view), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("standardize", ["train", "all"])
def test_constant_columns_count_for_nothing(standardize):
    table = TABLES["cross_entropy"]
    padded = np.insert(table.X, [0, 2, 3], [7.0, 0.1, 0.0], axis=1)
    wide = Table(padded, table.y, tuple("abcdef"), table.class_names)
    problem = MLP(wide, LOSSES["cross_entropy"], (4,), standardize=standardize)
    without = MLP(table, LOSSES["cross_entropy"], (4,), standardize=standardize)
    live = np.flatnonzero(np.isin([name[-1] for name in problem.names[:24]], ["2", "3", "5"]))
    same = np.concatenate([live, np.arange(24, problem.n)])
    with draws.settings("float32"):
        theta, view = parameters(problem, 4), views(problem, 4)
        losses, grads = map(np.asarray, jax.jit(trial.lanes(both(problem)))(theta, view))
        expected, slopes = jax.jit(trial.lanes(both(without)))(theta[same], views(without, 4))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(grads[same], slopes, rtol=1e-3, atol=1e-5)
    assert not np.delete(grads, same, axis=0).any() and len(same) == problem.n - 12


# What it is called, and how it starts.


def test_parameters_are_named_by_layer_weights_before_biases():
    names = model(hidden=(2,)).names
    weights = "l1.w11 l1.w12 l1.w13 l1.w21 l1.w22 l1.w23 l1.b1 l1.b2 l2.w11 l2.w12 l2.w21 l2.w22 l2.w31 l2.w32"
    assert names == [*weights.split(), "l2.b1", "l2.b2", "l2.b3"]
    wide = model("poisson", hidden=(12,)).names
    assert wide[:2] == ["l1.w1_1", "l1.w1_2"] and wide[35] == "l1.w12_3" and wide[36:38] == ["l1.b1", "l1.b2"]
    assert wide[48:50] == ["l2.w1", "l2.w2"] and wide[-2:] == ["l2.w12", "l2.b"]


def test_torch_linear_draws_each_layer_by_its_own_fan_in():
    problem = model(init="torch_linear", hidden=(16,))
    key, count = jax.random.key(0), 2000
    theta = np.asarray(problem.draw(key, (count * problem.n,))).reshape(count, problem.n)
    np.testing.assert_array_equal(theta, problem.draw(key, (count, problem.n)))
    first, bounds = 16 * 4, (3**-0.5, 0.25)
    for part, bound in zip((theta[:, :first], theta[:, first:]), bounds):
        assert 0.99 * bound < np.abs(part).max() <= bound and part.std() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert abs(part.mean()) < 0.01 * bound


def test_each_network_has_a_fingerprint_and_a_hash_of_its_own():
    networks = [{}, {"hidden": (4,)}, {"hidden": (3, 4)}, {"act": "relu"}, {"init": "torch_linear"}]
    fingerprints = [model(**options).fingerprint for options in networks]
    assert len(set(fingerprints)) == 5 and model().fingerprint == fingerprints[0]
    own = [{"hidden": 4}, {"hidden": 5}, {"hidden": (4, 5)}, {"hidden": 4, "activation": "relu"}]
    hashes = {SweepConfig(model="mlp", **options).hash("data") for options in own}
    assert len(hashes | {SweepConfig().hash("data")}) == 5
    back = pickle.loads(pickle.dumps(model("huber", "relu")))
    assert back.fingerprint == model("huber", "relu").fingerprint and back.names == model("huber").names


def test_every_model_is_registered_with_its_options():
    assert config.MODELS.keys() == engine.MODELS.keys() and set(config.MODEL_OPTIONS) <= set(IGNORED)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"hidden": 5}, "hidden: got (5,) for the linear model, which has none; say model mlp, or leave it out"),
        ({"activation": "relu"}, "activation: got 'relu' for the linear model, which has none; say model mlp, or"),
        ({"model": "mlp"}, "hidden: missing, expected the widths of the hidden layers"),
        ({"model": "mlp", "hidden": ()}, "hidden: got (), expected the widths"),
        ({"model": "mlp", "hidden": (3, 0)}, "hidden: got (3, 0), expected the widths"),
        ({"model": "mlp", "hidden": "3"}, "hidden: got '3', expected the widths"),
        ({"model": "mlp", "hidden": 3, "activation": "step"}, "activation: got 'step', expected 'tanh' or"),
        ({"model": "tree"}, "model: got 'tree', expected 'linear' or 'mlp'"),
        ({"problem": "a:B", "hidden": 3}, "hidden: got (3,) beside a problem"),
    ],
)
def test_what_fits_no_model_is_refused(options, said):
    with pytest.raises(InputError) as error:
        SweepConfig(**options)
    assert str(error.value).startswith(said)


# What the zeros of theta say.


def on_paths(theta, sizes, sources):
    """The entries of theta that some path of nonzeros from a source to an output takes, by following every path.

    A source is (layer, unit); layer 0 are the features, and a bias is a source that leads to its unit alone.
    """
    ways, at = {}, 0  # from a unit: the entries that lead on, each with the unit that it leads to
    for k, (d, q) in enumerate(itertools.pairwise(sizes)):
        for i in range(q):
            for j in range(d):
                ways.setdefault((k, j), []).append((at + i * d + j, (k + 1, i)))
            ways[k, f"bias {i}"] = [(at + q * d + i, (k + 1, i))]
        at += q * (d + 1)
    sources = [*sources, *(unit for unit in ways if isinstance(unit[1], str))]
    taken, begun = set(), [(source, ()) for source in sources]
    while begun:
        (layer, unit), path = begun.pop()
        if layer == len(sizes) - 1:
            taken |= set(path)
        begun += [(there, (*path, entry)) for entry, there in ways.get((layer, unit), []) if theta[entry] != 0]
    return taken


@pytest.mark.parametrize("act", ACTS)
def test_effective_nonzeros_are_those_on_a_path_and_the_others_change_no_output(act):
    table = TABLES["cross_entropy"]
    wide = Table(np.insert(table.X, 1, 7.0, axis=1), table.y, tuple("abcd"), table.class_names)
    problem = MLP(wide, LOSSES["cross_entropy"], (3, 2), act)
    sizes, rng, X = (4, 3, 2, 3), np.random.default_rng(0), wide.X - wide.X.mean(0)
    lanes = 200
    theta = rng.normal(size=(lanes, problem.n)) * (
        rng.random((lanes, problem.n)) < np.linspace(0.05, 0.9, lanes)[:, None]
    )
    found = jax.device_get(jax.jit(trial.lanes(problem.structure))(theta.T.astype(np.float32)))
    features = [(0, j) for j in (0, 2, 3)]  # the second is 0 on every row
    units = [(1, i) for i in range(3)] + [(2, i) for i in range(2)]
    for i, own in enumerate(theta):
        taken = on_paths(own, sizes, features + units * (act == "sigmoid"))
        assert found["n_effective"][i] == len(taken)
        assert found["collapsed"][i] == (not any(own[list(path)].all() for path in paths_from(features, sizes)))
        z = forward(own[None], X, sizes, act)[-1]
        without = np.where(np.isin(np.arange(problem.n), list(taken)), own, 0)
        np.testing.assert_array_equal(forward(without[None], X, sizes, act)[-1], z)
        if act != "relu":  # whose units may be 0 on every row
            assert found["collapsed"][i] == (np.ptp(z, axis=1).max() < 1e-12)
            for entry in taken:
                less = np.where(np.arange(problem.n) == entry, 0, own)
                assert (forward(less[None], X, sizes, act)[-1] != z).any()
    assert 20 < found["collapsed"].sum() < 180


def paths_from(features, sizes):
    """The entries of every path from a feature to an output that the network has room for."""
    starts = np.cumsum([0, *(q * (d + 1) for d, q in itertools.pairwise(sizes))])
    for _, first in features:
        for units in itertools.product(*map(range, sizes[1:])):
            steps = zip(starts, sizes, itertools.pairwise((first, *units)))
            yield [at + i * d + j for at, d, (j, i) in steps]


def test_a_network_without_an_output_layer_has_collapsed():
    problem = MLP(TABLES["cross_entropy"], LOSSES["cross_entropy"], (16,))
    theta = np.zeros(problem.n, np.float32)
    theta[:10] = 1
    found = problem.structure(theta)
    assert (found["n_effective"], found["collapsed"]) == (0, True)
    biased = problem.structure(np.where(np.arange(problem.n) == problem.n - 1, 1, theta))
    assert (biased["n_effective"], biased["collapsed"]) == (1, True)


class Odd(Problem):
    names, structural = ["a", "b"], {"odd": "whether it is odd"}

    def loss(self, theta, view):
        return jnp.sum(theta**2)

    def structure(self, theta):
        return self.returned(theta)


@pytest.mark.parametrize(
    "returned, said",
    [
        (lambda theta: {}, "structure returns nothing, expected what structural declares, 'odd'"),
        (
            lambda theta: {"odd": theta},
            "structure returns float32\\[2\\] as 'odd', expected a",
        ),
        (lambda theta: {"odd": theta[0], "s": theta[0]}, "structure returns 'odd', 's', expected what"),
    ],
)
def test_what_a_problem_says_and_declares_must_agree(returned, said):
    problem = Odd()
    problem.returned = returned
    with pytest.raises(InputError, match=said):
        structure_record(problem, SweepConfig())
    problem.returned = lambda theta: {"odd": theta[0] > 1}
    assert structure_record(problem, SweepConfig()) == {"odd": ["bool", "whether it is odd"]}
    problem.returned, problem.structural = (lambda theta: {"theta": theta[0]}), {"theta": "twice"}
    with pytest.raises(InputError, match="under a name that is no column"):
        structure_record(problem, SweepConfig())
