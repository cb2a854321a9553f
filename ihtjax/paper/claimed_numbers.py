"""The claims of the paper's sections I to III that a computation decides without a run."""

import itertools
import math

import numpy as np

from ihtjax.exact.bounds import squared_error_bounds
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import FAILS, HOLDS, LIMITED, Questions

QUESTIONS = Questions()
# LeNet-5 (doi:10.1109/5.726791) and GPT-3 (arXiv:2005.14165), the ends of Fig. 1; the paper calls the latter ChatGPT-3.
LENET5, GPT3 = (1998, 60_000), (2020, 175_000_000_000)
TABLE_I = (15, 105, 455, 1365, 3003, 5005, 6435, 6435, 5005, 3003, 1365, 455, 105, 15)


def growth() -> float:
    """Growth a year of the number of parameters, from end to end of Fig. 1: (175e9 / 60e3)^(1/22) - 1."""
    return (GPT3[1] / LENET5[1]) ** (1 / (GPT3[0] - LENET5[0])) - 1


@QUESTIONS.ask(
    "growth-97-percent",
    "I, Fig. 1",
    "From 1998 to 2020 the number of parameters grew by approximately 97 % a year.",
    "(175e9 / 60e3)^(1/22) - 1, LeNet-5 to GPT-3; holds if it rounds to 0.97.",
)
def growth_rate(run):
    why = f"It is {growth():.1%}, of the two ends alone; a fit through other networks of these years differs."
    return growth(), HOLDS if round(growth(), 2) == 0.97 else FAILS, why


@QUESTIONS.ask(
    "132-quadrillion-by-2040",
    "I",
    "At this rate a network has 132 quadrillion parameters by 2040.",
    "175e9 (1 + growth)^20; holds within 1 % of 1.32e17.",
)
def projection(run):
    value = GPT3[1] * (1 + growth()) ** (2040 - GPT3[0])
    why = f"The arithmetic gives {value:.3g}; it carries two points on for 20 years and says nothing of what will be."
    return value, HOLDS if abs(value / 1.32e17 - 1) <= 0.01 else FAILS, why


def times(id: str, claim: str, count: float, what: str):
    """A claim of the introduction that 132 quadrillion is so many times a count."""
    said = int(claim.split()[0].replace(",", ""))

    @QUESTIONS.ask(id, "I", claim, f"132e15 / {count:.3g}, the paper's own numbers; holds within 2 % of {said:,}.")
    def decide(run):
        value = 132e15 / count
        why = f"132 quadrillion over {what} is {value:,.0f}; both counts are the paper's, and neither is judged here."
        return value, HOLDS if abs(value / said - 1) <= 0.02 else FAILS, why

    return decide


times("1320-times-synapses", "1,320 times the synaptic connections of the human brain.", 100e12, "100 trillion")
times("3500-times-cells", "3,500 times the cells of the human body.", 37.2e12, "37.2 trillion")


def largest_kept(v: np.ndarray, s: int) -> set[tuple[float, ...]]:
    """All values of H_s(v): each keeps s entries of v whose absolute values have the largest sum."""
    kept = [np.isin(np.arange(len(v)), subset) for subset in itertools.combinations(range(len(v)), s)]
    sums = [np.abs(v[mask]).sum() for mask in kept]
    return {tuple((v * mask).tolist()) for mask, total in zip(kept, sums) if total == max(sums)}


@QUESTIONS.ask(
    "footnote1-H2",
    "I, footnote 1",
    "H_2([1, -3, 1]) is either [0, -3, 1] or [1, -3, 0].",
    "Number of values of H_2([1, -3, 1]), by search of all supports; holds if they are these two.",
)
def set_valued(run):
    values = largest_kept(np.array([1.0, -3.0, 1.0]), 2)
    holds = values == {(0.0, -3.0, 1.0), (1.0, -3.0, 0.0)}
    return len(values), HOLDS if holds else FAILS, "H_s is set-valued; that ihtjax keeps the lower index is its choice."


