import contextlib
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

import pytest
from sklearn.datasets import load_diabetes

from ihtjax import SweepConfig, load
from ihtjax.cli.commands import main
from ihtjax.sweeps import progress
from ihtjax.sweeps.store.records import Fit
from ihtjax.sweeps.store.run import RunDirectory
from tests.conftest import forget

SMALL = "--levels 3,7 --trials 20 --steps 300 --n-monte 10 --curve-points 8".split()
TRIAL = "trial --data-seed 1 --init-seed 2 --support-seed 3".split()


def call(capsys, *argv):
    """Run the command line in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as exit:
        main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return exit.value.code, out, err


@pytest.mark.parametrize(
    "argv, says",
    [
        ("sweep new --levels 0-3", "--levels: got '0-3'"),
        ("sweep new --levels 3-99", "--levels: got 99, expected at most 15"),
        ("sweep new --levels five", "--levels: got 'five'"),
        (
            "sweep new --levels 7-3",
            "--levels: got '7-3', expected a range from its lower end to its upper one, as in 3-7",
        ),
        ("sweep new --levels 600-10", "--levels: got '600-10', expected a range from its lower end to its upper one"),
        ("sweep new --levels 10-600:0", "--levels: got '10-600:0', expected a step of at least 1, as in 10-600:10"),
        ("sweep new --levels 3,5%%", "--levels: got '5%%' in '3,5%%', expected counts such as 3,5,7, ranges such as"),
        ("sweep new --levels 0%", "--levels: got '0%', expected a share of n above 0% and of at most 100%"),
        ("sweep new --levels 120%", "--levels: got '120%', expected a share of n above 0% and of at most 100%"),
        (
            "sweep new --levels 1-2000000000",
            "--levels: got '1-2000000000', which are 2,000,000,000 levels",
        ),
        ("restarts --data-seed 1 --levels 5%%", "--levels: got '5%%', expected counts such as"),
        ("sweep new --levels 16", "--levels: got 16, expected at most 15"),
        ("sweep new --trials 0", "--trials: got 0, expected a whole number from 1"),
        ("sweep new --trials -5", "--trials: got -5"),
        ("sweep new --trials 99999999999", "--trials: got 99999999999"),
        ("sweep new --steps 0", "--steps: got 0"),
        ("sweep new --steps -1", "--steps: got -1"),
        ("sweep new --n-monte 0", "--n-monte: got 0"),
        ("sweep new --batch 0", "--batch: got 0"),
        ("sweep new --batch -8", "--batch: got -8"),
        ("sweep new --step-size 0", "--step-size: got 0.0, expected a positive number"),
        ("sweep new --step-size -1", "--step-size: got -1.0"),
        ("sweep new --step-size nan", "--step-size: got nan"),
        ("sweep new --stop-loss inf", "--stop-loss: got inf"),
        ("sweep new --curve-points 1", "--curve-points: got 1"),
        ("sweep new --init zeros", "--init: got 'zeros', expected 'normal' or 'torch_linear'"),
        ("sweep new --precision float16", "--precision: got 'float16'"),
        ("sweep new --seed seven", "'seven' is not a valid integer"),
        ("sweep new --seed -1", "--seed: got -1"),
        ("sweep new --data missing.csv --target kind", "missing.csv is not a file"),
        ("sweep new --frobnicate", "No such option"),
        ("sweep file/below/it", "cannot make this directory"),
        ("sweep file", "is a file, expected a run directory"),
        ("swep", "No such command 'swep'"),
        ("summary new", "no such run directory"),
        ("oracle new", "no such run directory"),
        ("figures new", "no such run directory"),
        ("atlas --s 5 --data-seed 1", "--step-size: missing, expected a number"),
        ("atlas --s 16 --data-seed 1 --step-size 0.5", "--s: got 16, expected a whole number from 1 to 15"),
        ("restarts --data-seed 1 --levels 16", "--levels: got 16, expected at most 15"),
        ("restarts --data-seed 1 --starts 0", "--starts: got 0"),
        ("restarts --data-seed 1 --data sklearn:wine --levels 2,20", "--levels: level 20 of 42 parameters has"),
        ("sweep new --step-size fast", "got 'fast', expected a positive number or 'certified'"),
        ("verify new", "no such run directory"),
        (
            "trial --s 16 --data-seed 1 --init-seed 1 --support-seed 1",
            "--s: got 16, expected a whole number from 1",
        ),
        ("trial --s 0 --data-seed 1 --init-seed 1 --support-seed 1", "--s: got 0"),
        ("trial --s 7 --data-seed -1 --init-seed 1 --support-seed 1", "--data-seed: got -1"),
        ("trial --s 7 --data-seed 1 --init-seed 1", "Missing option '--support-seed'"),
        ("trial --s 7 --data-seed 1 --init-seed 1 --support-seed 1 --plot new.xyz", "--plot: got 'new.xyz'"),
        ("trial --s 7 --data-seed 1 --init-seed 1 --support-seed 1 --plot new/a.png", "plot: cannot write"),
    ],
)
def test_wrong_input_gets_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, argv, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    code, out, err = call(capsys, *argv.split())
    assert code == 2 and out == ""
    assert err.startswith("ihtjax: error: ") and err.count("\n") == 1 and says in err
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "mine"


COMMANDS = ["", "sweep", "trial", "summary", "figures", "verify", "oracle", "atlas", "restarts"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(capsys, command):
    code, out, _ = call(capsys, *command.split(), "--help")
    assert code == 0 and re.search(rf"Example:\n +ihtjax {command}", out)


def test_options_are_the_fields_of_the_configuration(capsys):
    import dataclasses

    _, out, _ = call(capsys, "sweep", "--help")
    for field in dataclasses.fields(SweepConfig):
        assert f"--{field.name.replace('_', '-')} " in out


def test_sweep_prints_plain_lines_and_a_summary(tmp_path, capsys):
    code, out, err = call(capsys, "sweep", tmp_path / "run", *SMALL)
    assert code == 0
    assert re.search(r"^ +7 +20 +\d\.\d\d \[", out, re.M) and re.search(r"^dense +20 ", out, re.M)
    assert f"60 trials in {tmp_path}/run/trials" in out
    assert re.fullmatch(r"(.*\n)*100%  [\d.]+[kM] lane-steps/s, 00:00 left\n", err) and "\r" not in err
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 80
    assert "|gradient| <= 1e-03" in out
    _, again, _ = call(capsys, "summary", tmp_path / "run")
    assert again.strip() in out


def test_sweep_refuses_another_configuration(small_run, capsys):
    code, _, err = call(capsys, "sweep", small_run, *SMALL, "--init", "torch_linear")
    assert code == 2 and "init is 'normal' there, 'torch_linear' was asked for" in err


def test_verify_names_what_is_wrong(small, tmp_path, capsys):
    run = tmp_path / "run"
    call(capsys, "sweep", run, *SMALL)
    code, out, _ = call(capsys, "verify", run)
    assert code == 0 and "3 units, all whole" in out
    file = next((run / "trials").glob("iht-s00007*"))
    whole = file.stat().st_size
    file.write_bytes(file.read_bytes()[:100])
    (run / "curves" / "stray.txt").touch()
    code, out, _ = call(capsys, "verify", run)
    assert code == 1 and out.splitlines() == [
        f"trials/{file.name}: torn, 100 bytes instead of {whole}",
        "curves/stray.txt: foreign, the run does not list it",
    ]
    (run / "curves" / "stray.txt").unlink()
    code, _, err = call(capsys, "sweep", run, *SMALL)
    assert code == 0 and f"trials/{file.name}: torn" in err
    assert call(capsys, "verify", run)[0] == 0


def test_verify_names_what_is_not_computed_yet(small_run, tmp_path, capsys):
    run = shutil.copytree(small_run, tmp_path / "run")
    forget(run, Fit("iht", 3, 0, 20))
    code, out, err = call(capsys, "verify", run)
    assert code == 1 and out == "iht, s = 3, trials 0 to 19: not computed yet\n"
    assert "unfinished, not damaged: 2 of 3 units are there, all whole; go on with ihtjax sweep" in err
    summary = call(capsys, "summary", run)[1]
    assert summary.splitlines()[3] == "1 unit is not computed yet: finish with the command that began the run"
    assert summary.count("not computed yet") == 1


def test_trial_reproduces_a_row_and_draws_it(small_run, tmp_path, capsys):
    row = load(small_run, s=7, trial=4).iloc[0]
    seeds = [x for name in ("data", "init", "support") for x in (f"--{name}-seed", row[f"{name}_seed"])]
    code, out, _ = call(
        capsys,
        "trial",
        "--s",
        7,
        *seeds,
        *"--steps 300 --n-monte 10 --curve-points 8 --plot".split(),
        tmp_path / "a.png",
    )
    assert code == 0 and f"training loss {row.train_loss:.6g} nats" in out
    assert f"margin of (8)                       {row.ht_margin:.3e}" in out
    assert f"HT-stable at ht_tol = 0.001: {'yes' if row.ht_stable else 'no'}" in out
    for name, value in zip(("w11", "b3"), row.theta[[0, 14]]):
        shown = re.search(rf"^ +{name} +\S+ +(\S+)", out, re.M)[1]
        assert shown == (f"{value:#.7g}" if value else ".")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_trial_draws_vectors(tmp_path, capsys, suffix):
    path = tmp_path / f"a.{suffix}"
    code, _, _ = call(capsys, *TRIAL, *"--s 15 --steps 300 --n-monte 10 --curve-points 8 --plot".split(), path)
    assert code == 0 and path.stat().st_size > 5000
    if suffix == "svg":
        text = path.read_text()
        assert "$s$ = 15" in text and "w34" in text and "parameter" in text


def test_a_full_disk_gets_one_line_and_loses_nothing(small_run, tmp_path):
    """A limit on the size of a file stands for the disk: the operating system refuses the write in its middle."""
    limited = "import resource, sys; limit = int(sys.argv.pop(1)); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); import ihtjax.cli; ihtjax.cli.main()"

    def run(limit):
        command = [sys.executable, "-c", limited, str(limit), "sweep", tmp_path / "run", *SMALL]
        return subprocess.run(command, capture_output=True, text=True)

    sizes = sorted(p.stat().st_size for p in small_run.rglob("*.parquet"))
    full = run(sizes[-1] - 1)
    assert full.returncode == 2 and "Traceback" not in full.stderr
    kept = re.search(r"parquet: File too large; (nothing|\d of 3 units)", full.stderr.splitlines()[-1])[1]
    done = len(RunDirectory(tmp_path / "run").units())
    assert kept == (f"{done} of 3 units" if done else "nothing")
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    assert run(10**9).returncode == 0
    assert len(load(tmp_path / "run")) == 60


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("command", ["summary", "verify", "report --json"])
def test_a_full_stdout_is_called_so(small_run, command):
    name, *options = command.split()
    with open("/dev/full", "w") as full:
        said = subprocess.run(
            [sys.executable, "-m", "ihtjax", name, small_run, *options], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert said.returncode == 2 and said.stderr.endswith("ihtjax: error: stdout: No space left on device\n")


@pytest.mark.parametrize("name, value", [("JAX_ENABLE_X64", "maybe"), ("JAX_RANDOM_SEED_OFFSET", "abc")])
def test_a_variable_that_jax_cannot_use_gets_a_line(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    said = subprocess.run([sys.executable, "-m", "ihtjax", *TRIAL, "--s", "3"], capture_output=True, text=True)
    assert said.returncode == 2
    assert said.stderr == f"ihtjax: error: {name}: got '{value}', which JAX can't use; correct or unset it\n"


def test_an_interrupt_stops_at_once_and_says_how_to_go_on(tmp_path):
    import signal
    import time

    # A shell's background jobs ignore Ctrl-C; a person's foreground command doesn't.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    listening += "import ihtjax.__main__; ihtjax.__main__.main()"
    command = [sys.executable, "-c", listening, "sweep", tmp_path / "run", "--steps", "8000"]
    command += ["--step-size", "0.5", "--curve-points", "8"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((tmp_path / "run").glob("trials/*.parquet")):
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - began < 2
    assert re.search(rf"ihtjax: stopped; \d+ of 15 units are safe in {tmp_path}/run, the same command goes on\n$", err)
    assert "Traceback" not in err


# Progress.


def test_on_a_terminal_there_is_a_bar_with_rate_and_time_left():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(slave, "w") as terminal:
        bar = progress.for_stream(terminal)
        bar.start(1000)
        bar.add(500)
        bar.say("a line")
        bar.add(500)
        bar.close()
    text = b""
    with contextlib.suppress(OSError):  # the end of what the terminal got
        while part := os.read(master, 10_000):
            text += part
    text = text.decode()
    os.close(master)
    assert re.search(r"100% \|.*\| .*lane-steps/s, 00:00 left", text) and "a line" in text


def test_through_a_pipe_there_are_plain_lines():
    file = io.StringIO()
    lines = progress.for_stream(file)
    lines.every = 0
    lines.start(4_000_000)
    for _ in range(4):
        lines.add(1_000_000)
    lines.close()
    shown = file.getvalue().splitlines()
    assert [line.split("%")[0].strip() for line in shown] == ["25", "50", "75", "100"]
    assert all(re.fullmatch(r" *\d+%  [\d.]+[kMGT]? lane-steps/s, \d\d:\d\d left", line) for line in shown)


def test_a_number_column_under_a_loss_of_classes_gets_one_line_before_anything_is_compiled(tmp_path, capsys):
    path = tmp_path / "diabetes.csv"
    load_diabetes(as_frame=True).frame.to_csv(path, index=False)
    code, out, err = call(
        capsys, "sweep", tmp_path / "run", "--data", path, "--target", "target", "--loss", "cross_entropy"
    )
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "'target' holds 214 distinct values in 442 rows, expected at most 50 classes" in err
    assert not (tmp_path / "run").exists()
