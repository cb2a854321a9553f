import dataclasses
import json

import numpy as np
import pytest
import reference
from click.testing import CliRunner
from scipy import optimize, stats

from ihtjax import InputError, SweepConfig, load, sweep
from ihtjax.cli import commands
from ihtjax.paper.claimed_numbers import QUESTIONS as NUMBERS
from ihtjax.paper.claimed_numbers import counterexample, growth, largest_kept
from ihtjax.paper.claimed_objective import unbounded_supports, with_a_full_block
from ihtjax.paper.claimed_stability import of_all
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import SLIPS, Claim, answers, claims, judge
from ihtjax.paper.stated import DIFFERS, OURS, SAME, against_paper
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
    either_reading,
    holm,
    nearly_all,
    over_levels,
    rises,
    share,
    spans,
    surely_more,
    within,
)
from ihtjax.study.optimality import certify_run
from ihtjax.sweeps import progress
from ihtjax.sweeps.single import run_trial

KEYS = ["id", "where", "claim", "statistic", "value", "low", "high", "verdict", "why", "seen"]


FIG_9 = "fig9-step-size-rises"


def step_sizes(folder, trials, init):
    """A run of step sizes, which need no steps."""
    config = SweepConfig(levels=(3, 14), trials=trials, steps=1, init=init, curve_points=0)
    return sweep(config, folder / f"{init}-{trials}")


def judged(run_dir):
    return {claim.id: claim for claim in claims(run_dir, only=[FIG_9])}


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


def test_two_readings_that_disagree_limit_a_claim_and_are_named():
    assert either_reading({"median": HOLDS, "mean": HOLDS})[0] == HOLDS
    verdict, remark = either_reading({"median": LIMITED, "mean": FAILS})
    assert verdict == LIMITED and "by the mean: does not hold" in remark
    assert either_reading({"median": UNDECIDED, "mean": FAILS})[0] == UNDECIDED


def test_levels_are_listed_in_spans():
    assert spans([1, 3, 4, 6, 7, 8]) == "1, 3, 4, 6 to 8" and spans([]) == ""


def test_a_share_of_everything_is_not_certain():
    few, many = share(np.ones((20, 3))), share(np.ones((1000, 3)))
    assert few.value == many.value == 1 and few.low < 0.9 < 0.99 < many.low
    assert nearly_all(few) == LIMITED and nearly_all(many) == HOLDS
    holds = np.ones((200, 3), bool)
    assert of_all(holds, [1, 2, 3])[1:] == (
        LIMITED,
        "So do 600 of 600 trials; 200 triples are too few to be sure of 99 %.",
    )


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
    assert few[FIG_9].high - few[FIG_9].low > 2 * (many[FIG_9].high - many[FIG_9].low)
    assert "20 triples only" in few[FIG_9].why and few[FIG_9].verdict != HOLDS


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
    with pytest.raises(InputError, match=r"only: got \['fig3'\], expected ids of claims"):
        claims(small_run, only=["fig3"])


def test_mathematics_is_decided_by_computation(small_claims):
    verdicts = {id: claim.verdict for id, claim in small_claims.items()}
    assert verdicts["table-1"] == verdicts["example1-L"] == verdicts["L2s-at-most-L"] == HOLDS
    assert verdicts["losses-bounded"] == verdicts["example1-needs-2s<=m"] == FAILS
    assert verdicts["example1-L2s"] == verdicts["sublevel-sets-bounded"] == verdicts["rss-implies-learning"] == FAILS
    assert verdicts["1320-times-synapses"] == verdicts["3500-times-cells"] == verdicts["footnote1-H2"] == HOLDS
    assert verdicts["six-implies-four"] == FAILS and verdicts["differentiable"] == LIMITED
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
    done = CliRunner().invoke(commands.cli, ["report", str(small_run), "--json"])
    listed = json.loads(done.stdout)["claims"]
    assert all(list(claim) == KEYS for claim in listed)
    assert "fig9-step-size-rises" in {claim["id"] for claim in listed}
    assert not (small_run / "report.html").exists()


