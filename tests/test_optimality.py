import dataclasses
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import reference

from ihtjax import InputError, SweepConfig, best_subset, certify_run, existence, gaps, load, sweep, trial_inputs
from ihtjax.cli.commands import main
from ihtjax.exact.softmax import SoftmaxRows
from ihtjax.problems.table import load_table
from ihtjax.study.optimality import Block, estimated_seconds, training_rows
from ihtjax.study.summaries import render_gaps
from ihtjax.sweeps.store.records import Certify
from ihtjax.sweeps.store.run import RunDirectory
from tests.conftest import Notes

KEY = ["method", "s", "trial"]


@pytest.fixture(scope="module")
def run(small_run, tmp_path_factory):
    """The small run with certificates for all its trials."""
    return certify_run(shutil.copytree(small_run, tmp_path_factory.mktemp("certified") / "run"))


@pytest.fixture(scope="module")
def joined(run):
    frame = load(run).merge(load(run, "certificates"), on=[*KEY, "data_seed"], validate="one_to_one")
    assert len(frame) == len(load(run))
    return frame


def call(capsys, *argv):
    with pytest.raises(SystemExit) as exit:
        main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return exit.value.code, out, err


def test_loss_splits_into_wrong_support_and_unfinished_optimisation(joined):
    assert np.abs(joined.loss - joined.train_loss).max() < 1e-5
    np.testing.assert_allclose(joined.gap, joined.support_gap + joined.optimization_gap, atol=1e-15)
    np.testing.assert_allclose(joined.loss, joined.infimum + joined.gap, atol=1e-15)


def test_restricted_infima_lie_between_the_oracles_and_the_trials_loss(joined):
    assert (joined.restricted_infimum >= joined.infimum).all()
    assert (joined.restricted_infimum <= joined.loss + 1e-9).all()
    assert joined.best_support.equals(joined.support_gap <= 1e-9)


def test_it_is_the_oracle_of_the_trials_own_split(small, joined):
    for row in joined.sample(6, random_state=0).itertuples():
        config = dataclasses.replace(small, precision="float64")
        inputs = trial_inputs(config, row.s, row.data_seed, row.init_seed, row.support_seed)
        X, y = inputs["X_train"], inputs["y_train"]
        assert row.loss == pytest.approx(reference.loss(row.theta[None].astype(float), X[None], y[None])[0], abs=1e-12)
        best = best_subset(X, y, row.s)
        assert row.infimum == pytest.approx(best.loss, abs=1e-9) and (
            row.n_best_supports,
            row.n_best_supports_at_most,
        ) == (best.n_best, best.n_best_at_most)
        assert row.best_existence == best.existence and np.count_nonzero(row.best_theta) <= row.s
        assert row.existence == existence(X, y, row.theta != 0)


def test_a_step_status_follows_from_the_bounds(joined):
    gamma = joined.step_size.astype(float)
    certain = [gamma <= 1 / joined.rss_upper, gamma > 1 / joined.rss_lower]
    expected = np.select(certain, ["certified", "refuted"], "open")
    assert joined.step_status.tolist() == expected.tolist() and joined.bounds_exact.all()
    # The Monte Carlo samples (6)'s ratios: it can't exceed that constant's upper end.
    assert (joined.lipschitz_estimate <= joined.lipschitz_upper).all()


def test_the_table_by_level(run, joined):
    table = gaps(run).set_index(["method", "s"])
    level = joined[(joined.method == "iht") & (joined.s == 7)]
    row = table.loc[("iht", 7)]
    assert row.trials == 20 and row.best_support == pytest.approx((level.support_gap <= 1e-9).mean())
    for epsilon in (0.001, 0.01, 0.1):
        assert row[f"within_{epsilon:g}"] == pytest.approx((level.gap <= epsilon).mean())
    assert row.gap == level.gap.median() and row.refuted == (level.step_status == "refuted").mean()