@QUESTIONS.ask(
    "table-1", "Table I", "Numbers of supports of 15 parameters by level.", "Entries that equal C(15, s); holds if 14."
)
def table_1(run):
    equal = sum(math.comb(15, s) == count for s, count in enumerate(TABLE_I, start=1))
    return equal, HOLDS if equal == 14 else FAILS, f"{equal} of 14 entries equal C(15, s)."


def example_1(m: int, n: int) -> np.ndarray:
    """A design matrix ``[m, n]`` with standard normal entries, the last column 1 for the bias."""
    X = np.random.default_rng(0).standard_normal((m, n))
    X[:, -1] = 1
    return X


@QUESTIONS.ask(
    "example1-L",
    "III-C, Example 1",
    "For half the squared error, L = lambda_max(X'X).",
    "Largest |X'X v| / |v| over 10,000 random v and the top eigenvector, over lambda_max, X random 30 x 6; holds if 1 "
    "within 1e-12.",
)
def example_1_dense(run):
    H = example_1(30, 6).T @ example_1(30, 6)
    values, vectors = np.linalg.eigh(H)
    v = np.column_stack([np.random.default_rng(1).standard_normal((6, 10_000)), vectors[:, -1]])
    ratio = (np.linalg.norm(H @ v, axis=0) / np.linalg.norm(v, axis=0)).max() / values[-1]
    return ratio, HOLDS if abs(ratio - 1) < 1e-12 else FAILS, "No pair exceeds it, and the top eigenvector attains it."


@QUESTIONS.ask(
    "example1-L2s",
    "III-C, Example 1",
    "On s-sparse pairs L_2s = lambda_max(X_S'X_S), with S the coordinates in which exactly one of the two is nonzero.",
    "Largest of (4)'s quotient over that formula, on pairs that share s - 1 of their coordinates, X random 30 x 6, "
    "s = 2; holds if at most 1.",
)
def example_1_sparse(run):
    X = example_1(30, 6)
    H = X.T @ X
    draw = np.random.default_rng(1)
    worst = mended = 0.0
    for _ in range(2000):
        i, j, k = draw.permutation(6)[:3]
        d = np.zeros(6)
        d[[i, j, k]] = draw.standard_normal(3)  # theta on i, j; theta~ on i, k
        quotient = d @ H @ d / (d @ d)
        for name, S in (("paper", [j, k]), ("union", [i, j, k])):
            ratio = quotient / np.linalg.eigvalsh(H[np.ix_(S, S)])[-1]
            worst, mended = (max(worst, ratio), mended) if name == "paper" else (worst, max(mended, ratio))
    six = [squared_error_bounds(X, s) for s in (1, 2)]
    apart = max(b.lipschitz_lower / b.rss_upper for b in six)
    why = (
        f"A pair exceeds it {worst:.2f} times: shared coordinates count too, S must be the union ({mended:.2f} then), "
        f"and (6)'s constant, max |X'X_S|, is up to {apart:.2f} times as large."
    )
    return worst, HOLDS if worst <= 1 else FAILS, why


def needed(id: str, claim: str, m: int, n: int, s: int):
    statistic = (
        f"Largest of {'(5)' if s == n else '(4)'}'s quotient over lambda_max(X'X) on 10,000 pairs of X random {m} x "
        f"{n}{'' if s == n else f', s = {s}'}, where the condition fails; does not hold if f is smooth all the same, "
        "that is if at most 1."
    )

    @QUESTIONS.ask(id, "III-C, Example 1", claim, statistic)
    def decide(run):
        X = example_1(m, n)
        draw = np.random.default_rng(1)
        keep = np.argsort(draw.random((10_000, 2, n)), axis=-1) < s
        theta, other = np.moveaxis(draw.standard_normal((10_000, 2, n)) * keep, 1, 0)
        d = other - theta
        top = np.linalg.eigvalsh(X.T @ X)[-1]
        value = (np.sum((d @ X.T) ** 2, axis=1) / np.sum(d**2, axis=1)).max() / top
        return value, FAILS if value <= 1 + 1e-12 else HOLDS, "X'X has a largest eigenvalue whatever the shape of X."

    return decide


