"""iCEM: the cross-entropy method with coloured noise and a memory of its elites.

Pinneri, Sawant, Blaes, Achterhold, Stueckler, Rolinek, Martius, "Sample-efficient Cross-Entropy Method for Real-time
Planning" (CoRL 2020), and its code. With mean m and standard deviation s, both [H nu], bounds l and h:

    a^k = clip(m + s n^k, l, h),    n^k coloured along the horizon: power at frequency f as f^-beta,   k <= N_i
    N_i = max(2 K, N / decay^i)     samples in iteration i at one time
    E   the K cheapest of the samples and of the elites kept; the first share ``keep`` of E is kept
    m  <- alpha m + (1 - alpha) mean_E a            s <- alpha s + (1 - alpha) std_E a

and what is executed is the cheapest sequence of all, not the mean. What differs, and why:

* Mean, deviation and elites are the carry and each call is one iteration: whoever calls decides how many. Calls for
  one time are its iterations; when time has passed, mean and elites are moved on by it, in fractions of a step, the
  last part of an elite is drawn anew, and the deviation goes back to sigma, or a part ``reopen`` of the way there.
* The paper tries the mean itself in the last of its iterations, since in earlier ones it would draw the elites
  together. Any call may be the last here: each tries the mean, but among the elites it does not count.
* The plan in force is tried as well, so that a plan never gets worse than its warm start, and kept elites are rolled
  out again: where a model draws particles, one lucky draw does not stay.
* The noise is a fixed linear map of white noise (``coloured``), of variance one whatever beta is; the package that the
  paper uses leaves the mean over the horizon out when it scales.
* A cost that is not finite counts as infinite and is never elite. Where nothing is finite the old plan stays, bit for
  bit, and nothing of an episode before is left in a carry that is new (mbrl-lib keeps its elites over a reset).
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
    """Parameters of ``icem``."""

    samples: int = param(128, "Control sequences drawn in the first iteration at one time", low=4, high=100_000)
    decay: float = param(1.25, "By which they get fewer from one iteration to the next", low=1.0, high=100.0)
    elites: float = param(0.25, "Share of those samples that mean and deviation are refit to", low=1e-5, high=0.5)
    keep: float = param(0.3, "Share of the elites that is kept for the next iteration", low=0.0, high=1.0)
    horizon: int = param(25, "Steps looked ahead", low=1, high=1000)
    dt: float = param(0.05, "Duration of one step", unit="s", low=1e-4, high=10.0)
    beta: float = param(2.0, "Exponent of the noise's spectrum: 0 is white, larger is slower", low=0.0, high=10.0)
    sigma: float = param(
        0.5, "Standard deviation at first, as a fraction of each channel's bound", low=1e-6, high=10.0, live=True
    )
    reopen: float = param(
        1.0,
        "Share of the way back to sigma that the deviation goes when time has passed; 1: starts anew",
        low=0.0,
        high=1.0,
        live=True,
    )
    alpha: float = param(0.1, "Share of the old mean and deviation that is kept", low=0.0, high=0.999, live=True)
    mean: bool = param(True, "Try the mean as well")


class Icem:
    """One iteration: shift, widen, draw fewer, add what was kept, roll out and score, refit, keep."""

    def __init__(self, config: Config, task: Task, dynamics: Dynamics, xp: Any) -> None:
        self.config, self.xp = config, xp
        self.dt, self.horizon = config.dt, config.horizon
        self.on = Sampling("icem", config.dt, config.horizon, task, dynamics, xp)
        self.count = min(max(2, round(config.elites * config.samples)), config.samples // 2)
        """K, the number of elites."""
        self.kept = min(self.count, int(np.ceil(config.keep * self.count)))
        """How many of them are kept."""
        self._colour = xp.asarray(coloured(config.horizon, config.beta))

    def knobs(self) -> Knobs:
        config = self.config
        return {
            "sigma": np.full(self.on.nu, config.sigma),
            "reopen": np.asarray(config.reopen),
            "alpha": np.asarray(config.alpha),
            "weights": self.on.weights(),
        }

    def noise(self, rng: np.random.Generator) -> Noise:
        """White draws for the samples of a first iteration; after them, as many as elites are kept, for their ends."""
        white = rng.standard_normal((self.config.samples + self.kept, self.horizon, self.on.nu))
        return self.on.noise(rng, icem=white)

    def init(self, obs: Observation) -> Carry:
        """No control, the deviation that it begins with, and no elites yet: their number of iterations is -1."""
        start = self.on.init(obs)
        centre = start["mean"]
        return {
            **start,
            "centre": centre,
            "std": centre + self.on.half * self.config.sigma,
            "elites": self.xp.broadcast_to(centre, (self.kept, *centre.shape)) * 1.0,
            "iteration": self.on.slots[0] - 1.0,
        }

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        return self.on.improve(self, obs, goal, knobs, carry, noise)

    def live(self, carry: Carry, t: float) -> int:
        """The plan in force, the mean, what was kept, and as many samples as this iteration draws: N_i."""
        config = self.config
        drawn = max(2 * self.count, int(config.samples * config.decay ** -float(self.iteration(carry, t))))
        return self.besides + drawn

    @property
    def besides(self) -> int:
        """Sequences tried besides the samples."""
        return 1 + self.config.mean + self.kept

    def propose(self, obs: Observation, knobs: Knobs, carry: Carry, noise: Noise) -> Proposed:
        xp, on = self.xp, self.on
        last, warm = on.shift(carry, obs.t)
        centre = self.moved(carry, carry["centre"], obs.t)
        std = self.widen(knobs, carry, obs.t)
        samples = self.sample(centre, std, noise["icem"])
        drawn = self.config.samples
        kept = self.renew(carry, samples[drawn:], obs.t)
        first = xp.stack([warm, centre] if self.config.mean else [warm], axis=0)
        controls = xp.concat([first, kept, samples[:drawn]], axis=0)
        return Proposed(controls, {"last": last, "centre": centre, "std": std})

    def choose(
        self, obs: Observation, case: Case, knobs: Knobs, carry: Carry, proposed: Proposed, tried: Tried
    ) -> tuple[Carry, Outcome]:
        xp, on, more = self.xp, self.on, proposed.more
        own = 1 + self.config.mean
        rivals, cost = tried.controls[own:], self.eligible(carry, tried.cost[own:])
        order = xp.argsort(cost, axis=-1, stable=True)[: self.count]
        elites = xp.take(rivals, order, axis=0)
        weights = self.equal(xp.take(cost, order, axis=0))
        centre, std = self.refit(weights, elites, more["centre"], more["std"], knobs["alpha"])
        kept = {"elites": elites[: self.kept], "iteration": self.iteration(carry, obs.t)}
        best = on.cheapest(tried, case)
        return on.settle(obs, carry, best, more["last"], kish(xp, weights), centre=centre, std=std, **kept)

    def iteration(self, carry: Carry, t: Annotated[Array, ""]) -> Annotated[Array, ""]:
        """Which iteration at time ``t`` [s] this is, counted from 0."""
        xp = self.xp
        steps, before = self.on.passed({"t0": xp.asarray(carry["t0"])}, t), xp.asarray(carry["iteration"])
        return xp.where(xp.abs(steps) > 0.0, before * 0.0, before + 1.0)

    def moved(
        self, carry: Carry, rows: Annotated[Array, "... H nu"], t: Annotated[Array, ""]
    ) -> Annotated[Array, "... H nu"]:
        """Sequences as they stand at time ``t`` [s]; the last control lasts."""
        xp = self.xp
        before = xp.broadcast_to(carry["last"], (*rows.shape[:-2], 1, self.on.nu))
        return self.on.moved(xp.concat([before, rows], axis=-2), self.on.passed(carry, t))[..., 1:, :]

    def widen(self, knobs: Knobs, carry: Carry, t: Annotated[Array, ""]) -> Annotated[Array, "H nu"]:
        """The deviation at time ``t`` [s]: as it was refit; or moved on, and nearer to sigma, if time has passed."""
        xp = self.xp
        steps, std = self.on.passed(carry, t), carry["std"]
        wide = knobs["sigma"] * self.on.half
        moved = self.on.moved(xp.concat([std, wide[None]], axis=0), steps)[:-1]
        return xp.where(xp.abs(steps) > 0.0, moved + knobs["reopen"] * (wide - moved), std)

    def sample(
        self, centre: Annotated[Array, "H nu"], std: Annotated[Array, "H nu"], white: Annotated[Array, "N H nu"]
    ) -> Annotated[Array, "N H nu"]:
        """Coloured sequences about the mean, clipped to the bounds."""
        return self.on.bounded(centre + std * self.xp.matmul(self._colour, white))

    def renew(
        self, carry: Carry, drawn: Annotated[Array, "n H nu"], t: Annotated[Array, ""]
    ) -> Annotated[Array, "n H nu"]:
        """The elites kept, moved on; what has come in at their ends is drawn."""
        new = self.on.new(carry, t)
        return (1.0 - new) * self.moved(carry, carry["elites"], t) + new * drawn

    def eligible(self, carry: Carry, cost: Annotated[Array, "N"]) -> Annotated[Array, "N"]:
        """Costs of the kept elites and the samples; before there were any elites they cost infinitely much."""
        xp = self.xp
        none = carry["iteration"] < -0.5
        return xp.concat([xp.where(none, cost[: self.kept] * 0.0 + INFINITE, cost[: self.kept]), cost[self.kept :]])

    def equal(self, cost: Annotated[Array, "K"]) -> Annotated[Array, "K"]:
        """The same weight for every elite, none for one that is not finite; zeros where none is."""
        xp = self.xp
        weights = xp.where(cost < INFINITE, xp.ones_like(cost), xp.zeros_like(cost))
        return weights / xp.maximum(xp.sum(weights, axis=-1), 1.0)

    def refit(
        self,
        weights: Annotated[Array, "K"],
        elites: Annotated[Array, "K H nu"],
        centre: Annotated[Array, "H nu"],
        std: Annotated[Array, "H nu"],
        alpha: Annotated[Array, ""],
    ) -> tuple[Annotated[Array, "H nu"], Annotated[Array, "H nu"]]:
        """Mean and deviation of the elites, with momentum; as they were where no sample was finite."""
        xp, on = self.xp, self.on
        away = on.average(weights, elites - centre)
        spread = xp.sqrt(on.average(weights, xp.square(elites - centre - away)))
        some = xp.sum(weights, axis=-1) > 0.0
        new = on.bounded(centre + (1.0 - alpha) * away)
        return new, xp.where(some, alpha * std + (1.0 - alpha) * spread, std)


def coloured(horizon: int, beta: float) -> Annotated[np.ndarray, "H H"]:
    """M: M w is noise whose power falls with frequency as f^-beta, for white w; every element has variance one.

    M = B diag(s) / sqrt(mean s^2), with B the orthonormal real Fourier basis along the horizon, s = f^(-beta / 2) at
    its frequencies, and the lowest but zero in the place of zero (Timmer and Koenig, "On generating power law noise",
    Astronomy and Astrophysics 300, 1995).
    """
    steps = np.arange(horizon)
    columns, frequencies = [np.full(horizon, np.sqrt(1.0 / horizon))], [1.0 / horizon]
    for k in range(1, horizon // 2 + 1):
        turn = 2.0 * np.pi * k * steps / horizon
        pair = [np.cos(turn), np.sin(turn)] if 2 * k < horizon else [np.cos(turn) / np.sqrt(2.0)]
        columns += [np.sqrt(2.0 / horizon) * wave for wave in pair]
        frequencies += [k / horizon] * len(pair)
    scale = np.asarray(frequencies) ** (-beta / 2.0)
    return np.stack(columns, axis=-1) * (scale / np.sqrt(np.mean(np.square(scale))))


def make(config: Config, task: Task, dynamics: Dynamics, xp: Any = np) -> Icem:
    """iCEM on any task and model."""
    return Icem(config, task, dynamics, xp)
