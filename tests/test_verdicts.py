import numpy as np
import pytest
from scipy import optimize, stats

from ihtjax.paper.claimed_results import MEAN_FIRST, read_both
from ihtjax.paper.claimed_stability import of_all
from ihtjax.paper.judgement import Claim
from ihtjax.paper.verdicts import (
    FAILS,
    HOLDS,
    LEVELS_RULE,
    LIMITED,
    UNDECIDED,
    Interval,
    NoTriples,
    Question,
    as_json,
    bootstrap,
    either_reading,
    holm,
    nearly_all,
    over_levels,
    rises,
    ruling,
    share,
    spans,
    surely_more,
    within,
)


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


def as_share(k, N):
    return share(np.arange(N)[:, None] < k)


def exact_ends(k, N):
    """Clopper and Pearson's ends by their definition: the chances at which k or more, k or less, are 2.5 % likely."""
    low = 0 if k == 0 else optimize.brentq(lambda p: stats.binom.sf(k - 1, N, p) - 0.025, 1e-12, 1 - 1e-12)
    return low, 1 if k == N else optimize.brentq(lambda p: stats.binom.cdf(k, N, p) - 0.025, 1e-12, 1 - 1e-12)


@pytest.mark.parametrize("k, N", [(0, 20), (1, 20), (199, 200), (200, 200), (431, 1000)])
def test_a_shares_interval_is_that_of_clopper_and_pearson(k, N):
    found = as_share(k, N)
    assert (found.low, found.high) == pytest.approx(exact_ends(k, N), abs=1e-9) and found.value == k / N


@pytest.mark.parametrize("N", [5, 10, 11, 50, 99, 100, 200, 368, 500, 1000])
def test_a_shares_verdict_never_worsens_as_more_trials_hold(N):
    def verdict(k):
        found = as_share(k, N)
        return Question("id", "where", "claim", "statistic", lambda run: (found, nearly_all(found), "So.")).judge(None)

    kindness = [FAILS, UNDECIDED, LIMITED, HOLDS]
    ranks = [kindness.index(verdict(k).verdict) for k in range(N + 1)]
    assert ranks == sorted(ranks) and (ranks[-1] == 3) == (N >= 368)


def test_levels_of_a_triple_are_no_independent_trials():
    # The same share from 14 levels as from one: a triple counts once.
    one, many = as_share(150, 200), share(np.tile(np.arange(200)[:, None] < 150, 14))
    assert one == many


def test_holm_is_the_step_down_procedure():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    for a in (0.005, 0.0199, 0.021, 0.03, 0.06, 0.0601, 0.09):
        rejected, order = np.zeros(4, bool), np.argsort(p)
        for rank, i in enumerate(order):
            if p[i] > a / (4 - rank):
                break
            rejected[i] = True
        assert ((holm(p) <= a) == rejected).all(), a


def test_noise_at_many_levels_is_no_finding():
    # 13 fair coins at 200 triples: uncorrected, one of 13 is "sure" in a quarter of the runs.
    draw = np.random.default_rng(0)
    heads = draw.binomial(200, 0.5, (400, 13))
    corrected = np.mean([surely_more(k, 200, 0.5).any() for k in heads])
    alone = np.mean([(stats.binom.sf(k - 1, 200, 0.5) <= 0.025).any() for k in heads])
    assert alone > 0.15 and corrected < 0.05


def test_a_claim_about_every_level_is_judged_level_by_level():
    def judged(*shares):
        holds = np.arange(1000)[:, None] < 1000 * np.array(shares)
        return over_levels(holds, holds, 0.99, 0.5)

    assert judged(1, 1, 1, 1).verdict == HOLDS
    assert judged(1, 1, 0.9, 0.2).verdict == LIMITED and judged(1, 1, 0.2, 0.2).verdict == FAILS
    assert judged(0.5, 0.5, 0.5, 0.2).verdict == UNDECIDED
    some = judged(1, 0.99, 0.9, 0.2)
    assert some.found[:3] == (2, 1, 2) and some.not_even.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    "one, other, verdict",
    [
        (HOLDS, HOLDS, HOLDS),
        (HOLDS, LIMITED, LIMITED),
        (HOLDS, FAILS, UNDECIDED),
        (LIMITED, FAILS, UNDECIDED),
        (HOLDS, UNDECIDED, UNDECIDED),
        (LIMITED, UNDECIDED, UNDECIDED),
        (FAILS, UNDECIDED, UNDECIDED),
        (FAILS, FAILS, FAILS),
    ],
)
def test_two_readings_decide_as_far_as_they_agree(one, other, verdict):
    for a, b in ((one, other), (other, one)):
        assert either_reading({"median": a, "mean": b})[0] == verdict
    if one != other:
        assert f"by the mean: {other}" in either_reading({"median": one, "mean": other})[1]


