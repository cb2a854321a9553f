"""Certificates, atlas and restarts of runs with squared error and logistic loss."""

import dataclasses
import itertools
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from sklearn import datasets
from test_cli import call

from ihtjax import SweepConfig, best_subset, build_atlas, certify_run, gaps, load, restart_budget, sweep, trial_inputs
from ihtjax.paper.drawings import Drawn, drawn
from ihtjax.paper.judgement import claims
from ihtjax.study.plots import draw_atlas

KEY = ["method", "s", "trial"]
SHORT = {"trials": 8, "steps": 400, "curve_points": 0}
# Steps that are valid at the lower level alone, at all, and at none.
CONFIGS = {
    "diabetes": SweepConfig(data="sklearn:diabetes", levels=(2, 5), step_size=0.3, **SHORT),
    "linnerud": SweepConfig(data="sklearn:linnerud", levels=(4, 5), step_size="certified", **SHORT),
    "logistic": SweepConfig(data="tumours.csv", target="kind", loss="logistic", levels=(2, 5), step_size=2.0, **SHORT),
}
every = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Certified runs, from the folder with their data."""
    folder = tmp_path_factory.mktemp("oracles")
    frame = datasets.load_breast_cancer(as_frame=True)
    table = frame.data.iloc[::4, [0, 1, 4, 8, 9]].assign(kind=frame.target_names[frame.target[::4]])
    table.to_csv(folder / "tumours.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield {name: certify_run(sweep(config, folder / name)) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def joined(runs):
    return {
        name: load(run).merge(load(run, "certificates"), on=[*KEY, "data_seed"], validate="one_to_one")
        for name, run in runs.items()
    }


def rows_of(config, row):
    """A trial's own rows: the columns ``[m q, n]`` of its parameters, and the targets ``[m q]`` in the same order."""
    config = dataclasses.replace(config, precision="float64")
    inputs = trial_inputs(config, 1, int(row.data_seed), 0, 0)
    X, y = inputs["X_train"], inputs["y_train"].reshape(len(inputs["X_train"]), -1)
    eye = np.eye(y.shape[1])
    blocks = [np.kron(e[:, None], X[:, [f]]) for e in eye for f in range(X.shape[1])]
    return np.column_stack(blocks + [np.kron(e[:, None], np.ones((len(X), 1))) for e in eye]), y.T.ravel(), len(X)


def least_squares(A, t, m, S):
    return ((A[:, S] @ np.linalg.lstsq(A[:, S], t, rcond=None)[0] - t) ** 2).sum() / (2 * m)


@pytest.mark.parametrize("name", ["diabetes", "linnerud"])
def test_squared_errors_infima_are_numpys_over_the_own_support_and_over_all(joined, name):
    frame = joined[name]
    assert len(frame) == 8 * 3 and (frame.existence == "attained").all() and (frame.best_existence == "attained").all()
    for row in frame[(frame.s < frame.s.max()) & (frame.status == "ok")].iloc[::7].itertuples():
        A, t, m = rows_of(CONFIGS[name], row)
        assert row.loss == pytest.approx(((A @ row.theta.astype(float) - t) ** 2).sum() / (2 * m), rel=1e-12)
        own = least_squares(A, t, m, np.flatnonzero(row.theta))
        least = min(least_squares(A, t, m, list(S)) for S in itertools.combinations(range(A.shape[1]), row.s))
        assert row.restricted_infimum == pytest.approx(own, rel=1e-12)
        assert row.infimum == pytest.approx(least, abs=1e-9) and row.n_best_supports >= 1
        H = A.T @ A / m
        largest = max(np.linalg.norm(H[np.ix_(S, S)], 2) for S in itertools.combinations(range(len(H)), 2 * row.s))
        assert row.rss_lower == pytest.approx(largest) and row.rss_upper == pytest.approx(largest)


@every
def test_the_gap_is_what_is_missing_to_the_oracle(joined, name):
    frame = joined[name]
    ended = frame.status == "ok"
    assert (frame.gap.notna() == ended).all() and ended.sum() > 20
    frame = frame[ended]
    np.testing.assert_allclose(frame.gap, frame.support_gap + frame.optimization_gap, rtol=1e-9, atol=1e-9)
    assert (frame.support_gap >= 0).all() and (frame.optimization_gap >= -1e-9).all() and frame.bounds_exact.all()
    assert (frame.gap > 0.001).any() and frame.infima_within.between(0, 1e-9).all()
    np.testing.assert_allclose(frame.loss, frame.train_loss, rtol=1e-5)
    # A convex quadratic's constant, and logistic loss' at zero, are exact: nothing is left open.
    expected = np.where(frame.step_size.astype(float) <= 1 / frame.rss_upper, "certified", "refuted")
    assert frame.step_status.tolist() == expected.tolist()


def test_logistic_certificates_are_the_oracles_of_the_trials_own_split(joined):
    config, verdicts = dataclasses.replace(CONFIGS["logistic"], precision="float64"), set()
    for row in joined["logistic"].itertuples():
        inputs = trial_inputs(config, 1, row.data_seed, 0, 0)
        X, y = inputs["X_train"], inputs["y_train"]
        z = X @ row.theta[:-1].astype(float) + float(row.theta[-1])
        assert row.loss == pytest.approx(np.logaddexp(0, np.where(y == 1, -z, z)).mean(), abs=1e-12)
        best = best_subset(X, y, row.s, loss="logistic")
        assert row.infimum == pytest.approx(best.loss, abs=1e-9) and row.n_best_supports == best.n_best
        verdicts.add(row.minimizer_on_support)
        assert (row.minimizer_on_support == "none") == (row.existence != "attained")
    assert "ht-stable" in verdicts


