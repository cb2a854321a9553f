"""Certified ranges of the two constants that the paper calls L_2s."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from ihtjax.errors import BOOLEAN, POSITIVE, InputError, check, numbers_in, shown, whole_number
from ihtjax.exact.symmetry import as_mask

# Up to so many principal submatrices the sparse eigenvalue is enumerated, else it is bounded.
MAX_SUBMATRICES = 20_000
CERTIFIED, REFUTED, OPEN = "certified", "refuted", "open"


class Bounds(NamedTuple):
    """Ranges in which the constants lie; in the units of the Hessian.

    Attributes:
      rss_lower, rss_upper: of the modulus of restricted strong smoothness, (4), on s-sparse pairs.
      lipschitz_lower, lipschitz_upper: of the restricted Lipschitz constant of the gradient, (6), on such pairs.
      exact: whether the sparse eigenvalues in the formulas are exact (enumerated, or equal to the dense one); else
        the lower ends come from a greedy search and the upper ends from a relaxation. All four hold either way.
    """

    rss_lower: float
    rss_upper: float
    lipschitz_lower: float
    lipschitz_upper: float
    exact: bool


def softmax_bounds(X: np.ndarray, classes: int, s: int) -> Bounds:
    """Certified ranges for the mean cross-entropy of softmax regression.

    The Hessian is at most B = 1/2 (I - J/K) (x) X'X/m at every theta, X with the bias column and J all ones. Where j
    classes have probability 1/j each on every row, it is H_j = (1/j) (I - J/j) (x) X'X/m on their parameters and 0 on
    the others'; such points cost c_j = min(K - j, j) nonzero entries, none for j = K. With
    L_M(k) = max_{|S| <= k} lambda_max(M_SS), and j from 2 to K with c_j < s:

        (4):  max_j L_{H_j}(2 (s - c_j))                      <=  L_2s  <=  L_B(2s)
        (6):  max_j max_{|S| <= 2 (s - c_j)} ||(H_j)_{:,S}||  <=  L     <=  sqrt(lambda_max(B) L_B(2s))

    Proof of the lower ends: let theta_t be 0 but for the biases of the K - j other classes, which are -t, or those of
    the j classes, which are t, whichever are fewer. Add to it u on s - c_j entries of the j classes' parameters, or u'
    on as many others: an s-sparse pair. In f(theta') - f(theta) - <grad f(theta), theta' - theta>, and in the change
    of the gradient, the terms z_{i, y_i} cancel, being linear; what remains belongs to the mean of logsumexp(z_i). As
    t grows, the other classes' probabilities vanish, uniformly near theta_t, and it becomes the logsumexp of j
    classes at 0, whose Hessian is H_j. As u and u' shrink, the quotients of (4) and (6) become those of H_j along
    u' - u, any vector of 2 (s - c_j) entries. So these ends are limits of quotients; for j < K no pair need reach
    them. Entries of the far biases themselves would add to the difference, which is left out.

    The ends meet where 2 (s - c_2) entries hold a top eigenvector of B: for Iris (4)'s and (6)'s from s = 5 on, with
    two classes (4)'s at every s.

    Args:
      X: standardised training rows ``[m, d]``, the bias column not among them.
      classes: K.
      s: sparsity level, 1 .. n, n = K (d + 1).

    Raises:
      InputError: s is out of range.

    References:
      Boehning, Multinomial logistic regression algorithm, 1992, doi:10.1007/BF00048682, for B. L_B is the sparse
      eigenvalue of d'Aspremont et al., 2007, doi:10.1137/050645506.
    """
    X, K = numbers_in("X", X, 2), check("classes", classes, whole_number(2, 1000))
    _check_level(s, K * (X.shape[1] + 1))
    B = boehning(X, K)
    upper = sparse_eigenvalue(B, 2 * s, K)
    dense = np.linalg.eigvalsh(B)[-1]
    lipschitz = math.sqrt(dense * upper.upper)
    smoothness, columns, exact = 0.0, 0.0, upper.exact
    for j in range(2, K + 1):
        size = 2 * (s - min(K - j, j))
        # lambda_max(H_j) = 2/j lambda_max(B) falls with j.
        if size <= 0 or 2 / j * dense <= smoothness:
            continue
        H = 2 / j * boehning(X, j)
        on_support, by_column = sparse_eigenvalue(H, size, j), sparse_eigenvalue(H @ H, size, j)
        smoothness, columns = max(smoothness, on_support.lower), max(columns, math.sqrt(by_column.lower))
        exact = exact and on_support.exact and by_column.exact
    # Where ends meet, rounding must not cross them.
    return Bounds(min(smoothness, upper.upper), upper.upper, min(columns, lipschitz), lipschitz, exact)


def squared_error_bounds(X: np.ndarray, s: int) -> Bounds:
    """The constants of f(theta) = 1/2 |X theta - y|^2, the paper's (7); their ranges are points where enumerated.

        (4):  L_2s = max_{|S| <= 2s} lambda_max(X_S' X_S),      (6):  L = max_{|S| <= 2s} ||X' X_S||

    Args:
      X: design matrix ``[m, n]``; scale it by 1 / sqrt(m) for a mean of squares.
      s: sparsity level, 1 .. n.

    Raises:
      InputError: s is out of range.
    """
    X = numbers_in("X", X, 2)
    H = X.T @ X
    _check_level(s, len(H))
    quadratic, columns = sparse_eigenvalue(H, 2 * s), sparse_eigenvalue(H @ H, 2 * s)
    ends = quadratic.lower, quadratic.upper, math.sqrt(columns.lower), math.sqrt(columns.upper)
    return Bounds(*ends, quadratic.exact and columns.exact)


def glm_bounds(
    X: np.ndarray,
    curvature: float,
    s: int,
    outputs: int = 1,
    *,
    constant: bool = False,
    reached: np.ndarray | None = None,
) -> Bounds:
    """Certified ranges for the mean loss of a linear model, convex, of second derivatives of at most c in each output.

    The Hessian is at most c I (x) G, G = X'X/m, X with the bias column, at every theta. At theta = 0 a row adds
    c x x' / m to an output's block where the second derivative is c there: for these rows alone let G_A be. With
    L_M(k) = max_{|S| <= k} lambda_max(M_SS) and A that of any output,

        (4):  c L_{G_A}(2s)  <=  L_2s  <=  c L_G(2s)
        (6):  c L_{G_A}(2s)  <=  L     <=  c sqrt(lambda_max(G) L_G(2s))

    and where A are all rows, as for logistic loss, max_{|S| <= 2s} ||G_{:,S}|| stands for L_{G_A}(2s) in (6). Where
    the second derivative is constant, c times that is the constant of (6).

    Proof of the lower ends: let u and u' of s entries each shrink to 0, u' - u = t v for any v of 2s entries. As the
    loss is convex, the quotients of (4) and <grad f(u') - grad f(u), u' - u> / |u' - u|^2, which that of (6) is at
    least, fall no further than to what rows of A add, c v' G_A v / |v|^2. Of all rows the gradient's change is c t G v.

    Args:
      X: standardised training rows ``[m, d]``, the bias column not among them.
      curvature: c: 1/4 for logistic loss, 1 for squared error and Huber's loss.
      s: sparsity level, 1 .. n, n = q (d + 1).
      outputs: q.
      constant: whether the second derivative is c everywhere.
      reached: mask ``[m]`` or ``[m, q]`` of the rows whose second derivative is c near theta = 0; all if None. For
        Huber's loss |y| < delta.

    Raises:
      InputError: a number is out of range, or the mask is of other rows.
    """
    X = numbers_in("X", X, 2)
    X = np.column_stack([X, np.ones(len(X))])
    m, D = X.shape
    c, q = check("curvature", curvature, POSITIVE), check("outputs", outputs, whole_number(1, 1000))
    check("constant", constant, BOOLEAN)
    _check_level(s, q * D)
    at_zero = np.ones((m, 1), bool) if reached is None else as_mask("reached", reached)
    if at_zero.shape not in ((m,), (m, 1), (m, q)):
        raise InputError(f"reached: got {shown(at_zero)}, expected a mask of {m} rows, for all outputs or for each")
    G = X.T @ X / m
    quadratic, columns = sparse_eigenvalue(G, 2 * s), sparse_eigenvalue(G @ G, 2 * s)
    upper = math.sqrt(columns.upper if constant else np.linalg.eigvalsh(G)[-1] * quadratic.upper)
    lower, gradient, exact = quadratic.lower, math.sqrt(columns.lower), quadratic.exact and columns.exact
    if not at_zero.all():
        found = [sparse_eigenvalue(X[A].T @ X[A] / m, 2 * s) for A in at_zero.reshape(m, -1).T]
        lower = gradient = max(its.lower for its in found)
        exact = quadratic.exact and all(its.exact for its in found)
    # Where ends meet, rounding must not cross them.
    lower, gradient = min(lower, quadratic.upper), min(gradient, upper)
    return Bounds(c * lower, c * quadratic.upper, c * gradient, c * upper, exact)


def step_status(step_size: float, bounds: Bounds) -> str:
    """Whether gamma is at most 1 / L_2s of (4), as Corollary 3 of Damadi and Shen (arXiv:2209.08247) asks.

    "certified": gamma <= 1 / rss_upper, so it is. "refuted": gamma > 1 / rss_lower, so it isn't. Else "open".
    """
    if step_size <= 1 / bounds.rss_upper:
        return CERTIFIED
    return REFUTED if bounds.rss_lower > 0 and step_size > 1 / bounds.rss_lower else OPEN


def certified_step_size(X: np.ndarray, classes: int, s: int, dtype=np.float64) -> float:
    """The largest step size that `softmax_bounds` certifies, 1 / rss_upper, less 16 roundings of the type."""
    upper = sparse_eigenvalue(boehning(X, classes), 2 * s, classes).upper
    return _step_below(upper, dtype)


def linear_step_size(X: np.ndarray, curvature: float, s: int, dtype=np.float64) -> float:
    """The largest step size that is certain for a linear model whose loss has at most this curvature in its outputs.

    The Hessian is at most c I (x) X'X/m, X with the bias column, so (4)'s constant is at most

        c max_{|S| <= 2s} lambda_max((X'X/m)_SS),

    and this is one over it, less 16 roundings of the type. For squared error c = 1 and the bound is the constant.
    """
    X = np.column_stack([np.asarray(X, np.float64), np.ones(len(X))])
    upper = curvature * sparse_eigenvalue(X.T @ X / len(X), 2 * s).upper
    return _step_below(upper, dtype)


def _step_below(upper: float, dtype) -> float:
    """1 / (an upper end), less 16 roundings of the type."""
    return np.dtype(dtype).type((1 - 16 * np.finfo(dtype).eps) / upper)


def boehning(X: np.ndarray, classes: int) -> np.ndarray:
    """B ``[n, n]`` of `softmax_bounds`, in the order of the parameters."""
    X = np.column_stack([np.asarray(X, np.float64), np.ones(len(X))])
    G = X.T @ X / len(X)
    K, D = classes, X.shape[1]
    C = (np.eye(K) - 1 / K) / 2
    B = np.einsum("kl,fg->kflg", C, G)
    order = np.concatenate([np.arange(K * D).reshape(K, D)[:, :-1].ravel(), np.arange(D - 1, K * D, D)])
    return B.reshape(K * D, K * D)[np.ix_(order, order)]


class SparseEigenvalue(NamedTuple):
    """Ends between which a sparse eigenvalue lies, and whether they meet."""

    lower: float
    upper: float
    exact: bool


def sparse_eigenvalue(B: np.ndarray, k: int, classes: int = 1) -> SparseEigenvalue:
    """max over |S| <= k of the largest eigenvalue of B_SS, B ``[n, n]`` positive semidefinite.

    It never falls with k, so supports of exactly k entries suffice. They are enumerated if there are at most 20,000,
    those that a permutation of the K classes makes equal but once. Else a greedy search gives the lower end, and the
    smaller of lambda_max(B) and the largest sum of k entries of a row of |B| (Gershgorin) the upper.

    Args:
      B: as above; with ``classes`` > 1 it is `boehning`, or its square: C (x) G in the order of the parameters.
      k: how many entries; more than n is n.
      classes: K.
    """
    n = len(B)
    values, vectors = np.linalg.eigh(B)
    dense = values[-1]
    if k >= n:
        return SparseEigenvalue(dense, dense, True)
    if classes > 1 and k >= 2 * (n // classes):
        # B = C (x) G: (1, -1, 0, ..)/sqrt(2) is as good in C as any other vector, and has two classes.
        return SparseEigenvalue(dense, dense, True)
    if math.comb(n, k) <= MAX_SUBMATRICES:
        best = max(np.linalg.eigvalsh(B[S[:, :, None], S[:, None, :]])[:, -1].max() for S in _supports(n, k, classes))
        return SparseEigenvalue(best, best, True)
    relaxed = min(dense, np.sort(np.abs(B), axis=1)[:, -k:].sum(1).max())
    return SparseEigenvalue(_greedy(B, k, vectors[:, -1]), relaxed, False)


def _greedy(B, k, v):
    """Truncated power iteration: Yuan and Zhang, 2013, JMLR 14:899-925."""
    best = 0.0
    starts = [v, *np.eye(len(B))[np.argsort(-np.diag(B))[:8]]]
    for v in starts:
        S = None
        for _ in range(50):
            v = B @ v
            new = np.sort(np.argsort(-np.abs(v), kind="stable")[:k])
            v = np.where(np.isin(np.arange(len(B)), new), v, 0)
            length = np.linalg.norm(v)
            if length == 0:  # on columns of zeros
                break
            v /= length
            if S is not None and np.array_equal(new, S):
                break
            S = new
        best = max(best, np.linalg.eigvalsh(B[np.ix_(S, S)])[-1])
    return best


@functools.lru_cache(maxsize=64)
def _supports(n: int, k: int, classes: int) -> list[np.ndarray]:
    """The supports of k entries as indices, in chunks ``[c, k]``, one for each orbit under permutations of classes."""
    S = np.array(list(itertools.combinations(range(n), k)))
    if classes > 1:
        D = n // classes
        column = np.concatenate([np.tile(np.arange(D - 1), classes), np.full(classes, D - 1)])
        row = np.concatenate([np.repeat(np.arange(classes), D - 1), np.arange(classes)])
        # A class's entries as the bits of a number; permuting classes permutes the numbers.
        bits = np.zeros((len(S), classes), np.int64)
        np.add.at(bits, (np.arange(len(S))[:, None], row[S]), 1 << column[S])
        _, first = np.unique(np.sort(bits, axis=1), axis=0, return_index=True)
        S = S[np.sort(first)]
    return [S[i : i + 4096] for i in range(0, len(S), 4096)]


def _check_level(s, n):
    if not whole_number(1, n).holds(s):
        raise InputError(f"s: got {shown(s)}, expected a whole number from 1 to {n}, the number of parameters")
