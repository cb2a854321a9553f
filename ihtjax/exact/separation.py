"""Whether a support's infimum is attained, decided by linear programming."""

import numpy as np

from ihtjax.errors import InputError, check, numbers_in, one_of
from ihtjax.exact.symmetry import as_blocks, as_mask, of_second_class

ATTAINED, QUASI_SEPARATED, SEPARATED = "attained", "quasi-separated", "separated"
# They rise with |z|, so that their infimum over a subspace is attained.
COERCIVE = ("squared", "huber")
# Beyond the solver's feasibility tolerance of 1e-7, for columns with mean square 1.
SMALLEST_RISE = 1e-5


def existence(X: np.ndarray, y: np.ndarray, support: np.ndarray, *, loss: str = "cross_entropy") -> str:
    """Whether a linear model on these rows has a minimiser with this support.

    Squared error and Huber's loss always have one. For softmax regression, and for logistic regression, whose output
    is its second class's logit beside one of 0:

    A direction v with this support separates if no row's logit of another class rises against that of its own,

        z_{i, y_i}(v) - z_{ik}(v) >= 0  for all rows i and classes k,

    and some fall. Then f falls along v for ever, and the infimum is not attained. Two linear programs look for such v,
    where A v are these m (K - 1) differences and |v_i| <= 1:

        max sum A v  subject to  A v >= 0,      and, where that is positive,      max e  subject to  A v >= e.

    Columns are scaled first, which changes no answer. Leads of less than 1e-5 of a column's root mean square aren't
    told from none, so classes that are nearer to each other than that count as touching.

    Args:
      X: training rows ``[m, d]``.
      y: their classes ``[m]``, 0 .. K - 1, or numbers.
      support: mask ``[n]``, n = q (d + 1); q outputs, K for cross-entropy, 1 for logistic loss.
      loss: "cross_entropy", "logistic", "squared" or "huber".

    Returns:
      "attained" (no v separates: the rows overlap, a minimiser exists), "quasi-separated" (some v separates, but
      none with all differences positive: the infimum is approached, not attained) or "separated" (the infimum is 0).

    Raises:
      InputError: the support has not q (d + 1) entries, nothing is known of the loss, or a program can't be solved.

    References:
      Albert and Anderson, On the existence of maximum likelihood estimates in logistic regression models, 1984,
      doi:10.1093/biomet/71.1.1. The solver is HiGHS, doi:10.1007/s12532-017-0130-5.

    Example:
      >>> X, y = np.array([[0.], [1.], [2.]]), np.array([0, 0, 1])
      >>> existence(X, y, np.array([True, False, False, True]))  # w11 and b2
      'separated'
      >>> existence(X, y, np.array([True, False, False, False]))  # w11: row 1 wants it up, row 2 down
      'attained'
    """
    coercive = check("loss", loss, one_of("cross_entropy", "logistic", *COERCIVE)) in COERCIVE
    X = numbers_in("X", X, 2)
    if coercive:
        support = as_mask("support", support)
        if not support.size or support.ndim != 1 or support.size % (X.shape[1] + 1):
            raise InputError(f"support: got {support.shape}, expected a mask of q x {X.shape[1] + 1} parameters")
        return ATTAINED
    y = numbers_in("y", y, 1, whole=True)
    if y.shape != X.shape[:1] or not len(y) or y.min() < 0:
        raise InputError(f"X and y: got shapes {X.shape} and {y.shape}, expected [m, d] and [m], classes from 0 on")
    support = as_mask("support", support)
    m, d = X.shape
    if loss == "logistic":
        if support.shape != (d + 1,) or y.max() > 1:
            got = f"{support.shape} and classes up to {y.max()}"
            raise InputError(f"support: got {got}, expected a mask of {d + 1} parameters and classes 0 and 1")
        support = of_second_class(support)
    K, rest = divmod(support.size, d + 1)
    if rest or support.ndim != 1 or K <= y.max():
        raise InputError(f"support: got {support.shape}, expected a mask of {y.max() + 1} x {d + 1} parameters or more")
    k, f = np.nonzero(as_blocks(support, K))
    if not len(k):
        return ATTAINED
    # Differences z_{i, y_i} - z_{ij}, for each row i and each class j but y_i.
    X = np.column_stack([X, np.ones(m)])
    columns = (X / column_scales(X))[:, None, f]
    A = columns * ((y[:, None, None] == k) - 1.0 * (np.arange(K)[:, None] == k))
    A = A[np.arange(K) != y[:, None]]
    box = [(-1, 1)] * len(k)
    if _maximum(A.sum(0), A, box) < SMALLEST_RISE:
        return ATTAINED
    margin = _maximum(np.eye(len(k) + 1)[-1], np.column_stack([A, -np.ones(len(A))]), [*box, (0, None)])
    return SEPARATED if margin > SMALLEST_RISE else QUASI_SEPARATED


def column_scales(X: np.ndarray) -> np.ndarray:
    """The power of two nearest each column's root mean square ``[D]``, so that dividing rounds nothing; 1 for zeros.

    Restricted infima and their existence don't feel the scale of a column, but rounding and tolerances do.
    Standardised columns have scale 1.
    """
    largest = np.abs(X).max(0)
    unit = np.where(largest == 0, 1, largest)
    size = np.where(largest == 0, 1, np.sqrt(np.mean((X / unit) ** 2, axis=0)))
    return 2.0 ** np.round(np.log2(unit) + np.log2(size))


def _maximum(c, A, bounds):
    """max c v subject to A v >= 0."""
    from scipy import optimize  # a fifth of a second, which a sweep needs not

    result = optimize.linprog(-c, A_ub=-A, b_ub=np.zeros(len(A)), bounds=bounds, method="highs")
    if result.status != 0:
        raise InputError(f"support: a linear program failed ({result.message}); rescale the features")
    return -result.fun
