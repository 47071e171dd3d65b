"""CEM: a Gaussian over control sequences, refit again and again to the cheapest of its samples.

The cross-entropy method (Rubinstein 1999) in the form of PETS (Chua, Calandra, McAllister, Levine, "Deep Reinforcement
Learning in a Handful of Trials using Probabilistic Dynamics Models", NeurIPS 2018, and its code). With mean m and
standard deviation s, both [H nu], bounds l and h, and z^k standard normal truncated to +-2:

    s  <- min(s, (m - l) / 2, (h - m) / 2)           so that no sample leaves the bounds
    a^k = m + s z^k,                                 cost c_k;  E the samples of the K least costs
    m  <- alpha m + (1 - alpha) mean_E a             s^2 <- alpha s^2 + (1 - alpha) var_E a

What differs, and why:

* The cap lasts where PETS caps a copy: s itself, which momentum then keeps a share of, is the capped one.
* Mean and deviation are the carry and each call is one of the method's iterations: whoever calls decides how many.
  PETS stops when no variance is above 1e-3; here such calls change nothing (``epsilon``; off by default, since s has
  a floor, below which it would find nothing any more).
* When time has passed since the call before, both are moved on by it, in fractions of a step; the mean keeps its last
  control (``fill``; PETS fills up with the middle of the bounds), the last deviation is sigma. PETS starts the
  deviation anew with every control step; here it widens to at least ``reopen`` sigma, since a few iterations in real
  time cannot narrow it all the way again (on a cart-pole three times the return at 0.3, and no holding still at 1).
* Sample 0 is the mean itself, and a new mean that costs more than it is not taken (``compare``), so that a plan never
  gets worse than its warm start. PETS takes any.
* As PETS has it: samples 400 (500 for pusher and half-cheetah), elites 0.1, 5 iterations, sigma 0.5 (a variance of
  (h - l)^2 / 16), reopen 1, alpha 0.1, floor 1e-6, epsilon 1e-3 over the bound squared, fill middle, compare false.
* Equal costs at the K-th are elites all alike, and a cost that is not finite counts as infinite and is never elite
  (mbrl-lib's CEM makes it about zero, the best of all). Where nothing is finite the old plan stays, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Carry, Dynamics, Goal, Info, Knobs, Noise, Observation, Plan, Task
from mbrl_control.sampling import INFINITE, Case, Outcome, Proposed, Sampling, Tried, kish

TRUNCATED = 2.0
"""Samples lie within so many standard deviations."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``cem``."""

    samples: int = param(256, "Control sequences tried per iteration, the mean itself among them", low=2, high=100_000)
    elites: float = param(0.1, "Share of the samples that mean and deviation are refit to", low=1e-5, high=1.0)
    horizon: int = param(25, "Steps looked ahead", low=1, high=1000)
    dt: float = param(0.05, "Duration of one step", unit="s", low=1e-4, high=10.0)
    sigma: float = param(
        0.15, "Standard deviation at first, as a fraction of each channel's bound", low=1e-6, high=10.0, live=True
    )
    reopen: float = param(
        0.3,
        "Share of sigma that the deviation widens to when time has passed; 1: starts anew",
        low=0,
        high=1,
        live=True,
    )
    alpha: float = param(0.1, "Share of the old mean and variance that is kept", low=0.0, high=0.999, live=True)
    floor: float = param(
        0.01, "Least standard deviation, as a fraction of each channel's bound", low=1e-6, high=1.0, live=True
    )
    epsilon: float = param(
        0.0,
        "Calls change nothing if no variance, in squared bounds, is above this; 0: they always do",
        low=0.0,
        high=1.0,
    )
    fill: str = param(
        "last",
        "What follows the end of the mean: its last control, or the middle of the bounds",
        choices=("last", "middle"),
    )
    compare: bool = param(True, "Take no new mean that costs more than the old one")


