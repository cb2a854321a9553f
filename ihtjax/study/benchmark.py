"""Throughput of the device at hand, and where the time of a sweep goes."""

import dataclasses
import datetime
import itertools
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
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.engine import (
    check_batch,
    describe_environment,
    make_engine,
    make_problem,
    one_solver,
    resolved,
    run_block,
    triples,
    workers,
)
from ihtjax.sweeps.progress import Silent
from ihtjax.sweeps.runner import config_record, unit_tables
from ihtjax.sweeps.store.records import Fit
from ihtjax.sweeps.store.run import RunDirectory

RATE_STEPS = 4000
MATRIX_SIZE = {"cpu": 2048}  # a second of work at most, and too large for a cache
MATRIX_SIZE_ELSEWHERE = 8192


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
      A dictionary of JSON types; whatever was timed has its raw ``seconds`` beside it. ``throughput``: lane-steps per
      second (median, lowest, highest of the repeats) of the iteration alone, with one call per core at a time, by batch
      and level, and ``flop_per_second``, that times ``flop_per_lane_step`` (see `flop_per_lane_step`). ``matmul``: the
      FLOP per second of a product of two large square matrices, measured on the spot: what the device can do at its
      best, to hold the former against. ``sweep``: seconds and shares of a cold sweep of the configuration, put together
      from its parts: import, compile, monte_carlo (all draws and step sizes, with the first step and the certificates),
      iteration, writing. ``compile_seconds``, ``peak_memory_bytes``, the date, the commit (None unless run from a
      checkout), the device, the model of the CPU, and versions.

    Raises:
      InputError: the configuration can't be run.
    """
    show = show or Silent()
    problem = make_problem(config)
    config = resolved(config, problem)
    batch = check_batch(None, problem)
    if batches is None:
        batches = tuple(max(1, int(batch * factor)) for factor in (0.25, 0.5, 1, 2, 4))
    levels = config.filled_levels
    middle = levels[len(levels) // 2]

    # A given step size leaves the Monte Carlo out, and with it most of the time to compile.
    iteration = SweepConfig(steps=RATE_STEPS, step_size=1.0, curve_points=0, precision=config.precision)
    rates, flop = [], flop_per_lane_step(problem)
    for lanes, s in [(b, middle) for b in batches] + [(batch, s) for s in levels if s != middle]:
        engine = make_engine(problem, one_solver(config), iteration, lanes)
        seconds = repeat(partial(call_everywhere, engine, s), repeats)
        rate = lanes * RATE_STEPS * workers() / np.array(seconds)
        rates.append(
            {
                "batch": lanes,
                "s": s,
                "lane_steps_per_second": _spread(rate),
                "flop_per_second": flop * float(np.median(rate)),
                "seconds": _rounded(seconds),
            }
        )
        show.say(f"batch {lanes:5d}, s = {s:3d}: {1e9 / np.median(rate):7.1f} ns per lane-step")

    compile_seconds, engine = _timed(lambda: make_engine(problem, one_solver(config), config, batch, anew=True))
    # Its first step alone, without a curve, with all that comes before and after the iteration.
    first = make_engine(problem, one_solver(config), dataclasses.replace(config, steps=1, curve_points=0), batch)
    timed = {
        "import": [_import_seconds() for _ in range(3)],
        "compile": [compile_seconds],
        "whole_call": repeat(lambda: call_everywhere(engine, middle), repeats),
        "first_step_call": repeat(lambda: call_everywhere(first, middle), repeats),
        "writing_a_level": _writing_seconds(engine, config, middle),
    }
    median = {name: float(np.median(seconds)) for name, seconds in timed.items()}
    trained = len(levels) + config.dense
    calls = trained * -(-config.trials // batch)
    parts = {
        "import": median["import"],
        "compile": compile_seconds,
        "monte_carlo": calls * median["first_step_call"] / workers(),
        # The noise of two measurements may exceed what a few steps take.
        "iteration": calls * max(0.0, median["whole_call"] - median["first_step_call"]) / workers(),
        "writing": trained * median["writing_a_level"],
    }
    total = sum(parts.values())
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        **describe_environment(batch),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": workers(),
        "precision": config.precision,
        "steps_per_call": RATE_STEPS,
        "flop_per_lane_step": flop,
        "matmul": matmul_rate(config.precision, repeats),
        "throughput": rates,
        "compile_seconds": round(compile_seconds, 3),
        "sweep": {
            "lane_steps": trained * config.trials * config.steps,
            "seconds": {name: round(float(value), 3) for name, value in parts.items()} | {"total": round(total, 3)},
            "share": {name: round(float(value / total), 4) for name, value in parts.items()},
            "timed_seconds": {name: _rounded(seconds) for name, seconds in timed.items()},
        },
        "peak_memory_bytes": peak_memory(),
    }


def render(found: dict[str, Any]) -> str:
    """What `bench` found, as a readable table."""
    commit, matmul = found["commit"], found["matmul"]
    lines = [
        f"{found['cpu']}, device {found['device']} ({found['platform']}), {found['cores']} calls at a time",
        f"{found['date']}, ihtjax {found['ihtjax']}, {'commit ' + commit if commit else 'no checkout'}",
        f"jax {found['jax']}, {found['precision']}",
        "",
        f"{'batch':>6} {'s':>5} {'ns/lane-step':>12} {'M lane-steps/s':>14} {'lowest':>8} {'highest':>8} "
        f"{'GFLOP/s':>8}",
    ]
    for row in found["throughput"]:
        rate = row["lane_steps_per_second"]
        low, median, high = (rate[k] / 1e6 for k in ("low", "median", "high"))
        flops = row["flop_per_second"] / 1e9
        lines += [
            f"{row['batch']:6d} {row['s']:5d} {1e3 / median:12.1f} {median:14.2f} {low:8.2f} {high:8.2f} {flops:8.1f}"
        ]
    best = max(row["flop_per_second"] for row in found["throughput"]) / matmul["flop_per_second"]["median"]
    lines += [
        "",
        f"measured: a product of {matmul['size']:,} x {matmul['size']:,} {found['precision']} matrices, "
        f"{matmul['flop_per_second']['median'] / 1e9:,.0f} GFLOP/s; the iteration reaches {best:.0%}",
        f"of it, counting {found['flop_per_lane_step']:,} FLOP a lane-step: its two matrix products alone",
    ]
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


def flop_per_lane_step(problem) -> int:
    """Floating-point operations of the two matrix products of one step of one trial: 4 m n.

    With m training rows and n = K (d + 1) parameters, the logits X W' + b take m n multiplications and as many
    additions, and so does the gradient, the product of the residuals with X. Exponentials and H_s aren't counted, nor
    rows or classes that a program computes or saves beside: it is the work that is asked for, not what is done.
    """
    return 4 * problem.m_train * problem.n


def matmul_rate(precision: str, repeats: int) -> dict[str, Any]:
    """FLOP per second of a product of two large square matrices, 2 size^3 operations, in full precision."""
    size = MATRIX_SIZE.get(jax.default_backend(), MATRIX_SIZE_ELSEWHERE)
    with jax.enable_x64(precision == "float64"):
        matrix = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), precision)
        product = jax.jit(partial(jnp.matmul, precision="highest"))
        seconds = repeat(lambda: product(matrix, matrix).block_until_ready(), repeats)
    rate = 2 * size**3 / np.array(seconds)
    return {"size": size, "flop_per_second": _spread(rate), "seconds": _rounded(seconds)}


def cpu_model() -> str:
    """The model of the processor, as the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    if not names and sys.platform == "darwin":
        names = _output("sysctl", "-n", "machdep.cpu.brand_string")
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit that runs, with ``-dirty`` if tracked files differ from it; None unless run from a checkout."""
    here = Path(__file__).resolve()
    git = "git", "-C", str(here.parent)
    # An installed copy may lie in the working tree of another repository, which doesn't track it.
    if not _output(*git, "ls-files", "--error-unmatch", here.name):
        return None
    head = _output(*git, "rev-parse", "HEAD")
    return head[0] + "-dirty" * bool(_output(*git, "status", "--porcelain", "--untracked-files=no"))


def _output(*command: str) -> list[str]:
    """The lines that a command prints; none if it fails or there is no such command."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return []
    return ran.stdout.splitlines() if ran.returncode == 0 else []


def _rounded(seconds) -> list[float]:
    return [round(float(value), 6) for value in seconds]


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
    command = [sys.executable, "-c", "import ihtjax.cli.commands, ihtjax.sweeps.runner, ihtjax.study.summaries"]
    return _timed(lambda: subprocess.run(command, check=True, env=os.environ))[0]


def _writing_seconds(engine, config, s) -> list[float]:
    """Write one unit of a level's trials."""
    seeds = triples(0, np.arange(engine.batch))
    N = min(config.trials, 65_536)
    columns = np.resize(np.arange(engine.batch), N)
    result, curve = run_block(engine, seeds, s)
    seeds, result, curve = jax.tree.map(lambda a: a[..., columns], (seeds, result, curve))
    starts = itertools.count(0, N)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(folder)
        run.write_config(config_record(config, engine.problem, {"iht": ""}, engine.batch))

        def write():
            start = next(starts)
            unit = Fit("iht", s, start, start + N)
            run.write_unit(unit, unit_tables(unit, config, seeds, result, curve, None, "0" * 12), {})

        return repeat(write, 3)
