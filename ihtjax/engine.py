"""The compiled programs of a sweep, and how many batches of them the device takes."""

import dataclasses
import functools
import os
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np

from ihtjax import draws
from ihtjax.config import CERTIFIED, SweepConfig
from ihtjax.data import Table
from ihtjax.errors import check, whole_number
from ihtjax.exact.certified import certified_steps
from ihtjax.softmax import SoftmaxRegression
from ihtjax.trial import Point, Result, compile_batch, out_of_memory_named

# On CPU a batch's largest temporaries have about this many numbers, so that they stay in cache; 256 lanes for Iris.
CPU_BATCH_NUMBERS = 38_400
GPU_BATCH = 1024


class Engine(NamedTuple):
    """A problem with its compiled programs: all that running a batch of any level needs.

    Attributes:
      problem: the objective.
      batch: lanes per call.
      run: (seeds uint32 ``[3, batch]``, s int32 ``[batch]``) -> (`Result`, `Point`), lanes last.
      triples: trial numbers uint32 ``[batch]`` -> seeds uint32 ``[3, batch]``.
      certified: whether `run` takes step sizes ``[batch]`` as well, certified ones.
    """

    problem: SoftmaxRegression
    batch: int
    run: Callable
    triples: Callable
    certified: bool


def program(config: SweepConfig) -> SweepConfig:
    """The configuration with what the compiled program doesn't depend on set to its default."""
    anything = SweepConfig()
    keep = ("steps", "n_monte", "init", "standardize", "step_size", "stop_loss", "ht_tol", "curve_points", "precision")
    keep += ("audit",)
    return dataclasses.replace(anything, **{name: getattr(config, name) for name in keep})


@functools.lru_cache(maxsize=8)
def make_problem(table: Table, standardize: str, init: str, precision: str) -> SoftmaxRegression:
    """The objective of a sweep."""
    return SoftmaxRegression(table, init, standardize, np.dtype(precision))


@functools.lru_cache(maxsize=8)
def make_engine(table: Table, config: SweepConfig, batch: int) -> Engine:
    """Compile for a table and a `program`; one engine serves all levels, units and sweeps of a process."""
    with jax.enable_x64(config.precision == "float64"):
        problem = make_problem(table, config.standardize, config.init, config.precision)
        triples = jax.jit(jax.vmap(draws.triple, in_axes=(None, 0), out_axes=-1))
        return Engine(problem, batch, compile_batch(problem, config, batch), triples, config.step_size == CERTIFIED)


def run_block(engine: Engine, seeds: np.ndarray, s: int) -> tuple[Result, Point]:
    """Run one batch of trials of level s; at most ``engine.batch`` triples ``[3, N]``, results as NumPy arrays."""
    N = seeds.shape[1]
    padded = np.pad(seeds, ((0, 0), (0, engine.batch - N)), mode="edge")
    with out_of_memory_named():
        inputs = padded, np.full(engine.batch, s, np.int32)
        if engine.certified:
            inputs += (certified_steps(engine.problem, padded[0], s),)
        out = jax.device_get(engine.run(*inputs))
    return jax.tree.map(lambda a: a[..., :N], out)


def check_batch(batch: int | None, table: Table) -> int:
    """The number of lanes per call; what suits the default device if None, a power of two."""
    if batch is None:
        if jax.default_backend() != "cpu":
            return GPU_BATCH
        return int(2 ** np.clip(round(np.log2(CPU_BATCH_NUMBERS / len(table.y))), 5, 10))
    return check("batch", batch, whole_number(1))


def workers() -> int:
    """Batches to run at a time: one for each core; a GPU needs a second only to hide the transfers."""
    if jax.default_backend() != "cpu":
        return 2
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def describe_environment(batch: int) -> dict[str, Any]:
    """What results can depend on beside the configuration, for the manifest."""
    device = jax.devices()[0]
    return {
        "ihtjax": metadata.version("ihtjax"),
        "jax": jax.__version__,
        "platform": device.platform,
        "device": device.device_kind,
        "batch": batch,
        "matmul_precision": "highest",
    }
