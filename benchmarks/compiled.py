"""The work as compiled JAX and C run it, one call per core at a time: ihtjax, plain JAX, and the C kernel.

Each function takes the work and returns a program; what is missing on this machine raises ImportError.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from work import STEP_SIZE, Program, Work, make_work

from ihtjax import SweepConfig, iht_step
from ihtjax.solvers import draws
from ihtjax.solvers.iht import IHT
from ihtjax.sweeps.engine import make_engine, make_problem, run_block, workers
from ihtjax.sweeps.programs import CPU_OPTIONS

FLAGS = "-O3 -march=native -mprefer-vector-width=512 -ffp-contract=fast -fno-math-errno -pthread".split()
# Runs a command on one core; `preexec_fn` isn't safe in a process with threads.
PINNED = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"


def on_all_cores(run: Callable, batch: int, lanes_last: bool) -> Program:
    """A compiled JAX program, one call per core at a time: a call releases the interpreter."""
    pool = ThreadPoolExecutor(workers())

    def several(times):
        for _ in range(times):
            jax.block_until_ready(run())

    def seconds(times):
        began = time.perf_counter()
        list(pool.map(several, [times] * workers()))
        return (time.perf_counter() - began) / times

    theta = np.asarray(run())
    return Program(theta.T if lanes_last else theta, batch * workers(), seconds)


def scan(batched_step: Callable, steps: int, theta, *rest) -> Callable:
    """All steps in one compiled loop."""

    def run(theta, *rest):
        return lax.scan(lambda theta, _: (batched_step(theta, *rest), None), theta, length=steps)[0]

    options = CPU_OPTIONS if jax.default_backend() == "cpu" else None
    theta, *rest = jax.device_put((theta, *rest))
    return partial(jax.jit(run).lower(theta, *rest).compile(options), theta, *rest)


def ihtjax(work: Work) -> Program:
    """The library's step."""

    def step(theta, view, s):
        return iht_step(lambda theta: work.problem.gradient(theta, view), theta, STEP_SIZE, s)

    batched = jax.vmap(step, (-1, -1, None), -1)
    return on_all_cores(scan(batched, work.steps, work.theta0.T, work.views, np.int32(work.s)), len(work.X), True)


def sweep_program(work: Work) -> Program:
    """The program that a sweep runs, which also splits, watches supports and losses, and certifies."""
    config = SweepConfig(steps=work.steps, step_size=STEP_SIZE, curve_points=0)
    batch = len(work.X)
    engine = make_engine(make_problem(config), IHT(), config, batch)
    triple = jax.vmap(draws.triple, (None, 0), -1)
    seeds = np.asarray(triple(np.uint32(config.seed), np.arange(batch, dtype=np.uint32)))
    return on_all_cores(lambda: run_block(engine, seeds, work.s)[0].theta, batch, True)


def ihtjax_one_core(work: Work) -> Program:
    """The library's step in a process of its own that may use one core only."""
    if not hasattr(os, "sched_setaffinity") or jax.default_backend() != "cpu":
        raise ImportError("needs a CPU, and an operating system that can pin a process")
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    spawn.Process(target=_serve, args=(there, work.s, len(work.X), work.steps), daemon=True).start()
    there.close()  # so that its end is noticed here

    def seconds(times):
        here.send(times)
        return here.recv()

    return Program(here.recv(), len(work.X), seconds)


def _serve(connection, *which):
    os.sched_setaffinity(0, {one_core()})
    program = ihtjax(make_work(*which))
    connection.send(program.theta)
    while True:
        connection.send(program.seconds(connection.recv()))


def one_core() -> int:
    """The core that what runs on one core runs on."""
    return min(os.sched_getaffinity(0))


def loss(theta, X, y):
    """Mean cross-entropy of one network on its own rows, as one would write it in JAX."""
    z = X @ theta[:-3].reshape(3, -1).T + theta[-3:]
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])


def plain_jax(work: Work) -> Program:
    """Autodiff and ``lax.top_k`` under plain ``vmap``, each lane with its own rows."""

    def step(theta, X, y):
        v = theta - STEP_SIZE * jax.grad(loss)(theta, X, y)
        _, kept = lax.top_k(jnp.abs(v), work.s)
        return jnp.zeros_like(v).at[kept].set(v[kept])

    return on_all_cores(scan(jax.vmap(step), work.steps, work.theta0, work.X, work.y), len(work.X), False)


def c_kernel(work: Work, one_core_only: bool = False) -> Program:
    """``kernel.c``, compiled here and now; as many lanes as ihtjax runs at a time."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ImportError("no C compiler")
    if one_core_only and not hasattr(os, "sched_setaffinity"):
        raise ImportError("this operating system can't pin a process")
    folder = tempfile.TemporaryDirectory(prefix="kernel-")
    binary, inputs, output = (Path(folder.name, name) for name in ("kernel", "input", "output"))
    subprocess.run([compiler, *FLAGS, Path(__file__).with_name("kernel.c"), "-o", binary], check=True)

    threads = 1 if one_core_only else workers()
    total = threads * len(work.X)
    order = np.argsort(work.problem.y, kind="stable")
    first = np.searchsorted(work.problem.y[order], np.arange(4))
    view = work.views
    per_lane = [np.tile(a, threads) for a in (view.weights[order], view.mean, view.scale, work.theta0.T)]
    with inputs.open("wb") as file:
        file.write(np.array([total, work.steps, len(order), *first], np.int32).tobytes())
        for a in (work.problem.X[order], *per_lane, np.full(total, STEP_SIZE), np.full(total, work.s)):
            file.write(np.ascontiguousarray(a, np.float32).tobytes())
    pinned = [sys.executable, "-c", PINNED, str(one_core())] if one_core_only else []

    def seconds(times, folder=folder):  # the folder goes when the program goes
        command = [*pinned, binary, inputs, output, str(threads), str(times)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return np.mean([float(line) for line in done.stdout.split()])

    seconds(1)
    theta = np.fromfile(output, np.float32).reshape(-1, total).T[: len(work.X)]
    return Program(theta, total, seconds)
