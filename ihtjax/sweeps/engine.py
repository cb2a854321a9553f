"""The compiled programs of a sweep, and how many batches of them the device takes."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Collection
from importlib import metadata
from pathlib import Path
from platform import machine
from typing import Any, NamedTuple

import jax
import numpy as np

from ihtjax.errors import InputError, check, whole_number
from ihtjax.problems.softmax import SoftmaxRegression
from ihtjax.problems.table import Table
from ihtjax.solvers import draws
from ihtjax.solvers.threshold import PAIRWISE_LIMIT
from ihtjax.sweeps.certified import certified_steps
from ihtjax.sweeps.config import CERTIFIED, SweepConfig
from ihtjax.sweeps.trial import Point, Result, compile_batch, out_of_memory_named
from ihtjax.text import printable

# On CPU a batch's largest temporaries have about this many numbers, so that they stay in cache; 256 lanes for Iris.
CPU_BATCH_NUMBERS = 38_400
GPU_BATCH = 1024
# Nanoseconds on one CPU thread of what a lane-step consists of, for an estimate before anything was measured: each
# logit's exponential, each product, each pair of entries that H_s compares, each entry that it bisects (3 with 256
# lanes, 12 with 32).
NS_LOGIT, NS_PRODUCT, NS_PAIR, NS_BISECTED = 0.31, 0.02, 0.085, 6


class Engine(NamedTuple):
    """A problem with its compiled programs: all that running a batch of any level needs.

    Attributes:
      problem: the objective.
      batch: lanes per call.
      run: (seeds uint32 ``[3, batch]``, s int32 ``[batch]``) -> (`Result`, `Point`), lanes last.
      certified: whether `run` takes step sizes ``[batch]`` as well, certified ones.
    """

    problem: SoftmaxRegression
    batch: int
    run: Callable
    certified: bool


def program(config: SweepConfig) -> SweepConfig:
    """The configuration with what the compiled program doesn't depend on set to its default."""
    anything = SweepConfig()
    keep = "steps n_monte init standardize step_size stop_loss ht_tol curve_points precision audit".split()
    return dataclasses.replace(anything, **{name: getattr(config, name) for name in keep})


@functools.lru_cache(maxsize=8)
def make_problem(table: Table, standardize: str, init: str, precision: str) -> SoftmaxRegression:
    """The objective of a sweep."""
    return SoftmaxRegression(table, init, standardize, np.dtype(precision))


@functools.lru_cache(maxsize=8)
def make_engine(table: Table, config: SweepConfig, batch: int) -> Engine:
    """Compile for a table and a `program`; one engine serves all levels, units and sweeps of a process."""
    with draws.settings(config.precision):
        problem = make_problem(table, config.standardize, config.init, config.precision)
        return Engine(problem, batch, compile_batch(problem, config, batch), config.step_size == CERTIFIED)


def triples(root: int, trials: np.ndarray) -> np.ndarray:
    """The seed triples uint32 ``[3, N]`` of the trials with these numbers ``[N]``, from a sweep's root seed."""
    with draws.settings("float32"):
        return np.array(_triples(np.uint32(root), np.asarray(trials, np.uint32)))


_triples = jax.jit(jax.vmap(draws.triple, in_axes=(None, 0), out_axes=-1))


def run_block(engine: Engine, seeds: np.ndarray, s: int) -> tuple[Result, Point]:
    """Run one batch of trials of level s; at most ``engine.batch`` triples ``[3, N]``, results as NumPy arrays."""
    N = seeds.shape[1]
    padded = np.pad(seeds, ((0, 0), (0, engine.batch - N)), mode="edge")
    with out_of_memory_named(), draws.settings(str(engine.problem.dtype)):
        inputs: tuple[np.ndarray, ...] = padded, np.full(engine.batch, s, np.int32)
        if engine.certified:
            inputs += (certified_steps(engine.problem, padded[0], s),)
        out = jax.device_get(engine.run(*inputs))
    return jax.tree.map(lambda a: a[..., :N], out)


def check_batch(batch: int | None, table: Table) -> int:
    """The number of lanes per call; what suits the default device if None, a power of two."""
    if batch is None:
        if platform() != "cpu":
            return GPU_BATCH
        return int(2 ** np.clip(round(np.log2(CPU_BATCH_NUMBERS / len(table.y))), 5, 10))
    return check("batch", batch, whole_number(1))


def workers() -> int:
    """Batches to run at a time: one for each core; a GPU needs a second only to hide the transfers."""
    if platform() != "cpu":
        return 2
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def platform() -> str:
    """What JAX computes on: "cpu", "gpu", ..

    Raises:
      InputError: JAX_PLATFORMS asks for something that isn't there.
    """
    try:
        return jax.default_backend()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        asked = os.environ.get("JAX_PLATFORMS")
        raise InputError(
            f"JAX_PLATFORMS: got {asked!r}, which JAX can't use ({reason}); unset it, or say cpu"
        ) from error


def estimated_seconds(rows: int, classes: int, features: int, lane_steps: int) -> float | None:
    """Roughly how long so many lane-steps take on this CPU, within a factor of some two or three; None elsewhere."""
    if platform() != "cpu":
        return None
    n, logits = classes * (features + 1), rows * classes
    h_s = n * n * NS_PAIR if n <= PAIRWISE_LIMIT else n * NS_BISECTED
    return 1e-9 * lane_steps * (logits * (NS_LOGIT + NS_PRODUCT * (features + 1)) + h_s) / workers()


def describe_environment(batch: int) -> dict[str, Any]:
    """What results can depend on beside the configuration, for the manifest."""
    platform()
    device = jax.devices()[0]
    return {
        "ihtjax": metadata.version("ihtjax"),
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "platform": device.platform,
        "device": device.device_kind,
        "instruction_set": instruction_set(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "batch": batch,
        "matmul_precision": "highest",
    }


def differences(environment: dict[str, Any], units: Collection[dict[str, Any]]) -> list[str]:
    """Where this environment differs from those that a run's finished units were made in, in words."""
    words = []
    for name, value in environment.items():
        now = printable(str(value))
        before = {printable(str(unit["environment"][name])) for unit in units if name in unit["environment"]} - {now}
        if before:
            words.append(f"{name} was {' and '.join(sorted(before)) or 'none'}, now it is {now or 'none'}")
    return words


def instruction_set() -> str:
    """The processor's architecture and widest vectors, on which the last bits of results depend."""
    flags = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith("flags"))
    widest = next((name for name in ("avx512f", "avx2", "avx") if name in flags.split()), "")
    return f"{machine()} {widest}".strip()