needed("example1-needs-n+1<=m", "f is strongly smooth with some L if n + 1 <= m, and else perhaps not.", 4, 9, 9)
needed("example1-needs-2s<=m", "f is restricted strongly smooth as long as 2s <= m.", 3, 9, 3)


@QUESTIONS.ask(
    "rss-implies-learning",
    "III-D",
    "If 2s <= m the loss is restricted strongly smooth; consequently a network with at most s nonzero parameters can "
    "effectively learn from the data.",
    "Largest fall of half the squared error that s-sparse parameters can reach, as a share of the error at 0, by "
    "search of all supports; X random 30 x 6, s = 2, y orthogonal to X's columns; holds if more than "
    "1e-12.",
)
def smooth_and_useless(run):
    X = example_1(30, 6)
    y = np.linalg.qr(np.column_stack([X, np.random.default_rng(2).standard_normal(30)]))[0][:, -1]
    supports = [X[:, list(S)] for S in itertools.combinations(range(6), 2)]
    rest = [np.sum((y - X_S @ np.linalg.lstsq(X_S, y, rcond=None)[0]) ** 2) for X_S in supports]
    fall = max(0.0, 1 - min(rest) / np.sum(y**2))
    why = "Smoothness bounds how a loss bends, not how low it goes: here 2s <= m, L_2s exists, and nothing is learnt."
    return fall, FAILS if fall <= 1e-12 else HOLDS, why