def heads_for(row, config):
    """What a trial heads for, by Newton's method over its support alone, in parameters of the tests' own."""
    inputs = trial_inputs(
        dataclasses.replace(config, precision="float64"), row.s, row.data_seed, row.init_seed, row.support_seed
    )
    X, y = inputs["X_train"], inputs["y_train"]
    if existence(X, y, row.theta != 0) != "attained":
        return "none"
    on = row.theta != 0
    theta = row.theta.astype(np.float64)
    step = 1e-5 * np.eye(15)[on]
    for _ in range(40):
        each = np.broadcast_to(X, (2 * on.sum(), *X.shape)), np.broadcast_to(y, (2 * on.sum(), len(y)))
        slopes = reference.gradient(np.concatenate([theta + step, theta - step]), *each)[:, on]
        H = (slopes[: on.sum()] - slopes[on.sum() :]) / 2e-5
        g = reference.gradient(theta[None], X[None], y[None])[0]
        # Nothing along the constants on a full block, along which the loss is flat.
        move = np.zeros(15)
        move[on] = -np.linalg.pinv((H + H.T) / 2, rcond=1e-7, hermitian=True) @ g[on]
        length = 1.0
        while f(theta + length * move, X, y) > f(theta, X, y) and length > 1e-6:
            length /= 2
        theta = theta + length * move
    g = reference.gradient(theta[None], X[None], y[None])[0]
    if np.abs(g[on]).max() > 1e-9:
        return None
    stable = np.abs(theta[on]).min() >= float(row.step_size) * np.where(on, 0, np.abs(g)).max()
    return "ht-stable" if stable else "not ht-stable"


def f(theta, X, y):
    return reference.loss(theta[None], X[None], y[None])[0]


def test_what_a_trial_heads_for_is_found_by_newton_from_its_end(small, joined):
    verdicts = [(row.minimizer_on_support, heads_for(row, small)) for row in joined.itertuples()]
    told = [(ours, theirs) for ours, theirs in verdicts if theirs is not None]
    assert all(ours == theirs for ours, theirs in told)
    assert len(told) > 50 and {"ht-stable", "none"} <= {ours for ours, _ in told}


def test_a_trial_far_from_where_it_heads_is_not_called_stable_at_a_step_that_is_too_long(small, tmp_path):
    """With long steps some minimisers violate (8): another entry would replace the smallest."""
    config = dataclasses.replace(small, levels=(2, 3), trials=40, steps=40, step_size=5.0, dense=False)
    run = certify_run(sweep(config, tmp_path / "run"), enumerate_supports=False)
    frame = load(run).merge(load(run, "certificates"), on=[*KEY, "data_seed"])
    counts = frame.minimizer_on_support.value_counts()
    assert set(counts.index) == {"ht-stable", "not ht-stable", "none"}
    told = [(row.minimizer_on_support, heads_for(row, config)) for row in frame.itertuples()]
    told = [(ours, theirs) for ours, theirs in told if theirs is not None]
    assert all(ours == theirs for ours, theirs in told)
    assert len(told) > 60 and {ours for ours, _ in told} == {"ht-stable", "not ht-stable", "none"}
    row = gaps(run).set_index("s").loc[3]
    level = frame[frame.s == 3]
    assert row.heads_for_stable == pytest.approx((level.minimizer_on_support == "ht-stable").mean())
    assert row.ht_stable == pytest.approx(level.ht_stable.mean())


def as_an_older_version_left_it(run, copy):
    """The same certificates without what came later."""
    shutil.copytree(run, copy)
    directory = RunDirectory(copy)
    later = ["minimizer_on_support", "infima_within", "n_best_supports_at_most"]
    for unit, entry in directory.units().items():
        if isinstance(unit, Certify):
            table = pq.read_table(copy / unit.path("certificates")).drop_columns(later)
            environment = {k: v for k, v in entry["environment"].items() if k != "format"}
            directory.write_unit(unit, {"certificates": table}, environment)
    return copy


def test_certificates_of_an_older_version_are_read_and_done_again(run, small_run, monkeypatch, tmp_path):
    from ihtjax.study import optimality

    monkeypatch.setattr(optimality, "UNIT_TRIALS", 3)
    whole = certify_run(shutil.copytree(small_run, tmp_path / "new"), trials=7)
    old = as_an_older_version_left_it(whole, tmp_path / "old")
    assert "minimizer_on_support" not in load(old, "certificates").columns
    assert gaps(old).heads_for_stable.isna().all() and "HT-stable" in render_gaps(gaps(old))
    certify_run(old, trials=2)  # the first unit alone
    mixed = load(old, "certificates")
    assert len(mixed) == 7 * 3 and mixed.minimizer_on_support.notna().sum() == 3 * 3
    assert gaps(old).trials.tolist() == [7, 7, 7] and gaps(old).heads_for_stable.notna().all()
    certify_run(old, trials=7)
    pd.testing.assert_frame_equal(load(old, "certificates"), load(whole, "certificates"))
    assert not RunDirectory(old).survey().problems


