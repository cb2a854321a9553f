"""Multi-layer perceptrons that are one function: hidden units in another order, of another sign, dead or double."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from ihtjax.errors import Expectation, InputError, check, numbers_in, one_of, whole_number

SIZES = Expectation(
    "the widths of all layers, features and outputs too, such as (4, 3, 3)",
    lambda v: isinstance(v, list | tuple) and len(v) >= 2 and all(map(whole_number(1).holds, v)),
)


class Oriented(NamedTuple):
    """A layer of which each unit stands for all that differ from it by a symmetry of the activation.

    Attributes:
      A: weights and bias of each unit, ``[h, d + 1]``.
      V: weights by which the next layer takes them, ``[q, h]``.
      shift: what else the next layer gets of each, ``[q, h]``.
    """

    A: np.ndarray
    V: np.ndarray
    shift: np.ndarray


def _signs(A):
    """The sign ``[h]`` of the first nonzero of each unit's weights and bias; 1 where all are 0."""
    first = np.take_along_axis(A, (A != 0).argmax(1)[:, None], 1)[:, 0]
    return np.where(first < 0, -1.0, 1.0)


def _odd(A, V):
    """tanh(-x) = -tanh(x)."""
    sign = _signs(A)
    return Oriented(A * sign[:, None], V * sign, 0 * V)


def _mirrored(A, V):
    """sigmoid(-x) = 1 - sigmoid(x)."""
    sign = _signs(A)
    return Oriented(A * sign[:, None], V * sign, np.where(sign < 0, V, 0))


def _homogeneous(A, V):
    """relu(c x) = c relu(x) for c > 0: the largest weight becomes 1 or -1."""
    largest = np.abs(A[:, :-1]).max(1)
    c = np.where(largest > 0, largest, 1)
    return Oriented(A / c[:, None], V * c, 0 * V)


ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "tanh": (np.tanh, _odd),
    "sigmoid": (expit, _mirrored),
    "relu": (lambda x: np.maximum(x, 0), _homogeneous),
}


def canonical_network(theta: np.ndarray, sizes: Sequence[int], activation: str = "tanh") -> np.ndarray:
    """The parameters that stand for all multi-layer perceptrons that are the same function of their features.

    Layer by layer, from the features on: a hidden unit gets the sign by which its first nonzero is positive (tanh,
    sigmoid) or the scale by which its largest weight is 1 or -1 (relu); one without a way in is a constant, which the
    biases behind it take over, as is one of relu that is nowhere positive; several with the same weights and bias
    become one, with the sum of their ways out; the others are sorted. Then those without a way out are dropped. Units
    that are gone are zeros, the last of their layer.

    Equal forms are equal networks, whatever the features. Conversely, orders, signs and what has no way out change no
    bit of a form, while constants, a scale of relu and a sign of sigmoid are taken over with a rounding in float64: so
    round before you compare. Under tanh and sigmoid with one hidden layer, equal networks have equal forms (Sussmann);
    under relu not always, as relu(x) - relu(-x) = x. What a softmax ignores, one number added to all outputs, and
    features that are constant on some rows are left alone.

    Args:
      theta: ``[.., n]``, ordered as `ihtjax sweep --model mlp` orders them, layer by layer, weights before biases.
      sizes: how many units each layer has, features first and outputs last, ``(4, 3, 3)``.
      activation: "tanh", "sigmoid" or "relu".

    Returns:
      Parameters ``[.., n]``, float64.

    Raises:
      InputError: theta are no finite numbers, or not as many as the sizes have.

    References:
      Sussmann, Uniqueness of the weights for minimal feedforward nets with a given input-output map, Neural Networks 5,
      1992, 589-593, doi:10.1016/S0893-6080(05)80037-1.

    Example:
      >>> canonical_network([-2.0, 0.0, 0.0, 1.0, 1.0, 4.0, 0.5], (1, 2, 1)).round(3)  # the constant is 4 tanh(1)
      array([ 2.   ,  0.   ,  0.   ,  0.   , -1.   ,  0.   ,  3.546])

      The number of distinct networks among a run's trials, to three decimals::

        forms = canonical_network(np.stack(load("results/mlp").theta), (4, 3, 3))
        len(np.unique(forms.round(3), axis=0))
    """
    theta = numbers_in("theta", theta, None)
    sizes = check("sizes", sizes, SIZES)
    check("activation", activation, one_of(*ACTIVATIONS))
    n = sum(q * (d + 1) for d, q in itertools.pairwise(sizes))
    if theta.shape[-1] != n:
        raise InputError(f"theta: got {theta.shape[-1]} parameters, expected {n}, which layers of {sizes} have")
    forms = [_join(_canonical(_layers(one, sizes), activation), sizes) for one in theta.reshape(-1, n)]
    return np.array(forms).reshape(theta.shape)


def _layers(theta, sizes):
    """Weights and bias of each layer's units, ``[q, d + 1]``."""
    layers, at = [], 0
    for d, q in itertools.pairwise(sizes):
        W, b = theta[at : at + q * d].reshape(q, d), theta[at + q * d : at + q * (d + 1)]
        layers.append(np.column_stack([W, b]))
        at += q * (d + 1)
    return layers


def _join(layers, sizes):
    """The inverse of `_layers`, of layers that may have fewer units."""
    parts = []
    for A, (d, q) in zip(layers, itertools.pairwise(sizes)):
        W = np.zeros((q, d))
        W[: len(A), : A.shape[1] - 1] = A[:, :-1]
        parts += [W.ravel(), np.pad(A[:, -1], (0, q - len(A)))]
    return np.concatenate(parts)


def _canonical(layers, activation):
    act, orient = ACTIVATIONS[activation]
    for at in range(len(layers) - 1):
        B = layers[at + 1]
        A, V, shift = orient(layers[at], B[:, :-1])
        constant = ~A[:, :-1].any(1)
        if activation == "relu" and at > 0:  # 0 for whatever comes in, which isn't negative
            constant |= (A <= 0).all(1)
        rows, which = np.unique(A[~constant] + 0.0, axis=0, return_inverse=True)  # sorted, and without -0
        ways = [_sums(V[:, ~constant][:, which.ravel() == unit]) for unit in range(len(rows))]
        bias = _sums(np.column_stack([B[:, -1], shift, V[:, constant] * act(A[constant, -1])]))
        layers[at], layers[at + 1] = rows, np.column_stack([*ways, bias])
    for at in range(len(layers) - 1, 0, -1):
        heard = layers[at][:, :-1].any(0)
        layers[at], layers[at - 1] = layers[at][:, [*heard, True]], layers[at - 1][heard]
    return layers


def _sums(terms):
    """Of each row ``[q, k]``, rounded once, so that the terms' order doesn't matter."""
    return np.array([math.fsum(row) for row in terms])
