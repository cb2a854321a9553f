"""H_s of a batch of vectors beside ``lax.top_k`` under ``vmap``: nanoseconds a lane, on one core.

Both get the same numbers, float32 with lanes last, a level for each lane, and must return the same before their time
counts. They run in rounds, one after the other, so that a machine's drift hits both alike; a ratio is the median of the
rounds' ratios. Compilation is measured apart. Run it on a quiet machine:

    python benchmarks/threshold.py --json threshold.json
"""

import json
import os
import sys
import time

import click
import jax
import jax.numpy as jnp
import numpy as np
from compiled import one_core
from jax import lax
from peers import environment

from ihtjax import hard_threshold
from ihtjax.solvers.threshold import PAIRWISE_LIMIT
from ihtjax.sweeps.programs import CPU_OPTIONS

LENGTHS = (15, 64, 128, 256, 1024, 4096)
OURS, TOP_K = "ihtjax", "lax.top_k"
PRESETS = {"as a sweep compiles": CPU_OPTIONS, "XLA's defaults": None}


def by_top_k(v, s):
    """H_s as one would write it, on the integer keys that ihtjax has: ``lax.top_k`` takes longer for floats."""
    n = len(v)
    _, order = lax.top_k(lax.bitcast_convert_type(jnp.abs(v), jnp.int32), n)
    return jnp.where(jnp.zeros(n, bool).at[order].set(jnp.arange(n) < s), v, 0)


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--n", "lengths", multiple=True, type=click.IntRange(1), default=LENGTHS, show_default=True)
@click.option("--lanes", default=256, show_default=True, help="Vectors in a batch.")
@click.option("--rounds", default=7, show_default=True, help="Times that each is measured.")
@click.option("--seconds", default=0.1, show_default=True, help="Length of each measurement, at least.")
@click.option("--json", "json_file", type=click.File("w"), default="-", help="Where the figures go.")
def main(lengths, lanes, rounds, seconds, json_file):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {one_core()})  # before JAX counts its cores
    jax.config.update("jax_enable_compilation_cache", False)
    presets = PRESETS if jax.default_backend() == "cpu" else {"XLA's defaults": None}
    rows = [row for name in presets for n in lengths for row in measure(n, lanes, name, rounds, seconds)]
    found = {**environment(lanes), "pairs_up_to": PAIRWISE_LIMIT, "rounds": rounds, "rows": rows}
    print(render(found), file=sys.stderr)
    json.dump(found, json_file, indent=1)
    json_file.write("\n")


def measure(n, lanes, preset, rounds, seconds):
    """The figures of one length, compiled with one set of options: of normal numbers, and of the same rounded."""
    print(f"n = {n}, {preset}", file=sys.stderr)
    normal = np.random.default_rng(0).normal(size=(n, lanes)).astype(np.float32)
    s = np.arange(lanes, dtype=np.int32) % n + 1
    programs, compile_seconds = {}, {}
    for name, function in ((OURS, hard_threshold), (TOP_K, by_top_k)):
        programs[name], compile_seconds[name] = compiled(function, normal, s, PRESETS[preset])
    for numbers, v in (("distinct", normal), ("many ties", np.round(normal))):
        inputs = jax.device_put((v, s))
        np.testing.assert_array_equal(*(program(*inputs) for program in programs.values()))
        ns = {name: [] for name in programs}
        for _ in range(rounds):
            for name, program in programs.items():
                ns[name].append(nanoseconds(program, inputs, seconds) / lanes)
        yield {
            "n": n,
            "numbers": numbers,
            "options": preset,
            "ns_per_lane": {k: {"median": np.median(t), "low": min(t), "high": max(t)} for k, t in ns.items()},
            "top_k_to_ihtjax": np.median(np.array(ns[TOP_K]) / np.array(ns[OURS])),
            "compile_seconds": compile_seconds,
        }


def compiled(function, v, s, options):
    """The function under ``vmap`` for such a batch, and the seconds that it took to compile."""
    lowered = jax.jit(jax.vmap(function, (-1, 0), -1)).lower(v, s)
    began = time.perf_counter()
    return lowered.compile(options), time.perf_counter() - began


def nanoseconds(program, inputs, seconds):
    """Of one call, as the mean of so many seconds of calls."""
    calls, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds or not calls:
        jax.block_until_ready(program(*inputs))
        calls += 1
    return 1e9 * taken / calls


def render(found) -> str:
    """The figures as a table."""
    lines = [f"{found['cpu']}, one core, jax {found['jax']}, {found['batch']} lanes; ns per lane: median (low to high)"]
    preset = None
    for row in found["rows"]:
        if row["options"] != preset:
            preset = row["options"]
            lines += ["", f"{preset:22}{OURS:>28}{TOP_K:>34}{'ratio':>8}{'compiling, s':>14}"]
        ours, top_k = (f"{t['median']:,.0f} ({t['low']:,.0f} to {t['high']:,.0f})" for t in row["ns_per_lane"].values())
        ratio, seconds = row["top_k_to_ihtjax"], row["compile_seconds"][OURS]
        lines += [f"{row['n']:6,}  {row['numbers']:14}{ours:>28}{top_k:>34}{ratio:8.1f}{seconds:14.2f}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
