"""The claims of the paper's section III about the objective, judged on a run's own rows."""

import itertools
import math

import numpy as np

from ihtjax.exact.bounds import boehning, sparse_eigenvalue
from ihtjax.exact.newton import restricted_optima, sharpened
from ihtjax.exact.separation import ATTAINED, existence
from ihtjax.exact.softmax import SoftmaxRows
from ihtjax.exact.stability import is_ht_stable
from ihtjax.exact.symmetry import as_blocks, canonical_support, from_blocks
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import FAILS, HOLDS, Questions
from ihtjax.study.optimality import Split

QUESTIONS = Questions()
# Linear programs of some milliseconds each.
MAX_PROGRAMS = 600
MOST_LEVELS = 14  # seconds each where n is some hundreds
# Random pairs, and supports to solve; fewer where rows and parameters are many, so that each claim takes seconds.
MOST_PAIRS, MOST_CANDIDATES = 1000, 400


@QUESTIONS.ask(
    "rss",
    "III-F, Q2",
    "The loss of the network is restricted strongly smooth.",
    "Largest of (4)'s quotient over the upper bound of L_2s, on up to 1,000 random s-sparse pairs of the run's first "
    "split at its levels, at most 14 of them; holds if at most 1.",
    "softmax",
    "plain",
)
def restricted_smoothness(run: Evidence):
    if not run.levels:
        return "No sparse trial is finished yet."
    X, y, K = run.first_split
    rows, B = SoftmaxRows(X, y, K), boehning(X, K)
    draw = np.random.default_rng(0)
    worst = 0.0
    pairs = int(np.clip(1e8 / X.size / K, 20, MOST_PAIRS))
    levels = [run.levels[i] for i in np.unique(np.linspace(0, len(run.levels) - 1, MOST_LEVELS).round().astype(int))]
    for s in levels:
        keep = np.argsort(draw.random((2, pairs, run.n)), axis=-1) < s
        theta, other = draw.standard_normal((2, pairs, run.n)) * keep
        d = other - theta
        rest = rows.loss(other) - rows.loss(theta) - np.sum(rows.gradient(theta) * d, axis=1)
        quotient = 2 * rest / np.sum(d**2, axis=1)
        worst = max(worst, quotient.max() / sparse_eigenvalue(B, 2 * s, K).upper)
    why = "The Hessian of softmax regression is at most 1/2 (I - J/K) (x) X'X/m everywhere (Boehning), so L_2s exists"
    if len(levels) < len(run.levels):
        why += f"; looked at {len(levels)} of the run's {len(run.levels)} levels"
    seen = f"(4)'s quotient reaches {worst:.2f} of an upper bound that holds everywhere (Boehning)"
    return worst, HOLDS if worst <= 1 else FAILS, f"{why}.", seen


@QUESTIONS.ask(
    "sublevel-sets-bounded",
    "III-F",
    "Every sublevel set is bounded over each subspace of dimension at most s.",
    "Largest level s <= 3 up to which no support of the run's first split has an unbounded sublevel set, by linear "
    "programs; does not hold if some support has one.",
    "softmax",
    "plain",
)
def bounded_sublevel_sets(run: Evidence):
    X, y, K = run.first_split
    top = 0
    while top < 3 and sum(math.comb(run.n, s) for s in range(1, top + 2)) <= MAX_PROGRAMS:
        top += 1
    counts = unbounded_supports(X, y, K, top)
    # From s = K on a support can hold a feature's K weights, to which one number can be added for nothing.
    bounded = next((s - 1 for s, (count, _) in counts.items() if count), top)
    listed = "; ".join(f"{count} of {total} at s = {s}" for s, (count, total) in counts.items())
    least = bounded + 1 if bounded < top else K
    seen = f"sublevel sets are unbounded on some supports from s = {least} on"
    why = f"Unbounded on {listed}; " if listed else ""
    why += f"from s = {K} on, one number added to a feature's {K} weights changes nothing"
    if not listed:
        why += f" ({run.n:,} parameters make too many linear programs to look below that)"
    return bounded, FAILS, f"{why[0].upper()}{why[1:]}.", seen


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
    "softmax",
    "plain",
)
def distinct_values(run: Evidence):
    gamma = float(run.trials.step_size.astype(float).median())
    K = run.first_split.outputs
    for s in range(max(K - 1, 2), min(run.n, K + 3)):
        count, spread, names = equal_stable_points(run.first_split, s, gamma)
        if count > 1:
            apart = f"{spread:.0e} apart" if spread else "equal to the last bit"
            points = ") and (".join(", ".join(run.names[i] for i in support) for support in names[:2])
            why = f"Supports ({points}) are two of {count} with s = {s}, their values {apart}: they make one network."
            return count, FAILS, why, f"{count} distinct HT-stable points with s = {s} have equal values"
    return f"No equal HT-stable points were found from s = {max(K - 1, 2)} to {K + 2}, which proves nothing."


def with_a_full_block(K: int, D: int, s: int, most: int) -> np.ndarray:
    """Canonical supports ``[B, n]`` of s entries that hold K - 1 of some block, at most so many."""
    found = []
    for block in range(D):
        inside = from_blocks(np.tile(np.arange(D) == block, (K, 1)))
        extras = itertools.combinations(np.flatnonzero(~inside), s - K + 1)
        for extra in itertools.islice(extras, most // D + 1):
            found.append(canonical_support(inside | np.isin(np.arange(K * D), extra), K))
    supports = np.array(found)
    return supports[supports.sum(1) == s][:most]


def equal_stable_points(split: Split, s: int, gamma: float) -> tuple[int, float, list[np.ndarray]]:
    """HT-stable points with s parameters that make one network: how many, how far apart their values, their supports.

    K - 1 entries of a block fit like any other K - 1 (see `symmetry`). At a minimiser the block's gradient vanishes in
    all K, so the twins are HT-stable if their entries are large enough for (8).
    """
    X, y, K = split
    rows = SoftmaxRows(X, y, K)
    most = int(np.clip(8e9 / (rows.m * rows.n**2), 8, MOST_CANDIDATES))
    candidates = with_a_full_block(K, rows.D, s, most)
    best: tuple[int, float, list[np.ndarray]] = 1, 0.0, []
    if not len(candidates):
        return best
    optima = restricted_optima(rows, candidates)
    converged = optima.converged
    if not converged.any():
        return best
    for theta in sharpened(rows, candidates[converged], optima.theta[converged]):
        V = as_blocks(theta, K)
        moves = [theta]
        for block in np.flatnonzero((V != 0).sum(0) == K - 1):
            for k in np.flatnonzero(V[:, block]):
                moved = V.copy()
                moved[:, block] -= V[k, block]
                moves.append(from_blocks(moved))
        twins = np.array(moves)
        on = twins != 0
        stable = is_ht_stable(rows, twins, gamma, s)
        if stable.sum() > best[0]:
            values = rows.loss(twins[stable])
            if np.ptp(values) <= 1e-12:
                best = int(stable.sum()), float(np.ptp(values)), [np.flatnonzero(row) for row in on[stable]]
    return best
