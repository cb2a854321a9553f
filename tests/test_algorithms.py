import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

from ihtjax import InputError, iht, iht_step, keep_largest, solve

A = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
TRUTH = np.array([0, 2, 0, 0, -3, 0, 0, 1], np.float32)


def least_squares(x):
    return 0.5 * jnp.mean((A @ x - A @ TRUTH) ** 2)


def test_a_step_is_algorithm_1():
    theta = np.array([1, 0, -2, 0], np.float32)
    slope = np.array([0.5, -4, 1, 2], np.float32)
    stepped = iht_step(lambda theta: jnp.asarray(slope), jnp.asarray(theta), 0.5, 2)
    assert stepped.tolist() == [0, 2, -2.5, 0]
    np.testing.assert_array_equal(stepped, reference.hard_threshold(theta - 0.5 * slope, 2))


def test_with_all_entries_kept_it_is_gradient_descent():
    theta = np.float32([1, 2, 3])
    assert iht_step(lambda theta: theta, theta, 0.5, 3).tolist() == [0.5, 1, 1.5]


def test_optax_form_takes_the_same_steps():
    optimizer = iht(0.1, s=3)
    x = y = jnp.asarray(A[0])
    state = optimizer.init(x)
    for _ in range(50):
        updates, state = optimizer.update(jax.grad(least_squares)(x), state, x)
        x = optax.apply_updates(x, updates)
        y = iht_step(jax.grad(least_squares), y, 0.1, 3)
    np.testing.assert_allclose(x, y, rtol=1e-5)
    assert np.count_nonzero(x) == 3


def test_optax_form_counts_over_all_leaves():
    params = {"w": jnp.array([[3.0, 1.0], [0.5, 2.0]]), "b": jnp.array([4.0])}
    optimizer = iht(1.0, s=2)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    kept = optax.apply_updates(params, updates)
    assert kept["w"].tolist() == [[3, 0], [0, 0]] and kept["b"].tolist() == [4]


@pytest.mark.parametrize(
    "optimizer", [iht(optax.constant_schedule(0.1), 3), optax.chain(optax.sgd(0.1, momentum=0.5), keep_largest(3))]
)
def test_optax_form_under_jit_with_a_schedule_and_after_another_optimizer(optimizer):
    @jax.jit
    def step(x, state):
        updates, state = optimizer.update(jax.grad(least_squares)(x), state, x)
        return optax.apply_updates(x, updates), state

    x, state = jnp.zeros(8), optimizer.init(jnp.zeros(8))
    for _ in range(500):
        x, state = step(x, state)
        assert np.count_nonzero(x) <= 3
    np.testing.assert_allclose(x, TRUTH, atol=1e-4)
    assert step._cache_size() == 1


def test_optax_form_needs_params():
    optimizer = iht(0.1, 1)
    with pytest.raises(ValueError, match="params"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))


def test_solve_recovers_a_sparse_signal():
    solution = solve(least_squares, jnp.zeros(8), s=3, steps=500)
    np.testing.assert_allclose(solution.theta, TRUTH, atol=1e-4)
    assert solution.loss < 1e-8 and bool(solution.certificate.ht_stable)


def test_solve_takes_pytrees_and_a_step_size():
    def f(p):
        return (p["a"] - 1) ** 2 + jnp.sum((p["b"] - jnp.array([3.0, 0.1])) ** 2)

    solution = solve(f, {"a": jnp.float32(0), "b": jnp.zeros(2)}, s=2, step_size=0.25, steps=100)
    assert solution.theta["a"] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(solution.theta["b"], [3, 0], atol=1e-5)
    assert solution.step_size == 0.25


@pytest.mark.parametrize(
    "wrong", [{"s": 0}, {"s": 9}, {"s": 1, "steps": 0}, {"s": 1, "n_monte": 0}, {"s": 1, "step_size": float("nan")}]
)
def test_solve_refuses(wrong):
    with pytest.raises(InputError, match="expected"):
        solve(least_squares, jnp.zeros(8), **wrong)
