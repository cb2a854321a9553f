"""Canonical forms of multi-layer perceptrons: networks that are one function, and networks that aren't."""

import numpy as np
import pytest
from test_mlp import ACTS, forward, layers

from ihtjax import InputError, canonical_network

SIZES = (3, 5, 4, 2)
X = np.random.default_rng(9).normal(size=(1, 40, 3))
each_activation = pytest.mark.parametrize("act", ACTS)


def outputs(theta, act, sizes=SIZES):
    return forward(np.atleast_2d(theta), X, sizes, act)[-1][0]


def taken_apart(theta, sizes=SIZES):
    return [(W[0].copy(), b[0].copy()) for W, b in layers(np.atleast_2d(theta), sizes)]


def joined(parts):
    return np.concatenate([part.ravel() for pair in parts for part in pair])


def random_network(seed, zeros=0.3):
    rng = np.random.default_rng(seed)
    n = sum(q * (d + 1) for d, q in zip(SIZES, SIZES[1:]))
    return rng.normal(size=n) * (rng.random(n) > zeros), rng


def reordered(parts, rng):
    for (W, b), (V, _) in zip(parts, parts[1:]):
        order = rng.permutation(len(b))
        W[:], b[:], V[:] = W[order], b[order], V[:, order]


def turned(parts, act, rng):
    """Each unit by a random symmetry of its activation."""
    for (W, b), (V, c) in zip(parts, parts[1:]):
        for unit in range(len(b)):
            factor = 2.0 ** rng.integers(-3, 4) if act == "relu" else rng.choice([-1.0, 1.0])
            if act == "sigmoid" and factor < 0:
                c += V[:, unit]
            W[unit] *= factor
            b[unit] *= factor
            V[:, unit] /= factor


@each_activation
@pytest.mark.parametrize("seed", range(20))
def test_orders_and_symmetries_of_units_change_no_form(act, seed):
    theta, rng = random_network(seed, zeros=seed / 30)
    parts = taken_apart(theta)
    reordered(parts, rng)
    turned(parts, act, rng)
    other = joined(parts)
    assert not np.array_equal(other, theta)
    np.testing.assert_allclose(outputs(other, act), outputs(theta, act), atol=1e-12)
    form, its = canonical_network(theta, SIZES, act), canonical_network(other, SIZES, act)
    np.testing.assert_allclose(its, form, atol=1e-13)
    if act == "tanh":
        np.testing.assert_array_equal(its, form)
    np.testing.assert_allclose(outputs(form, act), outputs(theta, act), atol=1e-12)
    np.testing.assert_allclose(canonical_network(form, SIZES, act), form, atol=1e-13)


@each_activation
@pytest.mark.parametrize("seed", range(5))
def test_units_without_a_way_in_or_out_and_double_ones_change_no_form(act, seed):
    """Three units more in each hidden layer: unheard, constant, and one that shares the ways out of the first."""
    theta, rng = random_network(seed)
    parts, at = taken_apart(theta), 0
    for at in (0, 1):
        (W, b), (V, c) = parts[at], parts[at + 1]
        deaf = np.zeros_like(W[:1])
        level, way = rng.normal(size=1), rng.normal(size=len(c))
        half = V[:, :1] * rng.random((len(c), 1))
        V[:, :1] -= half
        W, b = np.concatenate([W, rng.normal(size=(1, W.shape[1])), deaf, W[:1]]), np.append(b, [1.5, *level, b[0]])
        c = c - way * ACTS[act][0](level)
        parts[at : at + 2] = [(W, b), (np.column_stack([V, 0 * way, way, half]), c)]
    reordered(parts, rng)
    large, wide = joined(parts), (3, 8, 7, 2)
    np.testing.assert_allclose(outputs(large, act, wide), outputs(theta, act), atol=1e-12)
    form = taken_apart(canonical_network(large, wide, act), wide)
    for (W, b), (V, c) in zip(form, taken_apart(canonical_network(theta, SIZES, act))):
        q, d = V.shape
        np.testing.assert_allclose(W[:q, :d], V, atol=1e-12)
        np.testing.assert_allclose(b[:q], c, atol=1e-12)
        assert not W[q:].any() and not W[:, d:].any() and not b[q:].any()


@each_activation
def test_a_unit_whose_way_out_ends_in_a_dropped_unit_is_dropped(act):
    parts = [(np.ones((1, 1)), np.ones(1)), (np.full((1, 1), 2.0), np.ones(1)), (np.zeros((1, 1)), np.full(1, 7.0))]
    assert canonical_network(joined(parts), (1, 1, 1, 1), act).tolist() == [0, 0, 0, 0, 0, 7.0]


def test_a_unit_of_relu_that_is_nowhere_positive_is_dropped():
    parts = [(np.ones((1, 1)), np.ones(1)), (np.full((1, 1), -2.0), np.zeros(1)), (np.ones((1, 1)), np.full(1, 7.0))]
    theta = joined(parts)
    assert (forward(theta[None], X[..., :1], (1, 1, 1, 1), "relu")[-1] == 7).all()
    assert canonical_network(theta, (1, 1, 1, 1), "relu").tolist() == [0, 0, 0, 0, 0, 7.0]
    assert np.count_nonzero(canonical_network(theta, (1, 1, 1, 1), "tanh")) == 5


@each_activation
def test_networks_that_differ_have_forms_that_differ(act):
    theta, _ = random_network(0, zeros=0)
    form = canonical_network(theta, SIZES, act)
    for entry in range(len(theta)):
        other = theta.copy()
        other[entry] *= 1.01
        assert np.abs(outputs(other, act) - outputs(theta, act)).max() > 1e-6
        assert np.abs(canonical_network(other, SIZES, act) - form).max() > 1e-6


def test_forms_of_a_batch_are_those_of_each_and_count_networks():
    """Sixty networks that are three functions."""
    theta = np.array([random_network(seed)[0] for seed in range(3)])
    rng, batch = np.random.default_rng(0), []
    for one in np.repeat(theta, 20, axis=0):
        parts = taken_apart(one)
        reordered(parts, rng)
        turned(parts, "tanh", rng)
        batch.append(joined(parts))
    forms = canonical_network(np.array(batch).reshape(4, 15, -1), SIZES)
    assert forms.shape == (4, 15, len(theta[0])) and len(np.unique(forms.reshape(60, -1), axis=0)) == 3
    np.testing.assert_array_equal(forms[1, 2], canonical_network(batch[17], SIZES))


@pytest.mark.parametrize(
    "theta, sizes, act, said",
    [
        (np.zeros(5), (3, 5, 2), "tanh", r"^theta: got 5 parameters, expected 32, which layers of \(3, 5, 2\) have"),
        (np.zeros(5), (3,), "tanh", r"^sizes: got \(3,\), expected the widths of all layers"),
        (np.zeros(5), (3, 0), "tanh", r"^sizes: got \(3, 0\), expected the widths of all layers"),
        (np.zeros(4), (3, 1), "step", "^activation: got 'step', expected 'tanh'"),
        ([np.nan] * 4, (3, 1), "tanh", "^theta: got NaN"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(theta, sizes, act, said):
    with pytest.raises(InputError, match=said):
        canonical_network(theta, sizes, act)