def test_infima_are_within_what_the_table_says(run):
    assert load(run, "certificates").infima_within.between(0, 1e-9).all()


def test_a_run_on_data_with_a_sentinel_warns_once(tmp_path):
    """Petal lengths with a row of 1e15, whose class has the longest: infima hang on digits that logits haven't."""
    table = load_table("iris")
    x = table.X[:, 2].copy()
    x[149] = 1e15
    pd.DataFrame({"length": x, "kind": np.array(table.class_names)[table.y]}).to_csv(tmp_path / "iris.csv", index=False)
    config = SweepConfig(
        data=str(tmp_path / "iris.csv"), target="kind", levels=(4,), trials=4, steps=20, n_monte=2, step_size=0.1
    )
    run = sweep(config, tmp_path / "run")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        certify_run(run)
    assert sum("some infima are only known within" in str(w.message) for w in warned) == 1
    assert (load(run, "certificates").infima_within > 1e-9).any()


def test_it_says_first_what_is_there_and_how_long_the_rest_takes(small_run, tmp_path):
    run, notes = shutil.copytree(small_run, tmp_path / "run"), Notes()
    certify_run(run, trials=4, show=notes)
    assert notes.lines[0].startswith("certifying 4 splits, at 3 levels each: roughly ")
    notes = Notes()
    certify_run(run, levels=(3,), enumerate_supports=False, show=notes)
    assert notes.lines[0] == "certificates of 4 of 20 splits are there already"
    assert notes.lines[1].startswith("certifying 16 splits, at 1 level each: roughly ")


@pytest.mark.parametrize(
    ("data", "levels", "enumerated", "measured"),
    [
        ("iris", range(1, 16), range(1, 16), 0.22),
        ("iris", range(1, 16), (), 0.05),
        ("sklearn:wine", (2, 3, 42), (2, 3), 8.3),
        ("sklearn:wine", (2, 3, 42), (), 0.16),
        ("sklearn:breast_cancer", (1, 2, 62), (1, 2), 0.65),
    ],
)
def test_a_forecast_is_within_a_factor_of_two_of_what_was_measured(data, levels, enumerated, measured):
    """Processor seconds of one split."""
    (split,) = training_rows(SweepConfig(data=data), [5])
    forecast = estimated_seconds(SoftmaxRows(*split), [Block(0, 1, list(levels), list(enumerated))])
    assert measured / 2 < forecast < 2 * measured


def test_summary_shows_the_gaps_once_they_are_known(run, small_run, capsys):
    assert "best support" not in call(capsys, "summary", small_run)[1]
    _, out, _ = call(capsys, "summary", run)
    assert "best support" in out and "refuted" in out and "unfinished" in out
    assert max(map(len, out.splitlines())) <= 90


def test_a_second_call_computes_nothing_and_more_trials_only_the_new_ones(small, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    before = {p: p.read_bytes() for p in (copy / "certificates").iterdir()}
    certify_run(copy)
    assert {p: p.read_bytes() for p in (copy / "certificates").iterdir()} == before
    certify_run(sweep(dataclasses.replace(small, trials=23), copy))
    after = {p: p.read_bytes() for p in (copy / "certificates").iterdir()}
    assert before.items() < after.items() and len(load(copy, "certificates")) == 23 * 3


def test_what_is_torn_is_named_and_computed_again(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (file,) = (copy / "certificates").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:500])
    code, out, _ = call(capsys, "verify", copy)
    assert code == 1 and f"certificates/{file.name}: torn" in out
    certify_run(copy)
    assert call(capsys, "verify", copy)[0] == 0
    pd.testing.assert_frame_equal(load(copy, "certificates"), load(run, "certificates"))


def test_what_is_torn_is_computed_again_at_all_its_levels(small_run, tmp_path):
    copy = shutil.copytree(small_run, tmp_path / "run")
    certify_run(copy, levels=(3, 7), trials=4, enumerate_supports=False)
    certify_run(copy, levels=(3,), trials=4)
    before = load(copy, "certificates")
    (file,) = (copy / "certificates").iterdir()
    file.write_bytes(file.read_bytes()[:500])
    certify_run(copy, levels=(15,), trials=4, enumerate_supports=False)
    after = load(copy, "certificates")
    pd.testing.assert_frame_equal(after[after.s < 15].reset_index(drop=True), before)
    assert len(after) == 4 * 3 and before.infimum.notna().sum() == 4


