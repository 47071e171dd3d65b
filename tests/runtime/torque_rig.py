"""A guard in front of the simulated Panda on torques, on a fake clock: the physics really follow what is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mbrl_control import registry
from mbrl_control.core import Mode, Plan, Robot
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.safety import Guard, GuardConfig, Outcome, PlanArrived, Request
from mbrl_control.runtime.states import Event, GuardState
from mbrl_control.runtime.torque_judge import TorqueJudge
from mbrl_sim.world import Config, World

PERIOD, STATES = 0.05, 0.005
"""Between plans, and between joint states [s]."""
SWING = 2.0 * np.pi * 0.4


def swung(robot: Robot, t: float, since: float, amplitude: float) -> np.ndarray:
    """Where the swing has the joints at time ``t``."""
    return robot.home + amplitude * 0.5 * (1.0 - np.cos(SWING * max(t - since, 0.0)))


def swing(robot: Robot, t0: float, seq: int, stamp: float, since: float, amplitude: float, gains: bool = True) -> Plan:
    """A sine about home from rest at ``since``, with the torques that it takes, and gains that hold the arm to it."""
    dt, horizon = 0.02, 30
    t = np.maximum(t0 + dt * np.arange(horizon + 1) - since, 0.0)[:, None] * np.ones(robot.nj)
    q = robot.home + amplitude * 0.5 * (1.0 - np.cos(SWING * t))
    v = amplitude * 0.5 * SWING * np.sin(SWING * t)
    a = amplitude * 0.5 * SWING**2 * np.cos(SWING * t) * (t > 0.0)
    assert robot.inverse_dynamics is not None
    u = robot.inverse_dynamics(np, q, v, a)[:-1]
    if robot.friction is not None:
        u = u + robot.friction(np, v)[:-1]
    stiff = np.array([300.0, 300.0, 150.0, 150.0, 30.0, 30.0, 20.0])[: robot.nj]
    K = np.tile(-np.concatenate([np.diag(stiff), np.diag(0.1 * stiff)], axis=1), (horizon, 1, 1))
    return Plan(t0, dt, Mode.TORQUE, q, v, u, K if gains else None, stamp, seq)


class TorqueRig:
    """Time goes on only in ``tick``; what comes and goes can be changed between calls."""

    def __init__(self, robot: str | Robot = "panda_torque", payload: float = 0.0, **config: float | str) -> None:
        self.robot: Robot = registry.make("robots", robot) if isinstance(robot, str) else robot
        self.world = World(self.robot, Config(payload=payload))
        guard = replace(GuardConfig(), **config)
        self.guard = Guard(guard, self.robot.driver_joints, self.robot.limits, 0.05, "effort", self.robot)
        self.judge = TorqueJudge(self.robot.limits, self.guard.dt)
        self.states = self.plans = self.alive = True
        self.now, self.seq, self.index = 0.0, 0, 0
        self.make_plan: Callable[[float, int, float], Plan] = lambda t0, seq, stamp: swing(
            self.robot, t0, seq, stamp, np.inf, 0.0
        )
        self.outcomes: list[Outcome] = []
        self.seen: list[tuple[float, np.ndarray, np.ndarray]] = []
        """Times, positions and velocities of the joint states."""
        self._read()

    @property
    def state(self) -> GuardState:
        return self.guard.state

    def tick(self) -> Outcome | None:
        """A tick of the guard, if it lives, and the time until the next one."""
        out = None
        if self.alive:
            out = self._guard()
        for _ in range(max(1, round(self.guard.dt / STATES))):
            self.world.step(round(min(STATES, self.guard.dt) / 0.001))
            self._read()
        self.index += 1
        self.now = self.index * self.guard.dt
        return out

    def _guard(self) -> Outcome:
        if self.plans and self.index % round(PERIOD / self.guard.dt) == 0:
            self.seq += 1
            plan = self.make_plan(self.now + 0.02, self.seq, self.now)
            self.guard.inbox.append(PlanArrived(plan, 7, PERIOD))
        out = self.guard.tick(self.now, self.now)
        self.outcomes.append(out)
        if out.command is not None:
            assert out.command.effort is not None
            self.judge.see(self.index, out.command.effort[0])
            assert self.world.command("effort", out.command.effort[0]) is None
        return out

    def _read(self) -> None:
        sample = self.world.observe()
        t = sample.ns * 1e-9
        self.seen.append((t, sample.q, sample.v))
        if self.states:
            self.guard.inbox.append(Reading(self.robot.driver_joints, sample.q, sample.v, t, t))

    def ask(self, event: Event) -> tuple[bool, str]:
        request = Request(event, "asked")
        self.guard.inbox.append(request)
        self.tick()
        assert request.answer is not None
        return request.answer

    def run(self, seconds: float, until: GuardState | None = None) -> TorqueRig:
        for _ in range(round(seconds / self.guard.dt)):
            self.tick()
            if self.state is until:
                return self
        assert until is None, f"{until} not reached in {seconds} s: {self.guard.describe()}"
        return self

    def armed(self) -> TorqueRig:
        self.ask(Event.ACTIVATE)
        self.run(0.3)
        done, why = self.ask(Event.ARM)
        assert done, why
        return self

    def swinging(self, amplitude: float = 0.6, gains: bool = True) -> TorqueRig:
        """Armed, and in motion."""
        self.armed()
        since = self.now + 0.1
        self.make_plan = lambda t0, seq, stamp: swing(self.robot, t0, seq, stamp, since, amplitude, gains)
        return self.run(0.9)

    @property
    def q(self) -> np.ndarray:
        return self.seen[-1][1]

    @property
    def speed(self) -> float:
        return float(np.abs(self.seen[-1][2]).max())

    def tip(self) -> np.ndarray:
        return np.asarray(self.robot.tip(np, self.q))

    def clean(self) -> None:
        assert self.judge.violations == {}, self.judge.examples
        assert self.judge.nonfinite == 0
        assert self.judge.commands > 0
