"""Damaged, foreign and half-written files of a run: named, computed again, or left alone."""

import dataclasses
import os
import shutil

import pandas as pd
import pytest

from benchmarks.formats import as_format_2
from ihtjax import InputError, SweepConfig, load, sweep
from ihtjax.sweeps.plan import unfinished
from ihtjax.sweeps.store.files import write_atomically
from ihtjax.sweeps.store.records import Fit, with_checksum
from ihtjax.sweeps.store.run import RunDirectory
from tests.conftest import EITHER, Notes, curves_of, forget, unlist
from tests.test_sweep import assert_identical, copy, files


@pytest.mark.parametrize("table", ["trials", "curves"])
@pytest.mark.parametrize("harm", ["flip", "tear", "remove"])
def test_damage_is_named_and_repaired(small, small_run, tmp_path, table, harm):
    run = copy(small_run, tmp_path)
    path = sorted((run / table).glob("iht*.parquet"))[0]
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 16
        path.write_bytes(data)
    elif harm == "tear":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    found = RunDirectory(run).survey()
    assert len(found.broken) == 1 and [p.path for p in found.problems] == [f"{table}/{path.name}"]
    assert {"flip": "SHA-256", "tear": "torn", "remove": "missing"}[harm] in found.problems[0].what
    sweep(small, run)
    assert not RunDirectory(run).survey().problems
    assert_identical(run, small_run)


def test_leftovers_of_a_kill_never_break_reading_or_resume(small, small_run, tmp_path):
    run = copy(small_run, tmp_path)
    (run / "trials" / ".iht-s00003-000000000-000000019.parquet.0123456789abcdef.tmp").write_bytes(b"PAR1half")
    (run / "curves" / ".iht-s00003-000000000-000000019-0123456789ab.parquet.0123456789abcdef.tmp").write_bytes(b"PAR1")
    (run / ".config.json.0123456789abcdef.tmp").write_bytes(b"{")
    (run / ".manifest.json.0123456789abcdef.tmp").write_bytes(b"{")
    forget(run, Fit("iht", 3, 0, 20))
    # a unit's first file was put in place, but the kill came before its last
    (run / "trials" / "iht-s00007-000000000-000000019.parquet").unlink()
    unlist(run, Fit("iht", 7, 0, 20))
    (run / "_log" / ".000000002-01234567.jsonl.0123456789abcdef.tmp").write_bytes(b"{")
    assert len(pd.read_parquet(run / "trials")) == 20
    sweep(small, run)
    assert_identical(run, small_run)
    assert not list(run.rglob(".*.tmp"))


@EITHER
def test_a_unit_that_was_written_and_not_listed_is_finished(small, run, convert):
    unlist(convert(run), Fit("iht", 3, 0, 20))
    found = RunDirectory(run).survey()
    assert not found.problems and list(found.unlisted) == [Fit("iht", 3, 0, 20)]
    assert len(load(run)) == 60 and len(load(run, "curves")) == 60 * 8
    before = files(run)
    sweep(small, run)
    assert files(run) == before and not RunDirectory(run).survey().problems


def test_a_unit_that_was_written_again_and_not_listed_is_read(small, small_run, tmp_path):
    """Damaged, computed again by a sweep with more trials, and killed between its files and the index."""
    run = copy(small_run, tmp_path)
    unit = Fit("iht", 3, 0, 20)
    curves_of(run, unit).write_bytes(b"damaged")
    older = shutil.copytree(run / "_log", tmp_path / "older")
    sweep(dataclasses.replace(small, trials=25), run)
    assert files(run)[run / unit.path("trials")] != files(small_run)[small_run / unit.path("trials")]
    shutil.rmtree(run / "_log")
    shutil.copytree(older, run / "_log")
    for table in ("trials", "curves"):
        assert load(run, table, s=3, trial=range(20)).equals(load(small_run, table, s=3))


def test_a_unit_that_a_kill_left_without_its_last_file_keeps_its_trials(small, tmp_path):
    """Extended differently afterwards, its rows would otherwise be there twice, under two names."""
    run = sweep(small, tmp_path / "run")
    sweep(dataclasses.replace(small, trials=30), run)
    unit = Fit("iht", 7, 20, 30)
    (run / unit.path("trials")).unlink()
    unlist(run, unit)
    larger = dataclasses.replace(small, trials=50)
    sweep(larger, run)
    assert_identical(run, sweep(larger, tmp_path / "at_once"))


