"""Ctrl-C at any moment, and what progress does when nobody can read it."""

import dataclasses
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import pytest

from ihtjax import SweepConfig, interrupts, load, sweep
from ihtjax.sweeps import progress
from ihtjax.sweeps.runner import kept
from ihtjax.sweeps.store.run import RunDirectory

# A shell's background jobs ignore Ctrl-C; a person's foreground command doesn't.
LISTENING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = LISTENING + "import ihtjax.__main__; ihtjax.__main__.main()"
SWEEP = "--levels 3,7 --trials 20 --steps 300 --n-monte 10 --curve-points 8".split()


@pytest.fixture(autouse=True)
def foreground():
    """What these tests press must arrive, also where the suite runs in the background."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def start(*argv, code=COMMAND, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, argv)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs
    )


def interrupt(process, after):
    time.sleep(after)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return time.monotonic() - began, err.decode()


@pytest.mark.parametrize("after", [0.3, 0.8, 1.5, 2.5, 4.0])
def test_an_interrupt_ends_a_sweep_wherever_it_is(uncached, tmp_path, after):
    """Importing, drawing, tracing, compiling, computing: two seconds at most, one line, and what is said is so."""
    process = start("sweep", tmp_path / "run", "--steps", 20_000, "--trials", 2000)
    took, err = interrupt(process, after)
    assert process.returncode == 130 and took < 3
    assert "Traceback" not in err and err.count("ihtjax: stopped") == 1
    done = len(RunDirectory(tmp_path / "run").units()) if (tmp_path / "run" / "config.json").exists() else 0
    said = err.strip().splitlines()[-1]
    nothing = "ihtjax: stopped; nothing was finished yet, the same command begins anew"
    assert f"{done} of " in said if done else said in (nothing, "ihtjax: stopped")


def test_ctrl_c_is_watched_before_anything_slow_is_imported():
    """Until then, Python ends with a traceback."""
    code = "import sys; from ihtjax import interrupts; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"logging", "concurrent.futures", "traceback", "numpy", "click", "jax"} & set(loaded)


def test_an_interrupt_is_not_lost_in_a_callback_of_the_garbage_collector():
    """There, Python prints a KeyboardInterrupt and forgets it."""
    seen = []

    def press(phase, info):
        if phase == "start" and not seen:
            seen.append(phase)
            signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(press)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.deferred():
            gc.collect()
            interrupts.check()
    finally:
        gc.callbacks.remove(press)
    assert seen and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interrupts.check()


def test_an_interrupt_at_the_very_end_is_not_lost(monkeypatch):
    """Between the last look at the flag and the handler's return."""
    put_back = signal.signal

    def press(number, handler):
        if handler is signal.default_int_handler:
            signal.raise_signal(signal.SIGINT)
        return put_back(number, handler)

    with pytest.raises(KeyboardInterrupt):
        with interrupts.deferred():
            monkeypatch.setattr(signal, "signal", press)
    interrupts.check()


@pytest.mark.parametrize("same", [True, False])
def test_an_overwrite_that_is_stopped_while_it_compiles_says_what_is_there(tmp_path, small, small_run, same):
    config = small if same else dataclasses.replace(small, seed=5)
    said = kept(small_run, config, overwrite=True)
    if same:
        assert said == f"3 of 3 units are safe in {small_run}, the same command without --overwrite goes on"
    else:
        assert said == f"{small_run} still holds the results that were there, nothing of this sweep"
    assert kept(tmp_path / "none", config, overwrite=True).startswith("nothing was finished yet")


def test_waiting_and_work_aside_end_with_an_interrupt():
    for wait in (lambda: interrupts.result(Future()), lambda: interrupts.aside(time.sleep, 30)):
        press = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
        press.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), interrupts.deferred():
            wait()
        assert time.monotonic() - began < 2


def test_work_aside_returns_and_raises_as_if_it_were_done_here():
    assert interrupts.aside(divmod, 7, 2) == (3, 1)
    with pytest.raises(TimeoutError, match="its own"):
        interrupts.aside(lambda: (_ for _ in ()).throw(TimeoutError("its own")))


def test_an_interrupted_library_call_keeps_what_was_finished(tmp_path):
    """In a script or a notebook, where no command line watches."""
    config = SweepConfig(levels=tuple(range(1, 15)), trials=300, steps=3000, step_size=0.5, curve_points=0)

    class Pressing(progress.Silent):
        def add(self, count):
            if len(RunDirectory(tmp_path / "run").units()) == 2:
                signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep(config, tmp_path / "run", show=Pressing())
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(RunDirectory(tmp_path / "run").survey().whole) == 2


def test_after_an_interrupted_overwrite_the_words_that_are_printed_keep_all(tmp_path):
    options = ["--steps", 3000, "--trials", 300, "--step-size", 0.5, "--curve-points", 0, "--levels", "1-7"]
    assert start("sweep", tmp_path / "run", "--levels", 3, "--no-dense", *SWEEP[2:]).wait() == 0
    process = start("sweep", tmp_path / "run", *options, "--overwrite")
    while process.poll() is None and len(list((tmp_path / "run").glob("trials/*-000000299.parquet"))) < 3:
        time.sleep(0.01)
    _, err = interrupt(process, 0)
    units = RunDirectory(tmp_path / "run").survey().whole
    assert len(units) >= 3 and f"{len(units)} of 8 units are safe" in err
    assert "the same command without --overwrite goes on" in err
    before = {unit: (tmp_path / "run" / unit.path("trials")).stat().st_mtime_ns for unit in units}
    assert start("sweep", tmp_path / "run", *options).wait() == 0
    assert before == {unit: (tmp_path / "run" / unit.path("trials")).stat().st_mtime_ns for unit in units}
    assert len(load(tmp_path / "run")) == 8 * 300


@pytest.mark.parametrize("stream", ["closed", "full"])
def test_a_sweep_whose_stderr_cannot_be_written_goes_on(tmp_path, stream):
    command = f'"{sys.executable}" -m ihtjax sweep "{tmp_path}/run" {" ".join(SWEEP)} '
    command += "2>&-" if stream == "closed" else "2>/dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0 and "60 trials in" in done.stdout
    assert len(load(tmp_path / "run")) == 60


def test_a_stream_that_fails_is_forgiven():
    class Full:
        closed = False

        def write(self, text):
            raise OSError(28, "No space left on device")

        flush = isatty = lambda self: False

    lines = progress.for_stream(Full())
    lines.every = 0
    lines.start(10)
    lines.add(5)
    lines.say("a line")
    lines.close()


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them(tmp_path):
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import ihtjax.__main__ as m; m.main()"
    process = start("sweep", tmp_path / "run", *SWEEP, code=code)
    for _ in range(10):
        time.sleep(0.2)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 0
