"""Throughput of the device at hand, and where the time of a sweep goes."""

import dataclasses
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

from ihtjax.config import SweepConfig
from ihtjax.data import load_table
from ihtjax.engine import (
    check_batch,
    describe_environment,
    make_engine,
    make_problem,
    program,
    run_block,
    triples,
    workers,
)
from ihtjax.progress import Silent
from ihtjax.records import Unit
from ihtjax.store import RunDirectory
from ihtjax.sweeps import unit_tables

RATE_STEPS = 4000


def bench(
    config: SweepConfig,
    batches: tuple[int, ...] | None = None,
    repeats: int = 5,
    show: Silent | None = None,
) -> dict[str, Any]:
    """Measure the device at hand on the program of a sweep.

    Args:
      config: the sweep whose program is measured; its levels are measured each at the default batch.
      batches: lanes per call to try at the middle level; powers of two around the default if None.
      repeats: timed runs of each figure.
      show: a progress display for lines of text.

    Returns:
      A dictionary of JSON types. ``throughput``: lane-steps per second (median, lowest, highest of the repeats) of the
      iteration alone, with one call per core at a time, by batch and level. ``sweep``: seconds and shares of a cold
      sweep of the configuration, put together from its parts: import, compile, monte_carlo (all draws and step sizes,
      with the first step and the certificates), iteration, writing. ``compile_seconds``, ``peak_memory_bytes`` and the
      device and versions.

    Raises:
      InputError: the configuration can't be run.
    """
    show = show or Silent()
    table = load_table(config.data, config.target)
    n = make_problem(table, config.standardize, config.init, config.precision).n
    config = config.with_levels(n)
    batch = check_batch(None, table)
    if batches is None:
        batches = tuple(max(1, int(batch * factor)) for factor in (0.25, 0.5, 1, 2, 4))
    middle = config.levels[len(config.levels) // 2]

    # A given step size leaves the Monte Carlo out, and with it most of the time to compile.
    iteration = program(SweepConfig(steps=RATE_STEPS, step_size=1.0, curve_points=0, precision=config.precision))
    rates = []
    for lanes, s in [(b, middle) for b in batches] + [(batch, s) for s in config.levels if s != middle]:
        engine = make_engine(table, iteration, lanes)
        seconds = repeat(partial(call_everywhere, engine, s), repeats)
        rate = lanes * RATE_STEPS * workers() / np.array(seconds)
        rates.append({"batch": lanes, "s": s, "lane_steps_per_second": _spread(rate)})
        show.say(f"batch {lanes:5d}, s = {s:3d}: {1e9 / np.median(rate):7.1f} ns per lane-step")

    compile_seconds, engine = _timed(lambda: make_engine.__wrapped__(table, program(config), batch))
    whole = np.median(repeat(lambda: call_everywhere(engine, middle), repeats)) / workers()
    # The same program's first step alone, with all that comes before and after the iteration.
    first = make_engine(table, program(dataclasses.replace(config, steps=1)), batch)
    ends = np.median(repeat(lambda: call_everywhere(first, middle), repeats)) / workers()
    calls = (len(config.levels) + config.dense) * -(-config.trials // batch)
    parts = {
        "import": np.median([_import_seconds() for _ in range(3)]),
        "compile": compile_seconds,
        "monte_carlo": calls * ends,
        "iteration": calls * (whole - ends),
        "writing": (len(config.levels) + config.dense) * _writing_seconds(engine, config, middle),
    }
    total = sum(parts.values())
    return {
        **describe_environment(batch),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": workers(),
        "steps_per_call": RATE_STEPS,
        "throughput": rates,
        "compile_seconds": round(compile_seconds, 3),
        "sweep": {
            "lane_steps": (len(config.levels) + config.dense) * config.trials * config.steps,
            "seconds": {name: round(float(value), 3) for name, value in parts.items()} | {"total": round(total, 3)},
            "share": {name: round(float(value / total), 4) for name, value in parts.items()},
        },
        "peak_memory_bytes": peak_memory(),
    }


def render(found: dict[str, Any]) -> str:
    """What `bench` found, as a readable table."""
    lines = [f"{found['device']} ({found['platform']}), {found['cores']} calls at a time, jax {found['jax']}", ""]
    lines += [f"{'batch':>6} {'s':>5} {'ns/lane-step':>13} {'M lane-steps/s':>15} {'lowest':>9} {'highest':>9}"]
    for row in found["throughput"]:
        rate = row["lane_steps_per_second"]
        low, median, high = (rate[k] / 1e6 for k in ("low", "median", "high"))
        lines += [f"{row['batch']:6d} {row['s']:5d} {1e3 / median:13.1f} {median:15.2f} {low:9.2f} {high:9.2f}"]
    lines += ["", f"a cold sweep of {found['sweep']['lane_steps']:,} lane-steps, from its parts:"]
    for name, seconds in found["sweep"]["seconds"].items():
        share = found["sweep"]["share"].get(name, 1.0)
        lines += [f"{name.replace('_', ' '):>12} {seconds:8.2f} s {share:7.1%}"]
    lines += ["", f"peak memory {found['peak_memory_bytes'] / 1e6:.0f} MB"]
    return "\n".join(lines)


def call_everywhere(engine, s: int) -> None:
    """One call of the engine on each worker at the same time, on different triples; returns when all are done."""
    trials = np.arange(engine.batch, dtype=np.uint32)
    seeds = triples(0, trials)
    with ThreadPoolExecutor(workers()) as pool:
        list(pool.map(lambda _: run_block(engine, seeds, s), range(workers())))


def repeat(call: Callable[[], Any], times: int) -> list[float]:
    """Seconds of each of several calls, after one that doesn't count."""
    call()
    return [_timed(call)[0] for _ in range(times)]


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _timed(call):
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def _spread(values):
    return {"median": float(np.median(values)), "low": float(min(values)), "high": float(max(values))}


def _import_seconds() -> float:
    """Start a Python that imports what a sweep needs, and end it."""
    command = [sys.executable, "-c", "import ihtjax.cli, ihtjax.sweeps, ihtjax.summaries"]
    return _timed(lambda: subprocess.run(command, check=True, env=os.environ))[0]


def _writing_seconds(engine, config, s) -> float:
    """Write one unit of a level's trials."""
    seeds = triples(0, np.arange(engine.batch))
    N = min(config.trials, 65_536)
    columns = np.resize(np.arange(engine.batch), N)
    result, curve = run_block(engine, seeds, s)
    seeds, result, curve = jax.tree.map(lambda a: a[..., columns], (seeds, result, curve))
    unit = Unit("iht", s, 0, N)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(folder)
        run.write_units({})

        def write():
            run.write_unit(unit, unit_tables(unit, config, seeds, result, curve, None, "0" * 12), {})

        return float(np.median(repeat(write, 3)))
