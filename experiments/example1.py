"""How far below the true constant is the Monte Carlo estimate on Example 1, where L_2s is known exactly?

f(theta) = 1/2 |X theta - y|^2: (4)'s modulus and (6)'s constant by enumeration of all supports, L = lambda_max(X'X),
and the median of the paper's L-hat_2s. Run it with ``python experiments/example1.py [--trials 200]``; it writes
results/example1.csv and takes less than a minute.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from ihtjax import estimate_lipschitz, squared_error_bounds

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=200)
trials = parser.parse_args().trials

m, n = 60, 10
X = jax.random.normal(jax.random.key(0), (m, n)).at[:, -1].set(1)  # the bias column last
y = X @ jnp.arange(1.0, n + 1)
gradient = jax.grad(lambda theta: jnp.sum((X @ theta - y) ** 2) / 2)
keys = jax.random.split(jax.random.key(1), trials)


def median(s, n_monte):
    one = jax.jit(jax.vmap(lambda key: estimate_lipschitz(key, gradient, jax.random.normal, n, s, n_monte)))
    return float(jnp.median(one(keys)))


rows = []
for s in range(1, n + 1):
    exact = squared_error_bounds(np.asarray(X, np.float64), s)
    estimates = {f"L-hat, {n_monte} draws": median(s, n_monte) for n_monte in (100, 1000)}
    rows.append({"s": s, "L_2s of (4)": exact.rss_upper, "of (6)": exact.lipschitz_upper, **estimates})
table = pd.DataFrame(rows).assign(L=float(jnp.linalg.eigvalsh(X.T @ X)[-1]))
Path("results").mkdir(exist_ok=True)
table.to_csv("results/example1.csv", index=False)
print(table.round(2).to_string(index=False))
