"""A run directory by somebody who can compute checksums: what is sealed, and says something else than its name."""

import dataclasses
import functools
import hashlib
import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from benchmarks.formats import edit, relist
from ihtjax import InputError, SweepConfig, certify_run, gaps, load, summary, sweep
from ihtjax.cli.commands import cli
from ihtjax.sweeps.plan import plan, unfinished
from ihtjax.sweeps.store.records import Certify, Damage, Damaged, Fit, place, places, without_checksum
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.store.sealed import record_in, sealed_parquet
from tests.conftest import EITHER, as_it_is, copy_unit, is_of_index

UNIT = Fit("iht", 3, 0, 20)
OPTIONS = "--levels 3,7 --trials 20 --steps 300 --n-monte 10 --curve-points 8".split()  # those of `small`


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


def forge(run, unit, table, change, listed=True):
    """Change a unit's file, seal it, and list it as it then is."""
    path = run / place(unit, table, RunDirectory(run).units()[unit])
    record = record_in(path.read_bytes())
    changed = change(pq.read_table(path))
    data = sealed_parquet(changed, record)
    path.unlink()

    def apply(entries):
        (entry,) = [entry for entry in entries if entry["unit"] == unit.record]
        entry["files"][table] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (run / place(unit, table, {"format": 2} | entry)).write_bytes(data)
        if not listed:
            entries.remove(entry)

    relist(run, apply)


def put(name, value):
    return lambda table: table.set_column(table.schema.get_field_index(name), name, value(table[name]))


