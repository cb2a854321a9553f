import os
import subprocess
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from test_environment import EVERYTHING

from ihtjax import InputError, iht, iht_step, keep_largest, solve
from ihtjax.solvers.algorithms import _solve
from ihtjax.solvers.iht import IHT

pytestmark = pytest.mark.usefixtures("optimized")
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
    "wrong",
    [
        {"s": 0},
        {"s": 9},
        {"s": 2.5},
        {"steps": 0},
        {"n_monte": 0},
        {"step_size": float("nan")},
        {"step_size": True},
        {"ht_tol": float("nan")},
        {"theta0": jnp.array([0, jnp.nan])},
        {"theta0": {}},
        {"theta0": jnp.zeros(8, jnp.int32)},
        {"f": lambda x: x},
        {"key": 0},
    ],
)
def test_solve_refuses(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        solve(**{"f": least_squares, "theta0": jnp.zeros(8), "s": 1} | wrong)


@pytest.mark.parametrize("rate, s", [(0.1, 0), (0.1, 2.5), (-1, 1), (True, 1), (float("nan"), 1)])
def test_optax_form_refuses(rate, s):
    with pytest.raises(InputError, match="got .*expected"):
        iht(rate, s)


# Types.

FLOATS = ("float16", "bfloat16", "float32")


def nonzeros(tree):
    return sum(np.count_nonzero(np.asarray(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("leaf", FLOATS)
@pytest.mark.parametrize("update", FLOATS)
def test_parameters_stay_sparse_whatever_the_types_of_leaves_and_updates(leaf, update):
    """A leaf with an update of any type, beside another leaf: rounding must leave no entry that was to become 0."""
    types = leaf, "float16", update, "bfloat16"
    rng = np.random.default_rng(0)
    a, b, da, db = (jnp.asarray(rng.normal(size=12), jnp.float32).astype(type) for type in types)
    params, optimizer = {"a": a, "b": b}, keep_largest(6)
    step = jax.jit(lambda params, u: optax.apply_updates(params, optimizer.update(u, optax.EmptyState(), params)[0]))
    for k in range(3):
        updates = {"a": da * (k - 1), "b": db}
        moved = optax.apply_updates(params, updates)
        plain = optax.apply_updates(params, optimizer.update(updates, optax.EmptyState(), params)[0])
        params = step(params, updates)
        assert nonzeros(params) == nonzeros(plain) == 6
        assert {k: v.dtype for k, v in params.items()} == {"a": leaf, "b": "float16"}
        # What stays got its update unchanged, and nothing that went was larger.
        before, after = (np.concatenate([np.float64(p) for p in (tree["a"], tree["b"])]) for tree in (moved, plain))
        np.testing.assert_array_equal(after[after != 0], before[after != 0])
        assert np.abs(before[after == 0]).max() <= np.abs(before[after != 0]).min()


@pytest.mark.parametrize("params_type", FLOATS)
@pytest.mark.parametrize("gradient_type", FLOATS)
def test_iht_keeps_its_sparsity_when_gradients_have_another_type(params_type, gradient_type):
    optimizer = iht(0.1, s=6)
    x = jax.random.normal(jax.random.key(0), (40,)).astype(params_type)
    state = optimizer.init(x)
    for k in range(5):
        slope = jax.random.normal(jax.random.key(k), (40,)).astype(gradient_type)
        updates, state = optimizer.update(slope, state, x)
        x = optax.apply_updates(x, updates)
        assert nonzeros(x) == 6 and x.dtype == params_type


def test_float64_leaves_keep_their_sparsity():
    with jax.enable_x64(True):
        params = {"a": jnp.arange(1, 9) / 7, "b": jnp.ones(3, jnp.float32) / 3}
        updates = {"a": jnp.full(8, 0.1, jnp.bfloat16), "b": jnp.ones(3) / 7}
        optimizer = keep_largest(4)
        changed, _ = optimizer.update(updates, optimizer.init(params), params)
        assert nonzeros(optax.apply_updates(params, changed)) == 4


def test_updates_keep_their_type_where_it_is_that_of_the_parameters():
    optimizer = keep_largest(2)
    for type in FLOATS:
        x = jnp.arange(1, 5).astype(type)
        assert optimizer.update(x, optimizer.init(x), x)[0].dtype == type


# In optax's company.


def company():
    yield "extra arguments alone", keep_largest(3)
    yield "chain", optax.chain(optax.sgd(0.1), optax.scale_by_polyak(), keep_largest(3))
    yield "masked", optax.masked(keep_largest(3), True)
    yield "inject_hyperparams", optax.chain(optax.sgd(0.1), optax.inject_hyperparams(keep_largest)(s=3))
    yield "inject_hyperparams of iht", optax.inject_hyperparams(iht)(learning_rate=0.1, s=3)
    yield "a schedule that ends at 0", optax.inject_hyperparams(iht)(optax.linear_schedule(0.1, 0, 2), s=3)
    yield "MultiSteps", optax.MultiSteps(iht(0.1, 3), 1)
    yield "apply_if_finite", optax.chain(optax.apply_if_finite(optax.sgd(0.1), 2), keep_largest(3))


@pytest.mark.parametrize("optimizer", [pytest.param(one, id=name) for name, one in company()])
@pytest.mark.parametrize("gradient_type", ["float32", "bfloat16"])
def test_works_in_optaxs_company_and_with_extra_arguments(optimizer, gradient_type):
    x = jnp.asarray(A[0])
    state = optimizer.init(x)
    for k in range(4):
        value, slope = jax.value_and_grad(least_squares)(x)
        step = jax.jit(optimizer.update) if k % 2 else optimizer.update
        updates, state = step(slope.astype(gradient_type), state, x, value=value)
        x = optax.apply_updates(x, updates)
        assert np.count_nonzero(x) == 3


def test_leaves_that_are_masked_are_not_counted():
    params = {"w": jnp.array([3.0, 1, 2]), "b": jnp.array([0.5, 0.5]), "step": jnp.int32(7)}
    optimizer = optax.masked(keep_largest(2), {"w": True, "b": False, "step": False})
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    kept = optax.apply_updates(params, updates)
    assert kept["w"].tolist() == [3, 0, 2] and kept["b"].tolist() == [0.5, 0.5] and kept["step"] == 7


def test_leaves_without_floats_are_refused():
    optimizer = keep_largest(2)
    params = {"w": jnp.ones(3), "step": jnp.int32(7)}
    with pytest.raises(InputError, match=r"params: got a leaf of int32\[\], expected floats"):
        optimizer.init(params)
    with pytest.raises(InputError, match="updates and params differ"):
        optimizer.update(jnp.ones(2), optax.EmptyState(), jnp.ones(3))
    with pytest.raises(InputError, match="s: got 4, expected a whole number from 1 to 3"):
        keep_largest(4).init(jnp.ones(3))


def test_after_adam_supports_freeze_where_ihts_find_the_truth():
    """Adam's updates are about as large as its learning rate: what is off the support can't overtake what is on it."""
    rng = np.random.default_rng(1)
    systems = rng.normal(size=(50, 80, 30)).astype(np.float32)
    truth = np.float32([np.where(rng.permutation(30) < 5, 2 * rng.normal(size=30), 0) for _ in range(50)])
    starts = rng.normal(size=(50, 30)).astype(np.float32)

    def found(optimizer):
        def one(A, truth, x):
            def step(carry, _):
                x, state = carry
                slope = A.T @ (A @ (x - truth)) / len(A)
                updates, state = optimizer.update(slope, state, x)
                return (optax.apply_updates(x, updates), state), None

            (x, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), length=2000)
            return jnp.all((x != 0) == (truth != 0))

        return float(jnp.mean(jax.vmap(one)(systems, truth, starts)))

    assert found(iht(0.5, 5)) >= 0.95
    assert found(optax.chain(optax.adam(0.1), keep_largest(5))) <= 0.5
    assert found(optax.chain(optax.adam(0.01), keep_largest(5))) <= 0.05


# What is traced.


def test_solve_under_jit_and_vmap_over_level_and_step_size():
    levels, steps = jnp.arange(1, 5), jnp.array([0.02, 0.05, 0.1, 0.2])
    mapped = jax.jit(jax.vmap(lambda s, gamma: solve(least_squares, jnp.zeros(8), s, step_size=gamma, steps=50)))
    found = mapped(levels, steps)
    estimated = jax.vmap(lambda s: solve(least_squares, jnp.zeros(8), s, steps=50))(levels)
    for i in range(4):
        alone = solve(least_squares, jnp.zeros(8), int(levels[i]), step_size=float(steps[i]), steps=50)
        np.testing.assert_allclose(found.theta[i], alone.theta, rtol=1e-4, atol=1e-6)
        assert np.count_nonzero(found.theta[i]) == levels[i] and found.step_size[i] == steps[i]
        mine = solve(least_squares, jnp.zeros(8), int(levels[i]), steps=50)
        np.testing.assert_allclose(estimated.step_size[i], mine.step_size, rtol=1e-5)


@pytest.mark.parametrize("theta0", [jnp.zeros(8), np.zeros(8, np.float32), {"a": jnp.zeros(3), "b": jnp.zeros(5)}])
def test_solve_under_jit_from_a_start_that_is_not_traced(theta0):
    """The start was there before tracing began: its finiteness is known, yet inside `jit` JAX would trace the check."""

    def f(p):
        return least_squares(jnp.concatenate(jax.tree.leaves(p)))

    def one(s, gamma):
        return solve(f, theta0, s, step_size=gamma, steps=50).theta

    def unstacked(tree):
        return [jax.tree.map(lambda a, i=i: a[i], tree) for i in range(3)]

    levels, steps = jnp.arange(1, 4), jnp.array([0.05, 0.1, 0.2])
    expected = [one(int(s), float(gamma)) for s, gamma in zip(levels, steps)]
    for found in (
        [jax.jit(one)(*each) for each in zip(levels, steps)],
        unstacked(jax.jit(jax.vmap(one))(levels, steps)),
        unstacked(jax.lax.map(lambda each: one(*each), (levels, steps))),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)
    assert jnp.isfinite(jax.jit(lambda s: solve(f, theta0, s, steps=2))(3).step_size)
    beyond = jax.tree.map(lambda x: x + np.float32("nan"), theta0)
    with pytest.raises(InputError, match="theta0: got NaN or infinity"):
        jax.jit(lambda s: solve(f, beyond, s))(3)


def test_solve_refuses_a_traced_level_that_is_no_integer():
    with pytest.raises(InputError, match=r"s: got a traced float32\[\], expected a whole number"):
        jax.vmap(lambda s: solve(least_squares, jnp.zeros(8), s))(jnp.array([1.0, 2.0]))


def test_solve_refuses_a_flat_objective_unless_a_step_size_is_given():
    def flat(x):
        return jnp.sum(x)

    with pytest.raises(InputError, match="step_size: the estimate 1 / L-hat_2s is inf.*give a step_size"):
        solve(flat, jnp.zeros(8), 3, steps=2)
    assert solve(flat, jnp.zeros(8), 3, steps=2, step_size=0.5).theta.tolist() == [-1] * 3 + [0] * 5


def test_solve_takes_functions_that_have_no_hash():
    class Loss:
        __hash__ = None

        def __call__(self, x):
            return least_squares(x)

    np.testing.assert_allclose(solve(Loss(), jnp.zeros(8), 3, steps=500).theta, TRUTH, atol=1e-4)


def test_steps_refuse_a_function_that_is_no_gradient():
    with pytest.raises(InputError, match=r"gradient: got float32\[\]"):
        iht_step(least_squares, jnp.zeros(8), 0.1, 3)


# Under every setting of JAX's.

CALLS = """
import jax, numpy as np
from ihtjax import certify, estimate_lipschitz, hard_threshold, iht, iht_step, keep_largest, solve

def f(x):
    return (x * x * scale).sum() - x.sum()

def gradient(x):
    return 2 * scale * x - 1

def draw(key, shape):
    return jax.random.normal(key, shape, "float32")

# jax.random.key makes its key of a Python integer, which a transfer guard may refuse.
key = jax.random.wrap_key_data(jax.device_put(np.array([0, 1], np.uint32)), impl="threefry2x32")
for put in (np.asarray, jax.device_put):
    scale, v = put(np.arange(1, 41, dtype=np.float32) / 40), put(np.linspace(-2, 2, 40, dtype=np.float32))
    levels = put(np.arange(1, 4, dtype=np.int32))
    optimizer, mask = iht(0.1, 3), keep_largest(3)
    found = [
        hard_threshold(v, 3),
        jax.vmap(hard_threshold, (None, 0))(v, levels),
        jax.vmap(hard_threshold, (0, None))(put(np.tile(v, (5, 4))), 30),
        jax.vmap(lambda v, s: jax.vmap(hard_threshold, (0, None))(v, s), (None, 0))(put(np.tile(v, (5, 1))), levels),
        jax.vmap(hard_threshold, (None, 0))(v, put(np.arange(3))),
        iht_step(gradient, v, 0.1, 3),
        optimizer.update(v, optimizer.init(v), v)[0],
        mask.update(v, mask.init(v), v)[0],
        certify(v, v, 0.1, 3),
        estimate_lipschitz(key, lambda x: 2 * x, draw, 40, put(np.int32(3)), 5),
        solve(f, v, 3, steps=20),
        solve(f, v, put(np.int32(3)), step_size=0.1, steps=20),
        jax.vmap(lambda s: solve(f, v, s, steps=20).theta)(levels),
    ]
    for leaf in jax.tree.leaves(jax.device_get(found)):
        print(*np.ravel(leaf))
"""


def test_no_setting_of_jax_changes_what_the_librarys_functions_find():
    def found(environment):
        run = [sys.executable, "-c", CALLS]
        quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
        done = subprocess.run(run, capture_output=True, text=True, env=os.environ | quick | environment)
        assert done.returncode == 0, done.stderr
        return [[eval(number) for number in line.split()] for line in done.stdout.splitlines()]

    plain, strange = found({}), found(EVERYTHING)
    assert len(plain) == len(strange) > 40
    for here, there in zip(plain, strange):
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)


def test_solve_with_other_data_compiles_nothing():
    """The rows are arguments: the same f with others of the same shapes is the same program."""
    traced = []

    def squares(x, rows):
        traced.append(len(rows["A"]))
        return jnp.mean((rows["A"] @ x - rows["b"]) ** 2)

    def solved(seed):
        A = np.random.default_rng(seed).normal(size=(40, 6)).astype("f4")
        truth = np.array([0, 3, 0, 0, -2, 0], "f4")
        return solve(squares, jnp.zeros(6), 2, ({"A": A, "b": A @ truth},), steps=300), truth

    first, truth = solved(1)
    size, calls = _solve._cache_size(), len(traced)
    for seed in (2, 3):
        second, truth = solved(seed)
        assert np.abs(second.theta - truth).max() < 1e-4
    assert _solve._cache_size() == size
    assert len(traced) == calls
    assert np.abs(first.theta - truth).max() < 1e-4 and first.step_size != second.step_size


def test_solve_by_another_solver():
    @dataclass(frozen=True)
    class Halved(IHT):
        """IHT with half the step."""

        name = "halved"

        def step(self, objective, state, s, k):
            return super().step(objective._replace(step_size=objective.step_size / 2), state, s, k)

    f = lambda x: jnp.sum((x - jnp.array([3.0, 1.0, 2.0])) ** 2)  # noqa: E731
    by_half = solve(f, jnp.ones(3), 2, solver=Halved(), step_size=0.25, steps=3)
    by_iht = solve(f, jnp.ones(3), 2, solver="iht", step_size=0.125, steps=3)
    assert np.array_equal(by_half.theta, by_iht.theta)
    with pytest.raises(InputError, match="solver: got 'htpp', which is none"):
        solve(f, jnp.ones(3), 2, solver="htpp")
    with pytest.raises(InputError, match="args: got .*expected a tuple"):
        solve(f, jnp.ones(3), 2, jnp.ones(3))
