"""Constraint sets: which vectors are sparse for a level s, and which of them is nearest."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ihtjax.errors import InputError, shown
from ihtjax.solvers.draws import random_subset, random_subsets
from ihtjax.solvers.threshold import as_count, keep, largest, transfers_allowed

ALWAYS = -1


@dataclass(frozen=True)
class SparseSet:
    """All vectors with at most s nonzero entries, the set of the paper's (1).

    What steps, starts, the estimate of L_2s and the certificate know of a constraint set is in these methods; s is
    data, and masks are of n entries.
    """

    def n_counted(self, n: int) -> int:
        """The largest level of n parameters: how many of them s counts."""
        return n

    def largest(self, key: jax.Array, s: jax.Array | int) -> jax.Array:
        """Where the nearest vector may be nonzero, if magnitudes are in the order of integers from 0 on ``[n]``."""
        return largest(key, s)

    @transfers_allowed
    def threshold(self, v: jax.Array, s: jax.Array | int) -> jax.Array:
        """H_s: a nearest vector of the set to v ``[n]``; ties and NaN as in `hard_threshold`, which this is here."""
        return keep(v, s, self.largest)

    def random_support(self, key: jax.Array, n: int, s: jax.Array | int) -> jax.Array:
        """Mask ``[n]`` of a largest support in the set, drawn uniformly."""
        return random_subset(key, n, s, self.largest)

    def random_supports(self, key: jax.Array, count: int, n: int, s: jax.Array | int) -> jax.Array:
        """``count`` such masks, ``[count, n]``."""
        return random_subsets(key, count, n, s, self.largest)

    def support(self, theta: jax.Array) -> jax.Array:
        """Mask ``[n]`` of the entries that are nonzero, or may be whatever the others are."""
        return theta != 0

    def groups(self, v: jax.Array) -> list[jax.Array]:
        """Entries of v ``[n]``, or of a mask, that share a bound on how many may be nonzero, by bound."""
        return [v]

    def shares(self, s: jax.Array) -> list[jax.Array]:
        """These bounds; they add up to s, or to n_counted if s is more."""
        return [s]


PLAIN = SparseSet()


@dataclass(frozen=True)
class GroupedSet(SparseSet):
    """All vectors with at most a share of s nonzero entries in each group, and any number among those always in.

    Each group of entries, such as a layer's, gets its share of s in proportion to its size by the method of
    Sainte-Lague, after one for each group, the largest first: at level s + 1 one group gets one more, so that a level's
    set holds those of all levels below it. H_s keeps, of each group, as many entries as its share, the largest.

    Args:
      group: of each of the n entries: a number from 0 on, each up to the last at least once, or `ALWAYS`.

    Raises:
      InputError: from its methods, a vector isn't of n entries.

    References:
      Balinski and Young, Fair Representation, 1982, for the method's properties.
    """

    group: tuple[int, ...]

    @functools.cached_property
    def members(self) -> list[np.ndarray]:
        """Places of each group's entries, ascending."""
        group = np.array(self.group)
        return [np.flatnonzero(group == g) for g in range(group.max() + 1)]

    @functools.cached_property
    def always(self) -> np.ndarray:
        """Places of the entries that are always in."""
        return np.flatnonzero(np.array(self.group) == ALWAYS)

    def n_counted(self, n):
        return n - len(self.always)

    @functools.cached_property
    def table(self) -> np.ndarray:
        """The shares by level from 0 on, int32 ``[n_counted + 1, groups]``."""
        sizes = np.array([len(places) for places in self.members])
        of = np.repeat(np.arange(len(sizes)), sizes)
        before = np.concatenate([np.arange(size) for size in sizes])  # how many of the group come in earlier
        turn = np.where(before == 0, 0, (2 * before + 1) / sizes[of])
        order = of[np.lexsort((of, -sizes[of], turn))]
        return np.cumsum(np.r_[-1, order][:, None] == np.arange(len(sizes)), axis=0, dtype=np.int32)

    def shares(self, s):
        s = jnp.clip(as_count(s), 0, len(self.table) - 1)
        if len(self.members) == 1:
            return [s]
        row = jnp.asarray(self.table)[s]
        return [row[g].astype(s.dtype) for g in range(len(self.members))]

    def check_length(self, v):
        """Raise `InputError` unless v is of n entries."""
        if v.shape != (len(self.group),):
            raise InputError(
                f"v: got {shown(v)}, expected {len(self.group)} entries, as many as the set's vectors have"
            )

    def groups(self, v):
        self.check_length(v)
        return [at(v, places) for places in self.members]

    def support(self, theta):
        always = np.array(self.group) == ALWAYS
        return (theta != 0) | always

    def largest(self, key, s):
        self.check_length(key)
        if len(self.members) == 1:
            # No entry of the group is below those that aren't of it, so its share is found among itself.
            counted = np.array(self.group) != ALWAYS
            return largest(jnp.where(counted, key, -1), *self.shares(s)) | ~counted
        masks = [largest(entries, share) for entries, share in zip(self.groups(key), self.shares(s))]
        found = jnp.concatenate([*masks, jnp.ones(len(self.always), bool)])
        return at(found, np.argsort(np.concatenate([*self.members, self.always])))


def at(v: jax.Array, places: np.ndarray) -> jax.Array:
    """v at these places; by a slice where they are neighbours, which costs nothing in a batch."""
    first, count = places[0], len(places)
    if np.array_equal(places, np.arange(first, first + count)):
        return lax.slice_in_dim(v, first, first + count)
    return v[places]