def test_a_stopped_command_goes_on_where_it_was(small_run, tmp_path, monkeypatch):
    from ihtjax.study import optimality

    monkeypatch.setattr(optimality, "UNIT_TRIALS", 3)
    copy = shutil.copytree(small_run, tmp_path / "run")
    done = []
    whole = optimality.certify_trials

    def stops(*args):
        done.append(1)
        if len(done) == 5:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(optimality, "certify_trials", stops)
    with pytest.raises(KeyboardInterrupt):
        certify_run(copy, trials=7)
    assert len(load(copy, "certificates")) == 3 * 3
    certify_run(copy, trials=7)
    assert len(done) == 5 + 4 and len(load(copy, "certificates")) == 7 * 3
    assert not RunDirectory(copy).survey().problems


def test_levels_and_trials_can_be_chosen_and_added(small_run, tmp_path):
    copy = shutil.copytree(small_run, tmp_path / "run")
    certify_run(copy, levels=(3,), trials=4, enumerate_supports=False)
    frame = load(copy, "certificates")
    assert len(frame) == 4 and frame.infimum.isna().all() and frame.restricted_infimum.notna().all()
    certify_run(copy, levels=(7,), trials=4)
    frame = load(copy, "certificates")
    assert sorted(set(frame.s)) == [3, 7]
    assert frame[frame.s == 7].infimum.notna().all() and frame[frame.s == 3].infimum.isna().all()
    certify_run(copy, trials=4)
    frame = load(copy, "certificates")
    assert len(frame) == 4 * 3 and frame.infimum.notna().all()


