"""The exact answer: the best of all supports with at most s entries."""

import warnings
from collections.abc import Sequence

import numpy as np

from ihtjax.errors import InputError, shown, whole_number
from ihtjax.exact.by_loss import rows_of
from ihtjax.exact.rows import Rows
from ihtjax.exact.search import BestSubset
from ihtjax.exact.separable import search_of

# More classes of supports than this are not enumerated: at 1e-4 to 1e-3 s each, it would take a quarter of an hour
# for one split.
MAX_CLASSES = 2_000_000


def best_subset(X: np.ndarray, y: np.ndarray, s: int, *, loss: str = "cross_entropy") -> BestSubset:
    """Minimise the mean loss of a linear model over all supports with at most s entries, exactly.

        min_{|S| <= s} inf { f(theta) : theta_i = 0 for i not in S },  theta = (W, b), n = q (d + 1) parameters

    Args:
      X: standardised training rows ``[m, d]``; the bias column is added.
      y: their classes ``[m]``, whole numbers 0 .. K - 1 (0 and 1 for logistic loss), or numbers ``[m]`` or ``[m, q]``
        for squared error.
      s: sparsity level, 1 .. n.
      loss: "cross_entropy" (q = K), "logistic" (q = 1) or "squared" (1/2 |z - y|^2 of a row, summed over targets).

    Raises:
      InputError: s is out of range, X and y are no training rows, there are too many supports to enumerate, or there
        is no oracle for the loss.

    Warns:
      RuntimeWarning: the answer may be further from the truth than a tie; ``within`` says how far.

    References:
      Best subset selection: Bertsimas, King and Mazumder, 2016, doi:10.1214/15-AOS1388. Supports that symmetry makes
      equal are solved once (`symmetry`), all others by Newton (`newton`) or by singular values (`least_squares`).

    Example:
      >>> X, y = np.array([[-2.], [-1.], [0.], [1.], [2.]]), np.array([0, 1, 0, 1, 1])
      >>> best = best_subset(X, y, 1)
      >>> round(best.loss, 6), best.support.tolist(), best.attained, best.n_best, best.n_best_at_most
      (0.514688, [True, False, False, False], True, 2, 2)
      >>> best = best_subset(X, y, 1, loss="squared")  # half the mean of (0.3 x - y)^2, or of (0.6 - y)^2
      >>> round(best.loss, 6), best.support.tolist(), best.theta.round(6).tolist()
      (0.12, [False, True], [0.0, 0.6])
    """
    return _best_subsets(X, y, [s], None, loss, "s")[0]


def best_subsets(
    X: np.ndarray, y: np.ndarray, levels: Sequence[int], classes: int | None = None, *, loss: str = "cross_entropy"
) -> list[BestSubset]:
    """`best_subset` for several levels at once, which takes little longer than the largest alone.

    Args:
      X: as in `best_subset`.
      y: as in `best_subset`.
      levels: sparsity levels.
      classes: K, for cross-entropy; one more than the largest class in y if None.
      loss: as in `best_subset`.
    """
    return _best_subsets(X, y, levels, classes, loss, "levels")


def _best_subsets(X, y, levels, classes, loss, name):
    its = rows_of(loss)
    if classes is not None and loss != "cross_entropy":
        raise InputError(f"classes: got {shown(classes)}, expected None for loss {loss}, which has no number of them")
    rows = its.checked(X, y, classes)
    check_levels(levels, rows, name)
    search = search_of(rows)
    best = search.best(levels)
    answers = [search.describe(s, best[s]) for s in levels]
    warn_of(max(answer.within for answer in answers), rows, stacklevel=4)
    return answers


def warn_of(within: float, rows: Rows, stacklevel: int = 3) -> None:
    """Warn if infima may be further off than a tie."""
    if not within <= rows.tie:
        warnings.warn(
            f"some infima are only known within {within:.1e}{rows.unit}, where {rows.tie:g} is usual: {rows.doubt}; "
            "look for outliers and sentinels in the data",
            RuntimeWarning,
            stacklevel=stacklevel,
        )


def check_levels(levels: Sequence[int], rows: Rows, name: str = "levels") -> None:
    """Raise `InputError`, of what the caller calls ``name``, unless each level lies in 1 .. n and can be enumerated."""
    n = rows.n
    if not isinstance(levels, Sequence) or isinstance(levels, str | bytes) or not levels:
        raise InputError(f"levels: got {shown(levels)}, expected whole numbers from 1 to {n}, such as (3, 5, 7)")
    for s in levels:
        if not whole_number(1, n).holds(s):
            expected = f"a whole number from 1 to {n}, the number of parameters"
            raise InputError(f"{name}: got {shown(s)}, expected {expected}")
    counts = {s: _most_supports(rows, s) for s in sorted(levels)}
    if max(counts.values()) > MAX_CLASSES:
        s = next(s for s, count in counts.items() if count > MAX_CLASSES)
        few = next(t for t in range(s) if _most_supports(rows, t + 1) > MAX_CLASSES)
        raise InputError(
            f"{name}: level {s} of {n} parameters has {counts[s]:.3g} {rows.supports.what}, expected at most "
            f"{MAX_CLASSES:,} to enumerate; it would take about {_duration(counts[s] * rows.seconds)} a split; "
            + (f"take levels up to {few}" if few else "take fewer features")
        )


def _most_supports(rows: Rows, s: int) -> int:
    """How many supports of one size are enumerated for a level; of several outputs, up to it, of one of them."""
    first = rows.parts[0].supports
    top = min(s, first.largest)
    return max(map(first.count, range(top + 1))) if len(rows.parts) > 1 else first.count(top)


def _duration(seconds: float) -> str:
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"
