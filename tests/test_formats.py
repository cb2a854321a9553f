"""Runs of formats 1 and 2: read, verified, resumed and extended; what is added is of this format."""

import dataclasses
import json
import re
import shutil

import pandas as pd
import pytest

from benchmarks.formats import as_format_1, as_format_2, entries_of
from ihtjax import InputError, certify_run, load, sweep
from ihtjax.sweeps.store.records import Fit
from ihtjax.sweeps.store.run import RunDirectory
from tests.conftest import Notes
from tests.test_sweep import assert_identical, files

EARLIER = {1: as_format_1, 2: as_format_2}
UNIT = Fit("iht", 3, 0, 20)
NAMED_BY_CONTENT = re.compile(r"(gd|iht)-s\d{5}-\d{9}-\d{9}-[0-9a-f]{12}\.parquet")


@pytest.fixture(params=EARLIER)
def earlier(run, request):
    """A run, with certificates, of an earlier format."""
    return EARLIER[request.param](certify_run(run, levels=(3,), trials=2))


def format_of(run):
    return json.loads((run / "config.json").read_text())["format"]


def whole(run):
    return not RunDirectory(run).survey().problems


def test_the_formats_differ_in_what_lists_the_units(run):
    """What the other tests of this file rest on."""
    assert format_of(run) == 3 and (run / "_log").is_dir() and not (run / "manifest.json").exists()
    assert all(NAMED_BY_CONTENT.fullmatch(path.name) for path in (run / "curves").iterdir())
    as_format_2(run)
    assert format_of(run) == 2 and not (run / "_log").exists() and len(entries_of(run)) == 3
    assert {path.name for path in (run / "curves").iterdir()} == {path.name for path in (run / "trials").iterdir()}


def test_it_is_read_and_verified(small_run, earlier):
    assert whole(earlier) and format_of(earlier) < 3
    for table in ("trials", "curves"):
        pd.testing.assert_frame_equal(load(earlier, table), load(small_run, table), check_exact=True)
    assert len(load(earlier, "certificates")) == 2


def test_resuming_what_is_finished_changes_nothing(small, earlier):
    before = {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file() and path.name != ".lock"}
    sweep(small, earlier)
    certify_run(earlier, levels=(3,), trials=2)
    assert {path: path.read_bytes() for path in before} == before
    assert not (earlier / "_log").exists()


def test_what_is_added_is_of_this_format_and_the_rest_stays(small, earlier, tmp_path):
    before, manifest = files(earlier), (earlier / "manifest.json").read_bytes()
    larger = dataclasses.replace(small, levels=(3, 5, 7), trials=25)
    sweep(larger, earlier)
    assert format_of(earlier) == 3, "earlier versions must refuse it"
    assert before.items() <= files(earlier).items() and (earlier / "manifest.json").read_bytes() == manifest
    new = set(files(earlier)) - set(before)
    assert {path.parent.name for path in new} == {"trials", "curves"}
    assert len(new) == 2 * 4  # trials 20 to 24 of three groups, and level 5
    assert all(NAMED_BY_CONTENT.fullmatch(path.name) for path in new if path.parent.name == "curves")
    assert whole(earlier)
    assert_identical(earlier, sweep(larger, tmp_path / "at_once"))
    sweep(larger, earlier)
    assert set(files(earlier)) == new | set(before)


def test_certificates_that_are_added_are_of_this_format(earlier):
    before = files(earlier)
    certify_run(earlier, levels=(3,), trials=4)
    assert format_of(earlier) == 3 and before.items() <= files(earlier).items()
    assert len(load(earlier, "certificates")) == 4 and whole(earlier)


@pytest.mark.parametrize("table", ["trials", "curves"])
def test_a_damaged_unit_is_computed_again_and_leaves_nothing(small, small_run, earlier, table):
    (earlier / UNIT.path(table)).write_bytes(b"torn")
    sweep(small, earlier)
    assert whole(earlier) and format_of(earlier) == 3 and not RunDirectory(earlier).aside()
    assert not (earlier / UNIT.path("curves")).exists()
    assert_identical(earlier, small_run)


def test_overwriting_leaves_nothing_of_it(small, earlier):
    sweep(dataclasses.replace(small, seed=5), earlier, overwrite=True)
    assert whole(earlier) and format_of(earlier) == 3 and len(load(earlier)) == 60
    assert not (earlier / "manifest.json").exists() and not list(earlier.glob("certificates/*"))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["manifest.json", "_log/000000099-0123abcd.jsonl"])
def test_somebody_elses_file_under_the_name_of_an_index_is_not_deleted(small, run, name, overwrite):
    """In a run of format 3 manifest.json isn't the run's any more."""
    (run / name).write_text('{"name": "mine"}')
    assert len(load(run)) == 60
    sweep(small, run, overwrite=overwrite)
    (aside,) = RunDirectory(run).aside()
    assert (run / aside).read_text() == '{"name": "mine"}' and whole(run) and len(load(run)) == 60


def test_a_lost_manifest_of_format_2_is_made_up_for_by_the_index(small, format_2):
    before = files(format_2)
    (format_2 / "manifest.json").unlink()
    assert [problem.path for problem in RunDirectory(format_2).survey().problems] == ["manifest.json"]
    assert len(load(format_2)) == 60 and len(load(format_2, "curves")) == 60 * 8
    notes = Notes()
    sweep(small, format_2, show=notes)
    assert sum("manifest.json" in line for line in notes.lines) == 1
    assert files(format_2) == before and whole(format_2) and len(entries_of(format_2)) == 3


def test_a_lost_configuration_is_made_again_in_the_latest_format_of_the_results(small, format_2):
    larger = dataclasses.replace(small, trials=25)
    sweep(larger, format_2)
    (format_2 / "config.json").unlink()
    assert RunDirectory(format_2).record()["format"] == 3
    sweep(larger, format_2)
    assert format_of(format_2) == 3 and whole(format_2) and len(load(format_2)) == 75


def test_an_index_of_another_run_does_not_cost_what_the_manifest_lists(small, earlier, tmp_path):
    """Files of format 1 have no record of their own to fall back on."""
    other = certify_run(sweep(dataclasses.replace(small, seed=1), tmp_path / "other"), levels=(3,), trials=2)
    shutil.copytree(other / "_log", earlier / "_log")
    before = files(earlier)
    sweep(small, earlier)
    certify_run(earlier, levels=(3,), trials=2)
    assert files(earlier) == before and whole(earlier) and len(load(earlier)) == 60


def test_an_index_that_contradicts_the_manifest_is_named_and_mended(small, small_run, run):
    """Both are of this configuration, and a file of format 1 doesn't say which is right."""
    as_format_1(run)
    shutil.copytree(small_run / "_log", run / "_log")
    problems = RunDirectory(run).survey().problems
    assert [problem.path for problem in problems] == ["_log"] * 3
    assert all(problem.what.startswith("contradicts manifest.json on ") for problem in problems)
    with pytest.raises(InputError, match="torn"):
        load(run)
    before = files(run)
    sweep(small, run)
    assert files(run) == before and whole(run) and len(load(run)) == 60 and len(load(run, "curves")) == 60 * 8
