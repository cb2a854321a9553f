"""The exact answer: the best of all supports with at most s entries."""

import functools
import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ihtjax import interrupts
from ihtjax.errors import InputError, check, numbers_in, shown, whole_number
from ihtjax.exact.newton import LANES, SoftmaxRows, restricted_optima
from ihtjax.exact.separation import ATTAINED, SEPARATED, existence
from ihtjax.exact.symmetry import (
    canonical_support,
    canonical_supports,
    classes_below,
    count_classes,
    equal_supports,
)

# Two infima closer than this are equal; on sane data both are exact to much less.
TIE = 1e-9
# More classes of supports than this are not enumerated: at 1e-4 to 1e-3 s each, it would take a quarter of an hour
# for one split.
MAX_CLASSES = 2_000_000
# Where more classes of one size than this may be best ones, they are not counted.
MAX_TIES = 10_000
SECONDS_PER_CLASS = 2e-4
# Of more classes there is too much to enumerate at any level.
LARGEST_K = 1000


class BestSubset(NamedTuple):
    """The best that any parameters with at most s nonzero entries can do.

    Attributes:
      loss: the infimum of f, in nats; see ``within``.
      support: mask ``[n]`` of a support that reaches it, in canonical form.
      theta: ``[n]``, a point on that support that reaches ``loss``, but for its rounding.
      attained: whether it is a minimiser; where the support (quasi-)separates the rows there is none.
      existence: "attained", "quasi-separated" or "separated" on that support.
      supports: masks ``[c, n]``, all canonical supports with at most s entries whose infimum is within 1e-9 of
        ``loss``; where there are more than 10,000 of one size, those of the largest size alone.
      n_best: how many supports with exactly s entries have an infimum within 1e-9 of ``loss``; None where
        ``supports`` isn't complete.
      n_best_at_most: the same for supports with at most s entries.
      within: by how much ``loss`` may exceed the infimum (nats), by duality and rounding; on separated rows by a rule
        of thumb, see `extended.dual_gap`. Some 1e-12 for sane data; where it is more than 1e-9, classes are apart by
        less than float64 can tell, and ties are not to be trusted.
    """

    loss: float
    support: np.ndarray
    theta: np.ndarray
    attained: bool
    existence: str
    supports: np.ndarray
    n_best: int | None
    n_best_at_most: int | None
    within: float


class Solved(NamedTuple):
    """A support's `RestrictedOptima`; the verdict is whether Newton's method met a minimiser, or `existence`."""

    infimum: float
    theta: np.ndarray
    verdict: bool | str
    within: float


