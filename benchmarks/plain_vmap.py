"""The sweep's step against the same step as JAX alone would batch it: autodiff and ``lax.top_k`` under plain ``vmap``.

Both run the same trials (Iris, s = 7, float32) in the same process, one call per core at a time; supports and losses
are compared before times are. Prints JSON. Run it with ``python benchmarks/plain_vmap.py`` on a quiet machine.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ihtjax import SweepConfig, draws, hard_threshold, iht_step
from ihtjax.benchmark import repeat
from ihtjax.data import load_table
from ihtjax.engine import describe_environment, make_problem, workers
from ihtjax.trial import lanes

BATCH, S, STEPS, STEP_SIZE, REPEATS = 256, 7, 2000, 1.5, 5

config = SweepConfig()
problem = make_problem(load_table("iris"), config.standardize, config.init, config.precision)


def plain_threshold(v, s):
    _, order = lax.top_k(jnp.abs(v), v.size)
    return jnp.where(jnp.zeros(v.size, bool).at[order].set(jnp.arange(v.size) < s), v, 0)


def plain_step(theta, view, X, y):
    """X ``[120, d]`` and y ``[120]`` are the lane's own training rows."""

    def loss(theta):
        z = X @ theta[:12].reshape(3, 4).T + theta[12:]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])

    return plain_threshold(theta - STEP_SIZE * jax.grad(loss)(theta), S)


def step(theta, view, X, y):
    return iht_step(lambda theta: problem.gradient(theta, view), theta, STEP_SIZE, S)


def compiled(batched_step, *args):
    def run(theta, view, X, y):
        return lax.scan(lambda theta, _: (batched_step(theta, view, X, y), None), theta, length=STEPS)[0]

    options = {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else None
    return partial(jax.jit(run).lower(*args).compile(options), *args)


def everywhere(call):
    with ThreadPoolExecutor(workers()) as pool:
        list(pool.map(lambda _: jax.block_until_ready(call()), range(workers())))


keys = jax.vmap(partial(draws.stream, draws.DATA))(np.arange(BATCH, dtype=np.uint32))
views, _ = lanes(problem.split)(keys)
theta = lanes(lambda key: hard_threshold(problem.draw(key, (problem.n,)), S))(keys)
rows = [problem.rows(jax.tree.map(lambda a, i=i: a[..., i], views)) for i in range(BATCH)]
X, y = (np.stack(part) for part in zip(*rows))

ours, plain = (compiled(jax.vmap(f, (-1, -1, 0, 0), -1), theta, views, X, y) for f in (step, plain_step))
same = ((np.asarray(ours()) != 0) == (np.asarray(plain()) != 0)).all(axis=0).mean()
losses = [np.asarray(lanes(problem.loss)(run(), views)) for run in (ours, plain)]
ns = {
    name: np.array(repeat(partial(everywhere, run), REPEATS)) / (BATCH * STEPS * workers()) * 1e9
    for name, run in (("ihtjax", ours), ("plain vmap with top_k", plain))
}
found = {
    **describe_environment(BATCH),
    "same_supports": float(same),
    "largest_loss_difference": float(np.abs(losses[0] - losses[1]).max()),
    "ns_per_lane_step": {k: {"median": np.median(v), "low": v.min(), "high": v.max()} for k, v in ns.items()},
    "ratio": np.median(ns["plain vmap with top_k"]) / np.median(ns["ihtjax"]),
}
print(json.dumps(found, indent=1))
