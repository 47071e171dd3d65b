"""Whether each plan takes over from the one before it, and how old the state is that a command comes from.

    latency     the time of the first command that follows a plan, minus the time of the state it was planned from
    late        that command lay more than a tick behind the plan's own start
    missed      for two periods no other plan took over: one did not come at all, or as late as the one after it

All of it by the clock of the commands, of plans that take over from others: not in a HOLD, nor while nothing moves.
"""

from __future__ import annotations

import math

from mbrl_control.core import Plan
from mbrl_control.runtime.loop import Timings

OVERDUE = 2.0
"""Periods after which a plan has been missed."""


class Handover:
    """Sees which plan each tick of the reference follows."""

    def __init__(self, dt: float) -> None:
        self.latency = Timings()
        self.late = self.missed = 0
        self._dt = dt
        self._followed: tuple[int, int] | None = None
        """Session and number of the plan that the last tick followed; None: it followed none."""
        self._due = math.inf
        """When the next plan should have taken over."""
        self._before = self._followed, self._due

    def begin(self, followed: bool) -> None:
        """A tick begins, in which plans are followed or not."""
        if not followed:
            self._followed, self._due = None, math.inf
        self._before = self._followed, self._due

    def undo(self) -> None:
        """What this tick led to was not sent: the next one takes over in its place."""
        self._followed, self._due = self._before

    def see(self, t: float, plan: Plan, session: int, period: float) -> None:
        """The reference at time ``t`` follows ``plan``."""
        if self._followed != (session, plan.seq):
            if self._followed is not None:
                self.latency.add(t - plan.state_stamp)
                self.late += t > plan.t0 + 1.5 * self._dt
            self._followed, self._due = (session, plan.seq), t + OVERDUE * period
        elif t > self._due + 1e-9:
            self.missed += 1
            self._due += period
