"""A run directory from elsewhere: what it says is checked, and nothing outside it is touched."""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.formats import as_format_1, edit, relist
from ihtjax import InputError, certify_run, load, report, summary, sweep
from ihtjax.sweeps.store.files import read_file, write_atomically, write_output
from ihtjax.sweeps.store.records import Certify, Damaged, Fit, unit_of, without_checksum
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.store.sealed import arrow_reader, record_in, sealed_parquet
from tests.conftest import EITHER, Notes, copy_unit, is_of_index


def tree(folder):
    """All there is below a folder: links as such, files by content."""
    paths = sorted(folder.rglob("*"))
    return {p: os.readlink(p) if p.is_symlink() else p.read_bytes() for p in paths if p.is_symlink() or p.is_file()}


# Seals.


def test_a_sealed_file_is_plain_parquet_with_a_record():
    table = pa.table({"a": [1, 2, 3]})
    data = sealed_parquet(table, {"what": "numbers"})
    assert pq.read_table(pa.BufferReader(data)).equals(table)
    assert record_in(data) == {"what": "numbers"}


def test_arrow_reads_a_copy_of_its_own():
    """Its threads outlive the call: letting go of Python's bytes while the interpreter ends, they abort the process."""
    data = sealed_parquet(pa.table({"a": [1, 2, 3]}), {})
    references = sys.getrefcount(data)
    reader = arrow_reader(data)
    assert sys.getrefcount(data) == references and reader.read() == data


def test_every_flipped_bit_of_a_file_breaks_its_seal():
    data = sealed_parquet(pa.table({"a": [1, 2, 3]}), {"what": "numbers"})
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        assert record_in(bytes(flipped)) is None
    assert record_in(data[:-1]) is None and record_in(b"") is None


def test_flipped_bits_in_results_are_never_read(run):
    """Also those in a footer, which Parquet has no checksum for."""
    whole, generator = load(run), np.random.default_rng(0)
    path = next((run / "trials").glob("iht-s00003*"))
    data = path.read_bytes()
    footer = range(len(data) - 2000, len(data))
    for place in [*generator.integers(0, len(data), 60), *generator.choice(footer, 100, replace=False)]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << generator.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(InputError, match="SHA-256 differs.*verify"):
            load(run)
    path.write_bytes(data)
    pd.testing.assert_frame_equal(load(run), whole)
    pd.testing.assert_frame_equal(load(run, verify=False), whole)


def test_every_flipped_bit_of_a_record_is_noticed_or_changes_nothing(small_run):
    (log,) = (small_run / "_log").iterdir()
    for path in (small_run / "config.json", log):
        data = path.read_bytes().splitlines()[0] if path == log else path.read_bytes()
        content = without_checksum(data)
        noticed = 0
        for place in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            try:
                assert without_checksum(bytes(flipped)) == content
            except Damaged:
                noticed += 1
        assert noticed > 6 * len(data)


# Names.


def test_the_name_of_a_file_follows_from_its_unit_and_back():
    for unit in (Fit("iht", 3, 0, 20), Fit("gd", 15, 20, 2**31 - 1), Certify(5, 6)):
        assert unit_of(unit.file_name) == unit
    for name in (
        "iht-s00003-000000000-000000019.parquet.tmp",
        "iht-s3-0-19.parquet",
        "x",
        "../a",
        "iht-s00003-5-4.parquet",
    ):
        assert unit_of(name) is None


@EITHER
@pytest.mark.parametrize("path", ["../../victim.txt", "{victim}", "trials/../../victim.txt", "curves/../trials/x"])
def test_no_path_in_a_record_is_followed(small, run, path, convert):
    convert(run)
    victim = run.parent / "victim.txt"
    victim.write_text("mine")
    path = path.format(victim=victim)

    def rename(entries):
        entries[0]["files"] = {path: next(iter(entries[0]["files"].values()))}

    relist(run, rename)
    for call in (lambda: sweep(small, run), lambda: load(run), lambda: sweep(small, run, overwrite=True)):
        call()
    assert victim.read_text() == "mine" and len(load(run)) == 60


