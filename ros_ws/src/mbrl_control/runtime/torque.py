"""Torques for an arm that is commanded by them: around a plan, or around the guard's own reference.

While a plan is followed, with x(s) = [q, v] the newest measured joints and s their time,

    u = u_plan(t) + K(t) (x(s) - x_plan(s)),     torque = C clip(u, -b, b)

so that the age of a state adds no deviation of its own. Else, and always while the arm brakes and is held, the
reference (q_r, v_r, a_r) of time t is tracked by computed torque. With e = q_r(s) - q(s) and e' = v_r(s) - v(s)

    a = a_r + clip(2 w (clip(w e / 2, -c, c) + e'), -2 A, 2 A),     torque = inverse_dynamics(q, v, a) + friction(v)

where q = q_r - e and v = v_r - e' are the joints now, if the deviation has stayed what it was. w is the bandwidth,
A the joints' acceleration limits; the speed c = SHARE of their velocity limits is all that is taken to come back from
far away. A joint without a motor is left alone: e = e' = a = 0. All deviations have the same critically damped modes
at w, whatever the arm's inertia; a delay T round the loop leaves them stable while w T < 0.5 or so: at 100 ticks and
200 states a second T is some 0.012 s.

Whatever is wanted is clipped to the joints' torques and to how fast those may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mbrl_control.core import Limits, MbrlError, Mode, Plan, Robot, State, is_finite
from mbrl_control.runtime.stop import Motion

SHARE = 0.2
"""Of the joints' velocity limits: how fast an arm is taken back to its reference from far away."""
FORGOTTEN = 0.1
"""After so long without a torque of ours [s] the other side has taken over, and brakes the arm."""
OVERSPEED = 1.2
"""A joint this much faster than its limit is braked..."""
DELAY, SLOW = 0.03, 0.05
"""... and so is one that cannot be stopped any more inside its range after this time [s]; slower ones can [rad/s]."""
STRONG = 2.0
"""Of the joints' acceleration limits, what a correction may take: more than what it has to stop was thrown with."""
BEFORE = 0.01
"""A state this much older than a plan says nothing of how far the arm is from that plan [s]."""
ROUNDING = 1e-9


