"""A guard on a fake clock, with an arm that follows perfectly and a planner that moves it back and forth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mbrl_control.core import Limits, Mode, Plan
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.judge import Judge, Sent
from mbrl_control.runtime.safety import Guard, GuardConfig, Outcome, PlanArrived, Request
from mbrl_control.runtime.states import Event, GuardState

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
LIMITS = Limits(
    lower=np.array([-2.9, -1.76, -2.9, -3.07, -2.9, -0.02, -2.9]),
    upper=np.array([2.9, 1.76, 2.9, -0.07, 2.9, 3.75, 2.9]),
    velocity=np.array([2.175] * 4 + [2.61] * 3),
    acceleration=np.array([15, 7.5, 10, 12.5, 15, 20, 20.0]),
    jerk=np.array([7500, 3750, 5000, 6250, 7500, 10000, 10000.0]),
    torque=np.array([87.0] * 4 + [12.0] * 3),
)
HOME = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
SWING, FREQUENCY = 0.3, 0.5


def swing_plan(t0: float, seq: int, stamp: float, amplitude: float = SWING, horizon: int = 20) -> Plan:
    """All joints on a sine about home that is at rest at t = 0: smooth, and well inside the limits."""
    t = t0 + 0.05 * np.arange(horizon + 1)[:, None]
    w = 2.0 * np.pi * FREQUENCY
    q = HOME + amplitude * 0.5 * (1.0 - np.cos(w * t)) * np.ones(7)
    v = amplitude * 0.5 * w * np.sin(w * t) * np.ones(7)
    return Plan(t0, 0.05, Mode.VELOCITY_REFERENCE, q, v, v[1:], None, stamp, seq)


class Rig:
    """Time goes on only in ``run``; everything that comes and goes can be changed between calls."""

    def __init__(self, limits: Limits = LIMITS, start: np.ndarray = HOME, **config: float) -> None:
        self.guard = Guard(replace(GuardConfig(), **config), JOINTS, limits, 0.1)
        self.judge = Judge(limits.at_speed(self.guard.config.speed))
        self.now = 0.0
        self.mono = 1000.0
        self.arm = start.copy()
        self.seq = 0
        self.session = 7
        self.states, self.plans = True, True
        self.sends_after = 0.0
        """Time between a tick and its command being ready to be sent [s]."""
        self.names: Sequence[str] = JOINTS
        self.make_reading: Callable[[Rig], Reading] = plain
        self.make_plan: Callable[[float, int, float], Plan] = swing_plan
        self.outcomes: list[Outcome] = []
        self._step = 0

    @property
    def state(self) -> GuardState:
        return self.guard.state

    def ask(self, event: Event) -> tuple[bool, str]:
        """A request, answered at the next tick."""
        request = Request(event, "asked")
        self.guard.inbox.append(request)
        self.tick()
        assert request.answer is not None
        return request.answer

    def tick(self, gap: float = 0.0) -> Outcome:
        dt = self.guard.dt + gap
        self.now, self.mono = self.now + dt, self.mono + dt
        self._step += 1
        if self.states:
            self.guard.inbox.append(self.make_reading(self))
        if self.plans and self._step % round(0.05 / self.guard.dt) == 0:
            self.seq += 1
            plan = self.make_plan(self.now + 0.05, self.seq, self.now)
            self.guard.inbox.append(PlanArrived(plan, self.session, 0.05))
        out = self.guard.tick(self.now, self.mono)
        self.outcomes.append(out)
        if out.command is not None:
            c, at = out.command, self.now + self.sends_after
            if at > out.deadline:
                self.guard.unsent()
                return out
            self.judge.see(Sent(at, c.t, c.q, c.v, c.a))
            self.arm = np.array([np.interp(self.now, c.t, c.q[:, j]) for j in range(7)])
        return out

    def run(self, seconds: float, until: GuardState | None = None) -> Outcome:
        """Tick for a while, or until a state is reached."""
        out = self.outcomes[-1] if self.outcomes else self.tick()
        for _ in range(round(seconds / self.guard.dt)):
            out = self.tick()
            if out.state is until:
                return out
        assert until is None, f"{until} not reached in {seconds} s: {self.guard.describe()}"
        return out

    def armed(self) -> Rig:
        """Activated, armed and moving."""
        self.ask(Event.ACTIVATE)
        self.run(0.3)
        done, why = self.ask(Event.ARM)
        assert done, why
        self.run(0.4)
        assert self.state is GuardState.ACTIVE
        return self

    def clean(self) -> None:
        """Nothing was violated so far, down to the end of the last command."""
        self.judge.finish()
        assert self.judge.violations == {}, self.judge.examples
        assert self.judge.nonfinite == 0


def plain(rig: Rig) -> Reading:
    """What a driver sends: every joint, in ``rig.names``' order."""
    order = [JOINTS.index(name) for name in rig.names]
    return Reading(list(rig.names), rig.arm[order], np.zeros(len(order)), rig.now, rig.mono)
