"""Restricted optima: the infimum of the loss over the parameters with a given support, many supports at a time.

NumPy in float64. Supports lie on the last axis, so that every elementwise loop runs over full vectors, and supports
that are done leave the batch.
"""

from typing import TYPE_CHECKING

import numpy as np

from ihtjax import interrupts
from ihtjax.exact.extended import dual_gap, polish
from ihtjax.exact.rows import RestrictedOptima
from ihtjax.exact.symmetry import as_blocks, from_blocks

if TYPE_CHECKING:
    from ihtjax.exact.softmax import SoftmaxRows

# Supports that are solved together: a batch's temporaries stay in cache.
LANES = 256
MAX_ITERATIONS = 200
# Newton's decrement squared is about f - inf f, be it attained or approached.
DECREMENT = 1e-12
RIDGE = 1e-14
# What is left of a diagonal entry of the Hessian, if less than this part, is rounding.
UNRESOLVED = 1e-13
# Along a direction that separates, the Hessian falls to about DECREMENT.
SAFE_PIVOT = 1e-6
# No shorter part of a step is tried.
SHORTEST = 1e-10
# At a minimiser to the last digits.
SHARP = 1e-24
# Infima that may be exceeded by more are sought again in extended precision.
NEAR_ENOUGH = 1e-10


def restricted_optima(rows: "SoftmaxRows", supports: np.ndarray) -> RestrictedOptima:
    """Infimum of f over the parameters with each of the given supports, by damped Newton.

        inf { f(theta) : theta_i = 0 for i not in S }

    On data that a support (quasi-)separates the infimum isn't attained; there Newton's step lowers f - inf f by a
    factor e, and is lengthened while that pays.

    Args:
      rows: the training rows.
      supports: masks ``[B, n]``; canonical ones are fastest (see `symmetry`), since their Hessians are regular.
    """
    supports = np.asarray(supports, bool)
    infimum, theta, converged = np.empty(len(supports)), np.zeros(supports.shape), np.empty(len(supports), bool)
    within = np.empty(len(supports))
    by_size = np.argsort(supports.sum(1), kind="stable")
    for start in range(0, len(supports), LANES):
        interrupts.check()
        batch = by_size[start : start + LANES]
        infimum[batch], theta[batch], converged[batch], within[batch] = _solve(rows, supports[batch])
    return RestrictedOptima(infimum, theta, converged, within)


def _solve(rows: "SoftmaxRows", supports: np.ndarray):
    flat, entry = _entries(rows, supports)
    out = np.empty(len(flat)), np.zeros((rows.K * rows.D, len(flat))), np.zeros(len(flat), bool), np.empty(len(flat))

    def leave(which, step, decrement, pivot, resolved):
        to, which = lane[which], np.flatnonzero(which)
        out[0][to], out[1][:, to] = loss[which], V[..., which].reshape(-1, len(to))
        out[2][to] = (pivot[which] > SAFE_PIVOT) & (decrement[which] <= DECREMENT)
        dz = rows.X @ step[..., which]
        # u is at least minus the range of dz over the classes: where that is at most 1, `dual_gap` is the decrement.
        short = (dz.max(0) - dz.min(0)).max(0) <= 1
        out[3][to[short]] = decrement[which[short]]
        far = which[~short]
        out[3][to[~short]] = dual_gap(P[..., far], dz[..., ~short], rows.X @ V[..., far])
        out[3][to[~resolved[which]]] = np.inf
        out[3][to] += 2 * np.finfo(np.float64).eps * (rows.mean_size @ np.abs(V[..., which])).sum(0)
        out[3][to] = np.fmin(out[3][to], loss[which])  # f is never below 0

    lane = np.arange(len(flat))
    V = np.zeros((rows.K, rows.D, len(flat)))
    loss, P = rows.probabilities(V)
    decrement_before, stuck = np.full(len(flat), np.inf), np.zeros(len(flat), bool)
    for _ in range(MAX_ITERATIONS):
        step, decrement, pivot, resolved = _newton_step(rows, P, entry)
        # f is never below 0: where it is that small no further step pays, and one may be beyond what floats hold.
        done = ~(decrement > DECREMENT) | (loss <= DECREMENT) | stuck
        if done.any():
            leave(done, step, decrement, pivot, resolved)
            keep = ~done
            if not keep.any():
                break
            lane, V, loss, step, entry = lane[keep], V[..., keep], loss[keep], step[..., keep], entry[:, keep]
            decrement, decrement_before, P = decrement[keep], decrement_before[keep], P[..., keep]
        slow = decrement > 0.2 * decrement_before
        V, loss, P, stuck = _search(rows, V, loss, step, decrement, slow)
        decrement_before = decrement
    else:
        leave(np.full(len(lane), True), *_newton_step(rows, P, entry))
    for i in np.flatnonzero(~(out[3] <= NEAR_ENOUGH)):
        block = rows.K, rows.D
        better = polish(rows.X, rows.y, flat[i].reshape(block), out[1][:, i].reshape(block), DECREMENT)
        if not better[2] >= out[3][i]:
            out[0][i], out[1][:, i], out[3][i] = better[0], better[1].ravel(), better[2]
    theta = from_blocks(out[1].T.reshape(-1, rows.K, rows.D) / rows.scale)
    return out[0], theta, out[2], out[3]


