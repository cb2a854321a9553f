"""Supports and parameters that make the same network.

Softmax doesn't change when one number is added to all logits. So adding a constant to one feature's K class weights,
or to all K biases, leaves the network as it is. The K parameters of one feature, or the K biases, are called a block;
a network has d + 1 of them, and none of this couples two blocks.
"""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from ihtjax.errors import NOT_NEGATIVE, InputError, check, numbers_in, shown, whole_number


def as_mask(name: str, mask: np.ndarray) -> np.ndarray:
    """The mask ``[.., n]`` as booleans, or `InputError`."""
    try:
        array = np.asarray(mask)
    except (TypeError, ValueError):
        raise InputError(f"{name}: got {shown(mask)}, expected a mask of booleans") from None
    if array.dtype != bool or array.ndim < 1:
        raise InputError(f"{name}: got {shown(array)}, expected a mask of booleans; for parameters take theta != 0")
    return array


def check_classes(n: int, classes: int) -> int:
    """K, if n parameters can be those of K classes."""
    K = check("classes", classes, whole_number(1, max(1, n)))
    if n == 0 or n % K:
        raise InputError(f"classes: got {K}, expected a divisor of the number of parameters, {n}")
    return K


def as_blocks(v: np.ndarray, classes: int) -> np.ndarray:
    """View parameters ``[.., n]`` as ``[.., K, d + 1]``, a block in each column, the biases in the last."""
    d = v.shape[-1] // classes - 1
    weights = v[..., : classes * d].reshape(*v.shape[:-1], classes, d)
    return np.concatenate([weights, v[..., classes * d :, None]], axis=-1)


def from_blocks(blocks: np.ndarray) -> np.ndarray:
    """The inverse of `as_blocks`."""
    *outer, K, D = blocks.shape
    return np.concatenate([blocks[..., :-1].reshape(*outer, K * (D - 1)), blocks[..., -1]], axis=-1)


def of_second_class(v: np.ndarray) -> np.ndarray:
    """Parameters or masks ``[.., d + 1]`` as those of two classes ``[.., 2 (d + 1)]``, the first's 0."""
    return from_blocks(np.stack([np.zeros_like(v), v], axis=-2))


def canonical_support(support: np.ndarray, classes: int) -> np.ndarray:
    """The smallest support that fits as well: equal for two supports exactly if they hold the same networks.

    In a block, any K - 1 entries fit as well as all K, since a constant brings the last one to 0; they become the
    first K - 1. Smaller sets of a block's entries all differ. So a block has 2^K - K classes of supports, and Iris,
    with five blocks and K = 3, has 5^5 = 3,125 classes of its 2^15 supports.

    Args:
      support: mask ``[.., n]``.
      classes: K.

    Returns:
      Mask ``[.., n]``.

    Example:
      >>> canonical_support(np.array([False, True, False, True, False, False]), 3)  # w21; b1
      array([False,  True, False,  True, False, False])
      >>> canonical_support(np.array([False, True, True, True, True, True]), 3)
      array([ True,  True, False,  True,  True, False])
    """
    support = as_mask("support", support)
    blocks = as_blocks(support, check_classes(support.shape[-1], classes))
    full = blocks.sum(-2, keepdims=True) >= classes - 1
    first = np.arange(classes)[:, None] < classes - 1
    return from_blocks(np.where(full, first, blocks))


def canonical_parameters(theta: np.ndarray, classes: int, tolerance: float = 0.0) -> np.ndarray:
    """The sparsest parameters of the same network: equal for two vectors exactly if they make the same network.

    Each block is shifted by its commonest value, which becomes 0; among equally common values by that of the highest
    class.

    Args:
      theta: ``[.., n]``.
      classes: K.
      tolerance: entries of a block that differ by at most this count as equal.

    Returns:
      Parameters ``[.., n]``.

    Example:
      >>> canonical_parameters(np.array([1., 3., 1., 0., 0., 5.]), 3)
      array([0., 2., 0., 0., 0., 5.])
    """
    theta = numbers_in("theta", theta, None)
    blocks = as_blocks(theta, check_classes(theta.shape[-1], classes))
    check("tolerance", tolerance, NOT_NEGATIVE)
    difference = blocks[..., :, None, :] - blocks[..., None, :, :]
    equal = np.abs(difference) <= tolerance
    commonness = equal.sum(-2)
    highest = classes - 1 - np.argmax(commonness[..., ::-1, :], axis=-2)[..., None, :]
    shifted = np.take_along_axis(difference, highest[..., None, :], axis=-2)[..., 0, :]
    return from_blocks(np.where(np.take_along_axis(equal, highest[..., None, :], axis=-2)[..., 0, :], 0, shifted))


