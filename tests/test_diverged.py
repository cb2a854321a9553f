"""Claims judged by runs of which some trials, or all, diverged, or whose loss overflowed on the way."""

import numpy as np
import pytest

from ihtjax import SweepConfig, load, sweep
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import claims, judge
from ihtjax.paper.verdicts import FAILS, HOLDS, UNDECIDED
from ihtjax.study.optimality import certify_run

OF_ALL_TRIALS = ("eq8-all", "ht-stable-all", "support-moves-all", "f-never-rises", "gradient-descent-converges")
CERTIFIED = ("step-size-valid", "sparse-local-minimiser", "right-support", "dense-minimiser-exists")


def judge_one(run, id):
    (found,) = judge(run, only=id)
    return found


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory):
    """A run whose trials all diverged."""
    config = SweepConfig(levels=(3, 5), trials=12, steps=20, step_size=3.3e38, curve_points=8)
    run_dir = sweep(config, tmp_path_factory.mktemp("diverged") / "nowhere")
    assert (load(run_dir).status == "diverged").all()
    return run_dir


@pytest.fixture(scope="module")
def partly(tmp_path_factory):
    """A run of which some trials diverged, among them some at one level only."""
    config = SweepConfig(levels=(2, 3), trials=24, steps=40, step_size=1e38, curve_points=8)
    run_dir = certify_run(sweep(config, tmp_path_factory.mktemp("diverged") / "partly"))
    ended = load(run_dir, method="iht").pivot(index="trial", columns="s", values="status") == "ok"
    assert 0 < ended.all(axis=1).sum() < ended.any(axis=1).sum()
    return run_dir


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory):
    """A run of which some dense trials diverged, and some ended finite after losses that were not."""
    config = SweepConfig(levels=(2, 3), trials=60, steps=40, step_size=5.8e37, curve_points=8)
    return sweep(config, tmp_path_factory.mktemp("diverged") / "overflowing")


def test_every_claim_is_judged_where_every_trial_diverged(nowhere):
    found = {claim.id: claim for claim in claims(nowhere)}
    assert found["L2s-at-most-L"].verdict == HOLDS and "medians" not in found["L2s-at-most-L"].why
    for id in OF_ALL_TRIALS:
        assert (found[id].value, found[id].verdict) == (0, FAILS), id
    for id in ("fig15-gradient-almost-zero", "fig15-eq8", "fig15-converged", "fig14-support-moves"):
        assert found[id].verdict == UNDECIDED and "diverged" in found[id].why, id
    assert found["five-parameters-suffice"].verdict == found["epsilon-optimality"].verdict == UNDECIDED


def test_certificates_of_trials_that_all_diverged_are_judged(nowhere):
    certify_run(nowhere, trials=10)
    found = {claim.id: claim for claim in claims(nowhere, only=CERTIFIED)}
    assert all(claim.verdict == FAILS for claim in found.values())


def test_every_claim_is_judged_where_some_trials_diverged(partly):
    assert len(claims(partly)) == len({claim.id for claim in claims(partly)}) > 40


def test_diverged_trials_count_against_a_claim_of_all_trials(partly):
    rows, run = load(partly, method="iht"), Evidence(partly)
    ok = rows.status == "ok"
    found = judge_one(run, "eq8-all")
    assert found.value == pytest.approx((ok & rows.satisfies_eq8).mean())
    assert f"of {len(rows)} trials" in found.why and f"{(~ok).sum()} diverged, which counts against it" in found.why
    moved = np.array([((a != 0) != (b != 0)).any() for a, b in zip(rows.theta, rows.theta0)])
    assert judge_one(run, "support-moves-all").value == pytest.approx((ok & moved).mean())
    heads = load(partly, "certificates", method="iht").merge(rows[["trial", "s", "ht_stable", "status"]])
    stable = (heads.status == "ok") & heads.ht_stable & (heads.minimizer_on_support == "ht-stable")
    assert judge_one(run, "ht-stable-all").value == pytest.approx(stable.mean())


def test_a_diverged_trial_is_not_ht_stable_whatever_its_gradient(partly):
    run = Evidence(partly)
    run.has_certificates = False
    run.trials["satisfies_eq8"], run.trials["grad_on_support"], run.trials["n_nonzero"] = True, 0.0, run.trials.s
    ok = load(partly, method="iht").status == "ok"
    found = judge_one(run, "ht-stable-all")
    assert found.value == pytest.approx(ok.mean()) and f"{(~ok).sum()} diverged" in found.why


def test_triples_whose_dense_baseline_diverged_are_left_out_and_counted(overflowing):
    wide = load(overflowing).pivot(index="trial", columns=["method", "s"], values=["status", "epsilon"])
    ended = (wide["status"] == "ok").all(axis=1)
    assert 0 < ended.sum() < 60
    expected = wide["epsilon"]["iht"][[2, 3]][ended].to_numpy(float)
    run = Evidence(overflowing)
    assert run.values("epsilon", [2, 3], dense=True)[:, :2] == pytest.approx(expected)
    found = judge_one(run, "epsilon-optimality")
    assert f"; {(~ended).sum()} of 60 triples diverged at a level that counts here and are left out" in found.why


def test_columns_pair_whatever_is_null_in_one_of_them(partly):
    run = Evidence(partly)
    whole = run.values("train_loss", [2, 3])
    run.trials.loc[run.trials.trial < 12, "test_loss"] = np.nan
    assert run.values("test_loss", [2, 3]).shape == whole.shape
    certified = run.certificates.set_index(["s", "trial"])
    ended = load(partly, method="iht").pivot(index="trial", columns="s", values="status").eq("ok").all(axis=1)
    for column in ("ht_stable", "existence", "minimizer_on_support", "rss_upper"):
        expected = [[certified[column][s, trial] for s in (2, 3)] for trial in ended.index[ended]]
        assert run.values(column, [2, 3], table="certificates").tolist() == expected
    assert run.left_out([2, 3]).startswith(f"; {(~ended).sum()} of 24 triples diverged")


@pytest.mark.parametrize("overflow", [np.nan, np.inf])
@pytest.mark.parametrize("id, method", [("f-never-rises", "iht"), ("gradient-descent-converges", "gd")])
def test_a_loss_that_overflowed_on_the_way_rose(small_run, id, method, overflow):
    run = Evidence(small_run)
    its = run.trials.method == method
    assert judge_one(run, id).value == 1
    run.trials.loc[its & (run.trials.trial < 5), "max_loss_increase"] = overflow
    found = judge_one(run, id)
    N = int(its.sum())
    assert found.value == pytest.approx(15 / 20)
    assert f"rose by more than rounding in {N // 4} of {N} trials, counting {N // 4}" in found.why
    assert "inf nats" not in found.why and "nan nats" not in found.why


def test_a_loss_that_overflows_between_finite_ends_is_a_rise(overflowing):
    rows = load(overflowing, method="gd")
    ended, finite = rows.status == "ok", np.isfinite(rows.max_loss_increase)
    assert (ended & ~finite).any() and not ended.all()
    found = judge_one(Evidence(overflowing), "gradient-descent-converges")
    assert f"of 60 trials, counting {(~(ended & finite)).sum()} in which it did not stay finite" in found.why
    assert found.value <= (ended & finite).mean()
