"""What was commanded before now: a learned model of a robot that is late reads its last commands."""

from __future__ import annotations

from collections import deque
from typing import Annotated

import numpy as np

from mbrl_control.core import Plan

PLANS = 64
"""Plans that are remembered: at twenty a second those of three seconds."""
SLACK = 1e-9


class Commanded:
    """The commands of the plans that were sent. Each is in force from its start to the start of the next."""

    def __init__(self, nu: int) -> None:
        self._nothing = np.zeros(nu)
        self._plans: deque[Plan] = deque(maxlen=PLANS)

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
