import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ihtjax import InputError, certify, hard_threshold

pytestmark = pytest.mark.usefixtures("optimized")
T, F = True, False


@pytest.mark.parametrize(
    "theta, gradient, s, eq8, stable",
    [
        ([1.0, 0, 0], [0.0, 1, 1], 1, T, T),  # (a) and (b), at equality
        ([1.0, 0, 0], [0.0, 1.01, 0], 1, F, F),  # an entry off the support would overtake
        ([1.0, 0, 0], [0.5, 0.2, 0], 1, T, F),  # the gradient does not vanish on the support
        ([1.0, 0, 0], [0.0, 0.5, 0], 2, T, F),  # fewer than s nonzero: (c) wants the whole gradient to vanish
        ([1.0, 0, 0], [0.0, 0, 0], 2, T, T),
        ([0.0, 0, 0], [0.0, 0, 0], 1, T, T),
        ([0.0, 0, 0], [0.0, 0.1, 0], 1, F, F),
        ([1.0, 2, 3], [0.0, 0, 0], 3, T, T),  # dense: nothing lies off the support
        ([1.0, 0, 0], [np.nan, 0, 0], 1, F, F),
        ([np.inf, 0, 0], [0.0, 0, 0], 1, F, F),
    ],
)
def test_conditions(theta, gradient, s, eq8, stable):
    c = certify(jnp.array(theta), jnp.array(gradient), 1.0, s)
    assert (bool(c.satisfies_eq8), bool(c.ht_stable)) == (eq8, stable)


def test_figures():
    c = certify(jnp.array([0.0, -0.5, 2.0, 0.0]), jnp.array([0.1, -2e-4, 1e-4, -0.3]), 0.5, 2)
    assert c.n_nonzero == 2
    found = [float(x) for x in (c.grad_on_support, c.grad_off_support, c.min_on_support, c.ht_margin)]
    assert found == pytest.approx([2e-4, 0.3, 0.5, 0.5 - 0.5 * 0.3])
    assert bool(c.ht_stable) and not bool(
        certify(jnp.array([0.0, -0.5]), jnp.array([0.0, 2e-4]), 0.5, 1, ht_tol=1e-4).ht_stable
    )


def test_an_ht_stable_point_is_a_fixed_point_and_a_random_one_is_not():
    rng = np.random.default_rng(0)
    agree = 0
    for _ in range(200):
        theta = np.asarray(hard_threshold(rng.normal(size=6).astype(np.float32), 3))
        on = theta != 0
        gradient = np.where(on, 0, rng.normal(size=6)).astype(np.float32)
        fixed = np.array_equal(hard_threshold(theta - np.float32(0.5) * gradient, 3), theta)
        assert bool(certify(theta, gradient, 0.5, 3).ht_stable) == fixed
        agree += fixed
    assert 20 < agree < 180


def test_vmapped_equals_looped():
    rng = np.random.default_rng(1)
    theta, gradient = rng.normal(size=(2, 5, 4)).astype(np.float32)
    batched = jax.vmap(certify, (0, 0, None, None))(theta, gradient, 0.5, 4)
    for i in range(5):
        for a, b in zip(certify(theta[i], gradient[i], 0.5, 4), batched):
            np.testing.assert_array_equal(a, b[i])


def test_more_than_s_nonzero_entries_are_never_ht_stable():
    assert not certify(jnp.array([1.0, 1.0, 0.0]), jnp.zeros(3), 0.5, 1).ht_stable


def test_passing_at_a_tolerance_does_not_make_a_fixed_point():
    """f(x) = exp(-x) has no minimiser; yet far out its slope passes any tolerance, and the step still moves x."""
    for tol in (1e-3, 1e-5):
        x = jnp.array([-np.log(tol / 2)], jnp.float32)
        assert certify(x, -jnp.exp(-x), 1.0, 1, ht_tol=tol).ht_stable
        assert hard_threshold(x + jnp.exp(-x), 1) != x


@pytest.mark.parametrize(
    "wrong",
    [
        {"theta": np.ones((2, 2))},
        {"gradient": np.ones(3)},
        {"gradient": None},
        {"step_size": -1},
        {"step_size": True},
        {"step_size": np.inf},
        {"s": 0},
        {"s": 3},
        {"s": 1.0},
        {"ht_tol": np.nan},
        {"ht_tol": 0},
    ],
)
def test_refuses(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        certify(**{"theta": np.ones(2), "gradient": np.zeros(2), "step_size": 1.0, "s": 2} | wrong)
