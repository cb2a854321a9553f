"""A model of one's own: a linear spline of each feature, two slopes that meet at the feature's mean.

ihtjax sweep results/spline --problem spline:diabetes --levels 1-10 --trials 200 --steps 1000
"""

import jax.numpy as jnp

import ihtjax


class Spline(ihtjax.Supervised):
    """z = b + sum_j left_j min(x_j, 0) + right_j max(x_j, 0)."""

    def parameter_names(self):
        return [f"{side}_{name}" for side in ("left", "right") for name in self.table.feature_names] + ["b"]

    def outputs(self, theta, X):
        left, right = theta[:-1].reshape(2, -1)
        return (jnp.minimum(X, 0) @ left + jnp.maximum(X, 0) @ right + theta[-1])[:, None]


def diabetes():
    return Spline("sklearn:diabetes", "squared")
