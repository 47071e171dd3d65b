"""What was commanded before now, and what will be until a new plan begins: both as the plans that were sent say.

A learned model of a robot that is late reads its last commands. A plan begins in the reference as it will be by then,
which the guard moves along the last plan until it has the new one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mbrl_control.core import Plan

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
        for plan in reversed(self._plans):
            if plan.t0 <= t + SLACK:
                return np.asarray(plan.at(t + SLACK).u)
        return self._nothing

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