def test_json_has_no_infinity():
    claim = Claim("id", "where", "claim", "statistic", float("inf"), 0.0, float("nan"), FAILS, "Why.")
    assert [as_json(claim)[key] for key in ("value", "low", "high")] == [None, 0.0, None]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_answers_say_what_was_seen_whatever_the_verdict(small_claims, verdict):
    its = small_claims["f-never-rises"]
    assert "rose by more than rounding in 0 of 40 trials" in its.seen
    found = [claim._replace(verdict=verdict) for claim in small_claims.values()]
    short = answers(found)[2].short
    assert its.seen[1:] in short and "in some trials" not in short and "in many trials" not in short


def test_what_a_run_says_nothing_of_is_named_in_the_answers(small_claims):
    assert "nor whether they have the best support" in answers(list(small_claims.values()))[3].short


def quotients(theta, other):
    """(6)'s and (4)'s quotients of f = y^2/2 - x^3 y / (x^2 + y^2), with differences for gradients."""

    def f(p):
        return p[1] ** 2 / 2 - p[0] ** 3 * p[1] / (p[0] ** 2 + p[1] ** 2)

    def gradient(p):
        steps = 1e-5 * np.eye(2)
        return np.array([f(p + e) - f(p - e) for e in steps]) / 2e-5

    d = other - theta
    six = np.linalg.norm(gradient(other) - gradient(theta)) / np.linalg.norm(d)
    return six, 2 * (f(other) - f(theta) - gradient(theta) @ d) / (d @ d)


def test_six_on_sparse_pairs_does_not_imply_four():
    # Brute force over 1-sparse pairs, and the two constants by hand: sqrt(2), and the golden ratio.
    draw = np.random.default_rng(0)
    pairs = draw.uniform(-1, 1, (20_000, 2))
    axes = draw.integers(2, size=(20_000, 2))
    six = four = 0
    for (a, b), (i, j) in zip(pairs, axes):
        if min(abs(a), abs(b), abs(a - b)) > 0.05:
            found = quotients(a * np.eye(2)[i], b * np.eye(2)[j])
            six, four = max(six, found[0]), max(four, found[1])
    assert six == pytest.approx(2**0.5, rel=1e-3) and four == pytest.approx((1 + 5**0.5) / 2, rel=1e-3)
    (claim,) = [question.judge(None) for question in NUMBERS if question.id == "six-implies-four"]
    assert claim.value == pytest.approx((1 + 5**0.5) / 2 / 2**0.5, rel=1e-6)
    assert "1.4142" in claim.why and "1.6180" in claim.why


def test_the_counterexamples_gradient_is_that_of_its_values():
    points = np.random.default_rng(0).uniform(-2, 2, (50, 2))
    f, gradient = counterexample(points)
    for axis in (0, 1):
        step = 1e-6 * np.eye(2)[axis]
        assert gradient[:, axis] == pytest.approx(
            (counterexample(points + step)[0] - counterexample(points - step)[0]) / 2e-6, abs=1e-6
        )


def test_hard_thresholding_is_set_valued():
    assert largest_kept(np.array([1.0, -3.0, 1.0]), 2) == {(1.0, -3.0, 0.0), (0.0, -3.0, 1.0)}
    assert largest_kept(np.array([2.0, -3.0, 1.0]), 1) == {(0.0, -3.0, 0.0)}


@pytest.fixture(scope="module")
def certified(small, tmp_path_factory):
    """A run with certificates of its first 12 triples."""
    run_dir = sweep(small, tmp_path_factory.mktemp("claims") / "certified")
    return certify_run(run_dir, trials=12, enumerate_supports=False)


def with_minimizers(run_dir, minimizers):
    """Evidence whose certificates say this of the minimisers on the supports."""
    run = Evidence(run_dir)
    run.certificates["minimizer_on_support"] = minimizers
    return run


def judge_one(run, id):
    (found,) = judge(run, only=id)
    return found


