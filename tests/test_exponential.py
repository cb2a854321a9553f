import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ihtjax.problems.exponential import LARGEST_EXPONENT, exp2


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-7), (np.float64, 2e-14)])
def test_agrees_with_numpys_power_in_float64(dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        t = np.linspace(-LARGEST_EXPONENT, LARGEST_EXPONENT, 1_000_001).astype(dtype)
        found = np.asarray(jax.jit(exp2)(t))
    assert found.dtype == dtype
    exact = 2.0 ** t.astype(np.longdouble)
    assert np.abs(found / exact - 1).max() < tolerance


def test_whole_powers_are_exact():
    k = np.arange(-LARGEST_EXPONENT, LARGEST_EXPONENT + 1).astype(np.float32)
    np.testing.assert_array_equal(jax.jit(exp2)(k), 2.0**k)


@pytest.mark.parametrize("compiled", [True, False])
def test_clips_and_keeps_nan(compiled):
    f = jax.jit(exp2) if compiled else exp2
    found = f(jnp.array([-np.inf, -1e6, 1e6, np.inf, np.nan], jnp.float32))
    np.testing.assert_array_equal(found, [2.0**-100, 2.0**-100, 2.0**100, 2.0**100, np.nan])
