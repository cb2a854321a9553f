import dataclasses
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.formats import entries_of
from ihtjax import InputError, SweepConfig, load, summary, sweep
from ihtjax.sweeps import engine, progress, runner
from ihtjax.sweeps.engine import estimated_seconds, make_problem
from ihtjax.sweeps.plan import gaps, plan, unfinished
from ihtjax.sweeps.store.records import Fit
from ihtjax.sweeps.store.run import RunDirectory
from tests.conftest import Notes, forget

KEY = ["method", "s", "trial"]
TEXT = str(pd.Series(["text"]).dtype)  # "str", or "object" before pandas 3


def rows(run_dir, table="trials"):
    key = KEY + (["step"] if table == "curves" else [])
    return pd.read_parquet(run_dir / table).sort_values(key, ignore_index=True)


def assert_identical(a, b):
    """Every column of both tables, bit for bit."""
    for table in ("trials", "curves"):
        x, y = rows(a, table), rows(b, table)
        assert list(x.columns) == list(y.columns) and len(x) == len(y)
        for column in x.columns:
            if column in ("theta", "theta0"):
                assert np.stack(x[column]).tobytes() == np.stack(y[column]).tobytes()
            else:
                pd.testing.assert_series_equal(x[column], y[column], check_exact=True)


def copy(run_dir, folder):
    return shutil.copytree(run_dir, folder / "copy")


def files(run_dir):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in run_dir.rglob("*.parquet")}


# What a run leaves.


def test_trials_have_the_stated_columns_and_types(small_run):
    frame = pd.read_parquet(small_run / "trials", filters=[("s", "==", 7)])
    assert len(frame) == 20 and (frame.s == 7).all()
    types = {
        "trial": "int32",
        "s": "int32",
        "method": TEXT,
        **dict.fromkeys(("data_seed", "init_seed", "support_seed"), "int64"),
        **dict.fromkeys(
            (
                "lipschitz_estimate step_size train_loss test_loss train_accuracy test_accuracy epsilon "
                "max_loss_increase grad_on_support grad_off_support min_on_support ht_margin"
            ).split(),
            "float32",
        ),
        "steps_run": "int32",
        "steps_to_stop_loss": "Int32",
        "n_support_changes": "int32",
        "last_support_change": "int32",
        "n_nonzero": "int32",
        "satisfies_eq8": "bool",
        "ht_stable": "bool",
        "theta": "object",
        "theta0": "object",
        "status": TEXT,
        "config_hash": TEXT,
    }
    assert {c: str(t) for c, t in frame.dtypes.items() if c in types} == types
    assert set(frame.columns) == set(types)
    schema = pq.read_schema(next((small_run / "trials").glob("*.parquet")))
    assert schema.field("theta").type == pa.list_(pa.float32(), 15)


def test_curves_have_the_stated_columns_and_types(small_run):
    frame = pd.read_parquet(small_run / "curves")
    assert {c: str(t) for c, t in frame.dtypes.items()} == {
        "trial": "int32",
        "s": "int32",
        "method": TEXT,
        "step": "int32",
        "train_loss": "float32",
        "test_loss": "float32",
        "n_nonzero": "int32",
    }
    assert len(frame) == 3 * 20 * 8
    last = frame[frame.step == 300].set_index(KEY)
    trials = rows(small_run).set_index(KEY)
    assert last.train_loss.sort_index().equals(trials.train_loss.sort_index())


def test_relations_between_columns(small_run):
    frame = rows(small_run)
    dense = frame[frame.method == "gd"].set_index("trial").train_loss
    iht = frame[frame.method == "iht"]
    np.testing.assert_array_equal(iht.epsilon, iht.train_loss.to_numpy() - dense[iht.trial].to_numpy())
    assert (frame[frame.method == "gd"].epsilon == 0).all()
    assert (frame.groupby("trial")[["data_seed", "init_seed", "support_seed"]].nunique() == 1).all(axis=None)
    assert (iht.n_nonzero <= iht.s).all() and (frame.steps_run == 300).all()
    curves = rows(small_run, "curves")
    rise = curves.groupby(KEY).train_loss.apply(lambda loss: max(0, loss.diff().max()))
    np.testing.assert_array_equal(rise.to_numpy(), frame.max_loss_increase)
    assert frame.config_hash.nunique() == 1


