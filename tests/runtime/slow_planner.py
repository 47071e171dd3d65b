"""A planner that takes as long as it is told, on a clock that only it moves."""

from __future__ import annotations

import numpy as np

from mbrl_control.core import Goal, Info, Mode, Observation, Plan, State, Status
from mbrl_control.runtime.sizing import Sizes


class Clock:
    """Time goes on where somebody says that something took it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0
        self.pauses: dict[int, float] = {}
        """Which of all calls of a planner the machine stands still in, and for how long [s]."""
        self.slower = 1.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """Counts its iterations; its carry has a mean of its horizon, and it is not finite when told so."""

    dt = 0.05

    def __init__(self, clock: Clock, sizes: Sizes, base: float = 0.0, a_sample: float = 1e-4) -> None:
        self.clock, self.sizes, self.horizon = clock, sizes, sizes.horizon or 5
        self.takes = base + a_sample * (sizes.samples or 0) * self.horizon / 20
        self.status = Status.OK

    def init(self, obs: Observation) -> dict[str, np.ndarray]:
        return {"mean": np.zeros((self.horizon, 1)), "seq": np.array(0)}

    def knobs(self) -> dict[str, np.ndarray]:
        return {"of": np.asarray(self.sizes.samples or 0)}

    def noise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"slow": rng.standard_normal(1)}

    def improve(self, obs, goal, knobs, carry, noise):
        assert goal.value.shape[0] == self.horizon + 1
        assert knobs["of"] == (self.sizes.samples or 0)
        clock = self.clock
        clock.now += self.takes * clock.slower + clock.pauses.get(clock.calls, 0.0)
        clock.calls += 1
        carry = {"mean": carry["mean"] + 1.0, "seq": carry["seq"] + 1}
        q = np.zeros((self.horizon + 1, 1))
        plan = Plan(obs.t, self.dt, Mode.VELOCITY_REFERENCE, q, q, q[1:], None, obs.joints.t, int(carry["seq"]))
        return carry, plan, Info(self.status, 0.0, {}, 1.0, {})


def obs(t: float = 0.0) -> Observation:
    return Observation(t, State(t, np.zeros(1), np.zeros(1)))


def goal(planner: Slow) -> Goal:
    return Goal.still([0.0], planner.horizon, 0.02, 0.3)
