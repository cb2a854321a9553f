"""What the process's environment says of JAX changes no trial, and is recorded where it changes last bits."""

import os
import subprocess
import sys

import pytest

from benchmarks.formats import entries_of, relist
from ihtjax import InputError, SweepConfig, load, sweep
from ihtjax.sweeps.engine import differences, instruction_set

SWEEP = "--levels 3,7 --trials 20 --steps 300 --n-monte 10 --curve-points 8".split()
EVERYTHING = {
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_ENABLE_X64": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}


def command(environment, *argv):
    return subprocess.run(
        [sys.executable, "-m", "ihtjax", *map(str, argv)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_no_setting_of_jax_changes_the_trials(uncached, small_run, tmp_path):
    done = command(EVERYTHING, "sweep", tmp_path / "run", *SWEEP)
    assert done.returncode == 0, done.stderr
    here, there = load(small_run), load(tmp_path / "run")
    for column in here:
        if column in ("theta", "theta0"):
            assert all(a.tobytes() == b.tobytes() for a, b in zip(here[column], there[column]))
        else:
            assert here[column].equals(there[column]), column


@pytest.mark.parametrize(
    "argv",
    [
        "trial --s 7 --data-seed 42 --init-seed 21 --support-seed 84 --steps 50 --n-monte 5",
        "atlas --s 2 --data-seed 42 --starts 20 --step-size 0.5 --steps 50",
        "restarts --data-seed 42 --levels 2 --starts 20 --steps 50 --n-monte 5",
    ],
)
def test_no_setting_of_jax_changes_what_is_printed(argv):
    plain, strange = command({}, *argv.split()), command(EVERYTHING, *argv.split())
    assert strange.returncode == 0, strange.stderr
    assert strange.stdout == plain.stdout and len(plain.stdout) > 100


def test_the_librarys_own_draws_do_not_depend_on_the_environment():
    code = "import jax, jax.numpy as jnp, ihtjax; "
    code += "print(ihtjax.solve(lambda x: jnp.sum((x - jnp.array([3., 1., 2.])) ** 2 * (1 + x[0] ** 2)), "
    code += "jnp.zeros(3), s=2, steps=5).step_size)"
    results = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environment
        ).stdout
        for environment in ({}, {"JAX_RANDOM_SEED_OFFSET": "5"})
    }
    assert len(results) == 1


@pytest.mark.parametrize("argv", [["sweep", "run"], ["trial", "--s", "7", *"--data-seed 1 --init-seed 1".split()]])
def test_a_platform_that_is_not_there_is_refused_in_one_line(tmp_path, argv):
    argv = [tmp_path / "run" if a == "run" else a for a in argv]
    argv += ["--support-seed", "1"] if argv[0] == "trial" else []
    done = command({"JAX_PLATFORMS": "bogus"}, *argv)
    assert done.returncode == 2 and done.stderr.startswith("ihtjax: error: JAX_PLATFORMS: got 'bogus'")
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_difference_on_resume_is_named(small, tmp_path):
    run = sweep(small, tmp_path / "run")
    earlier = {"jaxlib": "0.1", "xla_flags": "--xla_cpu_max_isa=AVX2"}
    relist(run, lambda entries: [entry["environment"].update(earlier) for entry in entries])
    done = command({}, "sweep", run, *[a if a != "20" else "25" for a in SWEEP])
    assert done.returncode == 0
    assert "note: jaxlib was 0.1, now it is " in done.stderr
    assert "note: xla_flags was --xla_cpu_max_isa=AVX2, now it is none" in done.stderr


def test_differences_are_of_what_both_know():
    unit = {"environment": {"jax": "1", "batch": 256}}
    assert differences({"jax": "1", "batch": 256, "new": "x"}, [unit]) == []
    assert differences({"jax": "2"}, [unit, unit]) == ["jax was 1, now it is 2"]


def test_the_instruction_set_is_recorded(small_run):
    assert {entry["environment"]["instruction_set"] for entry in entries_of(small_run)} == {instruction_set()}
    assert instruction_set()


def test_an_empty_path_is_no_run_directory():
    for path in ("", None, 3):
        with pytest.raises(InputError, match="run_dir: got"):
            sweep(SweepConfig(), path)
