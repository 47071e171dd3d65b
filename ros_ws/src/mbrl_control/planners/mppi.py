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

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import ConfigError, param
from mbrl_control.core import (
    Array,
    Carry,
    Dynamics,
    Features,
    Goal,
    Info,
    Knobs,
    Latent,
    Noise,
    Observation,
    Plan,
    Status,
    Task,
    costs,
    rollout,
)

INFINITE = 1e30
"""A cost from here on counts as infinite (a true infinity would turn 0 * inf into NaN)."""


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one iteration found, still in arrays."""

    alive: Annotated[Array, ""]
    """Whether the state was finite, any rollout from it, and the plan."""
    terms: Annotated[Array, "T"]
    """Cost terms of the mean that was chosen."""
    effective: Annotated[Array, ""]
    """Kish's effective sample size of the weights."""
    predicted: Features
    """Features of that mean, each [H+1 n]."""


class Mppi:
    """One iteration: shift the mean, perturb it, roll out and score, weight, update."""

    def __init__(self, config: Config, task: Task, dynamics: Dynamics, xp: Any) -> None:
        self.dt, self.horizon = config.dt, config.horizon
        self.config, self.task, self.dynamics, self.xp = config, task, dynamics, xp
        low, high = dynamics.bounds()
        self.nu = len(low)
        self._low, self._high, self._half = xp.asarray(low), xp.asarray(high), xp.asarray((high - low) / 2.0)
        steps = np.arange(self.horizon)
        self._lag = xp.asarray(np.maximum(steps[:, None] - steps, 0).astype(float))
        self._past = xp.asarray(steps[:, None] >= steps)
        self._slots = xp.asarray(np.arange(self.horizon + 1.0))

    def knobs(self) -> Knobs:
        return {
            "kappa": np.asarray(self.config.kappa),
            "sigma": np.full(self.nu, self.config.sigma),
            "beta": np.asarray(self.config.beta),
            "weights": np.asarray([term.weight for term in self.task.terms.values()], dtype=float),
        }

    def noise(self, rng: np.random.Generator) -> Noise:
        return {"mppi": rng.standard_normal((self.config.samples - 1, self.horizon, self.nu))}

    def init(self, obs: Observation) -> Carry:
        """Controls of zero; and, in case not one rollout ever is finite, a plan that stays where the joints are."""
        xp = self.xp
        q, home = xp.asarray(obs.joints.q), xp.asarray(self.task.robot.home)
        stay = xp.broadcast_to(xp.where(xp.isfinite(q), q, home), (self.horizon + 1, self.task.robot.nj))
        zeros = self._slots * 0.0
        return {
            "mean": zeros[1:, None] * self._half,
            "last": self._half * 0.0,
            "t0": zeros[0] + obs.t,
            "stamp": zeros[0] + obs.joints.t,
            "seq": xp.asarray(0),
            "q": stay,
            "v": stay * 0.0,
        }

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        xp = self.xp
        knobs = {name: xp.asarray(knob) for name, knob in knobs.items()}
        carry = {name: xp.asarray(tensor) for name, tensor in carry.items()}
        noise = {name: xp.asarray(draw) for name, draw in noise.items()}
        carry, found = self.iterate(obs, xp.asarray(goal.value), knobs, carry, noise)
        return carry, self.plan(carry), self.info(found)

    def plan(self, carry: Carry) -> Plan:
        """The plan that a carry stands for."""
        mode = self.task.robot.channels.mode
        t0, stamp, seq = float(carry["t0"]), float(carry["stamp"]), int(carry["seq"])
        return Plan(t0, self.dt, mode, carry["q"], carry["v"], carry["mean"], None, stamp, seq)

    def info(self, found: Outcome) -> Info:
        """The outcome in words and numbers; where nothing was finite, the costs are infinite."""
        alive = bool(found.alive)
        terms = {name: float(found.terms[i]) if alive else math.inf for i, name in enumerate(self.task.terms)}
        status, predicted = (Status.OK, found.predicted) if alive else (Status.NONFINITE, {})
        return Info(status, sum(terms.values()), terms, float(found.effective), predicted)

    def iterate(
        self, obs: Observation, goal: Annotated[Array, "H+1 ng"], knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Outcome]:
        """The iteration, arrays in and arrays out: this is what can be exported."""
        xp = self.xp
        last, warm = self.shift(carry, obs.t)
        controls = self.perturb(knobs, last, warm, noise["mppi"])

        draws = {name: draw for name, draw in noise.items() if name != "mppi"}
        start = self.dynamics.init(obs, draws)
        features, terms, cost = self.evaluate(start, controls, goal, knobs["weights"], draws)
        weights = self.weight(knobs["kappa"], cost)
        mean = self.update(weights, controls)

        first = {name: draw[:1] for name, draw in draws.items()}
        new_features, new_terms, new_cost = self.evaluate(start, mean[None], goal, knobs["weights"], first)
        better = new_cost[0] <= cost[0]
        mean = xp.where(better, mean, controls[0])
        predicted = {name: xp.where(better, new_features[name][0], features[name][0]) for name in features}
        q, v = self.dynamics.plan(predicted, mean)
        new: Carry = {
            "mean": mean,
            "last": last,
            "t0": carry["t0"] * 0.0 + obs.t,
            "stamp": carry["stamp"] * 0.0 + obs.joints.t,
            "seq": carry["seq"] + 1,
            "q": q,
            "v": v,
        }
        alive = self.sound(obs, q, v) & (xp.minimum(new_cost[0], cost[0]) < INFINITE)
        kept = {name: xp.where(alive, tensor, carry[name]) for name, tensor in new.items()}
        effective = xp.sum(weights, axis=-1) / xp.maximum(xp.sum(xp.square(weights), axis=-1), 1.0 / INFINITE)
        return kept, Outcome(alive, xp.where(better, new_terms[0], terms[0]), effective, predicted)

    def shift(self, carry: Carry, t: Annotated[Array, ""]) -> tuple[Annotated[Array, "nu"], Annotated[Array, "H nu"]]:
        """The control in force at time ``t`` [s], and those that follow; fractions of a step interpolate.

        W_ij = relu(1 - |clip(i + s, 0, H) - j|), with s the steps that have passed since ``t0``, is applied to the
        control in force followed by the mean.
        """
        xp = self.xp
        s = (t - carry["t0"]) / self.dt
        place = xp.clip(self._slots + s, 0.0, float(self.horizon))
        gap = 1.0 - xp.abs(xp.expand_dims(place, axis=-1) - self._slots)
        shifted = xp.matmul(xp.maximum(gap, 0.0), xp.concat([carry["last"][None], carry["mean"]], axis=0))
        return shifted[0], shifted[1:]

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
            centre = xp.matmul(kernel, mean) + xp.expand_dims((1.0 - beta) ** self._slots[1:], axis=-1) * last
        samples = centre + xp.matmul(kernel, white) * (knobs["sigma"] * self._half)
        return self.bounded(xp.concat([mean[None], samples], axis=0))

    def evaluate(
        self,
        start: Latent,
        controls: Annotated[Array, "N H nu"],
        goal: Annotated[Array, "H+1 ng"],
        weights: Annotated[Array, "T"],
        draws: Noise,
    ) -> tuple[Features, Annotated[Array, "N T"], Annotated[Array, "N"]]:
        """Roll out and score: features, cost terms, and cost, where what is not finite is infinite, never small."""
        xp = self.xp
        features, _ = rollout(xp, self.dynamics, start, controls, draws)
        terms = costs(xp, self.task, weights, features, controls, goal)
        total = xp.sum(terms, axis=-1)
        return features, terms, xp.where(xp.isfinite(total), total, xp.ones_like(total) * INFINITE)

    def weight(self, kappa: Annotated[Array, ""], cost: Annotated[Array, "N"]) -> Annotated[Array, "N"]:
        """Softmax of -kappa cost; zeros where nothing is finite."""
        xp = self.xp
        mass = xp.where(cost < INFINITE, xp.exp(-kappa * (cost - xp.min(cost, axis=-1))), xp.zeros_like(cost))
        total = xp.sum(mass, axis=-1)
        return mass / xp.where(total > 0.0, total, xp.ones_like(total))

    def update(self, weights: Annotated[Array, "N"], controls: Annotated[Array, "N H nu"]) -> Annotated[Array, "H nu"]:
        """The weighted mean of the samples; rounding must not lift it over their bounds."""
        flat = self.xp.reshape(controls, (controls.shape[0], self.horizon * self.nu))
        mean = self.xp.reshape(self.xp.matmul(weights[None], flat), (self.horizon, self.nu))
        return self.bounded(mean)

    def bounded(self, controls: Annotated[Array, "... nu"]) -> Annotated[Array, "... nu"]:
        """Controls clipped to the bounds of their channels."""
        return self.xp.minimum(self.xp.maximum(controls, self._low), self._high)

    def sound(self, obs: Observation, q: Annotated[Array, "H+1 nj"], v: Annotated[Array, "H+1 nj"]) -> Array:
        """Whether times, joints and plan are finite: true or false, even where model and task do not read them."""
        xp = self.xp
        times = [self._slots[0] + obs.t, self._slots[0] + obs.joints.t]
        parts = [xp.stack(times, axis=0), xp.asarray(obs.joints.q), xp.asarray(obs.joints.v), q, v]
        flat = xp.concat([xp.reshape(part, (-1,)) for part in parts], axis=0)
        return xp.sum(xp.where(xp.isfinite(flat), xp.zeros_like(flat), xp.ones_like(flat)), axis=-1) < 0.5


def make(config: Config, task: Task, dynamics: Dynamics, xp: Any = np) -> Mppi:
    """Filtered-noise MPPI on any task and model."""
    if abs(config.dt - dynamics.dt) > 1e-9:
        raise ConfigError(
            f"mppi.dt = {config.dt:g} s, but the dynamics step by dt = {dynamics.dt:g} s: they take the same value"
        )
    return Mppi(config, task, dynamics, xp)
