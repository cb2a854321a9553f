"""How the suite runs: on all cores, and with each program compiled once."""

import gc
import os
import tempfile

# Workers, and the processes that tests start, share what any of them has compiled. jax reads these when it is
# imported, so no fixture can set them. Given a largest size, jax locks the folder, as two may compile the same at once,
# and looks at all that is there whenever it adds something: what compiles in no time is left out.
if "PYTEST_XDIST_WORKER" not in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="ihtjax-compiled-")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": compiled.name,
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**32),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # As in JAX's own suite: half of all time goes into compiling. Programs of sweeps ask for what they need
        # themselves; tests of what else people compile, as `solve`, take the fixture `optimized`.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
    }


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector needn't go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_xdist_auto_num_workers(config):
    """One worker for each core, eight at most; none where files or tests are named, which one process does sooner."""
    if config.args_source is not config.ArgsSource.TESTPATHS:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores, 8)
