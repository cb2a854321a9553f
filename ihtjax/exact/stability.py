"""Whether the minimiser that a trial heads for is HT-stable."""

import numpy as np

from ihtjax.exact.rows import Rows
from ihtjax.exact.search import Search
from ihtjax.exact.separation import ATTAINED
from ihtjax.exact.symmetry import as_blocks, from_blocks

STABLE, UNSTABLE, NONE = "ht-stable", "not ht-stable", "none"
# Minimisers are known to some 1e-12 of their size. What is nearer than this to vanishing, or to equality, is there.
ROUNDING = 1e-9
# Columns depend on each other where a singular value is this part of the largest.
DEPENDENT = 1e-12


def limit_of_descent(rows: Rows, theta: np.ndarray, minimiser: np.ndarray) -> np.ndarray:
    """The minimiser ``[n]`` that gradient descent on the support S of theta ends at, from theta.

    The gradient is orthogonal to N = {v with support in S: no row's outputs change, or for softmax but for a shift},
    so descent keeps theta's part in N. Two minimisers differ by an element of N. With P the orthogonal projection
    onto N,

        limit = minimiser + P (theta - minimiser).

    On a support with a full block N holds the constants on it, and the limit has theta's sum over it. Dependent
    features add to N.

    Args:
      rows: the training rows.
      theta: where descent begins ``[n]``.
      minimiser: any minimiser over S, or over its canonical support ``[n]``.
    """
    q, support = rows.outputs, theta != 0
    minimiser = rows.supports.onto(minimiser, support)
    R = np.linalg.qr(rows.X, mode="r")
    on = as_blocks(support, q).ravel()
    # What the loss depends on, for each entry of S, in orthonormal coordinates of the rows.
    design = np.kron(rows.contrast, R)[:, on]
    _, size, Vt = np.linalg.svd(design)
    size = np.pad(size, (0, len(Vt) - len(size)))
    null = Vt[size <= DEPENDENT * size.max(initial=0)].T / np.tile(rows.scale, q)[on, None]
    N = np.linalg.qr(null)[0]
    difference = as_blocks(theta - minimiser, q).ravel()
    difference[on] = N @ (N.T @ difference[on])
    difference[~on] = 0
    return minimiser + from_blocks(difference.reshape(q, -1))


def is_ht_stable(rows: Rows, theta: np.ndarray, step_size: float, s: int) -> np.ndarray:
    """Whether minimisers over their supports ``[.., n]`` are HT-stable ``[..]``: (b), (c) of `ihtjax.certify`, rounded.

    With S = supp(theta): if |S| = s, min |theta_S| >= gamma max |grad f| off S; if |S| < s, the whole gradient
    vanishes. An entry vanishes if it is at most 1e-9 of the largest, a gradient if it is at most 1e-9 where columns
    have mean square 1 (for squared error targets too); of equal sides of the inequality the left counts as the larger.
    """
    scale = rows.scales
    size = np.abs(theta) * scale
    support = size > ROUNDING * size.max(-1, keepdims=True)
    slope = np.where(support, 0, np.abs(rows.gradient(theta.reshape(-1, rows.n)).reshape(theta.shape)))
    smallest = np.where(support, np.abs(theta), np.inf).min(-1)
    eq8 = smallest >= (1 - ROUNDING) * step_size * slope.max(-1)
    vanishes = (slope <= ROUNDING * rows.magnitude * scale).all(-1)
    count = support.sum(-1)
    return np.where(count < s, vanishes, eq8 & (count == s))


def minimizers_on_support(search: Search, theta: np.ndarray, step_sizes: np.ndarray, levels: np.ndarray) -> list[str]:
    """What trials head for, if they stay on their supports: "ht-stable", "not ht-stable" or "none".

    The first two where the support's infimum is attained: then gradient descent ends at a minimiser, and that is
    HT-stable at the trial's step size, or isn't. Else no parameters with that support are HT-stable, since their
    gradient on it can't vanish.

    Args:
      search: in which the canonical supports were solved.
      theta: the trials' parameters ``[N, n]``, float64.
      step_sizes: gamma ``[N]``.
      levels: s ``[N]``.
    """
    supports = search.rows.supports.canonical(theta != 0)
    verdicts = [NONE] * len(theta)
    attained = [i for i, support in enumerate(supports) if search.existence(support) == ATTAINED]
    if attained:
        near = np.stack([search.theta(support) for support in supports[attained]])
        for i, minimiser in zip(attained, search.rows.sharpened(supports[attained], near)):
            limit = limit_of_descent(search.rows, theta[i], minimiser)
            stable = is_ht_stable(search.rows, limit, float(step_sizes[i]), int(levels[i]))
            verdicts[i] = STABLE if stable else UNSTABLE
    return verdicts
