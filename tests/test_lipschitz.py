import itertools

import jax
import numpy as np
import pytest
import reference

from ihtjax import InputError, estimate_lipschitz

pytestmark = pytest.mark.usefixtures("optimized")
KEY = jax.random.key(3)


def quadratic(seed, n=6):
    B = np.random.default_rng(seed).normal(size=(n, n))
    return (B @ B.T / n).astype(np.float32)


def estimate(H, s, n_monte=100, key=KEY):
    return float(estimate_lipschitz(key, lambda x: H @ x, jax.random.normal, len(H), s, n_monte))


@pytest.mark.parametrize("s", [1, 2, 3])
def test_of_a_quadratic_lies_below_the_restricted_norm_and_comes_near(s):
    H = quadratic(0)
    exact = max(np.linalg.norm(H[:, list(S)], 2) for S in itertools.combinations(range(6), min(2 * s, 6)))
    found = estimate(H, s, 2000)
    assert 0.7 * exact < found <= exact * (1 + 1e-5)


def test_of_a_multiple_of_the_identity_is_exact():
    assert estimate(2.5 * np.eye(6, dtype=np.float32), 3) == pytest.approx(2.5, rel=1e-5)


def test_follows_the_papers_seven_steps_on_the_same_draws():
    """The draws are recorded on their way into the gradient; steps 4 to 7 are then done by hand."""
    H, s = quadratic(1), 3
    points = []

    def gradient(x):
        jax.debug.callback(lambda x: points.append(np.array(x)), x, ordered=True)
        return H @ x

    found = float(estimate_lipschitz(KEY, gradient, jax.random.normal, 6, s, 25))
    jax.effects_barrier()
    perturbed, theta = points[0::2], points[1::2]
    assert len(theta) == 25
    ratios = []
    for a, b in zip(theta, perturbed):
        assert np.count_nonzero(a) == s and np.count_nonzero(b) <= s
        np.testing.assert_array_equal(reference.hard_threshold(b, s), b)
        if np.any(a != b):
            ratios.append(np.linalg.norm(H @ b - H @ a) / np.linalg.norm(b - a))
    assert found == pytest.approx(max(ratios), rel=1e-5)


def test_the_perturbation_is_scaled_by_the_smallest_entry():
    """On full support (s = n) theta~ - theta = delta d, so that |theta~ - theta| / delta is the norm of a normal."""
    lengths = []

    def gradient(x):
        jax.debug.callback(lambda x: lengths.append(np.array(x)), x, ordered=True)
        return x

    estimate_lipschitz(KEY, gradient, jax.random.normal, 6, 6, 400)
    jax.effects_barrier()
    perturbed, theta = np.array(lengths[0::2]), np.array(lengths[1::2])
    scaled = (perturbed - theta) / np.abs(theta).min(axis=1, keepdims=True)
    assert abs(scaled.mean()) < 0.1 and scaled.std() == pytest.approx(1, abs=0.05)


def test_more_draws_never_lower_it_on_average():
    few = np.mean([estimate(quadratic(2), 2, 5, jax.random.key(i)) for i in range(20)])
    many = np.mean([estimate(quadratic(2), 2, 200, jax.random.key(i)) for i in range(20)])
    assert few < many


def test_a_constant_function_gives_zero():
    assert estimate(np.zeros((6, 6), np.float32), 3) == 0


def test_a_draw_of_zeros_is_left_out():
    """An init distribution may draw an exact zero, and at s = 1 nothing else is kept then."""

    def draw(key, shape):
        return jax.random.normal(key, shape) * (jax.random.uniform(key, shape) < 0.5)

    H = quadratic(3)
    found = float(estimate_lipschitz(KEY, lambda x: H @ x, draw, 6, 1, 50))
    assert 0 < found <= np.linalg.norm(H, 2) * (1 + 1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": 0},
        {"key": jax.random.split(KEY)},
        {"gradient": 1.0},
        {"gradient": lambda x: x[:2]},
        {"gradient": lambda x: x.sum()},
        {"draw": None},
        {"draw": lambda key, shape: np.ones(2)},
        {"n": 0},
        {"s": 7},
        {"s": 2.0},
        {"n_monte": 0},
    ],
)
def test_refuses(wrong):
    (name,) = wrong
    arguments = {"key": KEY, "gradient": lambda x: x, "draw": jax.random.normal, "n": 6, "s": 2, "n_monte": 3}
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        estimate_lipschitz(**arguments | wrong)


def test_keys_of_the_older_form_make_the_same_draws():
    assert estimate(quadratic(0), 2, 20, jax.random.PRNGKey(3)) == estimate(quadratic(0), 2, 20, jax.random.key(3))
