"""Random shooting: of many random control sequences, the cheapest becomes the plan.

    a^k = clip(centre + sigma S z^k),   plan <- the a^k of the least cost,   z^k standard normal

The oldest sampling planner, and the baseline of the others (Nagabandi, Kahn, Fearing, Levine, "Neural Network
Dynamics for Model-Based Deep RL with Model-Free Fine-Tuning", ICRA 2018, draws anew in every step; Howell et al.,
"Predictive Sampling", 2022, draw around the plan in force). S holds each draw for ``hold`` steps: draws that last go
somewhere, where white noise cancels itself. What differs, and why:

* ``around`` says what is drawn around: the plan in force, moved on by the time that has passed in fractions of a
  step, or zero, which is the baseline of the papers.
* Sample 0 is the plan in force itself, so that a plan never gets worse than its warm start, and calling again for the
  same time is trying more samples.
* A cost that is not finite counts as infinite. Where nothing is finite the old plan stays, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Carry, Dynamics, Goal, Info, Knobs, Noise, Observation, Plan, Task
from mbrl_control.sampling import Case, Outcome, Proposed, Sampling, Tried


@dataclass(frozen=True)
class Config:
    """Parameters of ``shooting``."""

    samples: int = param(256, "Control sequences tried per call, the plan in force among them", low=2, high=100_000)
    horizon: int = param(25, "Steps looked ahead", low=1, high=1000)
    dt: float = param(0.05, "Duration of one step", unit="s", low=1e-4, high=10.0)
    sigma: float = param(
        0.03, "Standard deviation of the draws, as a fraction of each channel's bound", low=1e-6, high=10.0, live=True
    )
    hold: int = param(5, "Steps that a draw lasts; 1: white noise", low=1, high=1000)
    around: str = param("plan", "What is drawn around: the plan in force, or no control", choices=("plan", "zero"))


class Shooting:
    """One call: shift the plan, draw, roll out and score, take the cheapest."""

    def __init__(self, config: Config, task: Task, dynamics: Dynamics, xp: Any) -> None:
        self.config, self.xp = config, xp
        self.dt, self.horizon = config.dt, config.horizon
        self.on = Sampling("shooting", config.dt, config.horizon, task, dynamics, xp)
        steps = np.arange(config.horizon) // config.hold
        self.draws = int(steps[-1]) + 1
        """Draws in one sequence."""
        self._held = xp.asarray((steps[:, None] == np.arange(self.draws)).astype(float))

    def knobs(self) -> Knobs:
        return {"sigma": np.full(self.on.nu, self.config.sigma), "weights": self.on.weights()}

    def noise(self, rng: np.random.Generator) -> Noise:
        return self.on.noise(rng, shooting=rng.standard_normal((self.config.samples - 1, self.draws, self.on.nu)))

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
        return Proposed(self.draw(knobs["sigma"], warm, noise["shooting"]), {"last": last})

    def choose(
        self,
        obs: Observation,
        case: Case,
        knobs: Knobs,  # noqa: ARG002 - nothing of it is turned here
        carry: Carry,
        proposed: Proposed,
        tried: Tried,
    ) -> tuple[Carry, Outcome]:
        best = self.on.cheapest(tried, case)
        return self.on.settle(obs, carry, best, proposed.more["last"], self.xp.ones_like(tried.cost[0]))

    def draw(
        self, sigma: Annotated[Array, "nu"], plan: Annotated[Array, "H nu"], white: Annotated[Array, "N-1 n nu"]
    ) -> Annotated[Array, "N H nu"]:
        """The plan in force, and sequences drawn around it or around no control, inside the bounds."""
        xp, on = self.xp, self.on
        centre = plan if self.config.around == "plan" else plan * 0.0
        drawn = centre + xp.matmul(self._held, white) * (sigma * on.half)
        return on.bounded(xp.concat([plan[None], drawn], axis=0))


def make(config: Config, task: Task, dynamics: Dynamics, xp: Any = np) -> Shooting:
    """Random shooting on any task and model."""
    return Shooting(config, task, dynamics, xp)