def test_ht_stability_is_told_at_three_tolerances(small_run):
    rows = load(small_run, method="iht")
    full = rows.n_nonzero == rows.s
    shares = []
    for tol in (1e-3, 1e-4, 1e-5):
        stable = (rows.grad_on_support <= tol) & np.where(full, rows.satisfies_eq8, rows.grad_off_support <= tol)
        shares.append(f"{stable.mean():.1%} at {tol:.0e}".replace("e-0", "e-"))
    found = judge_one(Evidence(small_run), "ht-stable-all")
    assert ", ".join(shares) in found.why and ", ".join(shares) in found.seen
    assert "certificates" in found.why


def test_a_tolerance_alone_does_not_decide_ht_stability(normal, monkeypatch):
    run = Evidence(normal)
    run.trials["satisfies_eq8"] = True
    for small, verdict in ((1e-6, HOLDS), (5e-4, UNDECIDED), (1e-2, FAILS)):
        run.trials["grad_on_support"] = small
        found = judge_one(run, "ht-stable-all")
        # 256 triples never show 99 %.
        assert found.verdict == (LIMITED if verdict == HOLDS else verdict)


def test_ht_stability_is_judged_by_minimisers_where_certificates_tell(certified):
    run = with_minimizers(certified, "ht-stable")
    run.certificates["ht_stable"] = True
    every = judge_one(run, "ht-stable-all")
    assert every.value == 1 and "12 of the run's 20 triples" in every.why and "head for a point that is" in every.seen
    run.certificates["minimizer_on_support"] = "none"
    assert judge_one(run, "ht-stable-all").verdict == FAILS


def test_certificates_without_the_column_bound_ht_stability_and_name_the_command(certified):
    run = with_minimizers(certified, None)
    run.certificates["ht_stable"] = True
    run.certificates["existence"] = "separated"
    found = judge_one(run, "ht-stable-all")
    assert found.verdict == FAILS and found.value == 0 and "100% of those" in found.why
    assert f"make them anew with: ihtjax oracle {certified} --trials 12" in found.why
    run.certificates["existence"] = "attained"
    assert judge_one(run, "ht-stable-all").verdict == UNDECIDED


def test_partial_certificates_say_of_how_many_triples(certified):
    for id in ("Lhat-upper-bound", "step-size-valid", "gradient-descent-step-valid", "dense-minimiser-exists"):
        assert "12 of the run's 20 triples have certificates" in judge_one(Evidence(certified), id).why, id
    assert "without a search" in judge_one(Evidence(certified), "right-support").why


def test_claims_are_judged_without_triples_that_diverged(tmp_path):
    """At this step size some trials diverge, among them some at one level only."""
    config = SweepConfig(levels=(2, 3), trials=24, steps=40, n_monte=2, step_size=1e38, dense=False, curve_points=4)
    run_dir = certify_run(sweep(config, tmp_path / "run"), enumerate_supports=False)
    ended = load(run_dir, method="iht").pivot(index="trial", columns="s", values="status") == "ok"
    assert 0 < ended.all(axis=1).sum() < ended.any(axis=1).sum()
    run = Evidence(run_dir)
    for column in ("ht_stable", "existence", "minimizer_on_support", "rss_upper"):
        found = run.certificates.set_index(["s", "trial"])[column]
        expected = [[found[s, trial] for s in (2, 3)] for trial in ended.index[ended.all(axis=1)]]
        assert run.values(column, [2, 3], table="certificates").tolist() == expected
    looks = run.certificates.pivot(index="trial", columns="s", values="ht_stable")[ended.all(axis=1)]
    heads = run.certificates.pivot(index="trial", columns="s", values="minimizer_on_support")[ended.all(axis=1)]
    assert judge_one(run, "ht-stable-all").value == pytest.approx((looks & (heads == "ht-stable")).to_numpy().mean())


