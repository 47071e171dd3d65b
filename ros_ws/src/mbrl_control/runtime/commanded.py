"""What was commanded before now, and what will be until a new plan begins: both as the plans that were sent say.

A learned model of a robot that is late reads its last commands. A plan begins in the reference as it will be by then,
which the guard moves along the last plan until it has the new one.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mbrl_control.core import Plan, State

PLANS = 64
"""Plans that are remembered: at twenty a second those of three seconds."""
SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Reference:
    """Where the guard's reference is."""

    t: float
    q: np.ndarray
    v: np.ndarray
    active: bool
    """Whether the guard follows plans at that time."""


class Commanded:
    """The commands of the plans that were sent. Each is in force from its start to the start of the next."""

    def __init__(self, nu: int) -> None:
        self._nothing = np.zeros(nu)
        self._plans: deque[Plan] = deque(maxlen=PLANS)

    @property
    def last(self) -> Plan | None:
        """The newest plan that was sent."""
        return self._plans[-1] if self._plans else None

    def sent(self, plan: Plan) -> None:
        """A plan has gone out."""
        self._plans.append(plan)

    def at(self, t: float) -> Annotated[np.ndarray, "nu"]:
        """What was in force at time ``t``; nothing before the first plan, and after the end of the last one."""
        plan = self._in_force(t)
        return self._nothing if plan is None else np.asarray(plan.at(t + SLACK).u)

    def around(self, state: State) -> Annotated[np.ndarray, "nu"]:
        """What is in force at the time of a state, with the gains of its plan."""
        plan = self._in_force(state.t)
        return self._nothing if plan is None else np.asarray(plan.at(state.t + SLACK, state.q, state.v).u)

    def next_change(self, t: float) -> float:
        """When something else is in force than at time ``t``: at the next knot, or at the start of another plan."""
        found = [plan.t0 for plan in self._plans if plan.t0 > t + SLACK]
        plan = self._in_force(t)
        if plan is not None and t + SLACK < plan.end:
            found.append(plan.t0 + (math.floor((t + SLACK - plan.t0) / plan.dt) + 1) * plan.dt)
        return min(found, default=math.inf)

    def _in_force(self, t: float) -> Plan | None:
        return next((plan for plan in reversed(self._plans) if plan.t0 <= t + SLACK), None)

    def before(self, t: float, dt: float, count: int) -> Annotated[np.ndarray, "m"]:
        """What was in force ``count`` times, ``dt`` apart, up to one ``dt`` before ``t``: flat, the newest last."""
        return np.concatenate([self.at(t - ago * dt) for ago in range(count, 0, -1)])

    def carried(
        self, reference: Reference, t: float
    ) -> tuple[Annotated[np.ndarray, "nj"], Annotated[np.ndarray, "nj"]]:
        """Positions and velocities of the reference at time ``t``, to which the plans that were sent move it."""
        q, v = reference.q, reference.v
        if not reference.active:
            return q, np.zeros_like(v)
        if self.last is None or t >= self.last.end:
            return q, v
        until = t
        for plan in reversed(self._plans):
            since = plan.t0 if plan.t0 > reference.t + SLACK else reference.t
            if since <= until:
                then, there = plan.at(since), plan.at(until)
                q, v, until = q + there.q - then.q, v + there.v - then.v, since
            if until <= reference.t:
                break
        return q, v