def same_network(theta: np.ndarray, support: np.ndarray, classes: int) -> np.ndarray:
    """The parameters of theta's network on another support of the same class, ``[.., n]``.

    A block with K - 1 entries is shifted so that the one entry off the support is 0; a full or smaller one stays.
    """
    blocks, on = as_blocks(theta, classes), as_blocks(support, classes)
    shift = np.where(on.sum(-2) == classes - 1, np.where(on, 0, blocks).sum(-2), 0)
    return from_blocks(blocks - shift[..., None, :] * (on if classes > 1 else 1)) * support


def equal_supports(canonical: np.ndarray, classes: int) -> list[int]:
    """How many supports of 0 .. n entries are of the classes of canonical supports ``[C, n]``, all together."""
    K = classes
    blocks = as_blocks(canonical, K).sum(1)
    counts = [0] * (canonical.shape[-1] + 1)
    for (entries, full), C in Counter(zip(blocks.sum(1).tolist(), (blocks == K - 1).sum(1).tolist())).items():
        # Each full block holds K - 1 entries, in one of K ways, or all K, in one.
        for extra in range(full + 1):
            counts[entries + extra] += C * math.comb(full, extra) * K ** (full - extra)
    return counts


def classes_below(canonical: np.ndarray, classes: int) -> np.ndarray:
    """Canonical supports with one entry less whose classes all lie in these: ``[M, n]`` from ``[C, n]`` of one size.

    A class lies in another if some of its supports lies in some of the other's. Returned are those for which every
    class of one entry more that they lie in is among the given ones.
    """
    K = classes
    blocks = as_blocks(canonical, K)
    entries = blocks.sum(1)
    # Every entry that a class lacks, of (K - 1) (d + 1), makes a class that it lies in.
    if not entries.any() or len(canonical) <= (K - 1 - entries[0]).sum():
        return canonical[:0]
    found = []
    for b in range(blocks.shape[-1]):
        # A full block, which has K entries as well as K - 1, loses any two of K; another one any entry.
        for left in itertools.combinations(range(K), K - 2):
            found.append(blocks[entries[:, b] == K - 1])
            found[-1][:, :, b] = _column(left, K)
        for k in range(K):
            found.append(blocks[(entries[:, b] < K - 1) & blocks[:, k, b]])
            found[-1][:, k, b] = False
    below, times = np.unique(from_blocks(np.concatenate(found)), axis=0, return_counts=True)
    missing = K - as_blocks(below, K).sum(1)
    # A block gains any entry that it lacks, but K - 1 are a full one whichever is gained, and that gains none.
    return below[times == np.select([missing == 1, missing == 2], [0, 1], missing).sum(-1)]


def count_classes(classes: int, blocks: int, size: int) -> int:
    """How many classes of supports have a member of exactly ``size`` entries and none smaller."""
    counts = [1]
    per_block = [math.comb(classes, j) for j in range(classes - 1)] + [1]
    for _ in range(blocks):
        counts = np.convolve(np.array(counts, object), np.array(per_block, object)).tolist()
    return int(counts[size]) if size < len(counts) else 0


@functools.lru_cache(maxsize=64)
def canonical_supports(classes: int, blocks: int, size: int) -> np.ndarray:
    """All canonical supports of exactly ``size`` entries, masks ``[count, n]``."""
    choices = [
        [tuple(c) for c in itertools.combinations(range(classes), j)] if j < classes - 1 else [tuple(range(j))]
        for j in range(classes)
    ]
    found = []
    for sizes in _compositions(size, blocks, classes - 1):
        options = [[_column(c, classes) for c in choices[j]] for j in sizes]
        index = np.array(list(itertools.product(*(range(len(o)) for o in options))))
        found.append(np.stack([np.array(o)[index[:, b]] for b, o in enumerate(options)], axis=-1))
    if not found:
        return np.zeros((0, classes * blocks), bool)
    return from_blocks(np.concatenate(found))


def _compositions(total: int, parts: int, largest: int) -> Iterator[tuple[int, ...]]:
    """All tuples of ``parts`` numbers from 0 to ``largest`` with this sum."""
    if parts == 0:
        if total == 0:
            yield ()
        return
    for first in range(max(0, total - largest * (parts - 1)), min(largest, total) + 1):
        for rest in _compositions(total - first, parts - 1, largest):
            yield first, *rest


def _column(entries: tuple[int, ...], classes: int) -> np.ndarray:
    return np.isin(np.arange(classes), entries)