STRANGE_UNITS = [
    ["iht", 3],
    ["iht", 3, 0, 20, 1],
    ["iht", 0, 0, 20],
    ["iht", 16, 0, 20],
    ["iht", -3, 0, 20],
    ["iht", 3.0, 0, 20],
    ["iht", True, 0, 20],
    ["iht", "3", 0, 20],
    ["gd", 3, 0, 20],
    ["all", 3, 0, 20],
    ["../x", 3, 0, 20],
    [None, 3, 0, 20],
    [["iht"], 3, 0, 20],
    ["iht", 3, -1, 20],
    ["iht", 3, 20, 20],
    ["iht", 3, 20, 0],
    ["iht", 3, 0, 10**30],
    ["iht", 3, 0, 19],
    ["iht", 7, 10, 30],
    {"method": "iht"},
    None,
    3,
]


@EITHER
@pytest.mark.parametrize("unit", STRANGE_UNITS, ids=str)
def test_a_strange_unit_that_is_listed_is_taken_from_the_files(small, run, unit, convert):
    before = load(convert(run))
    relist(run, lambda entries: entries[0].update(unit=unit))
    pd.testing.assert_frame_equal(load(run), before)
    found = RunDirectory(run).survey()
    assert found.unlisted and all(map(is_of_index, found.problems))
    sweep(small, run)
    assert not RunDirectory(run).survey().problems and len(pd.read_parquet(run / "trials")) == 60


@EITHER
@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(files={}),
        lambda entry: entry.update(files=3),
        lambda entry: entry.update(environment=None),
        lambda entry: entry["files"].pop("curves"),
        lambda entry: entry["files"]["trials"].update(rows=40),
        lambda entry: entry["files"]["trials"].update(rows="20"),
        lambda entry: entry["files"]["trials"].update(bytes=-1),
        lambda entry: entry["files"]["trials"].update(sha256="x"),
        lambda entry: entry["files"].update(other=entry["files"]["trials"]),
        lambda entry: entry.clear(),
    ],
)
def test_a_strange_entry_that_is_listed_is_taken_from_the_files(run, change, convert):
    before = load(convert(run))
    relist(run, lambda entries: change(entries[0]))
    pd.testing.assert_frame_equal(load(run), before)
    assert is_of_index(RunDirectory(run).survey().problems[0])


@EITHER
def test_a_unit_that_is_listed_twice_is_read_once(run, convert):
    relist(convert(run), lambda entries: entries.append(entries[0]))
    assert len(load(run)) == 60 and not load(run).duplicated(["method", "s", "trial"]).any()


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 0},
        {"batch": "256"},
        {"batch": True},
        {"parameters": ["w11"]},
        {"parameters": 15},
        {"classes": []},
        {"features": [1, 2, 3, 4]},
        {"data_sha256": "x"},
        {"config_hash": "000000000000"},
        {"config": {}},
        {"config": {"levels": [16]}},
        {"config": {"levels": None}},
        {"config": {"levels": "20%,50%"}},
        {"config": {"colour": "red"}},
        {"config": [1]},
    ],
    ids=str,
)
def test_a_configuration_that_contradicts_itself_does_not_count(small, run, change):
    expected = RunDirectory(run).config()

    def apply(content):
        for name, value in change.items():
            content[name] = content[name] | value if isinstance(value, dict) and value else value

    edit(run, "config.json", apply)
    assert RunDirectory(run).config() == expected
    sweep(small, run)
    assert not RunDirectory(run).survey().problems


# Links and other things that are no files.


@pytest.mark.parametrize("folder", ["trials", "curves", "certificates", "_log"])
def test_a_linked_folder_is_refused_and_left_as_it_is(small, run, folder):
    elsewhere = run.parent / "elsewhere"
    if (run / folder).exists():
        (run / folder).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (elsewhere / "gd-s00015-000000000-000000004.parquet").write_text("mine")
    (run / folder).symlink_to(elsewhere)
    before = tree(run.parent)
    larger = dataclasses.replace(small, trials=25)
    for call in (
        lambda: sweep(larger, run),
        lambda: sweep(larger, run, overwrite=True),
        lambda: RunDirectory(run).survey(),
    ):
        with pytest.raises(InputError, match=f"{folder}: is a link"):
            call()
    (run / ".lock").unlink(missing_ok=True)
    before.pop(run / ".lock", None)
    assert tree(run.parent) == before


