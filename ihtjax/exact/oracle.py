"""The exact answer: the best of all supports with at most s entries."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ihtjax.errors import InputError, check, numbers_in, shown, whole_number
from ihtjax.exact.newton import LANES, SoftmaxRows, restricted_optima
from ihtjax.exact.separation import ATTAINED, existence
from ihtjax.exact.symmetry import (
    canonical_support,
    canonical_supports,
    count_classes,
    equal_supports,
)

# Two infima closer than this are equal: both are exact to less.
TIE = 1e-9
# More classes of supports than this are not enumerated: at 1e-4 to 1e-3 s each, it would take a quarter of an hour
# for one split.
MAX_CLASSES = 2_000_000
SECONDS_PER_CLASS = 2e-4
# Of more classes there is too much to enumerate at any level.
LARGEST_K = 1000


class BestSubset(NamedTuple):
    """The best that any parameters with at most s nonzero entries can do.

    Attributes:
      loss: the infimum of f, in nats, within 1e-9.
      support: mask ``[n]`` of a support that reaches it, in canonical form.
      theta: ``[n]``, a point on that support within 1e-9 of the infimum.
      attained: whether it is a minimiser; where the support (quasi-)separates the rows there is none.
      existence: "attained", "quasi-separated" or "separated" on that support.
      supports: masks ``[c, n]``, all canonical supports of that size with this infimum.
      n_best: how many supports with at most s entries are equal to one of these by symmetry.
    """

    loss: float
    support: np.ndarray
    theta: np.ndarray
    attained: bool
    existence: str
    supports: np.ndarray
    n_best: int


def best_subset(X: np.ndarray, y: np.ndarray, s: int) -> BestSubset:
    """Minimise the mean cross-entropy of softmax regression over all supports with at most s entries, exactly.

        min_{|S| <= s} inf { f(theta) : theta_i = 0 for i not in S },  n = K (d + 1) parameters

    Args:
      X: standardised training rows ``[m, d]``; the bias column is added.
      y: their classes ``[m]``, whole numbers 0 .. K - 1.
      s: sparsity level, 1 .. n.

    Raises:
      InputError: s is out of range, X and y are no training rows, or there are too many supports to enumerate.

    References:
      Best subset selection: Bertsimas, King and Mazumder, 2016, doi:10.1214/15-AOS1388. Supports that symmetry makes
      equal are solved once (`symmetry`), all others by Newton (`newton`).

    Example:
      >>> X, y = np.array([[-2.], [-1.], [0.], [1.], [2.]]), np.array([0, 1, 0, 1, 1])
      >>> best = best_subset(X, y, 1)
      >>> round(best.loss, 6), best.support.tolist(), best.attained, best.n_best
      (0.514688, [True, False, False, False], True, 2)
    """
    return best_subsets(X, y, [s])[0]


def best_subsets(X: np.ndarray, y: np.ndarray, levels: Sequence[int], classes: int | None = None) -> list[BestSubset]:
    """`best_subset` for several levels at once, which takes little longer than the largest alone.

    Args:
      X: as in `best_subset`.
      y: as in `best_subset`.
      levels: sparsity levels.
      classes: K; one more than the largest class in y if None.
    """
    X, y, K = check_rows(X, y, classes)
    check_levels(levels, K, X.shape[1] + 1)
    search = Search(SoftmaxRows(X, y, K))
    best = search.best(levels)
    return [search.describe(s, best[s], X, y) for s in levels]


class Search:
    """The restricted infima of one split that are known so far, and the search for the least of each level.

    A support's infimum is at most that of any support inside it. So a class of supports is left out if one that
    contains it is already worse than the best of its own size.

    Args:
      rows: the training rows.
    """

    def __init__(self, rows: SoftmaxRows):
        self.rows = rows
        self.found = {}
        self.least_of_size = np.full(rows.n + 1, np.inf)

    def infima(self, supports: np.ndarray) -> np.ndarray:
        """Infima ``[B]`` of canonical supports ``[B, n]``; each is solved once."""
        keys = [support.tobytes() for support in supports]
        new = {key: i for i, key in enumerate(keys) if key not in self.found}
        if new:
            solved = supports[list(new.values())]
            optima = restricted_optima(self.rows, solved)
            self.found |= dict(zip(new, zip(*optima)))
            np.minimum.at(self.least_of_size, solved.sum(1), optima.infimum)
        return np.array([self.found[key][0] for key in keys])

    def theta(self, support: np.ndarray) -> np.ndarray:
        """Parameters ``[n]`` within 1e-9 of the infimum of a canonical support that was solved."""
        return self.found[support.tobytes()][1]

    def existence(self, support: np.ndarray, X: np.ndarray, y: np.ndarray) -> str:
        """`existence` on a canonical support that was solved; a converged Newton iteration needs no linear program."""
        infimum, theta, verdict = self.found[support.tobytes()]
        if not isinstance(verdict, str):
            verdict = ATTAINED if verdict else existence(X, y, support)
            self.found[support.tobytes()] = infimum, theta, verdict
        return verdict

    def best(self, levels: Sequence[int], hints: np.ndarray | None = None) -> dict[int, np.ndarray]:
        """The best canonical supports ``[c, n]`` of each level, c > 1 where several are equal.

        Args:
          levels: sparsity levels.
          hints: canonical supports ``[h, n]`` that may be good; they only save time.
        """
        K, D = self.rows.K, self.rows.D
        sizes = {min(s, (K - 1) * D) for s in levels}
        best = {}
        lower = children = None
        for size in range(max(sizes), min(sizes) - 1, -1):
            supports = canonical_supports(K, D, size)
            if lower is None:
                lower, first = np.zeros(len(supports)), np.zeros(len(supports), bool)
            else:
                # What every superset's infimum is at least, and who lies below the best of the size above.
                above = classes_above(K, D, size)
                lower, first = lower[above].max(axis=1), children[above].any(axis=1)
            children = first
            if size not in sizes:
                continue
            if hints is not None:
                first = first | (supports[:, None] == hints[hints.sum(1) == size]).all(-1).any(-1)
            infimum = np.full(len(supports), np.inf)
            infimum[first] = self.infima(supports[first])
            rest = np.flatnonzero(~first)
            rest = rest[np.argsort(lower[rest], kind="stable")]
            for start in range(0, len(rest), LANES):
                batch = rest[start : start + LANES]
                batch = batch[lower[batch] <= infimum.min() + TIE]
                if len(batch):
                    infimum[batch] = self.infima(supports[batch])
            solved = np.isfinite(infimum)
            lower = np.where(solved, infimum, lower)
            children = infimum <= infimum.min() + TIE
            best[size] = supports[children]
        return {s: best[min(s, (K - 1) * D)] for s in levels}

    def describe(self, s: int, supports: np.ndarray, X: np.ndarray, y: np.ndarray) -> BestSubset:
        """A level's answer from its best canonical supports."""
        support = supports[np.argmin(self.infima(supports))]
        verdict = self.existence(support, X, y)
        n_best = sum(equal_supports(each, self.rows.K, s) for each in supports)
        theta = self.theta(support)
        return BestSubset(self.least(s), support, theta, verdict == ATTAINED, verdict, supports, n_best)

    def least(self, s: int) -> float:
        """The least infimum found on at most s entries; equal ones differ by rounding, which must not rise with s."""
        return float(self.least_of_size[: s + 1].min())


