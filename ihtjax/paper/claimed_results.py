"""The claims of the paper's section IV-A and Figs. 9 to 13, judged by a run."""

import numpy as np

from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import FAILS, HOLDS, LIMITED, Question, Questions, bootstrap, rises, within

QUESTIONS = Questions()
STOP = 0.05  # the paper's stopping criterion, nats
ROW = 1 / 120  # one training row in training accuracy
TEST_ROW = 1 / 30
FROM_5, FROM_10 = "every level of this run above 5", "every level of this run above 10"


def medians(x):
    return np.median(x, axis=-2)


def largest_change(center, relative=False):
    """Statistic: the largest |center of a column - that of the first|, over the first if ``relative``."""

    def statistic(x):
        c = center(x)
        change = np.abs(c[..., 1:] - c[..., :1]).max(-1)
        return change / c[..., 0] if relative else change

    return statistic


def means(x):
    return x.mean(axis=-2)


@QUESTIONS.ask(
    "fig9-step-size-rises",
    "IV-A, Fig. 9",
    "The learning rates tend to increase as the number of nonzero parameters increases.",
    "Median step size at s = 14 minus that at s = 3, paired by triple; rises if the interval lies above 0, "
    "with a limit if the medians of some neighbouring levels surely fall.",
)
def step_size_rises(run: Evidence):
    why = run.missing([3, 14])
    if why:
        return why
    x = run.values("step_size", [3, 14])
    found = bootstrap(x, lambda x: medians(x)[..., 1] - medians(x)[..., 0])
    verdict = rises(found)
    falls = []
    for a, b in zip(run.levels, run.levels[1:]):
        step = bootstrap(run.values("step_size", [a, b]), lambda x: medians(x)[..., 1] - medians(x)[..., 0])
        if step.high < 0:
            falls.append(f"{a} to {b}")
    low, high = np.median(x, axis=0)
    why = f"The median goes from {low:.3f} at s = 3 to {high:.3f} at s = 14"
    if verdict == HOLDS and falls:
        verdict, why = LIMITED, f"{why}, but falls from s = {', '.join(falls)}"
    init = {"normal": "standard normal", "torch_linear": "uniform"}[run.config.init]
    if run.config.step_size is None:
        why += f"; this is the estimate's doing ({init} init, {run.config.n_monte} draws), see the claims of III-F."
    else:
        why += f"; the step size was given (--step-size {run.config.step_size}), not estimated."
    return found, verdict, why


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
    x = 1 / run.values("rss_upper", ends, table="certificates")
    found = bootstrap(x, lambda x: medians(x)[..., 1] - medians(x)[..., 0])
    a, b = np.median(x, axis=0)
    why = f"L_2s never falls as s grows, so the safe step never rises: {a:.3f} at s = {ends[0]}, {b:.3f} at {ends[1]}."
    return found, rises(found), why


@QUESTIONS.ask(
    "fig12-train-accuracy-constant",
    "IV-A, Fig. 12",
    "For s >= 10 the training accuracy becomes constant.",
    f"Largest change of mean training accuracy from s = 10, over {FROM_10}; holds within half a training row "
    "(1/240), with a limit within one (1/120).",
)
def train_accuracy_constant(run: Evidence):
    levels, why = run.above(10)
    if why:
        return why
    x = run.values("train_accuracy", levels)
    found = bootstrap(x, largest_change(means))
    c = x.mean(0)
    why = f"The mean is {c[0]:.2%} at s = 10 and {c[-1]:.2%} at s = {levels[-1]}, {found.value / ROW:.1f} rows apart."
    return found, within(found, ROW / 2, ROW), why


@QUESTIONS.ask(
    "fig10-loss-near-0.05",
    "IV-A, Fig. 10",
    "The training loss stabilises around 0.05, because that is the stopping criterion.",
    "Largest distance from 0.05 of the median training loss, over the levels from 10 on; holds within 10 % (0.005 "
    "nats), with a limit within 25 % (0.0125).",
)
def loss_near_stop(run: Evidence):
    levels = [s for s in run.levels if 10 <= s < run.n]
    if not levels:
        return "The run has no level from 10 on."
    x = run.values("train_loss", levels)
    found = bootstrap(x, lambda x: np.abs(medians(x) - STOP).max(-1))
    c = np.median(x, axis=0)
    why = f"The median is {c[0]:.4f} at s = {levels[0]} and {c[-1]:.4f} at s = {levels[-1]}"
    if run.config.stop_loss is None:
        below = (x <= STOP).mean()
        why += f"; all {run.config.steps:,} steps were run, and {below:.0%} of these trials went below 0.05."
    else:
        why += f"; trials froze at {run.config.stop_loss:g} (--stop-loss)."
    return found, within(found, 0.1 * STOP, 0.25 * STOP), why