def test_a_linked_folder_is_not_read_without_verifying_either(run):
    (run / "trials").rename(run.parent / "elsewhere")
    (run / "trials").symlink_to(run.parent / "elsewhere")
    for verify in (True, False):
        with pytest.raises(InputError, match="trials: is a link"):
            load(run, verify=verify)


def test_a_linked_figures_folder_is_refused(run):
    from ihtjax import figures

    elsewhere = run.parent / "elsewhere"
    elsewhere.mkdir()
    (run / "figures").symlink_to(elsewhere)
    with pytest.raises(InputError, match="figures: is a link"):
        figures(run, only=["table1"])
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "report.html"])
def test_nothing_is_written_through_a_link(small, run, name):
    victim = run.parent / "victim.txt"
    victim.write_text("mine")
    # What earlier versions called their temporaries.
    (run / f".{name}.tmp").symlink_to(victim)
    if name == "report.html":
        (run / name).symlink_to(victim)
        report(run)
    else:
        sweep(dataclasses.replace(small, trials=21), run)
    assert victim.read_text() == "mine" and not (run / name).is_symlink()


def test_a_linked_lock_is_refused(small, run):
    victim = run.parent / "victim.txt"
    victim.write_text("mine")
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to(victim)
    with pytest.raises(InputError, match="cannot lock"):
        sweep(dataclasses.replace(small, trials=21), run)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("name", ["config.json", "trials/iht-s00003-000000000-000000019.parquet"])
