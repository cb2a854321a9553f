"""The claims of the paper's section III about the objective, judged on a run's own rows."""

import itertools
import math

import numpy as np

from ihtjax.exact.bounds import boehning, sparse_eigenvalue
from ihtjax.exact.newton import SoftmaxRows, restricted_optima
from ihtjax.exact.optimality import Split
from ihtjax.exact.separation import ATTAINED, existence
from ihtjax.exact.symmetry import as_blocks, canonical_support, canonical_supports, from_blocks
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import FAILS, HOLDS, LIMITED, UNDECIDED, Questions

QUESTIONS = Questions()
NO_ROWS = "The run's data can't be read any more."
# Linear programs of some milliseconds each.
MAX_PROGRAMS = 1500


@QUESTIONS.ask(
    "rss",
    "III-F, Q2",
    "The loss of the network is restricted strongly smooth.",
    "Largest of (4)'s quotient over the upper bound of L_2s, on 1,000 random s-sparse pairs of the run's first split "
    "at each of its levels; holds if at most 1.",
)
def restricted_smoothness(run: Evidence):
    splits = run.splits(1)
    if not splits:
        return NO_ROWS
    X, y, K = splits[0]
    rows, B = SoftmaxRows(X, y, K), boehning(X, K)
    draw = np.random.default_rng(0)
    worst = 0.0
    for s in run.levels:
        keep = np.argsort(draw.random((2, 1000, run.n)), axis=-1) < s
        theta, other = draw.standard_normal((2, 1000, run.n)) * keep
        d = other - theta
        rest = rows.loss(other) - rows.loss(theta) - np.sum(rows.gradient(theta) * d, axis=1)
        quotient = 2 * rest / np.sum(d**2, axis=1)
        worst = max(worst, quotient.max() / sparse_eigenvalue(B, 2 * s, K).upper)
    why = "The Hessian of softmax regression is at most 1/2 (I - J/K) (x) X'X/m everywhere (Boehning), so L_2s exists."
    return worst, HOLDS if worst <= 1 else FAILS, why


@QUESTIONS.ask(
    "sublevel-sets-bounded",
    "III-F",
    "Every sublevel set is bounded over each subspace of dimension at most s.",
    "Largest level s <= 3 up to which no support of the run's first split has an unbounded sublevel set, by linear "
    "programs; holds if 3 or n, with a limit if 1 or 2.",
)
def bounded_sublevel_sets(run: Evidence):
    splits = run.splits(1)
    if not splits:
        return NO_ROWS
    X, y, K = splits[0]
    top = 0
    while top < min(3, run.n) and sum(math.comb(run.n, s) for s in range(1, top + 2)) <= MAX_PROGRAMS:
        top += 1
    if not top:
        return f"{run.n} parameters make too many linear programs."
    counts = unbounded_supports(X, y, K, top)
    bounded = next((s - 1 for s, (count, _) in counts.items() if count), top)
    verdict = HOLDS if bounded == min(3, run.n) else LIMITED if bounded else FAILS
    if bounded == top < min(3, run.n):
        verdict = UNDECIDED
    listed = "; ".join(f"{count} of {total} at s = {s}" for s, (count, total) in counts.items())
    why = f"Unbounded on {listed}; from s = {K} on, one number added to a feature's {K} weights changes nothing."
    return bounded, verdict, why


def unbounded_supports(X: np.ndarray, y: np.ndarray, K: int, top: int) -> dict[int, tuple[int, int]]:
    """For each level up to ``top``, how many supports have an unbounded sublevel set, and of how many.

    f restricted to a support is convex: its sublevel sets are bounded exactly if no direction on the support keeps it
    from rising for ever. Such a direction separates rows (see `existence`), or changes nothing: a full block.
    """
    n = K * (X.shape[1] + 1)
    found, counts = set(), {}
    for s in range(1, top + 1):
        every = list(itertools.combinations(range(n), s))
        for support in every:
            mask = np.isin(np.arange(n), support)
            inside = any(support[:i] + support[i + 1 :] in found for i in range(s))
            full = (canonical_support(mask, K).sum() < s) if s >= K else False
            if inside or full or existence(X, y, mask) != ATTAINED:
                found.add(support)
        counts[s] = sum(len(support) == s for support in found), len(every)
    return counts


@QUESTIONS.ask(
    "distinct-values",
    "III-A, III-F",
    "Distinct HT-stable points have distinct objective values (assumed by the paper).",
    "Most HT-stable points of the run's first split found with values within 1e-12 of each other, with gamma the "
    "median step size; holds if 1.",
)
def distinct_values(run: Evidence):
    splits = run.splits(1)
    if not splits:
        return NO_ROWS
    gamma = float(run.trials.step_size.median())
    for s in range(2, min(run.n, 6)):
        count, spread, names = equal_stable_points(splits[0], s, gamma)
        if count > 1:
            apart = f"{spread:.0e} apart" if spread else "equal to the last bit"
            points = " and ".join(", ".join(run.names[i] for i in support) for support in names[:2])
            why = f"Supports ({points}) are two of {count} with s = {s}, their values {apart}: they make one network."
            return count, FAILS, why.replace(" and ", ") and (", 1)
    return "No equal HT-stable points were found up to s = 5, which proves nothing."


def equal_stable_points(split: Split, s: int, gamma: float) -> tuple[int, float, list[np.ndarray]]:
    """HT-stable points with s parameters that make one network: how many, how far apart their values, their supports.

    K - 1 entries of a block fit like any other K - 1 (see `symmetry`). At a minimiser the block's gradient vanishes in
    all K, so the twins are HT-stable if their entries are large enough for (8).
    """
    X, y, K = split
    rows = SoftmaxRows(X, y, K)
    supports = canonical_supports(K, rows.D, s)
    blocks = as_blocks(supports, K)
    has_full = (blocks.sum(-2) == K - 1).any(-1)
    candidates = supports[has_full][:400]
    best = 1, 0.0, []
    if not len(candidates):
        return best
    optima = restricted_optima(rows, candidates)
    for theta, converged in zip(optima.theta, optima.converged):
        if not converged:
            continue
        V = as_blocks(theta, K)
        twins = [theta]
        for block in np.flatnonzero((V != 0).sum(0) == K - 1):
            for k in np.flatnonzero(V[:, block]):
                moved = V.copy()
                moved[:, block] -= V[k, block]
                twins.append(from_blocks(moved))
        twins = np.array(twins)
        gradient = rows.gradient(twins)
        on = twins != 0
        smallest = np.where(on, np.abs(twins), np.inf).min(1)
        vanishes = np.where(on, np.abs(gradient), 0).max(1) <= 1e-7
        stable = vanishes & (on.sum(1) == s) & (smallest >= gamma * np.where(on, 0, np.abs(gradient)).max(1))
        if stable.sum() > best[0]:
            values = rows.loss(twins[stable])
            if np.ptp(values) <= 1e-12:
                best = int(stable.sum()), float(np.ptp(values)), [np.flatnonzero(row) for row in on[stable]]
    return best