def test_a_claim_of_two_readings_shows_both_intervals():
    # Of 10 triples of 20 a cost of 0, of 10 one of 0.08: the median is anywhere, the mean is within 0.067.
    x = np.repeat([0.0, 0.08], 10)[:, None]
    found, verdict, _ = read_both(x, lambda c: c[..., 0], lambda i: within(i, 1 / 60, 1 / 15), MEAN_FIRST)
    claim = Question("id", "where", "claim", "statistic", lambda run: (found, verdict, "So.")).judge(None)
    assert [name for name, *_ in claim.readings] == ["mean", "median"]
    assert claim.readings[0][1:] == (claim.value, claim.low, claim.high) and claim.high < 1 / 15
    assert claim.readings[1][1:] == (pytest.approx(0.04), 0, 0.08) and claim.verdict == UNDECIDED


def test_at_half_of_the_levels_each_a_claim_about_every_level_does_not_hold_and_the_rule_says_so():
    holds = np.arange(1000)[:, None] < 1000 * np.array([1, 1, 0.2, 0.2])
    judged = over_levels(holds, holds, 0.99, 0.5)
    assert judged.loosely.sum() == judged.not_even.sum() == 2 and judged.verdict == FAILS
    assert LEVELS_RULE.index("does not if at half") < LEVELS_RULE.index("else holds with a limit")


def test_levels_are_listed_in_spans():
    assert spans([1, 3, 4, 6, 7, 8]) == "1, 3, 4, 6 to 8" and spans([]) == ""


def test_a_share_of_everything_is_not_certain():
    few, many = share(np.ones((20, 3))), share(np.ones((1000, 3)))
    assert few.value == many.value == 1 and few.low < 0.9 < 0.99 < many.low
    assert nearly_all(few) == LIMITED and nearly_all(many) == HOLDS
    assert judged(lambda run: of_all(np.ones((200, 3), bool), [1, 2, 3])) == (
        LIMITED,
        "So do 600 of 600 trials; more triples would decide it: at this value it holds.",
    )


def judged(decide):
    claim = Question("id", "where", "claim", "statistic", decide).judge(None)
    return claim.verdict, claim.why


@pytest.mark.parametrize(
    ("k", "N", "verdict", "more"),
    [
        (995, 1000, LIMITED, HOLDS),
        (980, 1000, LIMITED, None),
        (52, 100, UNDECIDED, LIMITED),
        (48, 100, UNDECIDED, FAILS),
        (1000, 1000, HOLDS, None),
        (9, 9, UNDECIDED, HOLDS),
        (20, 20, LIMITED, HOLDS),
        (100, 1000, FAILS, None),
    ],
)
def test_it_says_where_more_triples_would_decide(k, N, verdict, more):
    found = as_share(k, N)
    got, why = judged(lambda run: (found, ruling(nearly_all, found), "So."))
    assert got == verdict
    assert more is None and "more triples" not in why or why.endswith(f"would decide it: at this value it {more}.")


def test_more_triples_would_decide_a_claim_about_levels_whose_shares_are_close():
    holds = np.arange(300)[:, None] < 300 * np.array([1, 0.995])
    close = over_levels(holds, holds, 0.99, 0.5)
    assert close.ruling == (LIMITED, HOLDS) and over_levels(holds, holds, 0.9, 0.5).ruling == (HOLDS, HOLDS)


def test_more_triples_do_not_decide_between_two_readings_that_differ():
    x = np.repeat([0.0, 0.2], [900, 100])[:, None]
    found, verdict, _ = read_both(x, lambda c: c[..., 0], lambda i: within(i, 0.001, 0.002), MEAN_FIRST)
    assert verdict == (UNDECIDED, UNDECIDED)


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


def test_json_has_no_infinity():
    claim = Claim("id", "where", "claim", "statistic", float("inf"), 0.0, float("nan"), FAILS, "Why.")
    assert [as_json(claim)[key] for key in ("value", "low", "high")] == [None, 0.0, None]