def best_subset(X: np.ndarray, y: np.ndarray, s: int) -> BestSubset:
    """Minimise the mean cross-entropy of softmax regression over all supports with at most s entries, exactly.

        min_{|S| <= s} inf { f(theta) : theta_i = 0 for i not in S },  n = K (d + 1) parameters

    Args:
      X: standardised training rows ``[m, d]``; the bias column is added.
      y: their classes ``[m]``, whole numbers 0 .. K - 1.
      s: sparsity level, 1 .. n.

    Raises:
      InputError: s is out of range, X and y are no training rows, or there are too many supports to enumerate.

    Warns:
      RuntimeWarning: the answer may be further from the truth than 1e-9; ``within`` says how far.

    References:
      Best subset selection: Bertsimas, King and Mazumder, 2016, doi:10.1214/15-AOS1388. Supports that symmetry makes
      equal are solved once (`symmetry`), all others by Newton (`newton`).

    Example:
      >>> X, y = np.array([[-2.], [-1.], [0.], [1.], [2.]]), np.array([0, 1, 0, 1, 1])
      >>> best = best_subset(X, y, 1)
      >>> round(best.loss, 6), best.support.tolist(), best.attained, best.n_best, best.n_best_at_most
      (0.514688, [True, False, False, False], True, 2, 2)
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
    answers = [search.describe(s, best[s], X, y) for s in levels]
    warn_of(max(answer.within for answer in answers))
    return answers


def warn_of(within: float) -> None:
    """Warn if infima may be further off than a tie."""
    if not within <= TIE:
        warnings.warn(
            f"some infima are only known within {within:.1e} nats, where {TIE:g} is usual: classes are apart by less "
            f"than floats can tell; look for outliers and sentinels in the data",
            RuntimeWarning,
            stacklevel=3,
        )


class Search:
    """The restricted infima of one split that are known so far, and the search for the least of each level.

    A support's infimum is at most that of any support inside it. So a class of supports is left out if one that
    contains it is already worse than the best of its own size.

    Args:
      rows: the training rows.
    """

    def __init__(self, rows: SoftmaxRows):
        self.rows = rows
        self.found: dict[bytes, Solved] = {}
        self.tied: dict[int, tuple[np.ndarray, bool]] = {}
        self.least_of_size = np.full(rows.n + 1, np.inf)
        self.lower_of_size = np.full(rows.n + 1, np.inf)

    def infima(self, supports: np.ndarray) -> np.ndarray:
        """Infima ``[B]`` of canonical supports ``[B, n]``, as found; each is solved once."""
        keys = [support.tobytes() for support in supports]
        new = {key: i for i, key in enumerate(keys) if key not in self.found}
        if new:
            solved = supports[list(new.values())]
            optima = restricted_optima(self.rows, solved)
            self.found |= dict(zip(new, itertools.starmap(Solved, zip(*optima))))
            np.minimum.at(self.least_of_size, solved.sum(1), optima.infimum)
            np.minimum.at(self.lower_of_size, solved.sum(1), optima.infimum - optima.within)
        return np.array([self.found[key].infimum for key in keys])

    def within(self, supports: np.ndarray) -> np.ndarray:
        """By how much the infima of canonical supports ``[B, n]`` that were solved may be exceeded ``[B]``."""
        return np.array([self.found[support.tobytes()].within for support in supports])

    def theta(self, support: np.ndarray) -> np.ndarray:
        """Parameters ``[n]`` near the infimum of a canonical support that was solved."""
        return self.found[support.tobytes()].theta

    def existence(self, support: np.ndarray, X: np.ndarray, y: np.ndarray) -> str:
        """`existence` on a canonical support that was solved.

        It takes no linear program where Newton's method met a minimiser, or where the mean loss is less than log 2
        for one row and 0 for all others: then every row has a probability of more than 1/2 for its class.
        """
        key = support.tobytes()
        infimum, _, verdict, _ = self.found[key]
        if not isinstance(verdict, str):
            converged, low = verdict, infimum < np.log(2) / self.rows.m
            verdict = ATTAINED if converged else SEPARATED if low else existence(X, y, support)
            self.found[key] = self.found[key]._replace(verdict=verdict)
        return verdict

    def best(self, levels: Sequence[int], hints: np.ndarray | None = None) -> dict[int, np.ndarray]:
        """The best canonical supports ``[c, n]`` of each level's largest size, c > 1 where several are equal.

        Args:
          levels: sparsity levels.
          hints: canonical supports ``[h, n]`` that may be good; they only save time.
        """
        K, D = self.rows.K, self.rows.D
        sizes = {min(s, (K - 1) * D) for s in levels}
        most = max(count_classes(K, D, size) for size in sizes)
        best = {}
        lower = children = None
        for size in range(max(sizes), min(sizes) - 1, -1):
            interrupts.check()
            if count_classes(K, D, size) > most:  # between two levels, and not worth it: nothing carries over
                lower = None
                continue
            supports = canonical_supports(K, D, size)
            if lower is None or children is None:
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
            lower[solved] = infimum[solved] - self.within(supports[solved])
            children = infimum <= infimum.min() + TIE
            best[size] = supports[children]
        return {s: best[min(s, (K - 1) * D)] for s in levels}

    def ties(self, s: int, supports: np.ndarray) -> tuple[np.ndarray, bool]:
        """All best canonical supports ``[c, n]`` with at most s entries, from those of the largest size; whether all.

        A support with fewer entries is a best one only if every support that contains it is.
        """
        size = int(supports[0].sum())  # at most (K - 1) (d + 1): all larger levels have the same
        if size not in self.tied:
            found, complete = [supports], True
            while complete and len(found[-1]):
                below = classes_below(found[-1], self.rows.K)
                complete = len(below) <= MAX_TIES
                if complete:
                    found.append(below[self.infima(below) <= self.least(s) + TIE])
            self.tied[size] = (np.concatenate(found), True) if complete else (supports, False)
        return self.tied[size]

    def describe(self, s: int, supports: np.ndarray, X: np.ndarray, y: np.ndarray) -> BestSubset:
        """A level's answer from its best canonical supports of the largest size."""
        support = supports[np.argmin(self.infima(supports))]
        verdict = self.existence(support, X, y)
        theta = self.theta(support)
        supports, complete = self.ties(s, supports)
        counts = equal_supports(supports, self.rows.K)[: s + 1]
        n_best, at_most = (counts[s], sum(counts)) if complete else (None, None)
        attained = verdict == ATTAINED
        return BestSubset(self.least(s), support, theta, attained, verdict, supports, n_best, at_most, self.exceeds(s))

    def exceeds(self, s: int) -> float:
        """By how much `least` may exceed the infimum over all supports with at most s entries, as far as searched."""
        return max(self.least(s) - float(self.lower_of_size[: s + 1].min()), 0.0)

    def least(self, s: int) -> float:
        """The least infimum found on at most s entries; equal ones differ by rounding, which must not rise with s."""
        return float(self.least_of_size[: s + 1].min())


@functools.lru_cache(maxsize=64)
def classes_above(K: int, D: int, size: int) -> np.ndarray:
    """For each canonical support of a size, those of one entry more that contain it: ``[C, P]``, repeated to fill."""
    supports = canonical_supports(K, D, size)
    place = {support.tobytes(): i for i, support in enumerate(canonical_supports(K, D, size + 1))}
    above: list[list[int]] = [[] for _ in supports]
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
        few = next(t for t in range(s) if count_classes(K, D, min(t + 1, (K - 1) * D)) > MAX_CLASSES)
        raise InputError(
            f"s: level {s} of {K * D} parameters has {counts[s]:.3g} classes of supports, expected at most "
            f"{MAX_CLASSES:,} to enumerate; it would take about {_duration(counts[s] * SECONDS_PER_CLASS)} a split; "
            + (f"take levels up to {few}" if few else "take fewer features")
        )


def _duration(seconds: float) -> str:
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"
