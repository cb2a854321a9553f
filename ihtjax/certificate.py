"""HT-stability: the fixed points of IHT, checked in full."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Certificate(NamedTuple):
    """What `certify` found; all scalars. S is the support of theta.

    Attributes:
      n_nonzero: |S|.
      grad_on_support: largest |entry| of the gradient on S; 0 if S is empty.
      grad_off_support: largest |entry| of the gradient off S; 0 if S is everything.
      min_on_support: smallest |entry| of theta on S; 0 if S is empty.
      ht_margin: min_on_support - step_size * grad_off_support.
      satisfies_eq8: whether that margin is at least 0, the paper's (8).
      ht_stable: whether theta is HT-stable, in full.
    """

    n_nonzero: jax.Array
    grad_on_support: jax.Array
    grad_off_support: jax.Array
    min_on_support: jax.Array
    ht_margin: jax.Array
    satisfies_eq8: jax.Array
    ht_stable: jax.Array


def certify(
    theta: jax.Array, gradient: jax.Array, step_size: jax.Array, s: jax.Array | int, ht_tol: float = 1e-3
) -> Certificate:
    """Check whether theta is HT-stable: theta in H_s(theta - gamma grad f(theta)).

    With S = supp(theta) that is: (a) the gradient vanishes on S; (b) if |S| = s,
    min |theta_S| >= gamma max |grad f| off S; (c) if |S| < s, the whole gradient vanishes.

    Args:
      theta: ``[n]`` with at most s nonzero entries.
      gradient: grad f(theta) ``[n]``.
      step_size: gamma.
      s: sparsity level; data.
      ht_tol: largest |entry| of a gradient that counts as vanishing, in the gradient's units.

    Returns:
      A `Certificate`. Where theta or its gradient is not finite, nothing is satisfied.

    References:
      The paper's (8); Damadi and Shen, Gradient properties of hard thresholding operator, 2022, arXiv:2209.08247;
      Beck and Eldar, Sparsity constrained nonlinear optimization, 2013, doi:10.1137/120869778 (L-stationarity).
    """
    support = theta != 0
    n_nonzero = jnp.sum(support.astype(jnp.int32))
    slope = jnp.abs(gradient)
    grad_on_support = jnp.max(jnp.where(support, slope, 0))
    grad_off_support = jnp.max(jnp.where(support, 0, slope))
    smallest = jnp.min(jnp.where(support, jnp.abs(theta), jnp.inf))
    min_on_support = jnp.where(n_nonzero > 0, smallest, 0)
    ht_margin = min_on_support - step_size * grad_off_support
    satisfies_eq8 = ht_margin >= 0
    vanishes_on_support = grad_on_support <= ht_tol
    vanishes_off_support = grad_off_support <= ht_tol
    ht_stable = vanishes_on_support & jnp.where(n_nonzero < s, vanishes_off_support, satisfies_eq8)
    finite = jnp.all(jnp.isfinite(theta)) & jnp.all(jnp.isfinite(gradient))
    return Certificate(
        n_nonzero,
        grad_on_support,
        grad_off_support,
        min_on_support,
        ht_margin,
        satisfies_eq8 & finite,
        ht_stable & finite,
    )
