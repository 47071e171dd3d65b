"""Filtered-noise MPPI: the softmax-weighted mean of smoothly perturbed control sequences.

Nagabandi, Konolige, Levine, Kumar, "Deep Dynamics Models for Learning Dexterous Manipulation" (PDDM, CoRL 2019).
With mean mu [H nu], white noise e^k ~ N(0, sigma^2) and cost c_k of sample k:

    filter "noise"  (the paper):           n_t = beta e_t + (1 - beta) n_{t-1},  a_t = mu_t + n_t,  n_{-1} = 0
    filter "action" (PDDM's repository):   a_t = beta (mu_t + e_t) + (1 - beta) a_{t-1},  a_{-1} = control in force
    w_k = exp(-kappa (c_k - min c)) / sum of the same,   mu <- sum_k w_k a^k

What differs, and why:

* Both filters are one lower-triangular product, L_ij = beta (1 - beta)^(i - j), with no loop over time.
* The mean is shifted by the time that has really passed, in fractions of a step; beyond its end it keeps its last
  control, as PDDM's repository does (the paper fills up with mu_init).
* Sample 0 is the mean itself, and a new mean that costs more than it is not taken. So a plan never gets worse than
  its warm start, and near a goal it does not wander by the noise of its own average (half the jitter, measured).
* The filter "action" smooths the mean anew in every iteration, which delays it: it takes a beta of 0.6 to 0.9.
* Costs are subtracted from their least before the exponential (the paper's sum overflows), and a cost that is not
  finite counts as infinite. Where nothing is finite the old plan stays, bit for bit, and the status says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Carry, Dynamics, Goal, Info, Knobs, Noise, Observation, Plan, Task
from mbrl_control.sampling import INFINITE, Case, Outcome, Proposed, Sampling, Tried, kish


@dataclass(frozen=True)
class Config:
    """Parameters of ``mppi``."""

    samples: int = param(256, "Control sequences tried per iteration, the mean itself among them", low=2, high=100_000)
    horizon: int = param(20, "Steps looked ahead", low=1, high=1000)
    dt: float = param(0.05, "Duration of one step", unit="s", low=1e-4, high=10.0)
    sigma: float = param(
        0.05, "Standard deviation of the noise, as a fraction of each channel's bound", low=1e-6, high=10.0, live=True
    )
    beta: float = param(
        0.15, "Filter of the noise: 1 leaves it white, towards 0 it gets smoother", low=1e-3, high=1.0, live=True
    )
    kappa: float = param(
        300.0,
        "Inverse temperature: towards 0 the plain mean of the samples, large the best of them",
        unit="1/cost",
        low=0.0,
        high=1e9,
        live=True,
    )
    filter: str = param(
        "noise", "What is filtered: the noise (the paper) or the action (PDDM's code)", choices=("noise", "action")
    )


class Mppi:
    """One iteration: shift the mean, perturb it, roll out and score, weight, update."""

    def __init__(self, config: Config, task: Task, dynamics: Dynamics, xp: Any) -> None:
        self.config, self.xp = config, xp
        self.dt, self.horizon = config.dt, config.horizon
        self.on = Sampling("mppi", config.dt, config.horizon, task, dynamics, xp)
        steps = np.arange(self.horizon)
        self._lag = xp.asarray(np.maximum(steps[:, None] - steps, 0).astype(float))
        self._past = xp.asarray(steps[:, None] >= steps)

    def knobs(self) -> Knobs:
        return {
            "kappa": np.asarray(self.config.kappa),
            "sigma": np.full(self.on.nu, self.config.sigma),
            "beta": np.asarray(self.config.beta),
            "weights": self.on.weights(),
        }

    def noise(self, rng: np.random.Generator) -> Noise:
        return self.on.noise(rng, mppi=rng.standard_normal((self.config.samples - 1, self.horizon, self.on.nu)))

    def init(self, obs: Observation) -> Carry:
        return self.on.init(obs)

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        return self.on.improve(self, obs, goal, knobs, carry, noise)

    def live(self, carry: Carry, t: float) -> int:  # noqa: ARG002 - the same number each time
        return self.config.samples

    def propose(self, obs: Observation, knobs: Knobs, carry: Carry, noise: Noise) -> Proposed:
        last, warm = self.on.shift(carry, obs.t)
        return Proposed(self.perturb(knobs, last, warm, noise["mppi"]), {"last": last})

    def choose(
        self, obs: Observation, case: Case, knobs: Knobs, carry: Carry, proposed: Proposed, tried: Tried
    ) -> tuple[Carry, Outcome]:
        weights = self.weight(knobs["kappa"], tried.cost)
        chosen = self.on.safer(self.update(weights, tried.controls), tried, case)
        return self.on.settle(obs, carry, chosen, proposed.more["last"], kish(self.xp, weights))

    def kernel(self, beta: Annotated[Array, ""]) -> Annotated[Array, "H H"]:
        """L of the filter: what is left at step i of a disturbance at step j."""
        return self.xp.where(self._past, beta * (1.0 - beta) ** self._lag, self._lag * 0.0)

    def perturb(
        self,
        knobs: Knobs,
        last: Annotated[Array, "nu"],
        mean: Annotated[Array, "H nu"],
        white: Annotated[Array, "N-1 H nu"],
    ) -> Annotated[Array, "N H nu"]:
        """The mean, and smooth disturbances of it, inside the bounds."""
        xp = self.xp
        beta = knobs["beta"]
        kernel = self.kernel(beta)
        centre = mean
        if self.config.filter == "action":
            centre = xp.matmul(kernel, mean) + xp.expand_dims((1.0 - beta) ** self.on.slots[1:], axis=-1) * last
        samples = centre + xp.matmul(kernel, white) * (knobs["sigma"] * self.on.half)
        return self.on.bounded(xp.concat([mean[None], samples], axis=0))

    def weight(self, kappa: Annotated[Array, ""], cost: Annotated[Array, "N"]) -> Annotated[Array, "N"]:
        """Softmax of -kappa cost; zeros where nothing is finite."""
        xp = self.xp
        mass = xp.where(cost < INFINITE, xp.exp(-kappa * (cost - xp.min(cost, axis=-1))), xp.zeros_like(cost))
        total = xp.sum(mass, axis=-1)
        return mass / xp.where(total > 0.0, total, xp.ones_like(total))

    def update(self, weights: Annotated[Array, "N"], controls: Annotated[Array, "N H nu"]) -> Annotated[Array, "H nu"]:
        """The weighted mean of the samples; rounding must not lift it over their bounds."""
        return self.on.bounded(self.on.average(weights, controls))


def make(config: Config, task: Task, dynamics: Dynamics, xp: Any = np) -> Mppi:
    """Filtered-noise MPPI on any task and model."""
    return Mppi(config, task, dynamics, xp)
