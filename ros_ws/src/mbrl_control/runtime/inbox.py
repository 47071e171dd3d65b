"""What comes from outside between two ticks of the guard, and whether a plan is one."""

from __future__ import annotations

from dataclasses import dataclass

from mbrl_control.core import Mode, Plan, is_finite
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.states import Event


@dataclass(frozen=True, slots=True)
class PlanArrived:
    """A plan as decoded, from one life of one planner."""

    plan: Plan
    session: int
    period: float
    """Time until its planner sends the next one [s]."""


def unfit(plan: Plan, nj: int, nu: int | None) -> str | None:
    """Why it is no plan for ``nj`` joints, of torques in ``nu`` channels, or, if that is None, of velocities."""
    if plan.q.ndim != 2 or plan.q.shape != plan.v.shape or plan.q.shape[1] != nj or len(plan.q) < 2:
        return "wrong shape"
    if len(plan.u) != len(plan.q) - 1 or not plan.dt > 0.0:
        return "wrong shape"
    if plan.mode is not (Mode.VELOCITY_REFERENCE if nu is None else Mode.TORQUE):
        return f"mode {plan.mode}"
    if nu is not None and plan.u.shape[1:] != (nu,):
        return "wrong shape"
    if plan.K is not None and plan.K.shape != (*plan.u.shape, 2 * nj):
        return "wrong shape"
    gains = plan.u if plan.K is None else plan.K
    return None if is_finite(plan.q, plan.v, plan.u, gains, plan.t0, plan.dt, plan.state_stamp) else "not finite"


@dataclass(frozen=True, slots=True)
class PlannerDied:
    """The process behind a session is gone."""

    session: int


@dataclass(slots=True)
class Request:
    """Something a person asks for, answered at the next tick."""

    event: Event
    reason: str = ""
    answer: tuple[bool, str] | None = None


@dataclass(frozen=True, slots=True)
class EStop:
    """The level of the e-stop topic."""

    pressed: bool


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was seen, when somebody last looked, of who else is there."""

    rivals: str = ""
    """Who publishes besides us or besides the driver, in words: ends motion, and stands against arming."""
    obstacles: tuple[str, ...] = ()
    """What else stands against arming, in words."""


Entry = Reading | PlanArrived | PlannerDied | Request | EStop | Surroundings
