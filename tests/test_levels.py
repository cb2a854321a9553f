"""Sparsity levels as counts, ranges and shares of n, and which ones a sweep takes by itself."""

import json

import pandas as pd
import pytest

from ihtjax import InputError, SweepConfig, certify_run, load, sweep
from ihtjax.sweeps.levels import count_levels, written
from tests.conftest import Notes

SMALL = {"trials": 5, "steps": 10, "step_size": 0.5, "curve_points": 0}


@pytest.mark.parametrize(
    "text, levels",
    [
        ("5", (5,)),
        ("1-3", (1, 2, 3)),
        ("3,5,7", (3, 5, 7)),
        ("1-2, 9", (1, 2, 9)),
        ("10-600:200", (10, 210, 410)),
        ("10-30:10", (10, 20, 30)),
        ("7,1-3,2-9:3", (1, 2, 3, 5, 7, 8)),
    ],
)
def test_counts_and_ranges_are_levels_at_once(text, levels):
    assert SweepConfig(levels=text).levels == levels
    assert SweepConfig(levels=text) == SweepConfig(levels=levels)


@pytest.mark.parametrize(
    "text, n, levels",
    [
        ("5%,10%", 650, (33, 65)),  # 32.5 and 65
        ("10%,5%", 650, (33, 65)),
        ("1%", 15, (1,)),  # 0.15
        ("10%,50%", 15, (2, 8)),  # 1.5 and 7.5
        ("0.1%", 200_000, (200,)),
        ("20 %, 3, 100%", 15, (3, 15)),  # 20 % are the same 3
        ("33.4%, 9-12:3", 15, (5, 9, 12)),  # 5.01
    ],
)
def test_shares_are_rounded_to_counts_once_n_is_known(text, n, levels):
    assert SweepConfig(levels=text).with_levels(n).levels == levels


def test_levels_above_n_are_refused_whoever_they_stand_beside():
    with pytest.raises(InputError, match="^levels: got 16, expected at most 15"):
        SweepConfig(levels="5%,16").with_levels(15)


def test_a_small_network_has_every_level_by_default_and_a_large_one_some():
    assert SweepConfig().with_levels(15).levels == tuple(range(1, 15))
    assert SweepConfig().with_levels(50).levels == tuple(range(1, 50))
    assert SweepConfig().with_levels(1).levels == (1,)
    for n in (51, 650, 200_000, 2**31 - 1):
        levels = SweepConfig().with_levels(n).levels
        assert 10 <= len(levels) <= 20 and (levels[0], levels[-1]) == (1, n - 1)
        ratios = [b / a for a, b in zip(levels, levels[1:]) if a > 20]
        assert max(ratios) < 1.1 * min(ratios)
    assert len(SweepConfig().with_levels(650).levels) == 16


@pytest.mark.parametrize(
    "levels, text",
    [
        (range(1, 15), "1-14"),
        ((3, 5, 7), "3,5,7"),
        ((1, 10, 60, 110, 160, 161), "1,10-160:50,161"),
        ((5,), "5"),
        ((1, 2, 3, 4, 9), "1-4,9"),
    ],
)
def test_levels_are_written_as_they_are_read(levels, text):
    assert written(levels) == text
    assert count_levels(text, 1000) == tuple(levels)


def test_many_levels_without_a_pattern_are_written_in_a_line():
    squares = [k * k for k in range(1, 300)]
    assert written(squares).startswith("1,4,9,") and written(squares).endswith(",..,89401")
    assert len(written(squares)) < 100


def test_a_run_of_shares_holds_counts_and_the_same_shares_go_on(tmp_path):
    config = SweepConfig(levels="20%,50%", **SMALL)
    run = sweep(config, tmp_path / "run", show=(first := Notes()))
    assert json.loads((run / "config.json").read_text())["config"]["levels"] == [3, 8]
    assert any("at 2 sparsity levels (3,8)" in line for line in first.lines)
    before = load(run)
    for again in (config, SweepConfig(levels=(3, 8), **SMALL)):
        sweep(again, run, show=(notes := Notes()))
        assert notes.lines[-1] == "nothing to compute: all that was asked for is there"
    pd.testing.assert_frame_equal(load(run), before)
    certify_run(run, levels="20%", trials=1, enumerate_supports=False)
    assert load(run, "certificates").s.tolist() == [3]


def test_the_levels_of_a_large_network_are_said_before_anything_is_compiled(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("ihtjax.sweeps.runner.fitting_engines", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(SweepConfig(data="sklearn:digits"), tmp_path / "run", show=(notes := Notes()))
    _, _, work = notes.lines[:3]  # after what the data is, and which columns are constant
    assert "at 16 sparsity levels (1-4,6,9,13,21,32,49,75,115,178,274,421,649): roughly" in work