class TorqueError(MbrlError):
    """A robot that the guard has no torques for."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """The reference minus the measured joints, at the time of the measurement."""

    q: Annotated[np.ndarray, "nj"]
    v: Annotated[np.ndarray, "nj"]


class Torques:
    """What a robot is sent, tick by tick, and how often that was not what was wanted."""

    def __init__(self, robot: Robot, limits: Limits, dt: float, bandwidth: float, feedback: bool) -> None:
        """``limits`` are those of the reference; with ``feedback`` gains of plans are used."""
        if robot.channels.mode is not Mode.TORQUE or robot.inverse_dynamics is None:
            what = "no inverse_dynamics" if robot.inverse_dynamics is None else "inverse_dynamics"
            raise TorqueError(
                f"robot '{robot.name}' with mode {robot.channels.mode} and {what}: to brake and to hold it the guard "
                f"takes a robot with mode {Mode.TORQUE} and inverse_dynamics"
            )
        self.feedback, self.dt = feedback, dt
        self.motors = robot.limits.torque > 0.0
        """Which joints have one."""
        self.ticks = self.saturated = 0
        """Ticks in which torques were sent, and those in which they were less than was wanted."""
        self.cut = False
        """Whether the newest torques are less than was wanted."""
        self._inverse_dynamics, self._friction = robot.inverse_dynamics, robot.friction
        self._channels, self._limits, self._bandwidth = robot.channels, limits, bandwidth
        self._most, rate = robot.limits.torque, robot.limits.torque_rate
        self._step = None if rate is None else rate * dt
        self._last: tuple[float, np.ndarray] | None = None
        """When torques were sent last, and which."""
        self._before: tuple[tuple[float, np.ndarray] | None, int, int] = (None, 0, 0)

    @property
    def nu(self) -> int:
        return len(self._channels.names)

    @property
    def share_saturated(self) -> float:
        return self.saturated / max(self.ticks, 1)

    def around(self, plan: Plan, t: float, state: State) -> tuple[Annotated[np.ndarray, "nj"], bool]:
        """What is wanted at time ``t`` along a plan, with the newest state; and whether a channel's bound cut it."""
        k = min(max(int((t - plan.t0) / plan.dt), 0), plan.horizon - 1)
        u, bound = plan.u[k], self._channels.bound
        if self.feedback and plan.K is not None and state.t >= plan.t0 - BEFORE:
            there = _expected(plan, state.t)
            u = u + plan.K[k] @ np.concatenate([state.q - there.q, state.v - there.v])
        return self._channels.coupling @ np.clip(u, -bound, bound), bool((np.abs(u) > bound + ROUNDING).any())

    def holding(self, reference: Motion, off: Deviation | None) -> Annotated[np.ndarray, "nj"]:
        """What keeps the arm on a reference; ``off`` is None where no state says how far it is from that."""
        zero, w = np.zeros_like(reference.q), self._bandwidth
        e, de = (zero, zero) if off is None else (off.q, off.v)
        q, v = reference.q - e, reference.v - de
        back = np.clip(0.5 * w * e, -SHARE * self._limits.velocity, SHARE * self._limits.velocity)
        most = STRONG * self._limits.acceleration
        a = np.where(self.motors, reference.a + np.clip(2.0 * w * (back + de), -most, most), 0.0)
        torque = np.asarray(self._inverse_dynamics(np, q, v, a))
        return torque if self._friction is None else torque + np.asarray(self._friction(np, v))

    def sent(
        self, t: float, wanted: Annotated[np.ndarray, "nj"], q: np.ndarray, cut: bool = False
    ) -> np.ndarray | None:
        """What is sent at time ``t`` of what is wanted, the arm at ``q``; None: there is nothing that may be sent.

        ``cut`` says that what is wanted is less than it was already.
        """
        self._before = self._last, self.ticks, self.saturated
        if not is_finite(wanted):
            return None
        torque = np.clip(wanted, -self._most, self._most)
        if self._step is not None:
            if self._last is None or t - self._last[0] > FORGOTTEN:  # whoever holds the arm does it with this
                zero = np.zeros_like(q)
                last = np.clip(self._inverse_dynamics(np, q, zero, zero), -self._most, self._most)
            else:
                last = self._last[1]
            torque = last + np.clip(torque - last, -self._step, self._step)
        if not is_finite(torque):
            return None
        self._last = t, torque
        self.ticks += 1
        self.cut = cut or bool((np.abs(torque - wanted) > ROUNDING).any())
        self.saturated += self.cut
        return torque

    def undo(self) -> None:
        """The last torques were not sent after all."""
        self._last, self.ticks, self.saturated = self._before

    def forget(self) -> None:
        """Time was set back."""
        self._last = None

    def runs_away(self, state: State) -> int | None:
        """The joint that is much too fast, or that cannot be stopped any more before the end of its range; None: none.

        Plans are followed by their torques alone: nothing but this keeps the *measured* joints where they may be.
        """
        limits, speed = self._limits, np.abs(state.v)
        room = np.where(state.v > 0.0, limits.upper - state.q, state.q - limits.lower)
        lost = (speed > SLOW) & (speed * DELAY + np.square(speed) / (2.0 * limits.acceleration) > room)
        lost |= speed > OVERSPEED * limits.velocity
        lost &= self.motors
        return int(lost.argmax()) if lost.any() else None


def _expected(plan: Plan, t: float) -> Motion:
    """Where a plan has the joints at time ``t``; before its start by its first acceleration, backwards."""
    if t >= plan.t0:
        there = plan.at(t)
        return Motion(there.q, there.v, there.a)
    first = plan.at(plan.t0)
    return Motion(first.q, first.v, first.a).after(np.zeros_like(first.a), t - plan.t0)
