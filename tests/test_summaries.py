import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from test_cli import call

from ihtjax import SweepConfig, sweep
from ihtjax.study.summaries import render, summary
from ihtjax.sweeps.single import describe, run_trial
from ihtjax.sweeps.words import conditions
from ihtjax.text import printable


@pytest.fixture(scope="module")
def rough(tmp_path_factory):
    """A run whose losses rise, with a stopping loss that some trials reach."""
    config = SweepConfig(
        levels=(2, 9), trials=30, steps=200, step_size=6.0, stop_loss=0.2, curve_points=16, dense=False
    )
    return sweep(config, tmp_path_factory.mktemp("rough") / "run")


def test_losses_that_rose_and_steps_to_the_stopping_loss_agree_with_pandas(rough):
    table = summary(rough).set_index("s")
    points = pd.read_parquet(rough / "curves").sort_values(["s", "trial", "step"])
    trials = pd.read_parquet(rough / "trials")
    for s in (2, 9):
        losses = points[points.s == s].pivot(index="trial", columns="step", values="train_loss").to_numpy(float)
        assert table.loss_rose[s] == (np.diff(losses).max(axis=1) > 1e-5).sum()
        steps = trials.steps_to_stop_loss[trials.s == s].to_numpy(float, na_value=np.nan)
        assert table.reached_stop_loss[s] == np.mean(~np.isnan(steps)) and table.stop_loss[s] == 0.2
        if not np.isnan(steps).all():
            expected = np.nanpercentile(steps, [25, 50, 75])
            assert table.loc[
                s, ["steps_to_stop_loss_q1", "steps_to_stop_loss_median", "steps_to_stop_loss_q3"]
            ].tolist() == (pytest.approx(list(expected)))
    assert 0 < table.loss_rose.sum() and 0 < table.reached_stop_loss[9] < 1


def test_without_curves_nothing_is_said_of_rises(small, tmp_path):
    run = sweep(
        dataclasses.replace(small, levels=(3,), trials=4, step_size=0.5, curve_points=0, dense=False), tmp_path / "run"
    )
    table = summary(run)
    assert table.loss_rose.isna().all() and re.search(r"^ ?3 +- +\d", render(table, run), re.M)


def test_the_header_says_which_run_it_is(rough, capsys, monkeypatch):
    monkeypatch.chdir(rough.parent)
    code, out, _ = call(capsys, "summary", "run/../run")
    assert code == 0 and out.splitlines()[:3] == [
        "run/../run: 30 trials a level",
        "iris, 200 steps, seed 0, init normal",
        "step size 6, given, stopping loss 0.2 nats",
    ]
    assert "reached 0.2" in out and max(map(len, out.splitlines())) <= 80


def test_the_conditions_of_other_tables_say_what_differs():
    config = SweepConfig(data="a\x1b[31m.csv", target="kind", standardize="all", precision="float64", n_monte=7, seed=3)
    assert conditions(config) == (
        "a\\x1b[31m.csv, 10,000 steps, seed 3, init normal, standardised by all, float64\n"
        "step size 1 / L-hat_2s from 7 draws"
    )
    assert conditions(SweepConfig(step_size="certified")).endswith("step size certified, at most 1 / L_2s")
    assert printable("größe\n\u202e漢") == "größe\\n\\u202e漢"


def test_atlas_and_restarts_say_what_they_were_computed_from(capsys):
    options = "--data-seed 5 --starts 8 --steps 20 --step-size 0.5 --seed 3".split()
    for command, begins in (
        (("atlas", "--s", 2), "s = 2, data seed 5, 8 starts\n"),
        (("restarts", "--levels", 2), "data seed 5, 8 starts a level, within 0.01 nats of the best loss\n"),
    ):
        code, out, _ = call(capsys, *command, *options)
        assert code == 0 and out.startswith(begins + "iris, 20 steps, seed 3, init normal\nstep size 0.5, given\n\n")


def test_no_table_has_a_negative_zero(small_run, small):
    table = summary(small_run)
    for column in ("epsilon_q1", "train_loss_q1", "step_size_q1"):
        table[column] = -0.0
    text = render(table, small_run)
    assert "[0.000, " in text and not re.search(r"-0\.?0*(e[+-]00)?[,\]\s]", text)
    ran = run_trial(small, 3, 1, 2, 3)
    zero = np.full(15, -0.0, np.float32)
    text = describe(ran._replace(result=ran.result._replace(gradient=zero, theta=zero)), small)
    assert "0.000e+00" in text and "-0.000e+00" not in text


def test_small_numbers_keep_two_digits_and_stand_below_the_others(small_run):
    table = summary(small_run)
    table["train_loss_q1"] = table["train_loss_median"] = table["train_loss_q3"] = [0.0614, 3.21e-5, 0.0]
    table["test_loss_median"] = [1234.5, 0.00456, 0.25]
    text = render(table, small_run)
    (rows,) = [part.splitlines() for part in text.split("\n\n") if "training loss" in part and "step size" in part]
    cells = [re.search(r"\] +(\S+) \[ *(\S+), *(\S+)\] +(\S+) \[", row).groups() for row in rows[1:]]
    assert cells == [
        ("0.061", "0.061", "0.061", "1.2e3"),
        ("3.2e-5", "3.2e-5", "3.2e-5", "0.0046"),
        ("0.000", "0.000", "0.000", "0.250"),
    ]
    assert len({row.index(",") for row in rows[1:]}) == len(set(map(len, rows))) == 1 and len(rows[0]) <= 80