def test_without_dense_baseline_and_curves(small, tmp_path):
    run = sweep(dataclasses.replace(small, step_size=0.5, dense=False, curve_points=0), tmp_path / "run")
    frame = pd.read_parquet(run / "trials")
    assert len(frame) == 40 and frame.epsilon.isna().all() and frame.max_loss_increase.isna().all()
    assert not (run / "curves").exists()


def test_pages_have_checksums(small_run, tmp_path):
    path = next((copy(small_run, tmp_path) / "trials").glob("iht*.parquet"))
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(7)
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises((OSError, pa.ArrowException)):
        pq.read_table(path, page_checksum_verification=True)


def test_the_configuration_and_the_environment_are_recorded(small, small_run):
    stored = json.loads((small_run / "config.json").read_text())
    assert SweepConfig(**stored["config"]) == dataclasses.replace(small, loss="cross_entropy")  # filled in
    assert stored["metrics"] == ["accuracy"]
    assert stored["parameters"][:2] == ["w11", "w12"] and len(stored["data_sha256"]) == 64
    entry = entries_of(small_run)[0]
    assert set(entry["environment"]) == set(
        "ihtjax jax jaxlib platform device instruction_set xla_flags batch matmul_precision".split()
    )


# Resume, extend, refuse.


def test_a_finished_run_is_left_alone(small, small_run):
    before = files(small_run)
    sweep(small, small_run)
    assert files(small_run) == before


def test_a_second_run_in_one_process_compiles_nothing(small, small_run, tmp_path):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        jax.jit(lambda x: x + 1).lower(np.zeros(3)).compile()
        assert compiled  # compiling is noticed
        compiled.clear()
        again = sweep(small, tmp_path / "again")
        assert not compiled
    finally:
        jax.monitoring.clear_event_listeners()
    assert_identical(again, small_run)


def test_more_trials_and_levels_compute_only_what_is_new(small, tmp_path):
    run = sweep(dataclasses.replace(small, trials=300), tmp_path / "run")
    before = files(run)
    larger = dataclasses.replace(small, trials=420, levels=(3, 5, 7))
    sweep(larger, run)
    after = files(run)
    assert before.items() <= after.items()
    new = pq.read_table(sorted(str(p) for p in set(after) - set(before) if p.parent.name == "trials")).to_pandas()
    assert len(new) == 3 * 120 + 420
    assert_identical(run, sweep(larger, tmp_path / "at_once"))


def test_fewer_trials_and_levels_change_nothing(small, small_run):
    before = files(small_run)
    sweep(dataclasses.replace(small, trials=5, levels=(3,)), small_run)
    assert files(small_run) == before
    assert SweepConfig(**RunDirectory(small_run).config()["config"]) == dataclasses.replace(small, loss="cross_entropy")


@pytest.mark.parametrize("change", [{"init": "torch_linear"}, {"steps": 301}, {"seed": 1}, {"dense": False}])
def test_another_configuration_is_refused_and_named(small, small_run, change):
    before = files(small_run)
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=rf"{name} is {getattr(small, name)!r} there, {value!r} was asked for"):
        sweep(dataclasses.replace(small, **change), small_run)
    with pytest.raises(InputError, match="batch is 256 there, 64 was asked for"):
        sweep(small, small_run, batch=64)
    assert files(small_run) == before


def test_changed_data_is_refused(tables, tmp_path):
    path = tmp_path / "table.csv"
    shutil.copy(tables["wine"], path)
    config = SweepConfig(data=str(path), target="kind", levels=(2,), trials=2, steps=5, step_size=0.5)
    run = sweep(config, tmp_path / "run")
    moved = tmp_path / "moved.csv"
    shutil.copy(path, moved)
    sweep(dataclasses.replace(config, data=str(moved)), run)
    path.write_text(path.read_text().replace("14.23", "14.24"))
    with pytest.raises(InputError, match="data is another table"):
        sweep(config, run)


def test_overwrite_starts_again(small, small_run, tmp_path):
    run = copy(small_run, tmp_path)
    (run / "trials" / "mine.txt").touch()
    sweep(dataclasses.replace(small, trials=3, steps=10), run, overwrite=True)
    assert (run / "trials" / "mine.txt").exists()
    (run / "trials" / "mine.txt").unlink()
    assert len(rows(run)) == 9


