"""A solver of one's own: iterative hard thresholding with momentum, beside the plain one on the same triples.

ihtjax sweep results/momentum --solver iht --solver momentum:Momentum:beta=0.8 --trials 200
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax

import ihtjax


class State(NamedTuple):
    """The iterate and the one before it, both ``[n]``."""

    theta: jax.Array
    previous: jax.Array


@dataclass(frozen=True)
class Momentum(ihtjax.Solver):
    """theta^{k+1} = H_s(theta^k - gamma grad f(theta^k) + beta (theta^k - theta^{k-1})).

    References:
      Polyak's heavy ball, 1964, doi:10.1016/0041-5553(64)90137-5; with hard thresholding Khanna and Kyrillidis, 2018,
      arXiv:1712.09379.
    """

    name = "momentum"
    beta: float = 0.5

    def init(self, objective, theta0, s, key):
        return State(theta0, theta0)

    def step(self, objective, state, s, k):
        moved = state.theta - objective.step_size * objective.gradient(state.theta)
        ahead = moved + self.beta * (state.theta - state.previous)
        return State(objective.threshold(ahead, s), state.theta)