def test_a_foreign_file_is_named_and_left_alone(small, small_run, tmp_path):
    run = copy(small_run, tmp_path)
    (run / "trials" / "notes.txt").write_text("mine")
    sweep(small, run)
    assert [str(p) for p in RunDirectory(run).survey().problems] == [
        "trials/notes.txt: foreign, the run does not list it"
    ]
    assert len(load(run)) == 60


def test_a_copy_that_somebody_keeps_in_the_folder_is_not_touched(small, small_run, tmp_path):
    run = copy(small_run, tmp_path)
    shutil.copytree(run / "trials", run / "trials" / "old")
    sweep(dataclasses.replace(small, trials=25), run)
    assert len(list((run / "trials" / "old").iterdir())) == 3
    assert len(RunDirectory(run).survey().problems) == 3


DAMAGED = [None, "", "{ torn", "[]", "null", "{}", '{"format": 2}', '{"format": 2, "units": []}', "[" * 100_000]


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "_log"])
@pytest.mark.parametrize("content", DAMAGED, ids=[str(content)[:20] for content in DAMAGED])
def test_a_damaged_record_is_made_again_from_the_files(small, run, name, content):
    if name == "manifest.json":
        as_format_2(run)
    before = files(run)
    (path,) = (run / name).iterdir() if name == "_log" else [run / name]
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert len(load(run)) == 60 and not unfinished(RunDirectory(run).require())
    found, lost = RunDirectory(run).survey(), name == "_log" and content is None
    assert [problem.path.startswith(name) for problem in found.problems] == [True] * (not lost)
    assert all("sweep makes it again" in what or "sweep lists them anew" in what for _, what in found.problems)
    assert len(found.unlisted) == 3 * (name != "config.json")
    notes = Notes()
    sweep(small, run, show=notes)
    assert sum(name in line for line in notes.lines) == len(found.problems)
    assert not RunDirectory(run).survey().unlisted
    assert files(run) == before and not RunDirectory(run).survey().problems
    assert SweepConfig(**RunDirectory(run).config()["config"]) == dataclasses.replace(small, loss="cross_entropy")


def test_both_records_gone_are_made_again_with_all_levels_and_trials(small, tmp_path):
    run = sweep(dataclasses.replace(small, levels=(3,)), tmp_path / "run")
    larger = dataclasses.replace(small, levels=(3, 7), trials=25)
    sweep(larger, run)
    shutil.rmtree(run / "_log")
    (run / "config.json").unlink()
    larger = dataclasses.replace(larger, loss="cross_entropy")  # filled in, as levels would be
    assert SweepConfig(**RunDirectory(run).config()["config"]) == larger and len(load(run)) == 75


def test_a_later_format_is_refused_and_loses_nothing(small, small_run, tmp_path):
    for name in ("config.json", "manifest.json", "_log/000000002-01234567.jsonl"):
        run = shutil.copytree(small_run, tmp_path / name.replace("/", "-"))
        before = files(run)
        (run / name).write_bytes(with_checksum({"format": 7}, indent=None))
        for call in (lambda run=run: sweep(small, run), lambda run=run: load(run)):
            with pytest.raises(InputError, match=f"{name}: format 7, expected at most 3"):
                call()
        assert files(run) == before


def test_an_edited_configuration_does_not_count(small, small_run, tmp_path):
    run = copy(small_run, tmp_path)
    path = run / "config.json"
    path.write_text(path.read_text().replace('"steps": 300', '"steps": 301'))
    assert RunDirectory(run).config() == RunDirectory(small_run).config()
    with pytest.raises(InputError, match="steps is 300 there, 301 was asked for"):
        sweep(dataclasses.replace(small, steps=301), run)


def test_overwrite_works_beside_foreign_files(small, small_run, tmp_path):
    run = copy(small_run, tmp_path)
    foreign = run / "trials" / "zz.parquet"
    shutil.copy(next((run / "trials").glob("gd*")), foreign)
    sweep(dataclasses.replace(small, seed=5), run, overwrite=True)
    assert foreign.exists() and len(load(run)) == 60


def test_an_overwrite_that_is_killed_leaves_a_run_directory(small, small_run, tmp_path, monkeypatch):
    run = copy(small_run, tmp_path)

    def killed(self, config):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_config", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep(dataclasses.replace(small, seed=3), run, overwrite=True)
    assert_identical(sweep(small, run), small_run)


def test_a_sweep_that_cannot_begin_leaves_no_directory(small, tmp_path, monkeypatch):
    def no_memory(*args):
        raise MemoryError

    monkeypatch.setattr("ihtjax.sweeps.runner.fitting_engines", no_memory)
    with pytest.raises(MemoryError):
        sweep(small, tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def no_space(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]