def test_a_directory_with_other_things_in_it_is_refused(small, tmp_path):
    (tmp_path / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not a run directory"):
            sweep(small, tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


# A real process, really killed.

KILLED = SweepConfig(levels=tuple(range(1, 15)), trials=40, steps=2000, step_size=0.5, curve_points=8)
COMMAND = [sys.executable, "-m", "ihtjax", "sweep", "--trials", "40", "--steps", "2000", "--step-size", "0.5"]
COMMAND += ["--curve-points", "8"]


def test_killed_three_times_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    run = tmp_path / "killed"
    chance = random.Random(0)
    for goal in sorted(chance.sample(range(1, 10), 3)):
        process = subprocess.Popen([*COMMAND, run], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None and len(list(run.glob("trials/*.parquet"))) < goal:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.1))
        listed = set(RunDirectory(run).units())
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()
        pd.read_parquet(run / "trials")  # partial files never break reading
        assert listed <= set(RunDirectory(run).survey().whole)
    assert unfinished(RunDirectory(run))
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")  # the program compiled anew gives the same bits
    subprocess.run([*COMMAND, run], check=True, capture_output=True)
    assert not unfinished(RunDirectory(run)) and not RunDirectory(run).survey().problems
    assert_identical(run, sweep(KILLED, tmp_path / "uninterrupted"))


def test_a_second_process_is_refused_at_once(small, small_run):
    hold = "import sys; from ihtjax.sweeps.store.run import RunDirectory\n"
    hold += "with RunDirectory(sys.argv[1]).lock(): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, small_run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another process is writing here"):
        sweep(small, small_run)
    holder.communicate("")
    sweep(small, small_run)


def test_a_lock_is_let_go_whatever_fails_meanwhile(small, tmp_path, monkeypatch):
    """Also where the new folder can't be removed again: whoever keeps the error may try once more."""
    run = RunDirectory(tmp_path / "run")

    def fails(*args, **kwargs):
        raise OSError("no")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", fails)
        broken.setattr("ihtjax.sweeps.store.files.own_folder", fails)
        with pytest.raises(OSError) as kept, run.lock():
            pass
    with run.lock():
        assert str(kept.value) == "no"


# Planning, reading, summary.


@pytest.mark.parametrize(
    "intervals, left",
    [([], [(0, 10)]), ([(0, 10)], []), ([(2, 4), (6, 8)], [(0, 2), (4, 6), (8, 10)]), ([(4, 30)], [(0, 4)])],
)
def test_gaps(intervals, left):
    assert gaps(intervals, 10) == left


def test_a_million_trials_make_tens_of_files_and_the_papers_run_one_for_each_level():
    config = SweepConfig(levels=(5,), trials=1_000_000, steps=100, dense=False)
    units = plan(config, ["iht"], 15, [], [], 256)
    assert 10 < len(units) < 100 and sum(u.stop - u.start for u in units) == 1_000_000
    assert all(u.start % 256 == 0 for u in units)
    assert len(plan(SweepConfig().with_levels(15), ["iht"], 15, [], [], 256)) == 15


