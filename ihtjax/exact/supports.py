"""Which supports a search has to solve: one of each class of those that hold the same networks, called canonical."""

import abc
import functools
import itertools
import math

import numpy as np

from ihtjax.exact.symmetry import (
    as_blocks,
    as_mask,
    canonical_support,
    canonical_supports,
    classes_below,
    count_classes,
    equal_supports,
    from_blocks,
    same_network,
)


class Supports(abc.ABC):
    """The supports of n parameters.

    Attributes:
      n: how many parameters.
      largest: entries of the largest canonical support.
      what: what is counted, in words.
    """

    n: int
    largest: int
    what: str

    @abc.abstractmethod
    def canonical(self, supports: np.ndarray) -> np.ndarray:
        """The canonical supports of the same networks ``[.., n]``."""

    @abc.abstractmethod
    def onto(self, theta: np.ndarray, support: np.ndarray) -> np.ndarray:
        """The parameters of theta's network on another support of its class ``[.., n]``."""

    @abc.abstractmethod
    def count(self, size: int) -> int:
        """How many canonical supports have exactly so many entries."""

    @abc.abstractmethod
    def of_size(self, size: int) -> np.ndarray:
        """The canonical supports of exactly so many entries ``[C, n]``."""

    @abc.abstractmethod
    def above(self, size: int) -> np.ndarray:
        """For each canonical support of a size, those of one entry more that contain it: ``[C, P]``, as indices."""

    @abc.abstractmethod
    def below(self, supports: np.ndarray) -> np.ndarray:
        """Those of one entry less that lie in these ``[C, n]``, and in no other of their size."""

    @abc.abstractmethod
    def members(self, supports: np.ndarray) -> list[int]:
        """How many supports of 0 .. n entries are of the classes of these."""

    @abc.abstractmethod
    def free(self, supports: np.ndarray) -> np.ndarray:
        """The entries ``[B, n]`` of supports that a symmetry may shift together without a change of f."""


class SoftmaxSupports(Supports):
    """Those of softmax regression, with its blocks: see `symmetry`."""

    what = "classes of supports"

    def __init__(self, classes: int, blocks: int):
        self.K, self.D = classes, blocks
        self.n, self.largest = classes * blocks, (classes - 1) * blocks

    def canonical(self, supports):
        return canonical_support(supports, self.K)

    def onto(self, theta, support):
        return same_network(theta, support, self.K)

    def count(self, size):
        return count_classes(self.K, self.D, size)

    def of_size(self, size):
        return canonical_supports(self.K, self.D, size)

    def above(self, size):
        return classes_above(self.K, self.D, size)

    def below(self, supports):
        return classes_below(supports, self.K)

    def members(self, supports):
        return equal_supports(supports, self.K)

    def free(self, supports):
        full = np.all(as_blocks(supports, self.K), axis=1, keepdims=True)
        return from_blocks(np.repeat(full, self.K, axis=1))


class EverySupport(Supports):
    """Those of a model without symmetries: no two hold the same networks."""

    what = "supports"

    def __init__(self, n: int):
        self.n = self.largest = n

    def canonical(self, supports):
        return as_mask("support", supports)

    def onto(self, theta, support):
        return theta

    def count(self, size):
        return math.comb(self.n, size)

    def of_size(self, size):
        return every_support(self.n, size)

    def above(self, size):
        return supports_above(self.n, size)

    def below(self, supports):
        size = int(supports[0].sum())
        # A support of one entry less lies in n - size + 1 of these.
        if size == 0 or len(supports) <= self.n - size:
            return supports[:0]
        which, entry = np.nonzero(supports)
        lesser = supports[which]
        lesser[np.arange(len(which)), entry] = False
        below, times = np.unique(lesser, axis=0, return_counts=True)
        return below[times == self.n - size + 1]

    def members(self, supports):
        return np.bincount(supports.sum(1), minlength=self.n + 1).tolist()

    def free(self, supports):
        return np.zeros_like(supports)


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


@functools.lru_cache(maxsize=64)
def every_support(n: int, size: int) -> np.ndarray:
    """All supports of exactly ``size`` of n entries, in lexicographic order, masks ``[C, n]``."""
    entries = np.array(list(itertools.combinations(range(n), size)), np.intp).reshape(math.comb(n, size), size)
    supports = np.zeros((len(entries), n), bool)
    np.put_along_axis(supports, entries, True, axis=1)
    return supports


@functools.lru_cache(maxsize=64)
def supports_above(n: int, size: int) -> np.ndarray:
    """For each of `every_support` those of one entry more that contain it: ``[C, n - size]``.

    The place of entries c_0 < c_1 < .. < c_{k-1} in lexicographic order is C(n, k) - 1 - sum_i C(n - 1 - c_i, k - i).
    """
    k = size + 1
    # What is larger than any place is never asked for.
    ways = np.array([[min(math.comb(a, b), 2**62) for b in range(k + 1)] for a in range(n)])
    inside = every_support(n, size)
    free = np.nonzero(~inside)[1].reshape(len(inside), n - size)
    place = np.empty(free.shape, np.int32)
    for j, entry in enumerate(free.T):
        larger = inside.copy()
        larger[np.arange(len(inside)), entry] = True
        entries = np.nonzero(larger)[1].reshape(len(inside), k)
        place[:, j] = math.comb(n, k) - 1 - ways[n - 1 - entries, k - np.arange(k)].sum(1)
    return place