def test_a_named_pipe_is_no_file(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(InputError, match="not a regular file"):
        summary(run)


def test_a_file_is_read_without_following_links(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_file(tmp_path / "file") == b"text"
    for name in ("link", "."):
        with pytest.raises(OSError):
            read_file(tmp_path / name)


def test_what_a_user_names_is_written_to_what_it_is(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("link", "new"):
        write_output(tmp_path / name, b"text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "new").read_text() == "text"
    write_output(Path("/dev/null"), b"text")
    assert not Path("/dev/null").is_file()


def test_temporaries_have_names_that_nobody_can_wait_with(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(a.name), replace(a, b)))
    for _ in range(2):
        write_atomically(tmp_path / "file", b"new")
    assert len(set(seen)) == 2 and all(len(name) == len(".file..tmp") + 16 for name in seen)


# What isn't provably replaced stays.


def test_files_of_other_people_stay(small, run):
    mine = [
        run / ".mine.tmp",
        run / "trials" / ".mine.tmp",
        run / "trials" / ".iht-s00003-000000000-000000019.parquet.tmp",
    ]
    for path in mine:
        path.write_text("mine")
    sweep(dataclasses.replace(small, trials=25), run)
    assert all(path.read_text() == "mine" for path in mine)


def test_a_foreign_file_under_a_name_that_is_needed_is_set_aside(small, run):
    path = run / "trials" / "iht-s00003-000000020-000000024.parquet"
    path.write_text("mine")
    sweep(dataclasses.replace(small, trials=25), run)
    (aside,) = (run / "trials").glob(".*.aside")
    assert aside.read_text() == "mine" and len(load(run)) == 75 and len(pd.read_parquet(run / "trials")) == 75


@EITHER
def test_an_older_index_restored_loses_nothing(small, run, convert):
    older = {path: path.read_bytes() for path in (*convert(run).glob("*.json"), *run.glob("_log/*"))}
    larger = dataclasses.replace(small, trials=25, levels=(3, 5, 7))
    sweep(larger, run)
    before = tree(run / "trials") | tree(run / "curves")
    shutil.rmtree(run / "_log")
    (run / "_log").mkdir()
    for path, content in older.items():
        path.write_bytes(content)
    sweep(small, run)
    assert tree(run / "trials") | tree(run / "curves") == before
    assert len(load(run)) == 100 and not RunDirectory(run).survey().problems


def test_units_copied_in_from_a_run_of_the_same_configuration_are_used(small, run, tmp_path):
    larger = dataclasses.replace(small, levels=(3, 5, 7))
    other = sweep(larger, tmp_path / "other")
    for table in ("trials", "curves"):
        copy_unit(other, run, Fit("iht", 5, 0, 20), table)
    before = tree(run / "trials")
    sweep(larger, run)
    assert tree(run / "trials") == before and len(load(run)) == 80


def test_results_of_another_configuration_are_not_taken_for_the_runs(small, run, tmp_path):
    other = sweep(dataclasses.replace(small, seed=1, levels=(5,)), tmp_path / "other")
    for table in ("trials", "curves"):
        copy_unit(other, run, Fit("iht", 5, 0, 20), table)
    larger = dataclasses.replace(small, levels=(3, 5, 7))
    sweep(larger, run)
    assert load(run).config_hash.nunique() == 1 and len(load(run)) == 80
    assert len(list((run / "trials").glob(".*.aside"))) == 1


# Certificates.


@pytest.fixture
def certified(run):
    return certify_run(run, levels=(3,), trials=2)


def test_sweep_names_a_damaged_certificate_and_leaves_it_to_oracle(small, certified):
    (path,) = (certified / "certificates").iterdir()
    whole = load(certified, "certificates")
    path.write_bytes(path.read_bytes()[:-1])
    before, notes = tree(certified), Notes()
    sweep(small, certified, show=notes)
    (line,) = [line for line in notes.lines if "certificates/" in line]
    assert "torn" in line and line.endswith("; left alone, ihtjax oracle computes it again")
    assert tree(certified) == before
    certify_run(certified, levels=(3,), trials=2)
    pd.testing.assert_frame_equal(load(certified, "certificates"), whole)
    assert not RunDirectory(certified).survey().problems


@EITHER
def test_certificates_outlive_a_lost_index(small, run, convert):
    certify_run(convert(run), levels=(3,), trials=2)
    before = tree(run / "certificates")
    shutil.rmtree(run / "_log")
    sweep(small, run)
    assert tree(run / "certificates") == before and len(load(run, "certificates")) == 2


def test_certificates_of_more_levels_replace_those_of_fewer_also_when_killed_before_the_index(certified):
    older = tree(certified / "_log")
    certify_run(certified, trials=2)
    shutil.rmtree(certified / "_log")
    (certified / "_log").mkdir()
    for path, content in older.items():
        path.write_bytes(content)
    assert set(load(certified, "certificates").s) == {3, 7, 15}


# Runs of earlier versions.


@pytest.fixture
def format_1(run):
    return as_format_1(run)


def test_a_run_of_format_1_is_read_and_extended(small, small_run, format_1):
    pd.testing.assert_frame_equal(load(format_1), load(small_run))
    assert not RunDirectory(format_1).survey().problems
    before = tree(format_1 / "trials")
    sweep(dataclasses.replace(small, trials=25), format_1)
    assert before.items() <= tree(format_1 / "trials").items() and len(load(format_1)) == 75


def test_a_run_of_format_1_without_its_manifest_is_refused_and_kept(small, format_1):
    (format_1 / "manifest.json").unlink()
    before = tree(format_1 / "trials")
    for call in (lambda: sweep(small, format_1), lambda: load(format_1)):
        with pytest.raises(InputError, match="manifest.json: missing or damaged.*earlier version"):
            call()
    assert tree(format_1 / "trials") == before


def test_no_advice_mixes_two_runs(format_1):
    """Nothing shows that files of format 1 are results, so that overwriting would leave them to pandas."""
    (format_1 / "manifest.json").write_text("torn")
    with pytest.raises(InputError, match="restore it, use another path, or move what is in .* away") as refused:
        load(format_1)
    (format_1 / "config.json").unlink()
    with pytest.raises(InputError, match="restore it, use another path, or move what is in .* away") as again:
        load(format_1)
    assert "overwrite" not in f"{refused.value} {again.value}"


def test_a_run_of_format_1_is_not_replaced_under_another_configuration(small, format_1, tmp_path):
    """Its files have no record, but their rows say what they are of."""
    other = sweep(dataclasses.replace(small, seed=1, trials=1), tmp_path / "other")
    shutil.copy(other / "config.json", format_1)
    before = tree(format_1 / "trials") | tree(format_1 / "curves")
    for seed in (0, 1):
        with pytest.raises(InputError, match="config.json: is of configuration .*, the results are of"):
            sweep(dataclasses.replace(small, seed=seed), format_1)
    assert tree(format_1 / "trials") | tree(format_1 / "curves") == before