FORGED = {
    "a trial twice": lambda table: pa.concat_tables([table.slice(0, 19), table.slice(0, 1)]),
    "other trials": put("trial", lambda c: pc.add(c, pa.scalar(20, pa.int32()))),
    "another order": lambda table: table.take(np.arange(20)[::-1]),
    "another level": put("s", lambda c: pc.add(c, pa.scalar(4, pa.int32()))),
    "another method": put("method", lambda c: pa.array(["gd"] * len(c))),
    "no trial numbers": put("trial", lambda c: pa.nulls(len(c), pa.int32())),
    "another run's rows": put("config_hash", lambda c: pa.array(["0" * 12] * len(c))),
    "another type": put("train_loss", lambda c: c.cast(pa.string())),
    "a column less": lambda table: table.drop_columns(["train_loss"]),
    "a column more": lambda table: table.append_column("x", table["trial"]),
    "a row less": lambda table: table.slice(1),
    "no rows": lambda table: table.slice(0, 0),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("listed", [True, False])
@EITHER
def test_a_sealed_file_with_other_rows_than_its_units_is_damaged(small, small_run, run, change, listed, convert):
    forge(convert(run), UNIT, "trials", change, listed)
    if listed:
        with pytest.raises(InputError, match=f"{UNIT.file_name}: .*verify"):
            load(run)
    else:
        assert (load(run).s != 3).all() and len(load(run)) == 40
    (problem,) = RunDirectory(run).survey().problems
    assert problem.path.endswith(UNIT.file_name)
    sweep(small, run)
    pd.testing.assert_frame_equal(load(run), load(small_run))
    assert not RunDirectory(run).survey().problems


@pytest.mark.parametrize(
    "change",
    [
        put("step", lambda c: pc.add(c, pa.scalar(1, pa.int32()))),
        put("trial", lambda c: pa.array(np.zeros(len(c), np.int32))),
        lambda table: pa.concat_tables([table.slice(0, 80), table.slice(0, 80)]),
        lambda table: table.drop_columns(["test_loss"]),
    ],
)
@EITHER
def test_a_sealed_file_of_other_curves_is_damaged(run, change, convert):
    forge(convert(run), UNIT, "curves", change)
    with pytest.raises(InputError, match="curves/.*verify"):
        load(run, "curves")


@pytest.mark.parametrize(
    "change",
    [
        lambda table: pa.concat_tables([table, table]),
        put("trial", lambda c: pc.add(c, pa.scalar(5, pa.int32()))),
        put("s", lambda c: pc.add(c, pa.scalar(90, pa.int32()))),
        put("optimization_gap", lambda c: c.cast(pa.string())),
        lambda table: table.slice(0, 0),
        lambda table: table.drop_columns(["method"]),
    ],
)
def test_a_sealed_file_of_other_certificates_is_damaged(run, change):
    certify_run(run, trials=2, enumerate_supports=False)
    forge(run, Certify(0, 2), "certificates", change)
    for read in (lambda: load(run, "certificates"), lambda: gaps(run)):
        with pytest.raises(InputError, match="certificates/.*verify"):
            read()


def test_certificates_with_columns_of_another_version_are_read(run):
    certify_run(run, trials=2, enumerate_supports=False)
    unit = Certify(0, 2)
    forge(run, unit, "certificates", lambda table: table.drop_columns(["n_best_supports"]))
    forge(run, unit, "certificates", lambda table: table.append_column("new", table["s"]))
    assert len(load(run, "certificates")) == 6 and not RunDirectory(run).survey().problems


@pytest.mark.parametrize("pandas", ['{"index_columns": ["s"]}', "{"])
def test_how_pandas_takes_columns_does_not_follow_from_a_file(small_run, run, pandas):
    for unit in RunDirectory(run).units():
        forge(run, unit, "trials", lambda table: table.replace_schema_metadata({"pandas": pandas}))
    pd.testing.assert_frame_equal(load(run), load(small_run))


def test_text_that_is_no_utf_8_is_named(run):
    forge(run, UNIT, "trials", put("status", lambda c: pa.array([b"\xff"] * len(c)).view(pa.string())))
    assert [p.path for p in RunDirectory(run).survey().problems] == [UNIT.path("trials")]
    for read in (load, summary):
        with pytest.raises(InputError, match="trials/.*UTF8.*verify"):
            read(run)


@pytest.mark.parametrize("value", ["abc", ["ab", "abc"], [["x"]]])
def test_a_file_with_a_strange_record_does_not_make_a_configuration(run, value):
    path = run / UNIT.path("trials")
    path.write_bytes(sealed_parquet(pq.read_table(path), record_in(path.read_bytes()) | {"run": value}))
    (run / "config.json").write_bytes(b"")
    assert RunDirectory(run).config()["config"]["levels"] == [3, 7]  # from the other files


@pytest.mark.parametrize("name", ["trials", "levels", "curve_points", "steps"])
def test_options_that_a_configuration_leaves_out_are_the_defaults(small_run, run, name):
    """It is then another configuration, unless the option doesn't go into the hash."""

    def leave_out(content):
        del content["config"][name]
        if name == "levels":
            content["config"]["levels"] = 3
        content["config_hash"] = SweepConfig(**content["config"]).hash(content["data_sha256"])

    edit(run, "config.json", leave_out)
    config = RunDirectory(run).config()["config"]
    assert SweepConfig(**config).to_json() == config
    for read in (load, lambda run: unfinished(RunDirectory(run)), lambda run: RunDirectory(run).survey()):
        try:
            read(run)
        except InputError:
            assert name in ("curve_points", "steps")


def test_records_of_any_depth_are_damaged():
    """There is a depth that can be parsed and that a checksum can't be computed of."""
    for depth in (*range(900, 1000), 100_000):
        with pytest.raises(Damaged):
            without_checksum(b'{"format": 2, "sha256": "", "units": ' + b"[" * depth + b"]" * depth + b"}")


@EITHER
def test_an_environment_that_no_sweep_writes_is_damaged(small, run, convert):
    before = RunDirectory(convert(run)).units()
    deep = json.loads("[" * 400 + "]" * 400)
    relist(run, lambda entries: entries[0]["environment"].update(jax=deep))
    (problem,) = RunDirectory(run).survey().problems
    assert is_of_index(problem)
    sweep(small, run)
    assert RunDirectory(run).units() == before and not RunDirectory(run).survey().problems


def test_names_that_utf_8_cannot_hold_are_damaged(run):
    expected = RunDirectory(run).config()
    edit(run, "config.json", lambda content: content.update(features=["\ud800"] * 4))
    assert RunDirectory(run).config() == expected


def test_more_files_than_a_folder_holds_are_refused_before_they_are_listed():
    config = SweepConfig(trials=2**31 - 1, steps=2**31 - 1, levels=(3,))
    with pytest.raises(InputError, match="trials: got 2,147,483,647, .*expected at most 1,000,000 files"):
        plan(config, ["iht"], 15, [], [], 1)


def test_overwriting_leaves_a_file_that_no_sweep_wrote(small, run):
    mine = run / Fit("iht", 9, 0, 20).path("trials"), run / Fit("iht", 7, 20, 40).path("curves")
    for path in mine:
        path.write_text("mine")
    link = run / Fit("gd", 15, 20, 40).path("trials")
    os.symlink(mine[0], link)
    said = CliRunner().invoke(cli, ["sweep", str(run), *"--levels 3,7 --trials 5 --steps 20 --overwrite".split()])
    assert said.exit_code == 0
    assert all(path.read_text() == "mine" for path in mine) and link.is_symlink()
    assert f"{mine[1].relative_to(run)}: foreign" in said.output and len(load(run)) == 15


def test_a_unit_that_was_begun_and_that_nobody_asks_for_is_deleted(small, run, tmp_path):
    """Its level is known from the file that is there; else the run would stay damaged for good."""
    other = sweep(dataclasses.replace(small, levels=(5,)), tmp_path / "other")
    left = copy_unit(other, run, Fit("iht", 5, 0, 20), "curves")
    (problem,) = RunDirectory(run).survey().problems
    assert problem.path == str(left.relative_to(run)) and "left by a sweep that was killed" in problem.what
    sweep(small, run)
    assert not left.exists()
    assert not RunDirectory(run).survey().problems and sorted(load(run).s.unique()) == [3, 7, 15]


def test_names_of_files_that_are_no_text_are_printed_as_such(run):
    for name in (b"\xff.parquet", b"\x1b[2J\n.parquet"):
        open(os.fsencode(run / "trials") + b"/" + name, "wb").close()
    said = CliRunner().invoke(cli, ["verify", str(run)])
    assert said.exit_code == 1 and said.exception.code == 1
    assert sorted(said.stdout.splitlines())[0].startswith(r"trials/\udcff.parquet: foreign")
    assert str(Damage("a\x1b\n", "what")) == r"a\x1b\n: what"
    assert len(said.stdout.splitlines()) == 2


def test_what_is_safe_after_a_failed_overwrite_is_counted_from_the_files(run, monkeypatch):
    """Its units aren't listed any more, and are there."""

    def fail(path, **kwargs):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.unlink", fail)
    said = CliRunner().invoke(cli, ["sweep", str(run), *OPTIONS, "--overwrite"])
    assert isinstance(said.exception, InputError) and "3 of 3 units are safe" in str(said.exception)


# Another run's files.


@pytest.fixture(scope="session")
def other_run(small, tmp_path_factory):
    """The same sweep from another root seed, with certificates."""
    other = sweep(dataclasses.replace(small, seed=1), tmp_path_factory.mktemp("runs") / "other")
    return certify_run(other, trials=2, enumerate_supports=False)


@pytest.mark.parametrize("table", ["trials", "curves", "certificates"])
def test_nothing_is_read_under_another_runs_configuration(run, other_run, table):
    certify_run(run, trials=2, enumerate_supports=False)
    shutil.copy(other_run / "config.json", run)
    with pytest.raises(InputError, match=f"{table}/.*: foreign, of configuration [0-9a-f]+, not config.json's.*verify"):
        load(run, table)


def test_nothing_is_replaced_under_another_runs_configuration(small, run, other_run):
    shutil.copy(other_run / "config.json", run)
    before = contents(run)
    says = "config.json: is of configuration .*, the results are of .*; restore it, use another path, or move"
    other = dataclasses.replace(small, seed=1)
    configs = small, other, dataclasses.replace(other, trials=9)
    calls = [functools.partial(sweep, config, run) for config in configs]
    for call in (*calls, lambda: certify_run(run), lambda: RunDirectory(run).survey()):
        with pytest.raises(InputError, match=says):
            call()
    said = CliRunner().invoke(cli, ["verify", str(run)])
    assert isinstance(said.exception, InputError) and contents(run) == before
    sweep(other, run, overwrite=True)
    pd.testing.assert_frame_equal(load(run), load(other_run))


def test_certificates_of_another_run_are_damaged_and_outlive_the_right_ones(run, other_run):
    certify_run(run, trials=2, enumerate_supports=False)
    right = load(run, "certificates")
    unit = Certify(0, 2)
    shutil.copy(other_run / unit.path("certificates"), run / "certificates")
    entry = RunDirectory(other_run).units()[unit]
    relist(run, lambda entries: entries.append(entry))
    with pytest.raises(InputError, match="certificates/.*: foreign, of configuration"):
        load(run, "certificates")
    (problem,) = RunDirectory(run).survey().problems
    assert problem.path == unit.path("certificates") and problem.what.startswith("foreign, of configuration")
    certify_run(run, trials=2, enumerate_supports=False)
    pd.testing.assert_frame_equal(load(run, "certificates"), right)
    (aside,) = RunDirectory(run).aside()
    assert (run / aside).read_bytes() == (other_run / unit.path("certificates")).read_bytes()


@EITHER
def test_a_listed_unit_of_another_run_gives_way_and_is_kept(small, small_run, run, other_run, convert):
    units = RunDirectory(convert(run)).units()
    theirs = {}
    for table in ("trials", "curves"):
        source = other_run / place(UNIT, table, RunDirectory(other_run).units()[UNIT])
        theirs[place(UNIT, table, units[UNIT])] = source.read_bytes()
        (run / place(UNIT, table, units[UNIT])).write_bytes(source.read_bytes())
    said = CliRunner().invoke(cli, ["sweep", str(run), *OPTIONS])
    assert said.exit_code == 0 and said.stderr.count("set aside under a hidden name") == 2
    pd.testing.assert_frame_equal(load(run), load(small_run))
    kept = {(run / path).read_bytes() for path in RunDirectory(run).aside()}
    said = CliRunner().invoke(cli, ["verify", str(run)])
    if convert is as_it_is:
        assert kept == set(theirs.values()) and said.exit_code == 0
    else:  # the new curves have another name
        assert kept == {theirs[UNIT.path("trials")]} and (run / UNIT.path("curves")).read_bytes() in theirs.values()
        assert said.exit_code == 1 and f"{UNIT.path('curves')}: foreign" in said.stdout
    assert said.stdout.count("set aside and not read") == len(kept)


@EITHER
def test_a_unit_under_another_units_name_is_not_that_unit(run, convert):
    """Also if somebody lists it so."""
    convert(run)
    source = Fit("gd", 15, 0, 20)
    shutil.copy(run / source.path("trials"), run / UNIT.path("trials"))
    of_file = RunDirectory(run).units()[source]["files"]["trials"]

    def apply(entries):
        next(entry for entry in entries if entry["unit"] == UNIT.record)["files"]["trials"] = of_file

    relist(run, apply)
    with pytest.raises(InputError, match="not this unit's, by the record in it"):
        load(run)


# What a manifest says is shown and relied on.


@EITHER
@pytest.mark.parametrize("where", ["its value", "its name"])
def test_an_environment_cannot_write_what_a_terminal_obeys_or_forge_a_line(run, where, convert):
    units = RunDirectory(convert(run)).units()
    harmful = "\x1b[2J\nihtjax: error: all lost"
    change = {"jaxlib": harmful} if where == "its value" else {harmful: "1"}
    for key in places(UNIT, units[UNIT]):
        (run / key).unlink()  # so that there is something to compute, and to note
    relist(run, lambda entries: [entry["environment"].update(change) for entry in entries])
    said = CliRunner().invoke(cli, ["sweep", str(run), *OPTIONS])
    assert said.exit_code == 0 and "\x1b" not in said.output and "\nihtjax: error" not in said.output
    assert (r"note: jaxlib was \x1b[2J\nihtjax: error: all lost" in said.stderr) == (where == "its value")
    assert not any("\n" in text for entry in RunDirectory(run).units().values() for text in entry["environment"])


@EITHER
def test_an_environment_of_several_lines_is_no_damage(small, run, convert):
    """Scripts write XLA_FLAGS so."""
    from ihtjax.sweeps.engine import differences

    flags = "--xla_a=1\n--xla_b=2"
    relist(convert(run), lambda entries: [e["environment"].update(xla_flags=flags) for e in entries])
    found = RunDirectory(run).survey()
    assert not found.problems and not differences({"xla_flags": flags}, found.whole.values())
    assert len(differences({"xla_flags": ""}, found.whole.values())) == 1


@pytest.mark.parametrize("value", ["x", None, [1], 0, True, 1.5], ids=str)
@EITHER
def test_a_strange_format_of_certificates_is_damage_where_it_is_listed(run, value, convert):
    certify_run(run, trials=2, enumerate_supports=False)
    whole = gaps(convert(run))

    def apply(entries):
        (entry,) = [entry for entry in entries if entry["unit"][0] == "all"]
        entry["environment"].update(format=value)

    relist(run, apply)
    (problem,) = RunDirectory(run).survey().problems
    assert is_of_index(problem)
    pd.testing.assert_frame_equal(gaps(run), whole)  # from the files' own records


def test_what_oracle_says_is_safe_is_counted_from_the_files(run, monkeypatch):
    certify_run(run, trials=2, enumerate_supports=False)
    path = run / Certify(0, 2).path("certificates")
    path.write_bytes(path.read_bytes()[:-1])

    def fail(*args):
        raise OSError(28, "No space left on device", "there")

    monkeypatch.setattr("ihtjax.sweeps.store.files.write_atomically", fail)
    monkeypatch.setattr("ihtjax.sweeps.store.files.create_atomically", fail)
    said = CliRunner().invoke(cli, ["oracle", str(run), "--trials", "2", "--no-enumerate"])
    assert "there: No space left on device; certificates of 0 trials are safe" in str(said.exception)