def sharpened(rows: "SoftmaxRows", supports: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Minimisers ``[B, n]`` over canonical supports, from parameters ``[B, n]`` near them: to the last digits.

    `restricted_optima` stops where f is exact, which theta is only to the root. Newton's whole steps double its
    digits; where they don't, extended precision goes on.
    """
    flat, entry = _entries(rows, supports)
    V = np.moveaxis(as_blocks(theta, rows.K) * rows.scale, 0, -1)
    for _ in range(3):
        step, decrement, *_ = _newton_step(rows, rows.probabilities(V)[1], entry)
        V = V + step
    V = np.moveaxis(V, -1, 0)
    for i in np.flatnonzero(~(decrement <= SHARP)):
        begin = as_blocks(theta[i], rows.K) * rows.scale
        V[i] = polish(rows.X, rows.y, flat[i].reshape(begin.shape), begin, SHARP)[1]
    return from_blocks(V / rows.scale)


def _entries(rows, supports):
    """Supports as masks ``[B, K D]`` and as indices ``[size, B]``."""
    # A column of zeros changes nothing; its parameters stay 0.
    flat = (as_blocks(supports, rows.K) & ~rows.vanishes).reshape(len(supports), -1)
    size = max(1, flat.sum(1).max(initial=0))
    # Entry i of a support is parameter (class, feature); what a smaller support lacks is parameter K * D, always 0.
    entry = np.argsort(~flat, axis=1, kind="stable")[:, :size].T
    return flat, np.where(np.arange(size)[:, None] < flat.sum(1), entry, rows.K * rows.D)


def _newton_step(rows, P, entry):
    """Newton's step ``[K, D, B]`` on each lane's support, the squared decrement ``[B]``, the smallest pivot, and
    whether every pivot is more than rounding."""
    size, B = entry.shape
    lanes = np.arange(B)
    G = np.concatenate([rows.slopes(P).reshape(-1, B), np.zeros((1, B))])
    g = G[entry, lanes]
    k, f = np.divmod(np.minimum(entry, rows.K * rows.D - 1), rows.D)
    curvature = rows.curvatures(P).reshape(-1, B)
    at = (k[:, None] * rows.K + k) * len(rows.products) + rows.product_of[f[:, None], f]
    H = curvature[at, lanes]
    lacking = entry == rows.K * rows.D
    if lacking.any():
        H[lacking[:, None] | lacking] = 0
    diagonal = np.arange(size)
    H[diagonal, diagonal] = np.where(lacking, 1, H[diagonal, diagonal] * (1 + RIDGE))
    x, decrement, pivot, resolved = _solve_positive_definite(H, g)
    step = np.zeros((rows.K * rows.D + 1, B))
    step[entry, lanes] = -x
    return step[:-1].reshape(rows.K, rows.D, B), decrement, pivot, resolved


def _solve_positive_definite(H, g):
    """x = H^-1 g, g' x, the smallest pivot, and whether all are more than rounding, by Cholesky.

    H is ``[p, p, B]`` and g ``[p, B]``; both are overwritten.
    """
    p, decrement = len(H), 0
    diagonal = H[np.arange(p), np.arange(p)]
    floor = np.maximum(RIDGE * diagonal, np.finfo(np.float64).tiny)
    for j in range(p):
        pivot = np.sqrt(np.maximum(H[j, j], floor[j]))
        H[j:, j] /= pivot
        H[j, j] = pivot
        g[j] /= pivot
        decrement = decrement + g[j] ** 2
        if j + 1 < p:
            below = H[j + 1 :, j]
            H[j + 1 :, j + 1 :] -= below[:, None] * below
            g[j + 1 :] -= below * g[j]
    for j in reversed(range(p)):
        g[j] = (g[j] - (H[j + 1 :, j] * g[j + 1 :]).sum(0)) / H[j, j]
    pivots = H[np.arange(p), np.arange(p)] ** 2
    return g, decrement, pivots.min(0), (pivots > UNRESOLVED * diagonal).all(0)


def _search(rows, V, loss, step, decrement, slow):
    """Go along the step: half as far until f falls enough, or, on slow lanes, four times as far while that pays.

    A lane stays where it is, and is stuck, if no part of its step lowers f: the Hessian lacks digits there.
    """
    length = np.ones(len(loss))
    moved = V + step
    new, P = rows.probabilities(moved)
    # Near the end f's changes drown in its rounding.
    bad = np.flatnonzero(~(new <= loss - 1e-4 * decrement + 1e-15))
    while len(bad):
        length[bad] /= 2
        moved[..., bad] = V[..., bad] + length[bad] * step[..., bad]
        new[bad], P[..., bad] = rows.probabilities(moved[..., bad])
        worse = ~(new[bad] <= loss[bad] - 1e-4 * length[bad] * decrement[bad] + 1e-15)
        length[bad[worse & (length[bad] <= SHORTEST)]] = 0
        bad = bad[worse & (length[bad] > 0)]
    stuck = length == 0
    if stuck.any():
        moved[..., stuck] = V[..., stuck]
        new[stuck], P[..., stuck] = rows.probabilities(V[..., stuck])
    more = np.flatnonzero(slow & (length == 1))
    while len(more):
        length[more] *= 4
        longer = V[..., more] + length[more] * step[..., more]
        its_loss, its_P = rows.probabilities(longer)
        better = its_loss < new[more] - 1e-3 * decrement[more]
        more, longer, its_loss, its_P = more[better], longer[..., better], its_loss[better], its_P[..., better]
        moved[..., more], new[more], P[..., more] = longer, its_loss, its_P
        more = more[length[more] < 64]
    return moved, new, P, stuck