def test_certified_steps_are_certified(joined):
    assert (joined["linnerud"].step_status == "certified").all()


@pytest.mark.parametrize("name", ["diabetes", "logistic"])
def test_step_sizes_that_are_too_long_are_refuted(runs, name, tmp_path):
    config = dataclasses.replace(CONFIGS[name], levels=(2,), trials=2, steps=3, step_size=9.0, dense=False)
    frame = load(certify_run(sweep(config, tmp_path / "run"), enumerate_supports=False), "certificates")
    assert (frame.step_status == "refuted").all() and frame.infimum.isna().all()


@pytest.mark.parametrize("name", ["diabetes", "logistic"])
def test_a_word_of_nats_only_where_the_loss_is_minus_a_log_likelihood(runs, capsys, name):
    _, said, _ = call(capsys, "summary", runs[name])
    _, again, _ = call(capsys, "oracle", runs[name])
    pictures = [picture for picture in drawn(runs[name], ["gap", "steps", "restarts"])]
    assert [type(picture) for picture in pictures] == [Drawn] * 3
    drawn_words = [" ".join(text.get_text() for text in p.figure.findobj(Text)) + p.caption for p in pictures]
    for text in (said, again, *drawn_words):
        assert bool(re.search(r"\bnats\b", text)) == (name == "logistic")
    assert "wrong support" in said and "wrong support" in again and max(map(len, again.splitlines())) <= 90


@every
def test_claims_of_steps_are_judged_by_certificates(runs, name):
    found = {claim.id: claim for claim in claims(runs[name])}
    assert found["step-size-valid"].value is not None
    assert (found["step-size-valid"].verdict == "holds") <= (name == "linnerud")


@pytest.mark.parametrize("name", ["diabetes", "logistic"])
def test_the_atlas_holds_every_support_and_its_best_is_the_oracles(runs, name):
    config = dataclasses.replace(CONFIGS[name], step_size=0.2, steps=2000)
    atlas = build_atlas(config, 2, 7, starts=24)
    points, n = atlas.points, 11 if name == "diabetes" else 6
    inputs = trial_inputs(dataclasses.replace(config, precision="float64"), 1, 7, 0, 0)
    loss = "squared" if name == "diabetes" else "logistic"
    best = best_subset(inputs["X_train"], inputs["y_train"], 2, loss=loss)
    assert len(points) == n * (n - 1) // 2 and points.landings.sum() == 24 and not points.full_block.any()
    assert points.infimum.min() == pytest.approx(best.loss, abs=1e-9) and (points.group == 0).sum() == best.n_best
    assert points.attained.all() and points.support[0] == " ".join(
        np.array([*(f"w{i}" for i in range(1, n)), "b"])[best.support]
    )
    landed = points[points.landings > 0]
    assert landed.ht_stable.all() and atlas.arrived > 0.9  # where IHT ends, it stays
    upper, lower = draw_atlas(atlas, config).axes
    assert ("nats" in lower.get_xlabel()) == (name == "logistic")
    assert not any("full block" in text.get_text() for text in upper.get_legend().get_texts())


@every
def test_the_budget_counts_starts_near_the_optimum(runs, name):
    s = {"diabetes": 3, "linnerud": 5, "logistic": 3}[name]
    config = dataclasses.replace(CONFIGS[name], levels=(s,), step_size="certified", steps=1000)
    (row,) = restart_budget(config, 7, starts=24, epsilon=20.0 if name != "logistic" else 0.01).itertuples()
    inputs = trial_inputs(dataclasses.replace(config, precision="float64"), 1, 7, 0, 0)
    loss = "logistic" if name == "logistic" else "squared"
    assert row.infimum == pytest.approx(best_subset(inputs["X_train"], inputs["y_train"], s, loss=loss).loss, abs=1e-9)
    assert 0 < row.successes <= 24 and row.p == row.successes / 24


@pytest.mark.parametrize("name, unit", [("diabetes", False), ("logistic", True)])
def test_the_commands_name_the_unit(runs, capsys, name, unit):
    where = ["--data", CONFIGS[name].data, *(["--target", "kind", "--loss", "logistic"] if unit else [])]
    short = ["--data-seed", "1", "--starts", "4", "--steps", "20", *where]
    for command in (["atlas", "--s", "2"], ["restarts", "--levels", "2"]):
        code, out, _ = call(capsys, *command, "--step-size", "0.1", *short)
        assert code == 0 and bool(re.search(r"\bnats\b", out)) == unit
        assert not re.search("full block|without a minimiser", out)


def test_gaps_are_a_table_for_them_too(runs, joined):
    table = gaps(runs["diabetes"]).set_index(["method", "s"])
    level = joined["diabetes"][joined["diabetes"].s == 5]
    assert table.loc[("iht", 5)].gap == level.gap.median() and table.loc[("iht", 5)].attained == 1


def test_data_that_have_changed_are_refused(runs, tmp_path, capsys):
    run = shutil.copytree(runs["logistic"], tmp_path / "run")
    shutil.copy("tumours.csv", tmp_path / "kept.csv")
    try:
        pd.read_csv("tumours.csv").iloc[1:].to_csv("tumours.csv", index=False)
        code, _, err = call(capsys, "oracle", run)
        assert code == 2 and "tumours.csv has changed since the run began" in err
    finally:
        shutil.copy(tmp_path / "kept.csv", "tumours.csv")