def counterexample(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f = y^2/2 - x^3 y / (x^2 + y^2) ``[B]`` and its gradient ``[B, 2]``, at points (x, y) ``[B, 2]`` other than 0."""
    x, y = theta.T
    r = x**2 + y**2
    f = y**2 / 2 - x**3 * y / r
    return f, np.stack([-(x**2) * y * (x**2 + 3 * y**2) / r**2, y - x**3 * (x**2 - y**2) / r**2], axis=-1)


@QUESTIONS.ask(
    "six-implies-four",
    "III-B, III-F",
    "If the gradient is Lipschitz with a constant on all s-sparse pairs, (6), then (4) holds with the same constant.",
    "(4)'s modulus over (6)'s constant on 1-sparse pairs of f = y^2/2 - x^3 y / (x^2 + y^2), f(0) = 0, over "
    "40,000 directions from axis to axis; holds if at most 1.",
)
def six_implies_four(run):
    # f is homogeneous of degree 2, so the quotients depend on a pair's direction alone; on one axis both are 1 at most.
    angle = 2 * np.pi * (np.arange(40_000) + 0.5) / 40_000
    on_x, on_y = np.column_stack([np.cos(angle), 0 * angle]), np.column_stack([0 * angle, np.sin(angle)])
    a, b = np.concatenate([on_x, on_y]), np.concatenate([on_y, on_x])
    (f_a, g_a), (f_b, g_b) = counterexample(a), counterexample(b)
    length = np.linalg.norm(b - a, axis=1)
    six = (np.linalg.norm(g_b - g_a, axis=1) / length).max()
    four = (2 * (f_b - f_a - np.sum(g_a * (b - a), axis=1)) / length**2).max()
    why = (
        f"(6) has {six:.4f} there and (4) needs {four:.4f}: the segment between two s-sparse points is 2s-sparse only. "
        "(6) on pairs whose difference is 2s-sparse, along such segments, does imply (4)."
    )
    return four / six, HOLDS if four <= six * (1 + 1e-12) else FAILS, why


@QUESTIONS.ask(
    "differentiable",
    "III-E",
    "ReLU's points without a derivative are of measure zero, so that we can assume the loss of a network "
    "differentiable (here: as (4) needs it).",
    "Growth of (4)'s quotient between -h and h when h falls from 1e-3 to 1e-6, for half the squared error of one "
    "neuron with target -1; holds if ReLU's grows less than 2 times, with a limit if tanh's does.",
)
def differentiable(run):
    def growth(neuron, slope):
        h = np.array([1e-3, 1e-6])
        f = [(neuron(w) + 1) ** 2 / 2 for w in (-h, h)]
        rest = f[1] - f[0] - (neuron(-h) + 1) * slope(-h) * 2 * h
        quotient = np.abs(2 * rest / (2 * h) ** 2)
        return quotient[1] / quotient[0]

    relu = growth(lambda w: np.maximum(w, 0), lambda w: 1.0 * (w > 0))
    tanh = growth(np.tanh, lambda w: 1 - np.tanh(w) ** 2)
    why = (
        f"With tanh the quotient stays ({tanh:.2f}), with ReLU it grows like 1 / h: across the kink no L satisfies "
        "(4), however small the set of kinks. The paper's own network is linear, and its loss smooth."
    )
    return relu, HOLDS if relu < 2 else LIMITED if tanh < 2 else FAILS, why


def asked_of_relu(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least L of (4) and that of (6) for f = (relu(w) + 1)^2 / 2 between w = -h and w~ = h."""
    w = np.stack([-h, h])
    f, g = (np.maximum(w, 0) + 1) ** 2 / 2, (np.maximum(w, 0) + 1) * (w > 0)
    d = 2 * h
    return 2 * (f[1] - f[0] - g[0] * d) / d**2, np.abs(g[1] - g[0]) / d


@QUESTIONS.ask(
    "relu-kinks-do-not-matter",
    "III-E",
    "Where ReLU has no derivative, a set of measure zero, doesn't affect what is computed (here: (4) and (6) can hold "
    "with some L).",
    "The smaller of the least L of (4) and of (6) for f = (relu(w) + 1)^2 / 2 between w = -h and w~ = h: its growth "
    "when h falls from 1e-3 to 1e-6; holds if less than 2 times.",
)
def kinks_of_relu(run):
    h = np.array([1e-3, 1e-6])
    four, six = asked_of_relu(h)
    least = np.minimum(four, six)
    why = (
        "Both points have a derivative. From below 0 the gradient is 0, and above it f(t) = 1/2 + t + t^2/2 rises with "
        f"slope 1: (4) asks for L = {four[1]:.3g} and (6) for {six[1]:.3g} at h = {h[1]:g}, and for more without end. "
        "So no L satisfies either, and a network with ReLU is not restricted strongly smooth."
    )
    return least[1] / least[0], HOLDS if least[1] < 2 * least[0] else FAILS, why


@QUESTIONS.ask(
    "L2s-at-most-L",
    "III-C",
    "It is always the case that L_2s <= L.",
    "Largest L_2s / L over all s, exact by enumeration, of half the squared error with X random 30 x 6; holds if at "
    "most 1.",
)
def at_most_dense(run: Evidence):
    X = example_1(30, 6)
    constants = [squared_error_bounds(X, s).rss_upper for s in range(1, 7)]
    ratio = max(constants) / np.linalg.eigvalsh(X.T @ X)[-1]
    why = "By definition, a largest value over fewer pairs"
    s = run.levels[len(run.levels) // 2] if run.levels else run.n
    medians = run.trials[run.trials.ended].groupby(["method", "s"], observed=True).lipschitz_estimate.median()
    sparse, dense = medians.reindex(
        [("iht", s), ("gd", run.n)]
    )  # null where none is finished, diverged not, or estimated
    if sparse > 0 and dense > 0:
        why += f"; the run's estimates have medians {sparse:.3f} at s = {s} and {dense:.3f} dense"
        why += ", the wrong way round" if sparse > dense else ""
    return ratio, HOLDS if ratio <= 1 + 1e-12 else FAILS, why + "."


@QUESTIONS.ask(
    "losses-bounded",
    "III-F",
    "Mean squared error, cross-entropy and binary cross-entropy are bounded over their entire domain.",
    "Least growth of the three losses of one sample when a wrong output grows from 1e3 to 1e6; holds if below 2.",
)
def bounded_losses(run):
    z = np.array([1e3, 1e6])  # output; the target is 0, or the class whose output is 0
    losses = z**2 / 2, np.logaddexp(0, z), np.logaddexp.reduce([z, 0 * z, 0 * z], axis=0)
    growth = min(loss[1] / loss[0] for loss in losses)
    why = f"All three grow without bound, by {growth:,.0f} times or more here; they are bounded below only."
    return growth, HOLDS if growth < 2 else FAILS, why