def test_what_will_be_computed_is_said_before_anything_is_compiled(tables, tmp_path, monkeypatch):
    notes = Notes()

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("ihtjax.sweeps.runner.fitting_engines", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(SweepConfig(data=str(tables["wine"]), target="kind"), tmp_path / "run", show=notes)
    header, work, compiling = notes.lines
    assert header.endswith("178 rows, 13 features, 3 classes, so 42 parameters")
    assert work.startswith("42,000 networks of 10,000 steps, at 41 sparsity levels (1-41): roughly ")
    assert compiling == "compiling .."


def test_a_damaged_dense_baseline_is_computed_again(small, run):
    """Before, the sweep read it for the sake of epsilon, and ended with an error."""
    whole = rows(run)
    path = run / Fit("gd", 15, 0, 20).path("trials")
    path.write_bytes(path.read_bytes()[:-1])
    forget(run, Fit("iht", 7, 0, 20))
    sweep(small, run)
    pd.testing.assert_frame_equal(rows(run), whole)


def test_a_resumed_sweep_says_first_what_is_there(small, run):
    forget(run, Fit("iht", 7, 0, 20))
    notes = Notes()
    sweep(small, run, show=notes)
    assert notes.lines[1] == "40 of 60 networks are there already, what is left is computed:"
    assert notes.lines[2].startswith("20 networks of 300 steps, at 1 sparsity level (7): roughly ")


@pytest.mark.parametrize(
    ("data", "networks", "measured"),
    [
        ("iris", 15_000, 20),
        ("sklearn:wine", 512, 1.95),
        ("sklearn:breast_cancer", 256, 2.1),
        ("sklearn:digits", 650_000, 650_000 * 10_000 * 70e-6 / 2),
    ],
)
def test_a_forecast_is_near_what_was_measured(data, networks, measured, monkeypatch):
    """Seconds of sweeping on two cores, or processor seconds over two; digits take 70 microseconds a lane-step."""
    monkeypatch.setattr(engine, "workers", lambda: 2)
    config = SweepConfig(data=data)
    forecast = estimated_seconds(make_problem(config), config, networks // 64, 64)
    assert 0.8 * measured < forecast < 1.25 * measured


def test_a_forecast_counts_the_lanes_that_no_trial_fills(monkeypatch):
    """A batch of 256 lanes takes as long for one trial; and one batch leaves the other core idle."""
    monkeypatch.setattr(engine, "workers", lambda: 2)

    def said(trials, levels):
        units = [Fit("iht", s, 0, trials) for s in levels]
        notes = Notes()
        runner._announce(SweepConfig(), make_problem(SweepConfig()), {}, units, 256, notes)
        return notes.lines[-1].partition("roughly ")[2]

    assert said(1, [3]) == said(256, [3]) == said(1, [3, 4]) != said(1, range(1, 15))


@pytest.mark.parametrize("costly", [{"n_monte": 10_000}, {"curve_points": 10_000}, {"audit": True}])
def test_a_forecast_counts_more_than_the_steps(costly):
    plain = SweepConfig()
    more = dataclasses.replace(plain, **costly)
    problem = make_problem(plain)
    assert estimated_seconds(problem, more, 60, 256) > 1.5 * estimated_seconds(problem, plain, 60, 256)


def test_a_forecast_of_given_steps_has_no_monte_carlo():
    problem = make_problem(SweepConfig())
    few, many = (SweepConfig(step_size=1.0, n_monte=n) for n in (1, 10_000))
    assert estimated_seconds(problem, few, 60, 256) == estimated_seconds(problem, many, 60, 256)


def test_rough_times_are_said_in_words():
    assert [progress.in_words(s) for s in (0.1, 90, 600, 7200, 360_000)] == ["1 s", "90 s", "10 min", "2 h", "100 h"]


def test_load_filters_and_refuses(small_run, tmp_path):
    assert len(load(small_run, s=7)) == 20 and len(load(small_run, s=[3, 7], trial=range(5))) == 10
    assert len(load(small_run, "curves", method="gd", trial=0)) == 8
    assert list(load(small_run, columns=["trial", "epsilon"], s=3)) == ["trial", "epsilon"]
    with pytest.raises(InputError, match="no column 'sparsity'"):
        load(small_run, sparsity=7)
    with pytest.raises(InputError, match="table"):
        load(small_run, "rows")
    with pytest.raises(InputError, match="no such run directory"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a run directory"):
        load(tmp_path)


def test_summary_agrees_with_pandas(small_run):
    table = summary(small_run)
    frame = rows(small_run)
    assert table[["method", "s"]].values.tolist() == [["iht", 3], ["iht", 7], ["gd", 15]]
    for row in table.itertuples():
        level = frame[(frame.method == row.method) & (frame.s == row.s)]
        assert row.trials == 20 and row.diverged == 0
        assert row.train_loss_median == np.float32(level.train_loss.median())
        assert row.epsilon_q3 == pytest.approx(np.percentile(level.epsilon, 75), abs=1e-7)
        assert row.ht_stable == level.ht_stable.mean()
        assert table.loc[row.Index, "gradient_below_1e-04"] == np.mean(level.grad_on_support <= 1e-4)


def test_medians_over_1000_trials_are_the_known_ones(tmp_path):
    """Against independent float64 prototypes over several hundred splits; bands are about four standard errors."""
    frame = load(sweep(SweepConfig(levels=(5, 7, 10, 12, 14), curve_points=0, dense=False), tmp_path / "run"))
    median = frame.groupby("s")[["train_loss", "test_accuracy", "step_size"]].median()
    for s, loss, band in (
        (5, 0.091, 0.012),
        (7, 0.061, 0.006),
        (10, 0.044, 0.003),
        (12, 0.042, 0.003),
        (14, 0.041, 0.003),
    ):
        assert median.train_loss[s] == pytest.approx(loss, abs=band)
    assert median.test_accuracy[5] == pytest.approx(28 / 30) and median.test_accuracy[7] == pytest.approx(29 / 30)
    assert median.step_size[14] == pytest.approx(1.83, abs=0.05)
    assert frame[frame.s == 5].ht_stable.mean() > 0.99
    assert frame.max_loss_increase.isna().all()
