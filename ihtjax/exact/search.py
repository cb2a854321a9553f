"""The search for the best of all supports with at most s entries."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ihtjax import interrupts
from ihtjax.exact.newton import LANES
from ihtjax.exact.rows import Rows
from ihtjax.exact.separation import ATTAINED, SEPARATED

# Where more classes of one size than this may be best ones, they are not counted.
MAX_TIES = 10_000


class BestSubset(NamedTuple):
    """The best that any parameters with at most s nonzero entries can do.

    Attributes:
      loss: the infimum of f; see ``within``.
      support: mask ``[n]`` of a support that reaches it, in canonical form.
      theta: ``[n]``, a point on that support that reaches ``loss``, but for its rounding.
      attained: whether it is a minimiser; where the support (quasi-)separates the rows there is none.
      existence: "attained", "quasi-separated" or "separated" on that support.
      supports: masks ``[c, n]``, all canonical supports with at most s entries whose infimum is within a tie of
        ``loss``, 1e-9 (for squared error 1e-9 of the targets' variance); where there are more than 10,000 of one size,
        those of the largest size alone.
      n_best: how many supports with exactly s entries have an infimum within a tie of ``loss``; None where
        ``supports`` isn't complete.
      n_best_at_most: the same for supports with at most s entries.
      within: by how much ``loss`` may exceed the infimum, by duality and rounding; on separated rows by a rule of
        thumb, see `extended.dual_gap`. Some 1e-12 for sane data; where it is more than a tie, classes are apart by
        less than float64 can tell, or columns too nearly dependent, and ties are not to be trusted.
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
    """A support's `RestrictedOptima`; the verdict is whether one was met, or `Rows.existence`."""

    infimum: float
    theta: np.ndarray
    verdict: bool | str
    within: float


class Search:
    """The restricted infima of one split that are known so far, and the search for the least of each level.

    A support's infimum is at most that of any support inside it. So a class of supports is left out if one that
    contains it is already worse than the best of its own size.

    Args:
      rows: the training rows.
    """

    def __init__(self, rows: Rows):
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
            optima = self.rows.optima(solved)
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

    def existence(self, support: np.ndarray) -> str:
        """`Rows.existence` on a canonical support that was solved.

        It takes no linear program where Newton's method met a minimiser, or where the mean loss is less than log 2
        for one row and 0 for all others: then every row has a probability of more than 1/2 for its class.
        """
        key = support.tobytes()
        infimum, _, verdict, _ = self.found[key]
        if not isinstance(verdict, str):
            converged, low = verdict, infimum < np.log(2) / len(self.rows.X)
            verdict = ATTAINED if converged else SEPARATED if low else self.rows.existence(support)
            self.found[key] = self.found[key]._replace(verdict=verdict)
        return verdict

    def best(self, levels: Sequence[int], hints: np.ndarray | None = None) -> dict[int, np.ndarray]:
        """The best canonical supports ``[c, n]`` of each level's largest size, c > 1 where several are equal.

        Args:
          levels: sparsity levels.
          hints: canonical supports ``[h, n]`` that may be good; they only save time.
        """
        of, tie = self.rows.supports, self.rows.tie
        sizes = {min(s, of.largest) for s in levels}
        most = max(map(of.count, sizes))
        best = {}
        lower = children = None
        for size in range(max(sizes), min(sizes) - 1, -1):
            interrupts.check()
            if of.count(size) > most:  # between two levels, and not worth it: nothing carries over
                lower = None
                continue
            supports = of.of_size(size)
            if lower is None or children is None:
                lower, first = np.zeros(len(supports)), np.zeros(len(supports), bool)
            else:
                # What every superset's infimum is at least, and who lies below the best of the size above.
                above = of.above(size)
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
                batch = batch[lower[batch] <= infimum.min() + tie]
                if len(batch):
                    infimum[batch] = self.infima(supports[batch])
            solved = np.isfinite(infimum)
            lower[solved] = infimum[solved] - self.within(supports[solved])
            children = infimum <= infimum.min() + tie
            best[size] = supports[children]
        return {s: best[min(s, of.largest)] for s in levels}

    def ties(self, s: int, supports: np.ndarray) -> tuple[np.ndarray, bool]:
        """All best canonical supports ``[c, n]`` with at most s entries, from those of the largest size; whether all.

        A support with fewer entries is a best one only if every support that contains it is.
        """
        size = int(supports[0].sum())  # at most that of the largest: all larger levels have the same
        if size not in self.tied:
            found, complete = [supports], True
            while complete and len(found[-1]):
                below = self.rows.supports.below(found[-1])
                complete = len(below) <= MAX_TIES
                if complete:
                    found.append(below[self.infima(below) <= self.least(s) + self.rows.tie])
            self.tied[size] = (np.concatenate(found), True) if complete else (supports, False)
        return self.tied[size]

    def describe(self, s: int, supports: np.ndarray) -> BestSubset:
        """A level's answer from its best canonical supports of the largest size."""
        support = supports[np.argmin(self.infima(supports))]
        verdict = self.existence(support)
        theta = self.theta(support)
        supports, complete = self.ties(s, supports)
        counts = self.rows.supports.members(supports)[: s + 1]
        n_best, at_most = (counts[s], sum(counts)) if complete else (None, None)
        attained = verdict == ATTAINED
        return BestSubset(self.least(s), support, theta, attained, verdict, supports, n_best, at_most, self.exceeds(s))

    def exceeds(self, s: int) -> float:
        """By how much `least` may exceed the infimum over all supports with at most s entries, as far as searched."""
        return max(self.least(s) - float(self.lower_of_size[: s + 1].min()), 0.0)

    def least(self, s: int) -> float:
        """The least infimum found on at most s entries; equal ones differ by rounding, which must not rise with s."""
        return float(self.least_of_size[: s + 1].min())
