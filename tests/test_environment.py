"""What the process's environment says of JAX changes no trial, and is recorded where it changes last bits."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import pytest
from test_cli import call

import ihtjax
from benchmarks.formats import entries_of, relist
from ihtjax import InputError, SweepConfig, load, sweep
from ihtjax.sweeps.engine import differences, instruction_set, platform

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
# The suite itself runs without most optimisations.
EVERYTHING_ELSE = EVERYTHING | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}


# Runs command lines, and prints the code, stdout and stderr of each.
SEVERAL = """
import contextlib, io, json, sys
from ihtjax.__main__ import main

said = []
for argv in json.loads(sys.stdin.read()):
    sys.argv[1:] = argv
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    said.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""


def commands(environment, *each):
    """What command lines say in one process of this environment: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL],
        input=json.dumps([[str(a) for a in argv] for argv in each]),
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_setting_of_jax_changes_the_trials(uncached, small_run, tmp_path):
    ((code, _, err),) = commands(EVERYTHING_ELSE, ["sweep", tmp_path / "run", *SWEEP])
    assert code == 0, err
    here, there = load(small_run), load(tmp_path / "run")
    for column in here:
        if column in ("theta", "theta0"):
            assert all(a.tobytes() == b.tobytes() for a, b in zip(here[column], there[column]))
        else:
            assert here[column].equals(there[column]), column


PRINTED = [
    "trial --s 7 --data-seed 42 --init-seed 21 --support-seed 84 --steps 50 --n-monte 10 --curve-points 8",
    "atlas --s 2 --data-seed 42 --starts 20 --step-size 0.5 --steps 50",
    "restarts --data-seed 42 --levels 2 --starts 20 --steps 50 --step-size 0.5",
]


@pytest.fixture(scope="module")
def strange():
    """What each command says where everything is set."""
    return dict(zip(PRINTED, commands(EVERYTHING_ELSE, *(argv.split() for argv in PRINTED))))


@pytest.mark.parametrize("argv", PRINTED)
def test_no_setting_of_jax_changes_what_is_printed(strange, argv, capsys):
    (code, out, err), plain = strange[argv], call(capsys, *argv.split())
    assert code == 0, err
    assert out == plain[1] and len(out) > 100


def test_the_librarys_own_draws_do_not_depend_on_the_environment():
    code = "import jax, jax.numpy as jnp, ihtjax; "
    code += "print(ihtjax.solve(lambda x: jnp.sum((x - jnp.array([3., 1., 2.])) ** 2 * (1 + x[0] ** 2)), "
    code += "jnp.zeros(3), s=2, steps=5).step_size)"
    there = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"JAX_RANDOM_SEED_OFFSET": "5"},
    ).stdout

    def f(x):
        return jnp.sum((x - jnp.array([3.0, 1.0, 2.0])) ** 2 * (1 + x[0] ** 2))

    here = ihtjax.solve(f, jnp.zeros(3), s=2, steps=5).step_size
    assert there == f"{here!s}\n"


def test_a_platform_that_is_not_there_is_refused_in_one_line(tmp_path):
    trial = "trial --s 7 --data-seed 1 --init-seed 1 --support-seed 1".split()
    for code, _, err in commands({"JAX_PLATFORMS": "bogus"}, ["sweep", tmp_path / "run"], trial):
        assert code == 2 and err.startswith("ihtjax: error: JAX_PLATFORMS: got 'bogus'")
        assert err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_platform_that_jax_knows_and_the_machine_lacks_is_named(monkeypatch):
    """What JAX raises for cuda where its plugin is missing has no words."""

    def raises():
        raise AssertionError

    monkeypatch.setattr("jax.default_backend", raises)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(InputError, match="^JAX_PLATFORMS: got 'cuda', .*has none.*; unset it, or say cpu$"):
        platform()


def test_a_difference_on_resume_is_named(small, tmp_path, capsys):
    run = sweep(small, tmp_path / "run")
    earlier = {"jaxlib": "0.1", "xla_flags": "--xla_cpu_max_isa=AVX2"}
    relist(run, lambda entries: [entry["environment"].update(earlier) for entry in entries])
    code, _, err = call(capsys, "sweep", run, *[a if a != "20" else "25" for a in SWEEP])
    assert code == 0
    assert "note: jaxlib was 0.1, now it is " in err
    assert "note: xla_flags was --xla_cpu_max_isa=AVX2, now it is none" in err


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
