"""Controls at random: for the first data, a planner that wants nothing; for more of it, a planner that is disturbed.

Coloured noise, whose power falls with the frequency as f^-beta: white noise makes a heavy robot tremble where it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbrl_control.config import ConfigError
from mbrl_control.core import (
    Carry,
    Dynamics,
    Goal,
    Info,
    Knobs,
    Mode,
    Noise,
    Observation,
    Plan,
    Planner,
    Robot,
    Status,
    Task,
    rollout,
)
from mbrl_control.dynamics.kinematic import Kinematic
from mbrl_control.planners.icem import coloured

STEPS = 64
"""Of one sequence; when it has been played, another one follows."""

ROOM = 0.8
"""Share of a joint's range, about its middle, that a reference wanders in: beyond it turns back."""


class Wander:
    """A planner whose controls are coloured noise, one sequence after another."""

    def __init__(self, robot: Robot, task: Task, beta: float, sigma: float) -> None:
        """``sigma`` is the standard deviation of the controls, as a share of each channel's bound."""
        self.robot, self.dt, self.horizon, self.sigma = robot, task.dt, STEPS, sigma
        self.dynamics: Dynamics = Kinematic(task.dt, robot, np)
        self._colour = coloured(STEPS, beta)

    def init(self, obs: Observation) -> Carry:
        return {"t0": np.asarray(obs.t), "seq": np.asarray(0), "u": np.zeros((0, self.robot.nu))}

    def knobs(self) -> Knobs:
        return {}

    def noise(self, rng: np.random.Generator) -> Noise:
        return {"white": rng.standard_normal((STEPS, self.robot.nu))}

    def improve(
        self,
        obs: Observation,
        goal: Goal,  # noqa: ARG002 - the protocol's
        knobs: Knobs,  # noqa: ARG002
        carry: Carry,
        noise: Noise,
    ) -> tuple[Carry, Plan, Info]:
        """The rest of the sequence that is being played, or a new one."""
        u, gone = np.asarray(carry["u"]), round((obs.t - float(carry["t0"])) / self.dt)
        t0 = float(carry["t0"])
        if gone >= len(u):
            bound = self.robot.channels.bound
            u, gone, t0 = np.clip(self.sigma * bound * (self._colour @ noise["white"]), -bound, bound), 0, obs.t
            u = self._turned_back(obs, u)
        seq = int(carry["seq"]) + 1
        plan = self._plan(obs, u[gone:], seq)
        info = Info(Status.OK, 0.0, {}, 1.0, {})
        return {"t0": np.asarray(t0), "seq": np.asarray(seq), "u": u}, plan, info

    def _turned_back(self, obs: Observation, u: np.ndarray) -> np.ndarray:
        """Of a robot that follows a reference: controls that turn back before they lead it to the end of a joint."""
        if self.robot.channels.mode is not Mode.VELOCITY_REFERENCE:
            return u
        limits, coupling = self.robot.limits, self.robot.channels.coupling
        ends = np.isfinite(limits.upper - limits.lower)
        lower, upper = np.where(ends, limits.lower, 0.0), np.where(ends, limits.upper, 0.0)
        centre, room = (lower + upper) / 2.0, np.where(ends, ROOM * (upper - lower) / 2.0, np.inf)
        state, turned = self.dynamics.init(obs, {}), u.copy()
        for k, row in enumerate(u):
            away, v = np.asarray(state["q"]) - centre, coupling @ row
            outward = (np.abs(away) > room) & (away * v > 0.0)
            turned[k] = np.where(np.abs(coupling).T @ outward > 0.0, -row, row)
            state, _, _ = self.dynamics.step(state, turned[k], {})
        return turned

    def _plan(self, obs: Observation, u: np.ndarray, seq: int) -> Plan:
        """Of a robot that follows a reference, the reference; of others the controls are all that is played."""
        mode, count = self.robot.channels.mode, len(u)
        if mode is Mode.VELOCITY_REFERENCE:
            features, _ = rollout(np, self.dynamics, self.dynamics.init(obs, {}), u, {})
            q, v = self.dynamics.plan(features, u)
        else:
            q, v = np.tile(obs.joints.q, (count + 1, 1)), np.zeros((count + 1, self.robot.nj))
        return Plan(obs.t, self.dt, mode, q, v, u, None, obs.joints.t, seq)


class Restless:
    """A planner with coloured noise on the controls that it plans, for a robot that takes torques.

    A model that sees no use in a motion never asks for it, and so never learns of one: an arm whose model has hardly
    seen it push a thing stays beside the thing.
    """

    def __init__(self, planner: Planner, robot: Robot, beta: float, sigma: float) -> None:
        """``sigma`` is the noise's standard deviation, as a fraction of each channel's bound."""
        if robot.channels.mode is Mode.VELOCITY_REFERENCE:
            raise ConfigError(
                f"noise = {sigma:g} on plans for robot '{robot.name}': it takes 0, plans are of references"
            )
        self.planner, self.robot, self.sigma = planner, robot, sigma
        self.dt, self.horizon = planner.dt, planner.horizon
        self._colour = coloured(STEPS, beta)

    def init(self, obs: Observation) -> Carry:
        return {**self.planner.init(obs), "noise_t0": np.asarray(obs.t), "noise": np.zeros((0, self.robot.nu))}

    def knobs(self) -> Knobs:
        return self.planner.knobs()

    def noise(self, rng: np.random.Generator) -> Noise:
        return {**self.planner.noise(rng), "restless": rng.standard_normal((STEPS, self.robot.nu))}

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        """The planner's plan, its first controls disturbed by the rest of the sequence that is being played."""
        own = {name: draw for name, draw in noise.items() if name != "restless"}
        kept = {name: tensor for name, tensor in carry.items() if name not in ("noise", "noise_t0")}
        after, plan, info = self.planner.improve(obs, goal, knobs, kept, own)
        bound, t0, added = self.robot.channels.bound, float(carry["noise_t0"]), np.asarray(carry["noise"])
        gone = round((obs.t - t0) / self.dt)
        if gone >= len(added):
            added, gone, t0 = self.sigma * bound * (self._colour @ noise["restless"]), 0, obs.t
        u = np.array(plan.u)
        rest = added[gone : gone + len(u)]
        u[: len(rest)] = np.clip(u[: len(rest)] + rest, -bound, bound)
        return {**after, "noise": added, "noise_t0": np.asarray(t0)}, replace(plan, u=u), info