class Cem:
    """One iteration: shift, widen, sample inside the bounds, roll out and score, refit to the elites."""

    def __init__(self, config: Config, task: Task, dynamics: Dynamics, xp: Any) -> None:
        self.config, self.xp = config, xp
        self.dt, self.horizon = config.dt, config.horizon
        self.on = Sampling("cem", config.dt, config.horizon, task, dynamics, xp)
        self.count = max(1, round(config.elites * config.samples))
        """K, the number of elites."""

    def knobs(self) -> Knobs:
        config = self.config
        return {
            "sigma": np.full(self.on.nu, config.sigma),
            "reopen": np.asarray(config.reopen),
            "alpha": np.asarray(config.alpha),
            "floor": np.full(self.on.nu, config.floor),
            "weights": self.on.weights(),
        }

    def noise(self, rng: np.random.Generator) -> Noise:
        """Standard normal draws, those beyond the truncation drawn again."""
        white = rng.standard_normal((self.config.samples - 1, self.horizon, self.on.nu))
        while (beyond := np.abs(white) > TRUNCATED).any():
            white[beyond] = rng.standard_normal(int(beyond.sum()))
        return self.on.noise(rng, cem=white)

    def init(self, obs: Observation) -> Carry:
        """No control, and the deviation that it begins with."""
        start = self.on.init(obs)
        return {**start, "std": start["mean"] + self.on.half * self.config.sigma}

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        return self.on.improve(self, obs, goal, knobs, carry, noise)

    def live(self, carry: Carry, t: float) -> int:  # noqa: ARG002 - the same number each time
        return self.config.samples

    def propose(self, obs: Observation, knobs: Knobs, carry: Carry, noise: Noise) -> Proposed:
        last, mean = self.shift(carry, obs.t)
        widened = self.widen(knobs, carry, obs.t)
        std = self.fitting(mean, widened, knobs["floor"])
        more = {"last": last, "mean": mean, "widened": widened, "std": std}
        return Proposed(self.sample(mean, std, noise["cem"]), more)

    def choose(
        self, obs: Observation, case: Case, knobs: Knobs, carry: Carry, proposed: Proposed, tried: Tried
    ) -> tuple[Carry, Outcome]:
        on, xp, more = self.on, self.xp, proposed.more
        elites = self.elites(tried.cost)
        found, spread = self.refit(elites, tried.controls, more["mean"], more["std"], knobs["alpha"])
        narrow = self.narrow(more["widened"])
        mean, std = xp.where(narrow, more["mean"], found), xp.where(narrow, more["widened"], spread)
        chosen = on.safer(mean, tried, case) if self.config.compare else on.scored(mean, case)
        return on.settle(obs, carry, chosen, more["last"], kish(xp, elites), std=std)

    def shift(self, carry: Carry, t: Annotated[Array, ""]) -> tuple[Annotated[Array, "nu"], Annotated[Array, "H nu"]]:
        """The control in force at time ``t`` [s], and the mean of those that follow."""
        last, mean = self.on.shift(carry, t)
        if self.config.fill == "last":
            return last, mean
        on = self.on
        return last, mean + on.new(carry, t) * ((on.low + on.high) / 2.0 - mean)

    def widen(self, knobs: Knobs, carry: Carry, t: Annotated[Array, ""]) -> Annotated[Array, "H nu"]:
        """The deviation at time ``t`` [s]: as it was refit; or moved on, and widened, if time has passed."""
        xp = self.xp
        steps, std = self.on.passed(carry, t), carry["std"]
        wide = knobs["sigma"] * self.on.half
        moved = self.on.moved(xp.concat([std, wide[None]], axis=0), steps)[:-1]
        return xp.where(xp.abs(steps) > 0.0, xp.maximum(moved, knobs["reopen"] * wide), std)

    def fitting(
        self, mean: Annotated[Array, "H nu"], std: Annotated[Array, "H nu"], floor: Annotated[Array, "nu"]
    ) -> Annotated[Array, "H nu"]:
        """The deviation, small enough for its samples to stay inside the bounds, but not below its floor."""
        xp, on = self.xp, self.on
        room = xp.minimum(mean - on.low, on.high - mean) / TRUNCATED
        return xp.maximum(xp.minimum(std, room), floor * on.half)

    def narrow(self, std: Annotated[Array, "H nu"]) -> Annotated[Array, ""]:
        """Whether no variance is above epsilon."""
        widest = self.xp.max(self.xp.reshape(std / self.on.half, (-1,)), axis=-1)
        return self.xp.square(widest) <= self.config.epsilon

    def sample(
        self, mean: Annotated[Array, "H nu"], std: Annotated[Array, "H nu"], white: Annotated[Array, "N-1 H nu"]
    ) -> Annotated[Array, "N H nu"]:
        """The mean, and samples of the Gaussian; what the floor lets out of the bounds is clipped."""
        return self.on.bounded(self.xp.concat([mean[None], mean + std * white], axis=0))

    def elites(self, cost: Annotated[Array, "N"]) -> Annotated[Array, "N"]:
        """Weights of the samples: the same for the K cheapest, nothing for others; zeros where nothing is finite."""
        xp = self.xp
        worst = xp.sort(cost, axis=-1)[self.count - 1]
        chosen = (cost <= worst) & (cost < INFINITE)
        weights = xp.where(chosen, xp.ones_like(cost), xp.zeros_like(cost))
        return weights / xp.maximum(xp.sum(weights, axis=-1), 1.0)

    def refit(
        self,
        elites: Annotated[Array, "N"],
        controls: Annotated[Array, "N H nu"],
        mean: Annotated[Array, "H nu"],
        std: Annotated[Array, "H nu"],
        alpha: Annotated[Array, ""],
    ) -> tuple[Annotated[Array, "H nu"], Annotated[Array, "H nu"]]:
        """Mean and deviation of the elites, with momentum. Deviations from the old mean: of no samples it is exact."""
        xp, on = self.xp, self.on
        away = on.average(elites, controls - mean)
        variance = on.average(elites, xp.square(controls - mean - away))
        new = on.bounded(mean + (1.0 - alpha) * away)
        return new, xp.sqrt(alpha * xp.square(std) + (1.0 - alpha) * variance)


def make(config: Config, task: Task, dynamics: Dynamics, xp: Any = np) -> Cem:
    """CEM on any task and model."""
    return Cem(config, task, dynamics, xp)
