"""Many parameters: counts of them in 32 bits, and runs whose files have 16."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_hostile import forge

from ihtjax import SweepConfig, certify_run, load, sweep
from ihtjax.sweeps.store.records import Fit, unit_of
from ihtjax.sweeps.store.run import RunDirectory


def narrow(table):
    """A table with its counts of parameters as earlier versions wrote them."""
    schema = table.schema
    for name in {"s", "n_nonzero"} & set(schema.names):
        schema = schema.set(schema.get_field_index(name), pa.field(name, pa.int16()))
    return table.cast(schema)


@pytest.fixture
def earlier(run):
    """The run, with certificates, as it was written when a level was an int16."""
    certify_run(run, levels=(3,), trials=2)
    for unit, entry in RunDirectory(run).units().items():
        for table in sorted(entry["files"]):
            forge(run, unit, table, narrow)
    return run


def test_a_run_with_narrow_counts_loads_verifies_and_keeps_its_files(small, run, earlier):
    assert not RunDirectory(earlier).survey().problems
    before = {path: path.read_bytes() for path in earlier.rglob("*.parquet")}
    for table in ("trials", "curves", "certificates"):
        assert load(earlier, table, s=[3]).s.dtype == np.int32
    sweep(dataclasses.replace(small, levels=(3, 5, 7), trials=25), earlier)
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_of_narrow_and_wide_counts_has_one_type(small, small_run, earlier):
    whole = load(small_run)
    sweep(dataclasses.replace(small, trials=25), earlier)
    certify_run(earlier, levels=(3,), trials=4)
    for table, names in (("trials", ("s", "n_nonzero")), ("curves", ("s", "n_nonzero")), ("certificates", ("s",))):
        mixed = load(earlier, table)
        assert all(mixed[name].dtype == np.int32 for name in names)
    kept = load(earlier, trial=range(20))
    pd.testing.assert_frame_equal(kept, whole)
    plain = pd.read_parquet(earlier / "trials")
    assert len(plain) == 75 and set(plain.s) == {3, 7, 15}


def test_levels_beyond_five_digits_have_files_and_their_order(wide, tmp_path):
    config = SweepConfig(
        problem=wide, levels=(7, 99_999, 100_000), trials=2, steps=2, step_size=0.5, curve_points=0, dense=False
    )
    run = sweep(config, tmp_path / "run", batch=2)
    names = {path.name for path in (run / "trials").iterdir()}
    assert names == {f"iht-s{s}-000000000-000000001.parquet" for s in ("00007", "99999", "100000")}
    frame = load(run, columns=["s", "trial", "n_nonzero"])
    assert frame.s.tolist() == frame.n_nonzero.tolist() == [7, 7, 99_999, 99_999, 100_000, 100_000]
    assert not RunDirectory(run).survey().problems


@pytest.mark.parametrize("s", [99_999, 100_000, 2**31 - 1])
def test_every_level_has_one_file_name(s):
    unit = Fit("iht", s, 0, 20)
    assert unit_of(unit.file_name) == unit
    assert unit_of(f"iht-s0{s}-000000000-000000019.parquet") is None
