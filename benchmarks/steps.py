"""The IHT step on tables and networks of other sizes beside plain JAX: nanoseconds per lane-step, on one core.

Plain JAX is ``vmap`` of autodiff and ``lax.top_k``, each lane with its own standardised rows, as one would write it.
Both start from the same trials, and must end at the same losses before their time counts. They run in rounds, one after
the other, so that a machine's drift hits both alike; a ratio is the median of the rounds' ratios. The limit is what
the step's matrix products would take at the rate of a product of 1,024 x 1,024 matrices, measured in the same rounds.
Run it on a quiet machine:

    python benchmarks/steps.py --json steps.json
"""

import json
import os
import sys
import time
from functools import partial

import click
import jax
import jax.numpy as jnp
import numpy as np
from compiled import one_core, scan
from jax import lax
from peers import environment
from work import LOSS_TOLERANCE, SHARE_THAT_AGREES

from ihtjax import SweepConfig, iht_step
from ihtjax.sweeps.engine import check_batch, make_problem, triples
from ihtjax.sweeps.trial import begin, lanes

DIGITS, ACTIVATION = "sklearn:digits", "tanh"
CASES = {
    "iris": {},
    "wine": {"data": "sklearn:wine"},
    "breast_cancer": {"data": "sklearn:breast_cancer"},
    "digits": {"data": DIGITS},
    "iris 4-124-3": {"model": "mlp", "hidden": (124,), "activation": ACTIVATION},
    "digits 64-16-10": {"data": DIGITS, "model": "mlp", "hidden": (16,), "activation": ACTIVATION},
}
STEP_SIZE, SIDE = 0.1, 1024


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--case", "cases", multiple=True, type=click.Choice(list(CASES)), help="These alone.")
@click.option("--steps", default=20, show_default=True, help="Of each call.")
@click.option("--rounds", default=7, show_default=True, help="Times that each is measured.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of each measurement, at least.")
@click.option("--json", "json_file", type=click.File("w"), default="-", help="Where the figures go.")
def main(cases, steps, rounds, seconds, json_file):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {one_core()})  # before JAX counts its cores
    jax.config.update("jax_enable_compilation_cache", False)
    rows = [measure(name, steps, rounds, seconds) for name in cases or CASES]
    found = {**environment(0), "rounds": rounds, "steps": steps, "rows": rows}
    print(render(found), file=sys.stderr)
    json.dump(found, json_file, indent=1)
    json_file.write("\n")


def measure(name, steps, rounds, seconds):
    """The figures of one case."""
    print(name, file=sys.stderr)
    config = SweepConfig(**CASES[name])
    problem = make_problem(config)
    batch, s = check_batch(None, problem), max(3, problem.n // 10)
    trial = partial(begin, problem, SweepConfig(step_size=STEP_SIZE, curve_points=0))
    made = jax.jit(lanes(trial))(triples(0, np.arange(batch)), np.full(batch, s, np.int32))
    views, theta0 = jax.device_get((made.train, made.theta0))
    rows = [problem.rows(jax.tree.map(lambda a, i=i: a[..., i], views)) for i in range(batch)]
    X, y = (np.stack(part) for part in zip(*rows))
    sizes = [X.shape[-1], *CASES[name].get("hidden", ()), problem.outputs_per_row]

    def ours(theta, view, s):
        return iht_step(lambda theta: problem.gradient(theta, view), theta, STEP_SIZE, s)

    def plain(theta, X, y):
        v = theta - STEP_SIZE * jax.grad(loss)(theta, X, y, sizes)
        _, kept = lax.top_k(jnp.abs(v), s)
        return jnp.zeros_like(v).at[kept].set(v[kept])

    programs = {
        "ihtjax": scan(jax.vmap(ours, (-1, -1, None), -1), steps, theta0, views, np.int32(s)),
        "plain JAX": scan(jax.vmap(plain), steps, np.ascontiguousarray(theta0.T), X, y),
    }
    a, b = np.asarray(programs["ihtjax"]()).T, np.asarray(programs["plain JAX"]())
    losses = [np.asarray(jax.vmap(partial(loss, sizes=sizes))(theta, X, y)) for theta in (a, b)]
    # Of supports that the classes' symmetry makes equal, rounding picks one: with two classes ties are exact.
    close = (np.abs(losses[0] - losses[1]) <= LOSS_TOLERANCE).mean()
    if close < SHARE_THAT_AGREES:
        raise SystemExit(f"{name}: only {close:.1%} of the losses agree")
    square = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    programs["product"] = partial(jax.jit(partial(jnp.dot, precision=lax.Precision.HIGHEST)), square, square)
    jax.block_until_ready(programs["product"]())
    calls = {which: [] for which in programs}
    for _ in range(rounds):
        for which, program in programs.items():
            calls[which].append(nanoseconds(program, seconds))
    times = {which: np.array(calls[which]) / (batch * steps) for which in ("ihtjax", "plain JAX")}
    # Forward, and for the gradient of each layer's weights; of every layer but the first also of what it was given.
    products = [2 * len(problem.X) * (inputs + 1) * outputs for inputs, outputs in zip(sizes, sizes[1:])]
    flop = 2 * sum(products) + sum(products[1:])
    limit = flop * np.array(calls["product"]) / (2 * SIDE**3)
    return {
        "case": name,
        "parameters": problem.n,
        "rows": len(problem.X),
        "batch": batch,
        "s": s,
        "same_support": ((a != 0) == (b != 0)).all(axis=1).mean(),
        "same_loss": close,
        "ns_per_lane_step": {k: {"median": np.median(t), "low": t.min(), "high": t.max()} for k, t in times.items()},
        "limit_ns": np.median(limit),
        "plain_to_ihtjax": np.median(times["plain JAX"] / times["ihtjax"]),
        "ihtjax_to_limit": np.median(times["ihtjax"] / limit),
    }


def loss(theta, X, y, sizes):
    """Mean cross-entropy of one network on its own rows, as one would write it in JAX."""
    z, at = X, 0
    for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        W = theta[at : at + inputs * outputs].reshape(outputs, inputs)
        b = theta[at + inputs * outputs : at + (inputs + 1) * outputs]
        z, at = (jnp.tanh(z) if layer else z) @ W.T + b, at + (inputs + 1) * outputs
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])


def nanoseconds(program, seconds):
    """Of one call, as the mean of so many seconds of calls."""
    calls, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds or not calls:
        jax.block_until_ready(program())
        calls += 1
    return 1e9 * taken / calls


def render(found) -> str:
    """The figures as a table."""
    lines = [f"{found['cpu']}, one core, jax {found['jax']}; ns per lane-step: median (low to high)", ""]
    lines += [f"{'':17}{'n':>6}{'batch':>7}{'ihtjax':>30}{'plain JAX':>34}{'ratio':>7}{'limit':>9}{'to it':>7}"]
    for row in found["rows"]:
        times = row["ns_per_lane_step"].values()
        ours, plain = (f"{t['median']:,.0f} ({t['low']:,.0f} to {t['high']:,.0f})" for t in times)
        lines += [
            f"{row['case']:17}{row['parameters']:6,}{row['batch']:7,}{ours:>30}{plain:>34}{row['plain_to_ihtjax']:7.1f}"
            f"{row['limit_ns']:9,.0f}{row['ihtjax_to_limit']:7.1f}"
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
