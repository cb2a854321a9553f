"""The claims of the paper's section IV-A and Figs. 9 to 13, judged by a run."""

from collections.abc import Callable

import numpy as np

from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import (
    FAILS,
    HALF,
    HOLDS,
    LEVELS_RULE,
    LIMITED,
    Interval,
    Questions,
    bootstrap,
    either_reading,
    over_levels,
    rises,
    ruling,
    spans,
    surely_more,
    within,
)

QUESTIONS = Questions()
STOP = 0.05  # the paper's stopping criterion, nats
ROW = 1 / 120  # one training row in training accuracy
TEST_ROW = 1 / 30
FROM_5, FROM_10 = "every level of this run above 5", "every level of this run above 10"


def medians(x):
    return np.median(x, axis=-2)


def means(x):
    return x.mean(axis=-2)


# The paper's boxes show both, and its sentences don't say which they mean: each is judged, the first is shown first.
MEDIAN_FIRST = {"median": medians, "mean": means}
MEAN_FIRST = {"mean": means, "median": medians}  # accuracies: a median moves by whole rows
BOTH = "; by the median and by the mean"
AGREED = " It is decided as far as both agree."


def read_both(x: np.ndarray, statistic: Callable, rule: Callable, centers: dict = MEDIAN_FIRST):
    """Intervals by reading, a `Ruling` and a remark on the two readings of a quantity ``[N, levels]``.

    Args:
      statistic: maps a center of levels ``[.., levels]`` to a number ``[..]``.
      rule: maps an interval to a verdict.
      centers: the readings, the leading one first.
    """

    def by(center: Callable) -> Interval:
        return bootstrap(x, lambda x: statistic(center(x)))

    found = {name: by(center) for name, center in centers.items()}

    def alike(*intervals: Interval) -> tuple[str, str]:
        return either_reading(dict(zip(found, map(rule, intervals))))

    verdict = ruling(lambda *intervals: alike(*intervals)[0], *found.values())
    return found, verdict, alike(*found.values())[1]


def largest_change(c):
    """The largest change of the centers from the first level."""
    return np.abs(c[..., 1:] - c[..., :1]).max(-1)


def largest_relative_change(c):
    return largest_change(c) / c[..., 0]


@QUESTIONS.ask(
    "fig9-step-size-rises",
    "IV-A, Fig. 9",
    "The learning rates tend to increase as the number of nonzero parameters increases.",
    f"Typical step size at s = 14 minus that at s = 3, paired by triple{BOTH}; rises if the interval lies above 0, "
    "with a limit if from some level to the next it falls in surely most triples (sign tests, corrected over the "
    f"levels, Holm).{AGREED}",
)
def step_size_rises(run: Evidence):
    why = run.missing([3, 14])
    if why:
        return why
    x = run.values("step_size", [3, 14])
    found, verdict, remark = read_both(x, lambda c: c[..., 1] - c[..., 0], rises)
    low, high = np.median(x, axis=0)
    trend = f"the median step size goes from {low:.3f} at s = 3 to {high:.3f} at s = 14"
    why = f"{trend[0].upper()}{trend[1:]} ({remark})"
    falls = falling_steps(run)
    if verdict.verdict == HOLDS and falls:
        verdict, why = LIMITED, f"{why}, but falls in most triples from s = {', '.join(falls)}"
    init = {"normal": "standard normal", "torch_linear": "uniform"}[run.config.init]
    if run.config.step_size is None:
        why += (
            f"; this is the estimate's doing ({init} init, {run.config.n_monte} draws; the paper states neither), see "
            "the claims of III-F"
        )
    else:
        why += f"; the step size was given (--step-size {run.config.step_size}), not estimated"
    return found, verdict, f"{why}{run.left_out([3, 14])}.", trend


def falling_steps(run: Evidence) -> list[str]:
    """From which level to the next one the step size falls in surely most triples."""
    levels = [s for s in run.levels if s < run.n]
    pairs = [(a, b, np.diff(run.values("step_size", [a, b]))) for a, b in zip(levels, levels[1:])]
    counts = np.array([[(d < 0).sum(), (d != 0).sum()] for *_, d in pairs]).reshape(-1, 2)
    k, N = counts.T
    return [f"{a} to {b}" for (a, b, _), sure in zip(pairs, surely_more(k, N, HALF)) if sure]


