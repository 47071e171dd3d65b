"""What comes from outside between two ticks of the guard."""

from __future__ import annotations

from dataclasses import dataclass

from mbrl_control.core import Plan
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.states import Event


@dataclass(frozen=True, slots=True)
class PlanArrived:
    """A plan as decoded, from one life of one planner."""

    plan: Plan
    session: int
    period: float
    """Time until its planner sends the next one [s]."""


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