def test_a_network_at_a_minimum_that_is_not_ht_stable_has_not_converged(small_run):
    """w21, w31 and b3 hold two of a feature's three weights, others than the canonical ones."""
    run = Evidence(small_run)
    X, y, _ = run.split_of([42])[0]
    on = np.isin(run.names, ["w21", "w31", "b3"])
    assert on.sum() == 3

    def at(free, of):
        theta = np.zeros((1, 15))
        theta[0, on] = free
        return of(theta, X[None], y[None])[0]

    theta = np.zeros(15)
    free = optimize.minimize(at, np.zeros(3), (reference.loss,), jac=lambda v, _: at(v, reference.gradient)[on]).x
    theta[on] = optimize.root(lambda v: at(v, reference.gradient)[on], free, tol=1e-14).x
    off = np.abs(np.where(on, 0, at(theta[on], reference.gradient))).max()
    largest = np.abs(theta[on]).min() / off  # of the step sizes at which (8) holds
    for s, step_size, verdict in ((3, 0.99 * largest, HOLDS), (3, 1.01 * largest, FAILS), (7, 0.01, FAILS)):
        result = run_trial(run.config, 3, 42, 21, 84).result._replace(theta=theta, step_size=step_size)
        run.figure_trial = run_trial(run.config, 3, 42, 21, 84)._replace(s=s, result=result)
        assert judge_one(run, "fig15-converged").verdict == verdict, (s, step_size / largest)


def test_an_estimate_of_6_says_nothing_of_4_by_itself(certified):
    assert "by itself says nothing of (4)'s" in judge_one(Evidence(certified), "Lhat-upper-bound").why


@pytest.mark.parametrize("id", ["f-never-rises", "gradient-descent-converges"])
def test_descent_is_judged_alike_with_and_without_sparsity(small_run, id):
    found = judge_one(Evidence(small_run), id)
    assert found.value == 1 and found.verdict == LIMITED and "rose by more than rounding in 0 of" in found.why
    run = Evidence(small_run)
    run.trials["max_loss_increase"] = 1.0
    assert judge_one(run, id).verdict == FAILS


def test_no_claim_asks_what_the_paper_does_not_say(small_claims):
    assert "gradient-almost-zero-all" not in small_claims
    assert [id for id in small_claims if id.startswith("epsilon")] == ["epsilon-optimality"]


def test_where_the_paper_leaves_it_open_median_and_mean_are_judged(small_claims):
    for id in ("fig9-step-size-rises", "fig10-loss-near-0.05", "fig11-test-loss-fixed-from-5"):
        assert "by the median and by the mean" in small_claims[id].statistic


def test_slips_name_what_is_wrong_in_the_paper_and_not_a_cap_with_an_early_stop():
    text = " ".join(" ".join(slip) for slip in SLIPS)
    assert "Both can't be" not in text and "w_42" in text and "The smallest" in text and "Sufficient" in text


def test_progress_names_every_claim_before_it_is_judged(small_run):
    class Told(progress.Silent):
        def __init__(self):
            self.lines = []

        def say(self, line):
            self.lines.append(line)

    show = Told()
    claims(small_run, only=["table-1", "rss"], show=show)
    assert show.lines == [f"reading {small_run}", "claim 1 of 2: table-1", "claim 2 of 2: rss"]


def test_what_the_paper_does_not_state_is_called_ours():
    rows = {option.name: option for option in against_paper(SweepConfig(levels=tuple(range(1, 15))))}
    assert set(rows) == {field.name for field in dataclasses.fields(SweepConfig)}
    ours = {"target", "n_monte", "seed", "init", "standardize", "ht_tol", "curve_points", "precision", "audit"}
    assert {name for name, option in rows.items() if option.against == OURS} == ours
    assert all(option.against == SAME for name, option in rows.items() if name not in ours)
    stopped = {o.name: o for o in against_paper(SweepConfig(stop_loss=0.05, trials=20))}
    assert stopped["stop_loss"].against == SAME and stopped["trials"].against == DIFFERS


def test_supports_with_a_full_block_hold_one():
    for K, D, s in ((3, 5, 2), (3, 5, 4), (2, 3, 3)):
        found = with_a_full_block(K, D, s, 400)
        blocks = np.concatenate(
            [found[:, : K * (D - 1)].reshape(len(found), K, D - 1), found[:, K * (D - 1) :, None]], 2
        )
        assert len(found) and (found.sum(1) == s).all() and (blocks.sum(1) == K - 1).any(1).all()


def test_many_classes_and_parameters_take_few_supports():
    # n = 650: a list of all canonical supports of 5 entries would not fit into memory.
    assert len(with_a_full_block(10, 65, 9, 13)) == 13