@QUESTIONS.ask(
    "fig9-more-aggressive",
    "IV-A, Fig. 9",
    "With more parameters, IHT can go more aggressively.",
    "Median over triples of the largest step size that is certified, 1 / (upper end of L_2s), at the highest level "
    "minus the lowest; holds if its interval lies above 0.",
)
def more_aggressive(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    levels = [s for s in run.levels if s in set(run.certificates.s)]
    if len(levels) < 2:
        return "The certificates hold one level only."
    ends = [levels[0], levels[-1]]
    x = 1 / run.every("rss_upper", ends, table="certificates")
    found = bootstrap(x, lambda x: medians(x)[..., 1] - medians(x)[..., 0])
    a, b = np.median(x, axis=0)
    certain = f"the largest certified step is {a:.3f} at s = {ends[0]} and {b:.3f} at s = {ends[1]}"
    why = f"L_2s never falls as s grows, so 1 / L_2s never rises: {certain}{run.certified_text(len(x))}."
    return found, ruling(rises, found), why, certain


@QUESTIONS.ask(
    "fig12-train-accuracy-constant",
    "IV-A, Fig. 12",
    "For s >= 10 the training accuracy becomes constant.",
    f"Largest change of training accuracy from s = 10, over {FROM_10}{BOTH}; holds within half a training row (1/240), "
    f"with a limit within one (1/120).{AGREED}",
    "accuracy",
)
def train_accuracy_constant(run: Evidence):
    levels, why = run.above(10)
    if why:
        return why
    x = run.values("train_accuracy", levels)
    found, verdict, remark = read_both(x, largest_change, lambda i: within(i, ROW / 2, ROW), MEAN_FIRST)
    c = x.mean(0)
    why = f"The mean is {c[0]:.2%} at s = 10 and {c[-1]:.2%} at s = {levels[-1]}; its largest change is "
    why += f"{found['mean'].value / ROW:.1f} rows ({remark}){run.left_out(levels)}."
    return found, verdict, why


@QUESTIONS.ask(
    "fig10-loss-near-0.05",
    "IV-A, Fig. 10",
    "The training loss stabilises around 0.05, because that is the stopping criterion.",
    f"Largest distance of the training loss from 0.05, over the levels from 10 on{BOTH}; holds within 10 % (0.005 "
    f"nats), with a limit within 25 % (0.0125).{AGREED}",
)
def loss_near_stop(run: Evidence):
    levels = [s for s in run.levels if 10 <= s < run.n]
    if not levels:
        return "The run has no level from 10 on."
    x = run.values("train_loss", levels)
    found, verdict, remark = read_both(
        x, lambda c: np.abs(c - STOP).max(-1), lambda i: within(i, 0.1 * STOP, 0.25 * STOP)
    )
    c = np.median(x, axis=0)
    at = [f"{c[i]:.4f} at s = {levels[i]}" for i in sorted({0, len(levels) - 1})]
    why = f"The median is {' and '.join(at)} ({remark})"
    why += run.left_out(levels)
    if run.config.stop_loss is None:
        below = (x <= STOP).mean()
        why += f"; all {run.config.steps:,} steps were run, and {below:.0%} of these trials went below 0.05."
    else:
        why += f"; trials stopped early at {run.config.stop_loss:g} (--stop-loss)."
    return found, verdict, why


@QUESTIONS.ask(
    "fig10-no-change-beyond-11",
    "IV-A, Fig. 10",
    "More than 11 nonzero parameters make no change in the training loss.",
    f"Largest change of the training loss from s = 11, over every level of this run above 11{BOTH}; holds within 0.001 "
    f"nats, with a limit within 0.005.{AGREED}",
)
def no_change_beyond_11(run: Evidence):
    levels, why = run.above(11)
    if why:
        return why
    x = run.values("train_loss", levels)
    found, verdict, remark = read_both(x, largest_change, lambda i: within(i, 0.001, 0.005))
    lower = (x[:, -1] < x[:, 0] - 0.001).mean()
    c = np.median(x, axis=0)
    why = (
        f"The median goes from {c[0]:.4f} at s = 11 to {c[-1]:.4f} at s = {levels[-1]}; in {lower:.0%} of the triples "
        f"it is lower by more than 0.001 ({remark}){run.left_out(levels)}."
    )
    return found, verdict, why


@QUESTIONS.ask(
    "fig11-test-loss-fixed-from-5",
    "IV-A, Fig. 11",
    "The test loss has become fixed after a sparsity level of 5.",
    f"Largest change of the test loss from s = 5, over {FROM_5}, as a share of that at 5{BOTH}; holds within 5 %, with "
    f"a limit within 20 %.{AGREED}",
)
def test_loss_fixed(run: Evidence):
    levels, why = run.above(5)
    if why:
        return why
    x = run.values("test_loss", levels)
    found, verdict, remark = read_both(x, largest_relative_change, lambda i: within(i, 0.05, 0.2))
    c = np.median(x, axis=0)
    why = f"The median goes from {c[0]:.3f} at s = 5 to {c[-1]:.3f} nats at s = {levels[-1]} ({remark})"
    return found, verdict, f"{why}{run.left_out(levels)}."


@QUESTIONS.ask(
    "fig13-test-accuracy-constant-from-5",
    "IV-A, Fig. 13",
    "The test accuracy is almost constant beyond a sparsity level of 5.",
    f"Largest change of test accuracy from s = 5, over {FROM_5}{BOTH}; holds within half a test row (1/60), with a "
    f"limit within one (1/30).{AGREED}",
    "accuracy",
)
def test_accuracy_constant(run: Evidence):
    levels, why = run.above(5)
    if why:
        return why
    x = run.values("test_accuracy", levels)
    found, verdict, remark = read_both(x, largest_change, lambda i: within(i, TEST_ROW / 2, TEST_ROW), MEAN_FIRST)
    c = x.mean(0)
    why = (
        f"The mean goes from {c[0]:.1%} at s = 5 to {c[-1]:.1%} at s = {levels[-1]}, "
        f"{found['mean'].value / TEST_ROW:.1f} test rows at most ({remark}){run.left_out(levels)}."
    )
    return found, verdict, why


@QUESTIONS.ask(
    "fig13-test-accuracy-steadier-from-10",
    "IV-A, Fig. 13",
    "The test accuracy becomes more stable after a sparsity level of 10.",
    "Mean standard deviation over triples of test accuracy at the levels from 10 on, over that at the levels 5 to "
    "9; holds if the interval ends at most at 0.9, with a limit below 1, and does not if it begins at 1 or more.",
    "accuracy",
)
def test_accuracy_steadier(run: Evidence):
    before = [s for s in run.levels if 5 <= s < 10]
    after = [s for s in run.levels if 10 <= s < run.n]
    if not before or not after:
        return "The run has no level from 5 to 9, or none from 10 on."
    x = run.values("test_accuracy", before + after)

    def ratio(x):
        spread = x.std(axis=-2)
        with np.errstate(invalid="ignore", divide="ignore"):
            return spread[..., len(before) :].mean(-1) / spread[..., : len(before)].mean(-1)

    found = bootstrap(x, ratio)
    verdict = ruling(lambda i: FAILS if i.low >= 1 else within(i, 0.9, np.nextafter(1, 0)), found)
    spread = x.std(0)
    why = f"The standard deviation is {spread[0]:.1%} at s = {before[0]} and {spread[-1]:.1%} at s = {after[-1]}"
    return found, verdict, f"{why}{run.left_out(before + after)}."


@QUESTIONS.ask(
    "five-parameters-suffice",
    "IV-A, Fig. 13",
    "As few as 5 nonzero parameters may suffice to generalise the Iris data.",
    f"Test accuracy of the dense baseline minus that at s = 5, paired{BOTH}; holds within half a test row (1/60), with "
    f"a limit within two (1/15).{AGREED}",
    "accuracy",
)
def five_suffice(run: Evidence):
    why = run.missing([5]) or ("" if run.has_dense else "The run has no dense baseline (--no-dense).")
    if why:
        return why
    x = np.diff(run.values("test_accuracy", [5], dense=True))
    found, verdict, remark = read_both(
        x, lambda c: c[..., 0], lambda i: within(i, TEST_ROW / 2, 2 * TEST_ROW), MEAN_FIRST
    )
    why = f"5 parameters cost {found['mean'].value:.1%} of test accuracy against all {run.n} ({remark})"
    return found, verdict, f"{why}{run.left_out([5], dense=True)}."


@QUESTIONS.ask(
    "epsilon-optimality",
    "IV-A, (3)",
    "IHT converges to a sparse network whose loss is very close to the dense one.",
    "Number of levels at which the median of epsilon, the training loss minus that of the dense baseline of the same "
    "triple, is at most 0.01 nats; " + LEVELS_RULE.format("a median of at most 0.05 nats"),
)
def near_dense(run: Evidence):
    levels = [s for s in run.levels if s < run.n]
    if not levels or not run.has_dense:
        return "The run has no dense baseline (--no-dense), or no level below n."
    x = run.values("epsilon", levels, dense=True)[:, :-1]
    judged = over_levels(x <= 0.01, x <= 0.05, HALF, HALF)
    listed = ", ".join(f"{median:.3f} at s = {s}" for s, median in zip(levels, np.median(x, axis=0)))
    parts = [("surely within 0.01", judged.strictly), ("surely within 0.05", judged.loosely)]
    parts.append(("surely beyond 0.05", judged.not_even))
    said = [f"{name} at s = {spans(np.array(levels)[mask].tolist())}" for name, mask in parts if mask.any()]
    why = f"The medians are {listed} nats{''.join(f'; {part}' for part in said)}{run.left_out(levels, dense=True)}."
    return {f"of {len(levels)} levels": judged.found}, judged.ruling, why
