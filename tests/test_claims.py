import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

from ihtjax import InputError, SweepConfig, cli, load, sweep
from ihtjax.paper.claimed_numbers import growth
from ihtjax.paper.claimed_objective import unbounded_supports
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import Claim, answers, claims, judge
from ihtjax.paper.verdicts import (
    FAILS,
    HOLDS,
    LIMITED,
    UNDECIDED,
    VERDICTS,
    Interval,
    NoTriples,
    Question,
    as_json,
    bootstrap,
    nearly_all,
    rises,
    share,
    within,
)

KEYS = ["id", "where", "claim", "statistic", "value", "low", "high", "verdict", "why"]


FIG_9, NEAR = "fig9-step-size-rises", "epsilon-optimality-s3"


def step_sizes(folder, trials, init):
    """A run of step sizes, which need no steps."""
    config = SweepConfig(levels=(3, 14), trials=trials, steps=1, init=init, curve_points=0)
    return sweep(config, folder / f"{init}-{trials}")


def judged(run_dir):
    return {claim.id: claim for claim in claims(run_dir, only=[FIG_9, NEAR])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("claims")


@pytest.fixture(scope="module")
def normal(folder):
    return step_sizes(folder, 256, "normal")


@pytest.fixture(scope="module")
def small_claims(small_run):
    found = claims(small_run)
    assert len({claim.id for claim in found}) == len(found)
    return {claim.id: claim for claim in found}


@pytest.mark.parametrize(
    "interval, verdict",
    [((0.1, 0.2), HOLDS), ((-0.2, -0.1), FAILS), ((-0.1, 0.1), UNDECIDED), ((0.0, 0.1), UNDECIDED)],
)
def test_a_rise_is_decided_by_where_its_interval_lies(interval, verdict):
    assert rises(Interval(np.mean(interval), *interval, 1000)) == verdict


@pytest.mark.parametrize(
    "interval, verdict",
    [((0, 0.9), HOLDS), ((0.9, 1.9), LIMITED), ((2.1, 3), FAILS), ((0.5, 2.1), UNDECIDED)],
)
def test_nearness_has_a_strict_and_a_loose_tolerance(interval, verdict):
    assert within(Interval(np.mean(interval), *interval, 1000), 1, 2) == verdict


@pytest.mark.parametrize(
    "interval, verdict",
    [((0.995, 1), HOLDS), ((0.6, 0.98), LIMITED), ((0.1, 0.4), FAILS), ((0.4, 0.6), UNDECIDED)],
)
def test_a_share_holds_if_it_is_surely_nearly_everything(interval, verdict):
    assert nearly_all(Interval(np.mean(interval), *interval, 1000)) == verdict


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        sample = draw.standard_normal((100, 1))
        found = bootstrap(sample, lambda x: x[..., 0].mean(-1))
        covered += found.low <= 0 <= found.high
    assert 180 <= covered <= 199


def test_bootstrap_keeps_levels_paired():
    # Two levels that differ by exactly 1 in every triple: paired, the difference has no spread.
    level = np.random.default_rng(0).standard_normal(50)
    found = bootstrap(np.column_stack([level, level + 1]), lambda x: (x[..., 1] - x[..., 0]).mean(-1))
    assert found.low == pytest.approx(1) and found.high == pytest.approx(1)


def test_a_share_of_everything_is_not_certain():
    few, many = share(np.ones((20, 3))), share(np.ones((1000, 3)))
    assert few.value == many.value == 1 and few.low < 0.9 < 0.99 < many.low
    assert nearly_all(few) == LIMITED and nearly_all(many) == HOLDS


def decided(N):
    question = Question("id", "where", "claim", "statistic", lambda run: (Interval(1.0, 0.9, 1.1, N), HOLDS, "So."))
    return question.judge(None)


def test_few_triples_limit_a_verdict_and_very_few_decide_nothing():
    assert [decided(N).verdict for N in (5, 20, 1000)] == [UNDECIDED, LIMITED, HOLDS]
    assert "20 triples only" in decided(20).why and decided(1000).why == "So."


def test_no_triple_at_all_is_undecided():
    def decide(run):
        raise NoTriples

    assert Question("id", "where", "claim", "statistic", decide).judge(None).verdict == UNDECIDED


def test_fig_9_rises_with_normal_and_not_with_uniform_init(normal, folder):
    up, down = judged(normal)[FIG_9], judged(step_sizes(folder, 256, "torch_linear"))[FIG_9]
    assert up.verdict == HOLDS and 0 < up.low < up.value < up.high
    assert down.verdict == FAILS and down.low < down.value < down.high < 0


def test_fig_9_is_the_paired_difference_of_medians(normal):
    wide = load(normal, method="iht").pivot(index="trial", columns="s", values="step_size")
    assert judged(normal)[FIG_9].value == pytest.approx(wide[14].median() - wide[3].median(), rel=1e-5)


def test_20_trials_widen_intervals_and_say_so(normal, folder):
    many, few = judged(normal), judged(step_sizes(folder, 20, "normal"))
    for id in (FIG_9, NEAR):
        assert few[id].high - few[id].low > 2 * (many[id].high - many[id].low)
        assert "20 triples only" in few[id].why and few[id].verdict != HOLDS


def test_what_a_run_lacks_cannot_be_decided(small_claims):
    assert small_claims["fig9-step-size-rises"].verdict == UNDECIDED
    assert "no level 14" in small_claims["fig9-step-size-rises"].why.replace("3 and ", "")
    assert "ihtjax oracle" in small_claims["right-support"].why
    assert small_claims["right-support"].value is None


def test_claims_about_iris_are_not_judged_by_other_data(normal):
    run = Evidence(normal)
    run.config = dataclasses.replace(run.config, data="other.csv")
    (found,) = judge(run, only=FIG_9)
    assert found.verdict == UNDECIDED and "Iris" in found.why


def test_an_unknown_claim_is_one_line(small_run):
    with pytest.raises(InputError, match="only: got 'fig3', expected ids of claims"):
        claims(small_run, only=["fig3"])


def test_mathematics_is_decided_by_computation(small_claims):
    verdicts = {id: claim.verdict for id, claim in small_claims.items()}
    assert verdicts["table-1"] == verdicts["example1-L"] == verdicts["L2s-at-most-L"] == HOLDS
    assert verdicts["losses-bounded"] == verdicts["example1-needs-2s<=m"] == FAILS
    assert verdicts["example1-L2s"] == LIMITED
    assert growth() == pytest.approx(0.967, abs=5e-4)


def test_unbounded_sublevel_sets_are_found_by_hand():
    # One feature, two overlapping classes: bounded on single entries, not on both weights or both biases.
    X, y = np.array([[-1.0], [0.5], [-0.5], [1.0]]), np.array([0, 0, 1, 1])
    assert unbounded_supports(X, y, 2, 2) == {1: (0, 4), 2: (2, 6)}
    # Separable by the feature: each weight alone can grow for ever.
    assert unbounded_supports(X, np.array([0, 1, 0, 1]), 2, 1) == {1: (2, 4)}


def test_equal_values_belong_to_distinct_points(small_claims):
    found = small_claims["distinct-values"]
    assert found.verdict == FAILS and found.value >= 2


def test_ids_are_unique_and_verdicts_known(small_claims, small_run):
    found = list(small_claims.values())
    assert len(found) >= 30 and {claim.verdict for claim in found} <= set(VERDICTS)
    assert all(claim.why.endswith((".", small_run.name)) and len(claim.statistic) > 10 for claim in found)


def test_json_has_the_promised_keys(small_run):
    done = CliRunner().invoke(cli.cli, ["report", str(small_run), "--json"])
    listed = json.loads(done.stdout)["claims"]
    assert all(list(claim) == KEYS for claim in listed)
    assert "fig9-step-size-rises" in {claim["id"] for claim in listed}
    assert not (small_run / "report.html").exists()


def test_json_has_no_infinity():
    claim = Claim("id", "where", "claim", "statistic", float("inf"), 0.0, float("nan"), FAILS, "Why.")
    assert [as_json(claim)[key] for key in ("value", "low", "high")] == [None, 0.0, None]


def test_answers_follow_the_verdicts(small_claims):
    found = [claim._replace(verdict=HOLDS) if claim.id == "ht-stable-all" else claim for claim in small_claims.values()]
    assert "IHT ends at HT-stable points" in answers(found)[3].short
    found = [claim._replace(verdict=FAILS) if claim.id == "ht-stable-all" else claim for claim in small_claims.values()]
    assert "IHT does not end at HT-stable points" in answers(found)[3].short
