"""The search where f is a sum over outputs that share no parameter: each output alone, then how to share out s."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ihtjax.exact import search as searching
from ihtjax.exact.rows import Rows
from ihtjax.exact.search import Search
from ihtjax.exact.symmetry import from_blocks


def search_of(rows: Rows) -> Search:
    """The search that suits the rows."""
    return SeparableSearch(rows) if len(rows.parts) > 1 else Search(rows)


class SeparableSearch(Search):
    """The best supports of several outputs, from those of each, by dynamic programming over the outputs.

        min_{|S| <= s} f = min { sum_q f_q(s_q) : sum_q s_q = s },   f_q(k) the least with k entries of output q

    Exact: only supports within a tie of the least of their output and size can be part of one within a tie of the
    least of all. Without symmetries f_q never rises with k, so that the best use all entries.

    Args:
      rows: the training rows; their ``parts`` are the outputs'.
    """

    def __init__(self, rows: Rows):
        super().__init__(rows)
        self.parts = [Search(part) for part in rows.parts]
        self.good: list[list[np.ndarray]] = []

    def _search_parts(self, most: int) -> None:
        """For each output and size up to ``most`` the supports ``[c, D]`` within a tie of the least."""
        if not self.good or len(self.good[0]) <= min(most, len(self.rows.scale)):
            sizes = range(min(most, len(self.rows.scale)) + 1)
            self.good = [list(part.best(sizes).values()) for part in self.parts]

    def best(self, levels: Sequence[int], hints: np.ndarray | None = None) -> dict[int, np.ndarray]:
        """The best supports ``[c, n]`` of each level; of more than 10,000 those that come first."""
        self._search_parts(max(levels))
        best = {s: self._of_size(s, self._least_sum(s) + self.rows.tie) for s in levels}
        for supports in best.values():
            self.infima(supports)
        return best

    def ties(self, s: int, supports: np.ndarray) -> tuple[np.ndarray, bool]:
        self._search_parts(s)
        size, limit = int(supports[0].sum()), self._least_sum(s) + self.rows.tie
        if size not in self.tied:
            sizes = [k for k in range(size + 1) if self._least_sum(k) <= limit]
            found = [self._of_size(k, limit) for k in sizes]
            complete = max(map(len, found)) <= searching.MAX_TIES
            self.tied[size] = (np.concatenate(found), True) if complete else (supports, False)
        return self.tied[size]

    def exceeds(self, s: int) -> float:
        self._search_parts(s)
        lower = [[f - part.exceeds(k) for k, f in enumerate(its)] for part, its in zip(self.parts, self._least())]
        return max(self.least(s) - shared_out(lower)[0][s], 0.0)

    def _least(self) -> list[list[float]]:
        """f_q(k), for each output and k."""
        return [[part.least(k) for k in range(len(its))] for part, its in zip(self.parts, self.good)]

    def _least_sum(self, s: int) -> float:
        return float(shared_out(self._least())[0][s])

    def _of_size(self, s: int, limit: float) -> np.ndarray:
        """Supports ``[c, n]`` of s entries whose infimum is at most this; some, where they are more than 10,000."""
        rest = shared_out(self._least())  # of the outputs still to come, by entries
        # What has been chosen for the outputs so far, by the entries that it uses: supports [c, outputs, D], infima.
        chosen = {0: (np.zeros((1, 0, len(self.rows.scale)), bool), np.zeros(1))}
        for part, its, least in zip(self.parts, self.good, rest[1:]):
            further = defaultdict(list)
            for used, (before, infimum) in chosen.items():
                for k, supports in enumerate(its[: s - used + 1]):
                    left = s - used - k
                    if left < len(least):
                        total = infimum[:, None] + part.infima(supports)
                        i, j = np.nonzero(total + least[left] <= limit)
                        together = np.concatenate([before[i], supports[j][:, None]], axis=1)
                        further[used + k].append((together, total[i, j]))
            chosen = {used: _first(some) for used, some in further.items()}
        return from_blocks(chosen[s][0])


def shared_out(least: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """The least sums, by how many entries are shared out, over the outputs from the q-th on, for q = 0, 1, ..

    Args:
      least: for each output, by its number of entries.

    Returns:
      For each q, and after the last output, the sums by all their entries.
    """
    sums = [np.zeros(1)]
    for its in reversed(least):
        total = np.full(len(sums[0]) + len(its) - 1, np.inf)
        for k, value in enumerate(its):
            total[k : k + len(sums[0])] = np.minimum(total[k : k + len(sums[0])], value + sums[0])
        sums.insert(0, total)
    return sums


def _first(some: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Supports and infima of a list of such, together; at most one more than 10,000."""
    supports, infima = (np.concatenate(parts)[: searching.MAX_TIES + 1] for parts in zip(*some))
    return supports, infima
