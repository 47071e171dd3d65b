"""Floating-point operations of the matrix products of one unit of work, by formula: what an optimum cannot do without.

Biases, activations, costs and noise are not counted; a multiplication and an addition are two. So a rate in FLOP/s says
what share of a machine's own matrix product is reached, everything else included in the time.
"""

from __future__ import annotations

from itertools import pairwise

from mbrl_control.networks import Net


def row(net: Net) -> int:
    """One input through one member: 2 sum in out, over the layers."""
    return sum(2 * before * after for before, after in pairwise(sizes(net)))


def sizes(net: Net) -> tuple[int, ...]:
    """Numbers before and after each layer; a Gaussian head has a variance beside each mean."""
    return (net.inputs, *net.hidden, net.outputs * (2 if net.gaussian else 1))


def rollouts(net: Net, samples: int, particles: int, horizon: int, iterations: int = 1) -> int:
    """A plan: each particle of each sample goes through its own member once a step."""
    return row(net) * samples * particles * horizon * iterations


def epoch(net: Net, rows: int) -> int:
    """A pass of all members over the data: forward, back to the weights, and back to all inputs but the first."""
    first = 2 * net.inputs * sizes(net)[1]
    return net.members * rows * (3 * row(net) - first)


def product(n: int) -> int:
    """[n n] x [n n]."""
    return 2 * n**3
