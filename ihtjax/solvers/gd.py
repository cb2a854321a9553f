"""Gradient descent, Algorithm 2: the dense baseline."""

from dataclasses import dataclass

from ihtjax.solvers.iht import IHT


@dataclass(frozen=True)
class GD(IHT):
    """theta^{k+1} = theta^k - gamma grad f(theta^k): IHT at s = n, where H_s changes nothing, and with its program."""

    name = "gd"

    @property
    def program(self):
        return IHT().program