@functools.lru_cache(maxsize=64)
def classes_above(K: int, D: int, size: int) -> np.ndarray:
    """For each canonical support of a size, those of one entry more that contain it: ``[C, P]``, repeated to fill."""
    supports = canonical_supports(K, D, size)
    place = {support.tobytes(): i for i, support in enumerate(canonical_supports(K, D, size + 1))}
    above = [[] for _ in supports]
    for entry in np.eye(K * D, dtype=bool):
        larger = canonical_support(supports | entry, K)
        for i in np.flatnonzero(larger.sum(1) == size + 1):
            above[i].append(place[larger[i].tobytes()])
    longest = max(map(len, above))
    return np.array([(row * longest)[:longest] for row in above])


def check_rows(X: np.ndarray, y: np.ndarray, classes: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """X as float64 ``[m, d]``, y as integers ``[m]``, and K."""
    X, y = numbers_in("X", X, 2), numbers_in("y", y, 1, whole=True)
    if y.shape != X.shape[:1] or not len(y):
        raise InputError(f"X and y: got shapes {X.shape} and {y.shape}, expected [m, d] and [m]")
    if y.min() < 0 or y.max() >= LARGEST_K:
        raise InputError(f"y: got {y.min()} to {y.max()}, expected whole numbers 0 .. K - 1, K at most {LARGEST_K}")
    least = max(2, int(y.max()) + 1)
    return X, y, least if classes is None else check("classes", classes, whole_number(least, LARGEST_K))


def check_levels(levels: Sequence[int], K: int, D: int) -> None:
    """Raise `InputError` unless every level lies in 1 .. n and can be enumerated."""
    if not isinstance(levels, Sequence) or isinstance(levels, str | bytes) or not levels:
        raise InputError(f"levels: got {shown(levels)}, expected whole numbers from 1 to {K * D}, such as (3, 5, 7)")
    for s in levels:
        if not whole_number(1, K * D).holds(s):
            raise InputError(f"s: got {shown(s)}, expected a whole number from 1 to {K * D}, the number of parameters")
    counts = {s: count_classes(K, D, min(s, (K - 1) * D)) for s in sorted(levels)}
    if max(counts.values()) > MAX_CLASSES:
        s = next(s for s, count in counts.items() if count > MAX_CLASSES)
        raise InputError(
            f"s: level {s} of {K * D} parameters has {counts[s]:.3g} classes of supports, expected at most "
            f"{MAX_CLASSES:,} to enumerate; it would take about {_duration(counts[s] * SECONDS_PER_CLASS)} a split; "
            + (f"take levels up to {s - 1}" if s > 1 else "take fewer features")
        )


def _duration(seconds: float) -> str:
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"
