"""Creating a unit's trials file finishes it: at no moment is a finished unit missing, doubled or half there."""

import collections
import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.formats import entries_of, relist
from ihtjax import InputError, SweepConfig, certify_run, load, sweep
from ihtjax.sweeps import plan
from ihtjax.sweeps.store.index import BATCH
from ihtjax.sweeps.store.reading import read
from ihtjax.sweeps.store.records import Certify, Fit, place, places
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.store.storage import Folder
from tests.conftest import Notes, curves_of, unlist
from tests.test_sweep import assert_identical, files

UNIT = Fit("iht", 3, 0, 20)


def main_file_fails(patch):
    """Reading the main file of `UNIT` fails, as on a bad disk."""
    get = Folder.get

    def fails(self, key):
        if key == UNIT.path("trials"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return get(self, key)

    patch.setattr(Folder, "get", fails)


def tables_of(run_dir, unit):
    """A unit's tables, as they were written."""
    entry = RunDirectory(run_dir).units()[unit]
    return {table: pq.read_table(run_dir / place(unit, table, entry)) for table in sorted(entry["files"])}


def write(run_dir, unit, tables, environment):
    """Write a unit as a sweep does, in a lock of its own."""
    run = RunDirectory(run_dir)
    with run.lock():
        run.write_unit(unit, tables, environment)


@pytest.fixture
def writes(monkeypatch):
    """Every write of a run's bytes: its key and how many."""
    seen = []
    for name in ("create", "put"):
        real = getattr(Folder, name)

        def watched(self, key, data, real=real):
            seen.append((key, len(data)))
            return real(self, key, data)

        monkeypatch.setattr(Folder, name, watched)
    return seen


@pytest.fixture
def small_units(monkeypatch):
    """Units of two trials."""
    monkeypatch.setattr(plan, "unit_rows", lambda config, n, batch: 2)
    return SweepConfig(levels=(3,), trials=400, steps=5, n_monte=2, curve_points=3, dense=False)


def test_a_reader_sees_each_finished_unit_once_at_every_moment(small, tmp_path, monkeypatch):
    """Looked at around every system call that changes what is there."""
    run, seen = tmp_path / "run", []

    def look():
        if not run.exists() or not RunDirectory(run).exists():
            return
        names = {path.name for path in run.glob("trials/*") if path.name[0] != "."}
        found = pd.read_parquet(run / "trials", columns=["method", "s", "trial"]) if names else pd.DataFrame()
        assert len(found) == 20 * len(names) and not found.duplicated().any()
        units = RunDirectory(run).units() if (run / "config.json").exists() else {}
        assert {unit.file_name for unit in units} == names
        if units:
            assert len(load(run)) == len(found) and len(load(run, "curves")) == 8 * len(found)
        seen.append(len(names))

    for name in ("link", "replace", "unlink", "mkdir"):
        real = getattr(os, name)

        def watched(*args, real=real, **kwargs):
            look()
            result = real(*args, **kwargs)
            look()
            return result

        monkeypatch.setattr(os, name, watched)
    sweep(small, run)
    assert seen == sorted(seen) and set(seen) == {0, 1, 2, 3}


@pytest.mark.parametrize("table", ["curves", "trials"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_each_write_loses_nothing_that_was_finished(small, small_run, tmp_path, table, when):
    """Between the curves and the trials of the second unit, among others."""
    run = tmp_path / "run"
    code = f"""
import os, signal, sys
import ihtjax
from ihtjax.sweeps.store.storage import Folder
create, count = Folder.create, []

def killed(self, key, data):
    count.extend([key] * key.startswith("{table}/"))
    if "{when}" == "before" and len(count) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    create(self, key, data)
    if len(count) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return True

Folder.create = killed
ihtjax.sweep(ihtjax.SweepConfig(levels=(3, 7), trials=20, steps=300, n_monte=10, curve_points=8), sys.argv[1])
"""
    assert subprocess.run([sys.executable, "-c", code, run]).returncode == -signal.SIGKILL
    finished = 2 if (table, when) == ("trials", "after") else 1
    begun = finished if (table, when) in (("curves", "before"), ("trials", "after")) else finished + 1
    assert len(pd.read_parquet(run / "trials")) == len(load(run)) == 20 * finished
    assert len(list(run.glob("curves/iht*"))) + len(list(run.glob("curves/gd*"))) == begun
    assert len(load(run, "curves")) == 20 * finished * 8
    before, found = files(run), RunDirectory(run).survey()
    assert len(found.whole) == finished and len(found.orphans) == begun - finished
    named = [problem.path for problem in found.problems if "left by a sweep that was killed" in problem.what]
    assert named == found.orphans
    sweep(small, run)
    assert_identical(run, small_run)
    assert not RunDirectory(run).survey().problems
    kept = {path: digest for path, digest in before.items() if str(path.relative_to(run)) not in found.orphans}
    assert kept.items() <= files(run).items()


def test_curves_that_no_unit_names_are_left_out_and_deleted_under_the_lock(small, run):
    """Also where the unit is finished, by another attempt."""
    left = []
    for unit in (UNIT, Fit("iht", 5, 0, 20)):
        other = RunDirectory(run.parent / f"other-{unit.s}")
        with other.lock():
            other.write_config(RunDirectory(run).record())
            tables = tables_of(run, UNIT)
            other.write_unit(unit, tables, {"jax": "0"})
        path = curves_of(other.path, unit)
        left.append(path.rename(run / "curves" / path.name))
    assert len(load(run, "curves")) == 60 * 8 and len(load(run)) == 60
    assert sorted(RunDirectory(run).survey().orphans) == sorted(str(path.relative_to(run)) for path in left)
    load(run), RunDirectory(run).survey(), RunDirectory(run).units()
    assert all(path.exists() for path in left)
    notes = Notes()
    sweep(small, run, show=notes)
    assert not any(path.exists() for path in left) and len(load(run, "curves")) == 60 * 8
    assert sum("left by a sweep that was killed" in line for line in notes.lines) == 2


def test_curves_that_this_run_did_not_seal_are_named_and_left_alone(small, run, tmp_path):
    other = sweep(dataclasses.replace(small, seed=1, levels=(5,), dense=False), tmp_path / "other")
    (theirs,) = (other / "curves").iterdir()
    theirs = theirs.rename(run / "curves" / theirs.name)
    mine = [run / "curves" / f"{UNIT.file_name[:-8]}{ending}.parquet" for ending in ("", f"-{'0' * 12}")]
    for path in mine:
        path.write_text("mine")
    before = theirs.read_bytes()
    sweep(small, run)
    assert theirs.read_bytes() == before and all(path.read_text() == "mine" for path in mine)
    assert sum("foreign" in problem.what for problem in RunDirectory(run).survey().problems) == 3


def test_a_main_file_that_cannot_be_read_for_a_moment_costs_no_curves(run, monkeypatch):
    """It may name them; the index doesn't know it yet."""
    unlist(run, UNIT)
    with monkeypatch.context() as patch:
        main_file_fails(patch)
        assert not RunDirectory(run).survey().orphans
    assert len(load(run, "curves")) == 60 * 8


# Twice the same unit.


def test_a_unit_that_is_written_twice_with_the_same_bytes_is_there_once(run):
    before = files(run)
    write(run, UNIT, tables_of(run, UNIT), RunDirectory(run).units()[UNIT]["environment"])
    assert files(run) == before and not RunDirectory(run).survey().problems


def test_of_two_attempts_the_first_to_create_its_trials_file_stays(run):
    before, units = files(run), RunDirectory(run).units()
    write(run, UNIT, tables_of(run, UNIT), {"jax": "another"})
    assert files(run) == before  # the curves of the second are gone
    assert RunDirectory(run).units() == units and not RunDirectory(run).survey().problems


def test_an_attempt_replaces_what_is_damaged_and_unknown(small_run, run):
    """The trials file is whole, its curves are not, and the index knows neither."""
    unlist(run, UNIT)
    tables = tables_of(run, UNIT)
    curves_of(run, UNIT).write_bytes(b"torn")
    write(run, UNIT, tables, {"jax": "another"})
    assert RunDirectory(run).units()[UNIT]["environment"] == {"jax": "another"}
    assert_identical_rows(run, small_run)
    foreign = RunDirectory(run).survey().problems  # nothing tells any more that the torn one was the run's
    assert ["foreign" in problem.what for problem in foreign] == [True]


def test_a_known_unit_that_is_damaged_leaves_nothing_of_the_damage(small, run):
    for path in (curves_of(run, UNIT), run / UNIT.path("trials")):
        path.write_bytes(b"torn")
    sweep(dataclasses.replace(small, trials=21), run)  # another record, so that the curves have another name
    assert not RunDirectory(run).survey().problems and not RunDirectory(run).aside()
    assert len(list((run / "curves").iterdir())) == len(list((run / "trials").iterdir())) == 6


def test_certificates_are_replaced_by_those_that_supersede_them(run):
    certify_run(run, levels=(3,), trials=2)
    certify_run(run, levels=(7,), trials=2)
    assert set(load(run, "certificates").s) == {3, 7} and len(list((run / "certificates").iterdir())) == 1
    assert not RunDirectory(run).survey().problems
    assert sum(entry["unit"] == Certify(0, 2).record for entry in entries_of(run)) == 1


def assert_identical_rows(a, b):
    for table in ("trials", "curves"):
        pd.testing.assert_frame_equal(load(a, table), load(b, table), check_exact=True)


# What is written.


def test_no_unit_costs_more_than_the_first_ones(small_units, tmp_path, writes):
    """200 units: nothing that is there is written again, and the hundredth costs what the first did."""
    run = sweep(small_units, tmp_path / "run", batch=2)
    keys = [key for key, _ in writes]
    assert len(set(keys)) == len(keys) and len(load(run)) == 400
    costs = collections.Counter()
    for key, size in writes:
        start = int(key.split("-")[2]) if "/iht" in key else 0
        costs[start // 2 // BATCH] += size * ("/iht" in key)
    assert costs[2] < 1.02 * costs[0]  # of units 128 .. 191 and 0 .. 63
    index = [size for key, size in writes if key.startswith("_log/")]
    assert len(index) == -(-200 // BATCH) and max(index) < 1.02 * index[0]


def test_a_finished_run_that_is_resumed_writes_nothing(small, run, writes):
    sweep(small, run)
    assert not writes


def test_what_is_written_is_listed_some_units_later_and_at_the_end(small_units, tmp_path, monkeypatch):
    seen = []
    run = tmp_path / "run"
    real = RunDirectory.write_unit

    def watched(self, *args):
        real(self, *args)
        there = (run / "_log").exists()
        seen.append((len(RunDirectory(run).units()), len(entries_of(run)) if there else 0))

    monkeypatch.setattr(RunDirectory, "write_unit", watched)
    sweep(dataclasses.replace(small_units, trials=140), run, batch=2)
    units, listed = np.array(seen).T
    assert units.tolist() == list(range(1, 71)) and (units - listed < BATCH).all()
    assert len(entries_of(run)) == 70 > BATCH and not RunDirectory(run).survey().problems


def test_a_sweep_that_fails_lists_what_it_finished(small, tmp_path, monkeypatch):
    real = RunDirectory.write_unit

    def fails(self, unit, *args):
        if unit.s == 7:
            raise OSError(errno.EIO, "Input/output error")
        real(self, unit, *args)

    monkeypatch.setattr(RunDirectory, "write_unit", fails)
    with pytest.raises(OSError):
        sweep(small, tmp_path / "run")
    assert len(entries_of(tmp_path / "run")) == 2


def test_the_index_is_never_needed(run, small_run):
    units = RunDirectory(run).units()
    for path in (run / "_log").iterdir():
        path.unlink()
    (run / "_log").rmdir()
    assert RunDirectory(run).units() == units and {key for unit in units for key in places(unit, units[unit])}
    assert_identical_rows(run, small_run)
    pd.testing.assert_frame_equal(load(run, verify=False), load(small_run))


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOMEM, errno.EACCES])
def test_a_baseline_that_cannot_be_read_for_a_moment_makes_no_row_without_epsilon(
    small, small_run, tmp_path, monkeypatch, fault
):
    """The index doesn't know it yet, so that its own file is asked."""
    run, failed = tmp_path / "run", []
    get = Folder.get

    def fails(self, key):
        if key.startswith("trials/gd") and not failed:
            failed.append(key)
            raise OSError(fault, os.strerror(fault))
        return get(self, key)

    monkeypatch.setattr(Folder, "get", fails)
    with pytest.raises(InputError, match="trials/gd-.*: unreadable: .*; see: ihtjax verify"):
        sweep(small, run)
    assert failed
    sweep(small, run)
    assert_identical(run, small_run)


def test_what_cannot_be_read_is_refused_and_not_left_out(run, monkeypatch):
    unlist(run, UNIT)
    main_file_fails(monkeypatch)
    for table in ("trials", "curves"):
        with pytest.raises(InputError, match=f"{UNIT.file_name}: unreadable"):
            load(run, table)


def test_a_sweep_whose_baseline_is_lost_on_the_way_says_so(small, tmp_path, monkeypatch):
    real = RunDirectory.write_unit

    def loses(self, unit, *args):
        real(self, unit, *args)
        if unit.method == "gd":
            (self.path / unit.path("trials")).unlink()

    monkeypatch.setattr(RunDirectory, "write_unit", loses)
    with pytest.raises(InputError, match="no dense baseline of trials 0 to 19"):
        sweep(small, tmp_path / "run")


def test_a_unit_that_can_no_longer_be_read_is_not_left_out_of_what_must_be_there(run):
    """Later rows are compared with the dense baseline's, which the index may not know yet."""
    unlist(run, UNIT)
    (run / UNIT.path("trials")).write_bytes(b"torn")
    with pytest.raises(InputError, match="cannot read trials of iht, s = 3, trials 0 to 19; see: ihtjax verify"):
        read(run, units=[UNIT])


# What a strict reader found.


def unlisted(run):
    """The run without its index, as a kill before its first lines leaves it."""
    shutil.rmtree(run / "_log")
    return run


@pytest.mark.parametrize("folder", ["trials", "curves", "_log"])
def test_a_folder_that_cannot_be_listed_is_an_error_and_loses_nothing(small, run, monkeypatch, folder):
    """Before, `load` returned fewer rows without a word, and a sweep took whole units' curves for orphans."""
    before, real = files(unlisted(run) if folder != "_log" else run), os.scandir

    def fail(path=".", *args):
        if str(path) == str(run / folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        for call in (lambda: load(run), lambda: sweep(small, run), lambda: RunDirectory(run).survey()):
            with pytest.raises(InputError, match=f"{folder}: cannot be listed"):
                call()
    assert files(run) == before


def test_curves_of_a_unit_that_cannot_be_read_now_are_no_orphans(small, run, monkeypatch):
    """The index knows an earlier attempt, and the main file, which names the curves that are there, fails to read."""
    entry = RunDirectory(run).units()[UNIT]
    relist(
        run, lambda entries: [e["files"]["curves"].update(sha256="0" * 64) for e in entries if e["unit"] == UNIT.record]
    )
    with monkeypatch.context() as patch:
        main_file_fails(patch)
        found = RunDirectory(run).survey()
    assert UNIT in found.broken and not found.orphans
    assert RunDirectory(run).survey().whole[UNIT]["files"] == entry["files"]


def test_a_users_own_manifest_is_set_aside(small, run):
    """Runs of this format have none; before, it was deleted."""
    (run / "manifest.json").write_text('{"name": "my web app"}')
    sweep(small, run)
    (kept,) = run.glob(".manifest.json.*.aside")
    assert kept.read_text() == '{"name": "my web app"}' and len(load(run)) == 60
    (run / "manifest.json").mkdir()
    sweep(small, run, overwrite=True)
    assert len(load(run)) == 60 and len(list(run.glob(".manifest.json.*.aside"))) == 2


def test_a_kill_while_results_are_deleted_leaves_no_unit_without_its_curves(small, run, monkeypatch):
    real, count = Folder.delete, []

    def stop(self, key):
        count.append(key)
        if len(count) == 6:
            raise KeyboardInterrupt
        real(self, key)

    monkeypatch.setattr(Folder, "delete", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(small, run, overwrite=True)
    monkeypatch.undo()
    assert not RunDirectory(run).units() or len(load(run, "curves")) == 8 * len(load(run))
    sweep(small, run)
    assert len(load(run)) == 60 and not RunDirectory(run).survey().problems


def test_a_run_without_index_and_configuration_is_one_all_the_same(small, run):
    """Each file in trials holds the record."""
    (unlisted(run) / "config.json").unlink()
    assert len(load(run)) == 60
    sweep(small, run)
    assert (run / "config.json").exists() and len(load(run)) == 60


def test_a_folder_of_the_name_of_an_index_makes_no_run(small, tmp_path):
    (tmp_path / "_log").mkdir()
    (tmp_path / "_log" / "2026.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files but is not a run directory"):
        sweep(small, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["_log", "2026.txt"]


def test_curves_that_were_computed_again_are_read_without_a_look_at_hashes(run):
    """The index names those of an earlier attempt."""
    before = load(run, "curves")
    relist(run, lambda entries: [e["files"]["curves"].update(sha256="0" * 64) for e in entries])
    pd.testing.assert_frame_equal(load(run, "curves", verify=False), before)