@QUESTIONS.ask(
    "fig10-no-change-beyond-11",
    "IV-A, Fig. 10",
    "More than 11 nonzero parameters make no change in the training loss.",
    "Largest change of the median training loss from s = 11, over every level of this run above 11; holds within "
    "0.001 nats, with a limit within 0.005.",
)
def no_change_beyond_11(run: Evidence):
    levels, why = run.above(11)
    if why:
        return why
    x = run.values("train_loss", levels)
    found = bootstrap(x, largest_change(medians))
    lower = (x[:, -1] < x[:, 0] - 0.001).mean()
    c = np.median(x, axis=0)
    why = (
        f"The median goes from {c[0]:.4f} at s = 11 to {c[-1]:.4f} at s = {levels[-1]}; in {lower:.0%} of the triples "
        "it is lower by more than 0.001."
    )
    return found, within(found, 0.001, 0.005), why


@QUESTIONS.ask(
    "fig11-test-loss-fixed-from-5",
    "IV-A, Fig. 11",
    "The test loss has become fixed after a sparsity level of 5.",
    f"Largest change of the median test loss from s = 5, over {FROM_5}, as a share of that at 5; holds within 5 %, "
    "with a limit within 20 %.",
)
def test_loss_fixed(run: Evidence):
    levels, why = run.above(5)
    if why:
        return why
    x = run.values("test_loss", levels)
    found = bootstrap(x, largest_change(medians, relative=True))
    c = np.median(x, axis=0)
    why = f"The median goes from {c[0]:.3f} at s = 5 to {c[-1]:.3f} nats at s = {levels[-1]}."
    return found, within(found, 0.05, 0.2), why


@QUESTIONS.ask(
    "fig13-test-accuracy-constant-from-5",
    "IV-A, Fig. 13",
    "The test accuracy is almost constant beyond a sparsity level of 5.",
    f"Largest change of mean test accuracy from s = 5, over {FROM_5}; holds within half a test row (1/60), with a "
    "limit within one (1/30).",
)
def test_accuracy_constant(run: Evidence):
    levels, why = run.above(5)
    if why:
        return why
    x = run.values("test_accuracy", levels)
    found = bootstrap(x, largest_change(means))
    c = x.mean(0)
    why = (
        f"The mean goes from {c[0]:.1%} at s = 5 to {c[-1]:.1%} at s = {levels[-1]}, "
        f"{found.value / TEST_ROW:.1f} test rows at most."
    )
    return found, within(found, TEST_ROW / 2, TEST_ROW), why


@QUESTIONS.ask(
    "fig13-test-accuracy-steadier-from-10",
    "IV-A, Fig. 13",
    "The test accuracy becomes more stable after a sparsity level of 10.",
    "Mean standard deviation over triples of test accuracy at the levels from 10 on, over that at the levels 5 to "
    "9; holds if the interval ends at most at 0.9, with a limit below 1, and does not if it begins at 1 or more.",
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
    verdict = FAILS if found.low >= 1 else within(found, 0.9, np.nextafter(1, 0))
    spread = x.std(0)
    why = f"The standard deviation is {spread[0]:.1%} at s = {before[0]} and {spread[-1]:.1%} at s = {after[-1]}."
    return found, verdict, why


@QUESTIONS.ask(
    "five-parameters-suffice",
    "IV-A, Fig. 13",
    "As few as 5 nonzero parameters may suffice to generalise the Iris data.",
    "Mean test accuracy of the dense baseline minus that at s = 5, paired; holds within half a test row (1/60), "
    "with a limit within two (1/15).",
)
def five_suffice(run: Evidence):
    why = run.missing([5]) or ("" if run.has_dense else "The run has no dense baseline (--no-dense).")
    if why:
        return why
    frame = run.trials[run.trials.status == "ok"]
    sparse = frame[(frame.method == "iht") & (frame.s == 5)].set_index("trial").test_accuracy
    dense = frame[frame.method == "gd"].set_index("trial").test_accuracy
    found = bootstrap((dense - sparse).dropna().to_numpy()[:, None], lambda x: x[..., 0].mean(-1))
    why = f"5 parameters cost {found.value:.1%} of test accuracy against all {run.n}."
    return found, within(found, TEST_ROW / 2, 2 * TEST_ROW), why


def epsilon_questions(levels: list[int]) -> list[Question]:
    """epsilon-optimality, a question for each sparsity level; one for all if there is no level."""
    return [
        Question(
            f"epsilon-optimality-s{s}" if s else "epsilon-optimality",
            "IV-A, (3)",
            f"IHT{f' with s = {s}' if s else ''} converges to a network whose loss is very close to the dense one.",
            "Median of epsilon, the training loss minus that of the dense baseline of the same triple; holds within "
            "0.01 nats, with a limit within 0.05.",
            lambda run, s=s: near_dense(run, s),
        )
        for s in levels or [None]
    ]


def near_dense(run: Evidence, s: int | None):
    if s is None or not run.has_dense:
        return "The run has no dense baseline (--no-dense), or no level below n."
    x = run.values("epsilon", [s])
    found = bootstrap(x, lambda x: medians(x)[..., 0])
    why = f"The median distance is {found.value:.4f} nats; {(x <= 0.01).mean():.0%} of the triples lie within 0.01."
    return found, within(found, 0.01, 0.05), why