def test_another_run_overwrites_certificates_too(small, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    sweep(dataclasses.replace(small, seed=4), copy, overwrite=True)
    assert not list((copy / "certificates").glob("*"))


def test_a_trial_that_diverged_has_no_gap(small, tmp_path):
    config = dataclasses.replace(small, levels=(2, 3), steps=2, step_size=3e38, dense=False)
    run = certify_run(sweep(config, tmp_path / "run"))
    frame = load(run).merge(load(run, "certificates"), on=KEY)
    bad = frame.status == "diverged"
    assert bad.groupby(frame.trial).nunique().max() == 2  # some triple diverged at one level and not at the other
    assert 0 < bad.sum() and frame[bad].gap.isna().all() and frame.infimum.notna().all()
    assert frame[bad].minimizer_on_support.isna().all() and frame[~bad].minimizer_on_support.notna().all()
    assert (frame.step_status == "refuted").all()


@pytest.mark.parametrize(
    "options, says",
    [
        ("--levels 5", "levels: got 5, expected levels of this run, 3, 7, 15 (dense)"),
        ("--levels 99", "levels: got 99"),
        ("--trials 21", "trials: got 21, expected a whole number from 1 to 20"),
        ("--trials 0", "trials: got 0"),
    ],
)
def test_wrong_calls_get_one_line(run, capsys, options, says):
    code, _, err = call(capsys, "oracle", run, *options.split())
    assert code == 2 and err.count("\n") == 1 and says in err


def test_what_verify_says_of_a_damaged_certificate_mends_it(run, tmp_path, capsys):
    """The sweep that it named before left the certificate as it was."""
    mine = shutil.copytree(run, tmp_path / "run")
    assert call(capsys, "oracle", mine, "--trials", 2)[0] == 0
    (path,) = (mine / "certificates").iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    code, _, err = call(capsys, "verify", mine)
    assert code == 1 and err == (
        "ihtjax oracle, with the options that made them, computes damaged certificates again\n"
    )
    code, out, _ = call(capsys, "oracle", mine, "--trials", 2)
    assert code == 0 and out.startswith(f"{mine}: 20 trials a level\n")
    assert call(capsys, "verify", mine)[0] == 0


def test_a_warning_is_a_line(capsys, monkeypatch):
    """Before, it named a line of the package's code."""

    def warns(*args, **kwargs):
        warnings.warn("some infima\nare doubtful", RuntimeWarning, stacklevel=2)  # of the package's command
        warnings.warn("not ours", RuntimeWarning, stacklevel=1)
        raise InputError("that was all")

    monkeypatch.setattr("ihtjax.study.optimality.certify_run", warns)
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        _, _, err = call(capsys, "oracle", "nowhere")
    assert err == "ihtjax: warning: some infima are doubtful\nihtjax: error: that was all\n"
    assert [str(other.message) for other in others] == ["not ours"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_warning_that_cannot_be_printed_ends_nothing():
    code = "import warnings, sys; from ihtjax.cli import commands; from ihtjax.study import optimality, summaries\n"
    code += "optimality.certify_run = lambda *a, **k: warnings.warn('doubtful', RuntimeWarning, stacklevel=2)\n"
    code += "summaries.header = summaries.gaps_in_words = lambda run: 'done'\n"
    code += "commands.main(['oracle', 'nowhere'])"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True)
    assert done.returncode == 0 and done.stdout == "done\n\ndone\n"


def test_too_many_supports_are_refused_with_their_cost(tables, tmp_path, capsys):
    config = SweepConfig(
        data=str(tables["breast_cancer"]), target="kind", levels=(1, 12), trials=2, steps=5, step_size=0.1
    )
    run = sweep(config, tmp_path / "run")
    code, _, err = call(capsys, "oracle", run)
    assert code == 2 and err.count("\n") == 1
    assert "level 12 of 62 parameters" in err and "days a split" in err and "--no-enumerate" in err
    assert call(capsys, "oracle", run, "--no-enumerate")[0] == 0
    assert call(capsys, "oracle", run, "--levels", 1)[0] == 0
    frame = load(run, "certificates")
    assert frame[frame.s == 1].infimum.notna().all() and not frame[frame.s == 12].bounds_exact.any()


def test_another_problem_is_refused(tmp_path, capsys):
    config = SweepConfig(
        data="sklearn:diabetes", loss="huber", levels=(2,), trials=2, steps=5, step_size=0.1, curve_points=0
    )
    code, _, err = call(capsys, "oracle", sweep(config, tmp_path / "run"))
    assert code == 2 and err == (
        "ihtjax: error: huber: no oracle for this problem, expected a linear model under cross_entropy, logistic or "
        "squared\n"
    )


# Certified steps and the audit.


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    config = SweepConfig(levels=(1, 3, 5), trials=10, steps=300, step_size="certified", audit=True, curve_points=301)
    return sweep(config, tmp_path_factory.mktemp("certified") / "steps")


def test_certified_steps_are_certified(certified):
    certificates = load(certify_run(certified, enumerate_supports=False), "certificates")
    assert (certificates.step_status == "certified").all()
    frame = load(certified).merge(certificates, on=KEY)
    assert frame.lipschitz_estimate.isna().all()
    np.testing.assert_allclose(frame.step_size, 1 / frame.rss_upper, rtol=1e-5)


def test_under_a_certified_step_the_loss_never_rises(certified):
    frame = load(certified)
    assert (frame.n_rises == 0).all() and (frame.largest_step_rise < 2e-6).all()


def test_the_audit_sees_every_step(certified):
    frame = load(certified)
    # The loss of a step and that of a curve point come from two compiled loops, which may round the last bit apart.
    np.testing.assert_allclose(frame.largest_step_rise, frame.max_loss_increase, atol=5e-7)
    np.testing.assert_array_equal(frame.fixed_support_steps, 300 - frame.last_support_change)
    config = SweepConfig(levels=(5,), trials=10, steps=60, step_size=50.0, audit=True, curve_points=301, dense=False)
    rough = load(sweep(config, certified.parent / "rough"))
    rises = load(certified.parent / "rough", "curves").groupby("trial").train_loss.apply(lambda f: np.diff(f))
    np.testing.assert_allclose(rough.largest_step_rise, [max(rise.max(), 0) for rise in rises], rtol=5e-7)
    assert (rough.largest_step_rise > 0.01).any() and rough.n_rises.tolist() == [(rise > 1e-4).sum() for rise in rises]


def test_without_an_audit_there_are_no_such_columns(small_run):
    assert not {"largest_step_rise", "n_rises", "fixed_support_steps"} & set(load(small_run).columns)


def test_a_certified_run_is_another_configuration(certified):
    with pytest.raises(InputError, match="step_size is 'certified' there, nothing was asked for"):
        sweep(SweepConfig(levels=(1, 3, 5), trials=10, steps=300, audit=True, curve_points=301), certified)
    with pytest.raises(InputError, match="step_size: got 'fast', expected a positive number .*, or 'certified'"):
        SweepConfig(step_size="fast")


def test_a_run_from_before_there_was_an_audit_goes_on(small, small_run, tmp_path):
    import json

    copy = shutil.copytree(small_run, tmp_path / "run")
    stored = json.loads((copy / "config.json").read_text())
    del stored["config"]["audit"]
    (copy / "config.json").write_text(json.dumps(stored))
    assert len(load(sweep(dataclasses.replace(small, trials=21), copy))) == 63
